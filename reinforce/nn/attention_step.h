/* Attention of one token in many heads over cached keys: a step of decoding. */
#ifndef REINFORCE_NN_ATTENTION_STEP_H
#define REINFORCE_NN_ATTENTION_STEP_H

#include "reinforce/nn/attention.h"

/**
 * attention_run() of one query (Tq = 1) over cached keys in a fixed order of sums: depends on this
 * row alone. Keys and values of any kv_type are widened on the way, those of a position together
 * for all heads, so memory is read from one end to the other, and once for the heads that share
 * them. hide_last is not looked at. scores: scratch [n_heads, Tk]. Cannot fail.
 */
void attention_step(const struct attention *a, float *out, float *scores);

#endif
