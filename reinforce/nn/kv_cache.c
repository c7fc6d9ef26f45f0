#include "reinforce/nn/kv_cache.h"

#include "reinforce/nn/convert.h"
#include "reinforce/nn/int8.h"

#include <string.h>

static size_t element_bytes(enum kv_type type)
{
    return type == KV_FLOAT32 ? sizeof(float) : type == KV_BFLOAT16 ? sizeof(uint16_t) : 1;
}

/* Of keys or of values. */
static size_t positions(const struct kv_shape *s)
{
    return s->n_layers * s->n_rows * s->capacity;
}

enum status kv_cache_init(struct kv_cache *cache, const struct kv_shape *shape, struct arena *arena,
                          struct error *err)
{
    size_t width = shape->n_heads * shape->head_dim;
    size_t bytes = positions(shape) * width * element_bytes(shape->type);
    size_t scales = positions(shape) * shape->n_heads * sizeof(float);
    enum status st;

    *cache = (struct kv_cache){.shape = *shape, .width = width};
    st = arena_alloc(arena, bytes, &cache->k, err);
    if (st == ST_OK)
        st = arena_alloc(arena, bytes, &cache->v, err);
    if (st == ST_OK && shape->type == KV_INT8)
        st = arena_alloc(arena, scales, &cache->k_scale, err);
    if (st == ST_OK && shape->type == KV_INT8)
        st = arena_alloc(arena, scales, &cache->v_scale, err);
    return st;
}

size_t kv_cache_bytes(const struct kv_shape *s)
{
    size_t scale = s->type == KV_INT8 ? sizeof(float) : 0;

    return 2 * positions(s) * s->n_heads * (s->head_dim * element_bytes(s->type) + scale);
}

/* In positions. */
static size_t place(const struct kv_cache *cache, size_t layer, size_t row)
{
    return (layer * cache->shape.n_rows + row) * cache->shape.capacity;
}

static void *element(const struct kv_cache *cache, void *data, size_t position)
{
    return (char *)data + position * cache->width * element_bytes(cache->shape.type);
}

static float *scale_at(const struct kv_cache *cache, float *scale, size_t position)
{
    return scale != NULL ? scale + position * cache->shape.n_heads : NULL;
}

static void put(const struct kv_cache *cache, void *to, float *scale, const float *from, size_t n)
{
    size_t head_dim = cache->shape.head_dim;
    int8_t *q = to;

    switch (cache->shape.type) {
    case KV_FLOAT32:
        memcpy(to, from, n * cache->width * sizeof *from);
        break;
    case KV_BFLOAT16:
        convert_to_bf16(from, n * cache->width, to);
        break;
    case KV_INT8:
        for (size_t i = 0; i < n * cache->shape.n_heads; i++)
            scale[i] = int8_quantize_vector(from + i * head_dim, head_dim, q + i * head_dim);
        break;
    }
}

void kv_cache_put(struct kv_cache *cache, size_t layer, size_t row, size_t position, size_t n,
                  const float *k, const float *v)
{
    size_t at = place(cache, layer, row) + position;

    put(cache, element(cache, cache->k, at), scale_at(cache, cache->k_scale, at), k, n);
    put(cache, element(cache, cache->v, at), scale_at(cache, cache->v_scale, at), v, n);
}

void kv_cache_attend(const struct kv_cache *cache, size_t layer, size_t row, struct attention *a)
{
    size_t at = place(cache, layer, row);

    a->kv_type = cache->shape.type;
    a->k = element(cache, cache->k, at);
    a->v = element(cache, cache->v, at);
    a->k_scale = scale_at(cache, cache->k_scale, at);
    a->v_scale = scale_at(cache, cache->v_scale, at);
    a->kv_stride = cache->width;
    a->n_kv_heads = cache->shape.n_heads;
}

void kv_cache_copy_row(struct kv_cache *cache, size_t from, size_t to, size_t first, size_t end)
{
    size_t bytes = (end - first) * cache->width * element_bytes(cache->shape.type);
    size_t scales = (end - first) * cache->shape.n_heads * sizeof(float);

    for (size_t layer = 0; layer < cache->shape.n_layers && from != to; layer++) {
        size_t source = place(cache, layer, from) + first, target = place(cache, layer, to) + first;

        memcpy(element(cache, cache->k, target), element(cache, cache->k, source), bytes);
        memcpy(element(cache, cache->v, target), element(cache, cache->v, source), bytes);
        if (cache->shape.type == KV_INT8) {
            memcpy(scale_at(cache, cache->k_scale, target), scale_at(cache, cache->k_scale, source),
                   scales);
            memcpy(scale_at(cache, cache->v_scale, target), scale_at(cache, cache->v_scale, source),
                   scales);
        }
    }
}
