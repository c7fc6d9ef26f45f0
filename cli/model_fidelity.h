/* How far a model in int8 is from the same model in float32, on a user's own images and texts. */
#ifndef REINFORCE_CLI_MODEL_FIDELITY_H
#define REINFORCE_CLI_MODEL_FIDELITY_H

#include "reinforce/base/json.h"

struct model_fidelity_input {
    char **images; /* files */
    size_t n_images;
    const char *texts; /* a file of lines, for teachers; NULL: none */
};

/**
 * Runs the snapshot in `dir` both ways and adds to *answer: of a teacher "images" and "texts", each
 * with its count, the mean, the 1st percentile (nearest rank) and the least of the cosines; of a
 * captioner "captions", greedy, with the fraction that are the same and, of these, the mean
 * difference of their mean log-probabilities; and of each the milliseconds that one took.
 * ST_INVALID: the model cannot be quantised, or there is nothing to run.
 */
NODISCARD enum status model_fidelity(const char *dir, const struct model_fidelity_input *input,
                                     json_t *answer, struct error *err);

#endif
