/* How many samples of two kinds are kept so that one has a given share. */
#ifndef REINFORCE_CURATE_MIX_H
#define REINFORCE_CURATE_MIX_H

#include "reinforce/base/error.h"

/**
 * The most of n_a and n_b samples such that a's share of what is kept is `share` (above 0, below
 * 1), rounded down on the side that is cut. ST_INVALID: there are none of one kind, so that no
 * choice has the share.
 */
NODISCARD enum status mix_quotas(size_t n_a, size_t n_b, double share, size_t *keep_a,
                                 size_t *keep_b, struct error *err);

#endif
