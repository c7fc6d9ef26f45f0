#include "reinforce/nn/int8_rows.h"

#include "reinforce/nn/int8_vectors.h"
#include "reinforce/nn/ops.h"

#include <string.h>

KERNEL_CLONES static uint32_t plain_largest(const float *x, size_t n)
{
    uint32_t largest = 0;

    for (size_t i = 0; i < n; i++)
        largest = MAX(largest, int8_magnitude_bits(x[i]));
    return largest;
}

/* Returns the sum. */
BYTE_KERNEL_CLONES static uint32_t nearest(const float *restrict x, size_t n, float inverse,
                                           int8_t *restrict q)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        int32_t value = int8_nearest(x[i] * inverse);

        q[i] = (int8_t)value;
        sum += (uint32_t)value;
    }
    return sum;
}

/* The same; all are 0 where `inverse` is, whatever x holds. */
static uint32_t plain_values(const float *x, size_t n, float inverse, int8_t *q)
{
    if (inverse > 0)
        return nearest(x, n, inverse, q);
    memset(q, 0, n);
    return 0;
}

/* A group of n values in chunks that lie `apart` bytes apart; returns the sum. */
static uint32_t plain_group(const float *x, size_t n, float inverse, int8_t *q, size_t apart)
{
    uint32_t sum = 0;

    for (size_t k = 0; k < n; k += INT8_CHUNK, q += apart) {
        size_t part = MIN(n - k, (size_t)INT8_CHUNK);

        sum += plain_values(x + k, part, inverse, q);
        memset(q + part, 0, INT8_CHUNK - part);
    }
    return sum;
}

/* n values x as the r-th row of a group. */
static void plain_row(const float *x, size_t n, int8_t *group, size_t r, size_t rows)
{
    int8_t *q = group + int8_head_bytes(rows) + r * INT8_CHUNK;
    float inverse, scale = int8_scale_from(plain_largest(x, n), &inverse);

    int8_put_head(group, r, rows, scale, plain_group(x, n, inverse, q, rows * INT8_CHUNK));
}

#if defined(KERNEL_TARGET)
INT8_AVX512 static ALWAYS_INLINE __m512i magnitudes(__m512 x)
{
    return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}

INT8_AVX512 static ALWAYS_INLINE uint32_t avx512_largest(const float *x, size_t n)
{
    __m512i even = _mm512_setzero_si512(), odd = even;
    size_t k = 0;

    for (; k + 2 * INT8_LANES <= n; k += 2 * INT8_LANES) {
        even = _mm512_max_epu32(even, magnitudes(_mm512_loadu_ps(x + k)));
        odd = _mm512_max_epu32(odd, magnitudes(_mm512_loadu_ps(x + k + INT8_LANES)));
    }
    for (; k < n; k += INT8_LANES)
        even = _mm512_max_epu32(even, magnitudes(int8_some(x, n, k, 0)));
    return _mm512_reduce_max_epu32(_mm512_max_epu32(even, odd));
}

/* A cache line of int8 [64] and the sums of every 16th of them. */
struct line {
    __m512i q, sums;
};

INT8_AVX512 static ALWAYS_INLINE struct line line_of(const __m512 x[4], __m512 inverse)
{
    __m512i q[4];

    UNROLL
    for (size_t i = 0; i < ARRAY_LEN(q); i++)
        q[i] = _mm512_cvtps_epi32(_mm512_mul_ps(x[i], inverse));
    return (struct line){
        .q = int8_bytes_of(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3])),
        .sums = _mm512_add_epi32(_mm512_add_epi32(q[0], q[1]), _mm512_add_epi32(q[2], q[3]))};
}

