/* Multi-head attention: whole sequences in tiles of queries, and single queries over cached keys.
 */
#ifndef REINFORCE_NN_ATTENTION_H
#define REINFORCE_NN_ATTENTION_H

#include "reinforce/base/arena.h"

/** Queries whose scores are held at once, per head. */
enum { ATTENTION_TILE = 64 };

/** One attention; pointers are to head 0, heads lie `head_dim` apart in a row. */
struct attention {
    const float *q; /* float32 [Tq, n_heads * head_dim], rows q_stride apart */
    const float *k; /* float32 [Tk, n_heads * head_dim], rows kv_stride apart */
    const float *v;
    size_t q_stride, kv_stride;
    size_t Tq, Tk;
    size_t n_heads, head_dim;
    bool causal;           /* query i sees keys 0..i (Tq = Tk) */
    const bool *hide_last; /* [Tk] keys that the last query does not see; NULL: none */
};

/**
 * out float32 [Tq, n_heads * head_dim] = softmax(q k^T / sqrt(head_dim)) v, heads side by side.
 * Never holds more than ATTENTION_TILE x Tk scores, in `scratch`. ST_NO_MEMORY: scratch is too
 * small.
 */
NODISCARD enum status attention_run(const struct attention *a, float *out, struct arena *scratch,
                                    struct error *err);

/** The same in plain loops and double. */
void attention_ref(const struct attention *a, float *out);

/**
 * One query over cached keys: out, q float32 [n_heads * head_dim]; k, v float32 [Tk, n_heads *
 * head_dim], packed. scores: scratch [Tk]. A fixed order of sums: depends on this row alone. Cannot
 * fail.
 */
void attention_cached(float *out, const float *q, const float *k, const float *v, size_t Tk,
                      size_t n_heads, size_t head_dim, float *scores);

#endif
