/* How far one mode of a PaliGemma is from another: teacher-forced, as PALI 23 counts. */
#ifndef REINFORCE_TESTS_PALIGEMMA_DISTANCE_H
#define REINFORCE_TESTS_PALIGEMMA_DISTANCE_H

#include "reinforce/models/paligemma.h"

struct paligemma_distance {
    double error, variance; /* sums of |difference| and of squared deviations from a step's mean */
    size_t n;               /* logits */
    size_t clear, same; /* steps whose first choice leads by a tenth of the deviation; where it is
                           the other mode's choice too */
};

/**
 * Loads what `snapshot` says from `weights`, encodes a picture, and says n_steps ids of no meaning:
 * logits float32 [n_steps, V] in `arena`, which holds all else for the while.
 */
float *paligemma_forced_logits(const struct snapshot *snapshot, struct weights *weights,
                               size_t n_steps, struct arena *arena);

/** Adds steps of logits [n_steps, V] each. */
void paligemma_distance_add(struct paligemma_distance *d, const float *want, const float *got,
                            size_t n_steps, size_t V);

/** Mean |difference|, as a share of the deviation. */
double paligemma_distance_error(const struct paligemma_distance *d);

#endif
