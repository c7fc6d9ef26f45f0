/* Keys and values of sequences that are decoded token by token. */
#ifndef REINFORCE_NN_KV_CACHE_H
#define REINFORCE_NN_KV_CACHE_H

#include "reinforce/base/arena.h"
#include "reinforce/nn/attention.h"

/** What a cache has room for: a row is a sequence of up to `capacity` positions. Plain data. */
struct kv_shape {
    enum kv_type type;
    size_t n_layers, n_heads, head_dim;
    size_t n_rows, capacity;
};

/** [n_layers, n_rows, capacity, n_heads * head_dim] each, of shape.type. */
struct kv_cache {
    struct kv_shape shape;
    size_t width; /* n_heads * head_dim */
    void *k, *v;
    float *k_scale, *v_scale; /* KV_INT8: [n_layers, n_rows, capacity, n_heads]; else NULL */
};

/** Allocates in `arena`, not initialised. */
NODISCARD enum status kv_cache_init(struct kv_cache *cache, const struct kv_shape *shape,
                                    struct arena *arena, struct error *err);

/** What kv_cache_init() allocates. */
size_t kv_cache_bytes(const struct kv_shape *shape);

/** k, v float32 [n, width] become `n` positions of a row from `position` on: rounded to the nearest
 * bfloat16, ties to even, or quantised head by head. */
void kv_cache_put(struct kv_cache *cache, size_t layer, size_t row, size_t position, size_t n,
                  const float *k, const float *v);

/** Points an attention's keys and values, and what says how to read them, to a row. */
void kv_cache_attend(const struct kv_cache *cache, size_t layer, size_t row, struct attention *a);

/** Positions [first, end) of row `from` become row `to`'s: a sequence that goes on from another. */
void kv_cache_copy_row(struct kv_cache *cache, size_t from, size_t to, size_t first, size_t end);

#endif
