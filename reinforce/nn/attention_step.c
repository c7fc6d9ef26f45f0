#include "reinforce/nn/attention_step.h"

#include "reinforce/nn/ops.h"

#include <stdint.h>
#include <string.h>

enum {
    LANES = 16,
    TOGETHER = 4,       /* positions whose values are added in one pass over the output */
    FETCH_BYTES = 4096, /* how far ahead memory is asked for */
    LINE = 64,
};

typedef float lanes FLOAT_VECTOR(16);
typedef float quarter FLOAT_VECTOR(4);
typedef uint16_t half_lanes WORD_VECTOR(16, uint16_t);
typedef uint32_t word_lanes WORD_VECTOR(16, uint32_t);
typedef int8_t int8_lanes WORD_VECTOR(16, int8_t);
typedef int16_t int16_lanes WORD_VECTOR(16, int16_t);
typedef int32_t int32_lanes WORD_VECTOR(16, int32_t);

/* One row of q over keys [first, first + n). */
struct row {
    const struct attention *a;
    size_t first, n, kv_heads, group; /* heads that share a key */
};

static ALWAYS_INLINE size_t kv_value_bytes(enum kv_type type)
{
    return type == KV_FLOAT32 ? sizeof(float) : type == KV_BFLOAT16 ? sizeof(uint16_t) : 1;
}

