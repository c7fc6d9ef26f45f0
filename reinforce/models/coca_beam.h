/* Beam search with CoCa's decoder as the model. */
#ifndef REINFORCE_MODELS_COCA_BEAM_H
#define REINFORCE_MODELS_COCA_BEAM_H

#include "reinforce/models/coca.h"
#include "reinforce/nn/beam.h"

/**
 * The best `n_wanted` captions of one image, best first, in out[0..*n_out); see beam_search().
 * `config` has passed beam_config_check(). Ids and all working memory are in `arena`.
 * ST_INVALID: max_tokens is more than the model's context.
 */
NODISCARD enum status coca_beam_search(const struct coca *coca, const struct coca_image *image,
                                       const struct beam_config *config, int n_wanted,
                                       struct arena *arena, struct beam_hypothesis *out, int *n_out,
                                       struct error *err);

#endif
