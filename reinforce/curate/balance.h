/* Sampling probabilities that balance a dataset: how often attributes occur, and with what. */
#ifndef REINFORCE_CURATE_BALANCE_H
#define REINFORCE_CURATE_BALANCE_H

#include "reinforce/base/arena.h"

enum { BALANCE_MAX_BITS = 32 };

/** What is balanced; plain data, all borrowed. */
struct balance_options {
    size_t n_attributes, n_concepts; /* at most BALANCE_MAX_BITS together */
    const double *targets;           /* [n_attributes] share that each attribute shall have */
    double representation;           /* largest |E[q (s - target)]|, 0 or more */
    double association;              /* largest |E[q (s - target) y]| */
    double strength;                 /* of a constraint that cannot be met: bound of multipliers */
};

/**
 * Probabilities q [n] in 0..1 that change least, in sum (q - 1)^2, such that for every attribute s
 * its mean difference from the target is within `representation`, and for every attribute and
 * concept y their mean product is within `association`; means are over all n samples.
 *
 * patterns  [n]  bit k: the sample has attribute k; bit n_attributes + r: concept r
 *
 * Solved through the dual, one multiplier at a time, over the distinct patterns: q = clip(1 - sum
 * of multipliers times constraints). *violation is the largest excess over a bound that is left (0
 * when all are met). Source: Alabdulmohsin et al. 2024, "CLIP the Bias" (M4), with the objective's
 * utilities all 1; the constants of SigLIP 2 are not published.
 */
NODISCARD enum status balance_probabilities(const uint32_t *patterns, size_t n,
                                            const struct balance_options *options, double *q,
                                            double *violation, struct arena *arena,
                                            struct error *err);

#endif