/* The i-th of a key or a value; of KV_INT8 without its scale. */
static ALWAYS_INLINE float kv_value(enum kv_type type, const void *data, size_t i)
{
    uint32_t bits;
    float value;

    if (type == KV_INT8)
        return (float)((const int8_t *)data)[i];
    if (type == KV_FLOAT32)
        return ((const float *)data)[i];
    bits = (uint32_t)((const uint16_t *)data)[i] << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* LANES keys or values as one vector, whatever the machine's are. */
static ALWAYS_INLINE void widen_lanes(enum kv_type type, const void *data, size_t i, lanes *to)
{
    if (type == KV_INT8)
        *to = CONVERT_VECTOR(
            CONVERT_VECTOR(
                CONVERT_VECTOR(*(const int8_lanes *)((const int8_t *)data + i), int16_lanes),
                int32_lanes),
            lanes);
    else if (type == KV_FLOAT32)
        *to = *(const lanes *)((const float *)data + i);
    else
        *to = (lanes)(CONVERT_VECTOR(*(const half_lanes *)((const uint16_t *)data + i), word_lanes)
                      << 16);
}

/* A key or a value: head `kv` of the j-th visible position. */
static ALWAYS_INLINE const void *head_at(enum kv_type type, const struct row *row, const void *data,
                                         size_t j, size_t kv)
{
    size_t at = (row->first + j) * row->a->kv_stride + kv * row->a->head_dim;

    return (const char *)data + at * kv_value_bytes(type);
}

static ALWAYS_INLINE void fetch(enum kv_type type, const void *head, size_t head_dim)
{
    for (size_t at = 0; at < head_dim * kv_value_bytes(type); at += LINE)
        __builtin_prefetch((const char *)head + FETCH_BYTES + at); /* nothing, if it is not there */
}

static ALWAYS_INLINE float dot(enum kv_type type, const float *a, const void *b, size_t n)
{
    _Alignas(64) float lane[LANES];
    lanes sum = {0}, wide;
    quarter four;
    size_t i = 0;

    for (; i + LANES <= n; i += LANES) {
        widen_lanes(type, b, i, &wide);
        sum += *(const lanes *)(a + i) * wide;
    }
    memcpy(lane, &sum, sizeof lane);
    for (size_t j = i; j < n; j++)
        lane[j - i] += a[j] * kv_value(type, b, j);
    four = (*(const quarter *)lane + *(const quarter *)(lane + 8)) +
           (*(const quarter *)(lane + 4) + *(const quarter *)(lane + 12));
    return (four[0] + four[2]) + (four[1] + four[3]);
}

/* scores [n_heads, n] */
static ALWAYS_INLINE void score(enum kv_type type, const struct row *row, float *scores)
{
    const struct attention *a = row->a;

    for (size_t j = 0; j < row->n; j++)
        for (size_t kv = 0; kv < row->kv_heads; kv++) {
            const void *key = head_at(type, row, a->k, j, kv);
            float scale =
                type == KV_INT8 ? a->k_scale[(row->first + j) * row->kv_heads + kv] : 1.0f;

            fetch(type, key, a->head_dim);
            for (size_t h = kv * row->group; h < (kv + 1) * row->group; h++)
                scores[h * row->n + j] =
                    dot(type, a->q + h * a->head_dim, key, a->head_dim) * scale;
        }
}

/* out += weights of `n` positions from j on times their values; n is a constant when inlined. */
static ALWAYS_INLINE void add_values(enum kv_type type, const struct row *row, float *restrict out,
                                     const float *weights, size_t j, size_t kv, const size_t n)
{
    const struct attention *a = row->a;
    const void *value[TOGETHER];
    float weight[TOGETHER];
    size_t d = 0;

    for (size_t i = 0; i < n; i++) {
        value[i] = head_at(type, row, a->v, j + i, kv);
        weight[i] = weights[j + i];
        if (type == KV_INT8)
            weight[i] *= a->v_scale[(row->first + j + i) * row->kv_heads + kv];
    }
    for (; d + LANES <= a->head_dim; d += LANES) {
        lanes sum = *(lanes *)(out + d), wide;

        for (size_t i = 0; i < n; i++) {
            widen_lanes(type, value[i], d, &wide);
            sum += weight[i] * wide;
        }
        *(lanes *)(out + d) = sum;
    }
    for (; d < a->head_dim; d++) {
        float sum = out[d];

        for (size_t i = 0; i < n; i++)
            sum += weight[i] * kv_value(type, value[i], d);
        out[d] = sum;
    }
}

static ALWAYS_INLINE void mix(enum kv_type type, const struct row *row, const float *weights,
                              float *out)
{
    const struct attention *a = row->a;

    memset(out, 0, a->n_heads * a->head_dim * sizeof *out);
    for (size_t j = 0; j < row->n;) {
        size_t n = row->n - j >= TOGETHER ? TOGETHER : 1;

        for (size_t kv = 0; kv < row->kv_heads; kv++) {
            for (size_t i = 0; i < n; i++)
                fetch(type, head_at(type, row, a->v, j + i, kv), a->head_dim);
            for (size_t h = kv * row->group; h < (kv + 1) * row->group; h++)
                if (n == TOGETHER)
                    add_values(type, row, out + h * a->head_dim, weights + h * row->n, j, kv,
                               TOGETHER);
                else
                    add_values(type, row, out + h * a->head_dim, weights + h * row->n, j, kv, 1);
        }
        j += n;
    }
}

KERNEL_CLONES static void score_any(const struct row *row, float *scores)
{
    switch (row->a->kv_type) {
    case KV_FLOAT32:
        score(KV_FLOAT32, row, scores);
        break;
    case KV_BFLOAT16:
        score(KV_BFLOAT16, row, scores);
        break;
    case KV_INT8:
        score(KV_INT8, row, scores);
        break;
    }
}

KERNEL_CLONES static void mix_any(const struct row *row, const float *weights, float *out)
{
    switch (row->a->kv_type) {
    case KV_FLOAT32:
        mix(KV_FLOAT32, row, weights, out);
        break;
    case KV_BFLOAT16:
        mix(KV_BFLOAT16, row, weights, out);
        break;
    case KV_INT8:
        mix(KV_INT8, row, weights, out);
        break;
    }
}

void attention_step(const struct attention *a, float *out, float *scores)
{
    size_t first = a->window > 0 && a->Tk > a->window ? a->Tk - a->window : 0;
    size_t kv_heads = a->n_kv_heads > 0 ? a->n_kv_heads : a->n_heads;
    const struct row row = {.a = a,
                            .first = first,
                            .n = a->Tk - first,
                            .kv_heads = kv_heads,
                            .group = a->n_heads / kv_heads};
    float scale = attention_scale(a);

    score_any(&row, scores);
    for (size_t h = 0; h < a->n_heads; h++) {
        float *of_head = scores + h * row.n;

        if (a->soft_cap > 0)
            ops_soft_cap(of_head, row.n, scale, a->soft_cap);
        ops_softmax(of_head, row.n, a->soft_cap > 0 ? 1 : scale);
    }
    mix_any(&row, scores, out);
}
