/* Multi-head attention: whole sequences in tiles of queries. */
#ifndef REINFORCE_NN_ATTENTION_H
#define REINFORCE_NN_ATTENTION_H

#include "reinforce/base/arena.h"

/** Queries whose scores are held at once, per head. */
enum { ATTENTION_TILE = 272 };

/** How cached keys and values are kept. */
enum kv_type {
    KV_FLOAT32 = 0,
    KV_BFLOAT16 = 1,
    KV_INT8 = 2, /* q scale: a scale for each position and head */
};

/**
 * One attention; pointers are to head 0, heads lie `head_dim` apart in a row. The queries are the
 * last Tq of the Tk positions. Whatever is 0 at the end of the list is not asked for.
 */
struct attention {
    const float *q; /* float32 [Tq, n_heads * head_dim], rows q_stride apart */
    const void *k;  /* float32 [Tk, n_kv_heads * head_dim], rows kv_stride elements apart */
    const void *v;
    size_t q_stride, kv_stride;
    size_t Tq, Tk;
    size_t n_heads, head_dim;
    bool causal;                    /* the query at position i sees keys 0..i */
    const bool *hide_last;          /* [Tk] keys that the last query does not see; NULL: none */
    size_t n_kv_heads;              /* divides n_heads, groups of queries share one; 0: n_heads */
    size_t n_prefix;                /* causal: the first so many keys are seen by all */
    size_t window;                  /* the query at i sees key j only if i - j < window */
    float scale;                    /* of scores; 0: 1 / sqrt(head_dim) */
    float soft_cap;                 /* scores become cap * tanh(score / cap) */
    enum kv_type kv_type;           /* of k and v, for attention_step() alone */
    const float *k_scale, *v_scale; /* KV_INT8: [Tk, n_kv_heads] */
};

/** Of T positions over themselves: qkv float32 [T, 3 * width], queries, keys and values of all
 * heads side by side; n_heads divides width. */
struct attention attention_of_qkv(const float *qkv, size_t T, size_t width, size_t n_heads);

/**
 * out float32 [Tq, n_heads * head_dim] = softmax(scale q k^T) v, heads side by side.
 * Never holds more than ATTENTION_TILE x Tk scores, in `scratch`. ST_NO_MEMORY: scratch is too
 * small.
 */
NODISCARD enum status attention_run(const struct attention *a, float *out, struct arena *scratch,
                                    struct error *err);

/** What a's scores are multiplied by. */
float attention_scale(const struct attention *a);

/**
 * The same in int8, of Tq queries that see all Tk keys (no mask, no soft cap, no groups): each head
 * of a query and of a key quantised by its own largest magnitude, values by column, probabilities
 * kept in 14 bits. Sums are exact, so bits depend on the query, the keys and the values alone, not
 * on the machine. A query with a NaN or an infinity becomes NaN. `scratch` gives
 * attention_int8_floats(). ST_NO_MEMORY: it is too small.
 */
NODISCARD enum status attention_run_int8(const struct attention *a, float *out,
                                         struct arena *scratch, struct error *err);
size_t attention_int8_floats(size_t Tk, size_t head_dim);

/** The same in plain loops and double. */
void attention_ref(const struct attention *a, float *out);

#endif
