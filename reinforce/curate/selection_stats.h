/* What is told about a selection beside its indices. */
#ifndef REINFORCE_CURATE_SELECTION_STATS_H
#define REINFORCE_CURATE_SELECTION_STATS_H

#include "reinforce/base/arena.h"

enum { SELECTION_QUANTILES = 5 };

/** The shares of the distribution that stats.marginal_quantiles[] are at. */
extern const double selection_quantiles[SELECTION_QUANTILES];

struct selection_stats {
    size_t n_usable;     /* examples that could be selected */
    size_t n_invalid;    /* not finite, or not of unit norm */
    size_t n_duplicates; /* later ones of equal id or content */
    double marginal_mean, marginal_quantiles[SELECTION_QUANTILES]; /* of usable examples' s_ii */
    /* (sum w)^2 / sum w^2 with w = softmax(gain * s_ii): how many the first draw is really from. */
    double effective_sample_size;
    /* Sum of s_ij over the batch, divided by b, and what a uniform batch has on average (estimated
     * from up to 1,024 examples). NaN unless asked for, and for a softmax. */
    double batch_score, uniform_batch_score;
    bool scale_looks_logarithmic; /* below 10 beside a bias beyond 5: was its logarithm sent? */
    uint64_t multiply_adds;       /* in products, padding included */
    double *share_before, *share_after; /* [n_strata]; NULL without */
};

/** Mean, quantiles (linear between ranks) and effective sample size of the usable ones of B scores.
 */
NODISCARD enum status selection_stats_scores(struct selection_stats *stats, const double *scores,
                                             const bool *usable, size_t B, double gain,
                                             struct arena *arena, struct error *err);

/** share[s] = the part of n examples that is of stratum s; index NULL: of 0..n-1 where usable. */
void selection_stats_shares(double *share, size_t n_strata, const uint16_t *strata, size_t n,
                            const uint32_t *index, const bool *usable);

#endif
