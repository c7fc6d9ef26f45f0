/* Keys and values of sequences that are decoded token by token. */
#ifndef REINFORCE_NN_KV_CACHE_H
#define REINFORCE_NN_KV_CACHE_H

#include "reinforce/base/arena.h"

/** float32 [n_layers, n_rows, capacity, width] each: a row is a sequence. */
struct kv_cache {
    float *k, *v;
    size_t n_layers, n_rows, capacity, width;
};

/** Allocates in `arena`, not initialised. */
NODISCARD enum status kv_cache_init(struct kv_cache *cache, size_t n_layers, size_t width,
                                    size_t n_rows, size_t capacity, struct arena *arena,
                                    struct error *err);

/** What kv_cache_init() allocates. */
size_t kv_cache_bytes(size_t n_layers, size_t width, size_t n_rows, size_t capacity);

/** [capacity, width] of one layer and row. */
float *kv_cache_k(const struct kv_cache *cache, size_t layer, size_t row);
float *kv_cache_v(const struct kv_cache *cache, size_t layer, size_t row);

/** Positions [first, end) of row `from` become row `to`'s: a sequence that goes on from another. */
void kv_cache_copy_row(struct kv_cache *cache, size_t from, size_t to, size_t first, size_t end);

#endif
