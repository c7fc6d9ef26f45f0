/* Attention of one token in many heads over cached keys: a step of decoding. */
#ifndef REINFORCE_NN_ATTENTION_STEP_H
#define REINFORCE_NN_ATTENTION_STEP_H

#include "reinforce/nn/attention.h"

/**
 * As attention_cached(), with sums in another order: keys and values of a position are read
 * together, for all heads, so memory is read from one end to the other, and once for the heads that
 * share them. scores: scratch [n_heads, Tk]. Depends on this row alone. Cannot fail.
 */
void attention_step(const struct attention *a, float *out, float *scores);

#endif
