/* How far a model in another form is from itself in float32, by what both made of the same inputs.
 * Sums are taken in order and in double, so that equal inputs give equal figures everywhere. */
#ifndef REINFORCE_TEACH_FIDELITY_H
#define REINFORCE_TEACH_FIDELITY_H

#include "reinforce/base/json.h"
#include "reinforce/teach/captioner.h"

/** Of pairs of embeddings. */
struct fidelity_cosines {
    size_t n;                /* 0: nothing was compared, and the rest is 0 */
    double mean, p01, least; /* p01: first percentile, nearest rank */
};

/** Of pairs of captions. */
struct fidelity_captions {
    size_t n, n_same;
    double difference; /* of the mean log-probabilities of those that are the same, summed up */
};

/**
 * a, b  float32 [n, dim], unit rows
 *
 * ST_NO_MEMORY: `scratch`, of which n doubles are used, is too small.
 */
NODISCARD enum status fidelity_of_rows(const float *a, const float *b, size_t n, size_t dim,
                                       struct arena *scratch, struct fidelity_cosines *cosines,
                                       struct error *err);

/** Counts one pair more. */
void fidelity_add_captions(struct fidelity_captions *captions, const struct caption *a,
                           const struct caption *b);

/** The share that is the same, 0..1; 0 when there is none. */
double fidelity_same(const struct fidelity_captions *captions);

/** {"n", "cosine_mean", "cosine_p01", "cosine_min"}, and {"n", "same",
 * "log_probability_difference"}, whose last is the mean; new references. NULL: no memory. */
json_t *fidelity_cosines_json(const struct fidelity_cosines *cosines);
json_t *fidelity_captions_json(const struct fidelity_captions *captions);

#endif
