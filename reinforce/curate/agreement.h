/* How far scores of one kind can stand for another: stale weights for fresh ones, coarse images for
 * fine ones, half precision for single. */
#ifndef REINFORCE_CURATE_AGREEMENT_H
#define REINFORCE_CURATE_AGREEMENT_H

#include "reinforce/base/arena.h"

struct score_agreement {
    double sigma;    /* standard deviation of the differences: a common shift cancels */
    double spearman; /* rank correlation, ties sharing their mean rank; 1 if all are equal */
    double overlap;  /* part of the n_top highest ones (equal: the lower index) that both have */
    /* gain * sigma > 0.3: draws from e^(gain * score) then differ by more than 0.045 nats */
    bool alarm;
};

/** Compares n >= 1 finite scores that were used with those that are right; n_top is 1..n. */
NODISCARD enum status score_agreement(struct score_agreement *agreement, const double *used,
                                      const double *right, size_t n, size_t n_top, double gain,
                                      struct arena *arena, struct error *err);

#endif