/* plain_group() of chunks that are whole cache lines. */
INT8_AVX512 static ALWAYS_INLINE uint32_t avx512_group(const float *x, size_t n, float inverse,
                                                       int8_t *q, size_t apart)
{
    enum { LINE = 4 * INT8_LANES };
    const __m512 by = _mm512_set1_ps(inverse);
    __m512i sums = _mm512_setzero_si512();

    for (size_t k = 0; k < int8_whole_chunks(n); k += LINE) {
        __m512 part[4];
        struct line line;

        if (k + LINE <= n)
            for (size_t i = 0; i < ARRAY_LEN(part); i++)
                part[i] = _mm512_loadu_ps(x + k + i * INT8_LANES);
        else
            for (size_t i = 0; i < ARRAY_LEN(part); i++)
                part[i] = int8_some(x, n, k + i * INT8_LANES, 0);
        line = line_of(part, by);
        _mm512_store_si512(q + k / INT8_CHUNK * apart + k % INT8_CHUNK, line.q);
        sums = _mm512_add_epi32(sums, line.sums);
    }
    return (uint32_t)_mm512_reduce_add_epi32(sums);
}

INT8_AVX512 static void avx512_row(const float *x, size_t n, int8_t *group, size_t r, size_t rows)
{
    int8_t *q = group + int8_head_bytes(rows) + r * INT8_CHUNK;
    float inverse, scale = int8_scale_from(avx512_largest(x, n), &inverse);

    if (inverse > 0)
        int8_put_head(group, r, rows, scale, avx512_group(x, n, inverse, q, rows * INT8_CHUNK));
    else
        plain_row(x, n, group, r, rows);
}
#endif

float int8_scale_of(const float *x, size_t n, float *inverse)
{
    return int8_scale_from(plain_largest(x, n), inverse);
}

void int8_quantize_values(const float *x, size_t n, float inverse, int8_t *q)
{
    (void)plain_values(x, n, inverse, q);
}

float int8_quantize_vector(const float *x, size_t n, int8_t *q)
{
    float inverse, scale = int8_scale_of(x, n, &inverse);

    int8_quantize_values(x, n, inverse, q);
    return scale;
}

size_t int8_tile_bytes(size_t rows, size_t K, size_t group)
{
    size_t n_groups = (K + group - 1) / group;

    return n_groups * int8_head_bytes(rows) + rows * int8_whole_chunks(K);
}

size_t int8_rows_floats(size_t T, size_t K)
{
    enum { LINE = 64 };
    size_t bytes = T / INT8_ROWS * int8_tile_bytes(INT8_ROWS, K, INT8_CHUNK) +
                   int8_tile_bytes(T % INT8_ROWS, K, INT8_CHUNK);

    return (LINE + bytes + INT8_SLACK) / sizeof(float);
}

void int8_quantize_row(const float *x, size_t K, size_t group, int8_t *tile, size_t r, size_t rows)
{
    void (*row)(const float *, size_t, int8_t *, size_t, size_t) = plain_row;

#if defined(KERNEL_TARGET)
    if (__builtin_cpu_supports("avx512bw"))
        row = avx512_row;
#endif
    for (size_t first = 0; first < K; first += group) {
        size_t n = MIN(group, K - first);

        row(x + first, n, tile, r, rows);
        tile += int8_group_bytes(rows, n);
    }
}

/* norm: of each row before, or NULL */
static struct int8_rows quantize(const float *x, size_t ldx, size_t T, size_t K,
                                 const struct prologue *norm, size_t group, float *memory)
{
    int8_t *tile = int8_aligned(memory);
    const struct int8_rows rows = {.T = T, .K = K, .group = group, .data = tile};

    for (size_t first = 0; first < T; first += INT8_ROWS) {
        size_t n = MIN(T - first, (size_t)INT8_ROWS);

        for (size_t r = 0; r < n; r++, x += ldx) {
            if (norm != NULL)
                ops_layer_norm(norm->rows, x, norm->w, norm->b, norm->eps, 1, K);
            int8_quantize_row(norm != NULL ? norm->rows : x, K, group, tile, r, n);
        }
        tile += int8_tile_bytes(n, K, group);
    }
    return rows;
}

struct int8_rows int8_quantize(const float *x, size_t ldx, size_t T, size_t K, size_t group,
                               float *memory)
{
    return quantize(x, ldx, T, K, NULL, group, memory);
}

struct int8_rows int8_quantize_normed(const float *x, size_t T, size_t K,
                                      const struct prologue *norm, size_t group, float *memory)
{
    return quantize(x, K, T, K, norm, group, memory);
}
