#include "reinforce/nn/kv_cache.h"

#include <string.h>

enum status kv_cache_init(struct kv_cache *cache, size_t n_layers, size_t width, size_t n_rows,
                          size_t capacity, struct arena *arena, struct error *err)
{
    size_t n = n_layers * n_rows * capacity * width;
    enum status st = arena_alloc(arena, n * sizeof *cache->k, &cache->k, err);

    if (st == ST_OK)
        st = arena_alloc(arena, n * sizeof *cache->v, &cache->v, err);
    cache->n_layers = n_layers;
    cache->n_rows = n_rows;
    cache->capacity = capacity;
    cache->width = width;
    return st;
}

size_t kv_cache_bytes(size_t n_layers, size_t width, size_t n_rows, size_t capacity)
{
    return 2 * n_layers * n_rows * capacity * width * sizeof(float);
}

static size_t place(const struct kv_cache *cache, size_t layer, size_t row)
{
    return (layer * cache->n_rows + row) * cache->capacity * cache->width;
}

float *kv_cache_k(const struct kv_cache *cache, size_t layer, size_t row)
{
    return cache->k + place(cache, layer, row);
}

float *kv_cache_v(const struct kv_cache *cache, size_t layer, size_t row)
{
    return cache->v + place(cache, layer, row);
}

void kv_cache_copy_row(struct kv_cache *cache, size_t from, size_t to, size_t first, size_t end)
{
    size_t skip = first * cache->width, bytes = (end - first) * cache->width * sizeof *cache->k;

    for (size_t layer = 0; layer < cache->n_layers && from != to; layer++) {
        memcpy(kv_cache_k(cache, layer, to) + skip, kv_cache_k(cache, layer, from) + skip, bytes);
        memcpy(kv_cache_v(cache, layer, to) + skip, kv_cache_v(cache, layer, from) + skip, bytes);
    }
}
