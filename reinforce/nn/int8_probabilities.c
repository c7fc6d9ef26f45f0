#include "reinforce/nn/int8_probabilities.h"

#include "reinforce/nn/exp_f32.h"
#include "reinforce/nn/int8_kernels.h"
#include "reinforce/nn/int8_rows.h"
#include "reinforce/nn/int8_vectors.h"

#include <math.h>
#include <string.h>

enum {
    LOW_BITS = 7,
    LOW_MASK = (1 << LOW_BITS) - 1,
    ONE = 127 << LOW_BITS,
    ALL_BITS = ONE | LOW_MASK,
};

static const float log2_e = 1.44269504088896341f;

/* Where a row's values begin: chunks lie `apart` bytes apart, and so many behind a high half is the
 * low one. */
struct place {
    int8_t *at;
    size_t apart, low;
};

static struct place place_of(int8_t *tile, size_t n, size_t r, size_t rows)
{
    return (struct place){.at = tile + int8_head_bytes(rows) + r * INT8_CHUNK,
                          .apart = rows * INT8_CHUNK,
                          .low = int8_group_bytes(rows, n)};
}

static int8_t *value_at(const struct place *place, size_t j)
{
    return place->at + j / INT8_CHUNK * place->apart + j % INT8_CHUNK;
}

/* Of a row's values: the sums of their halves, and the bits of any, above those of zero. */
struct sums {
    uint32_t high, low, bits;
};

/* A NaN or an infinity among the scores shows in bits that no probability has. */
static void put_heads(int8_t *tile, size_t n, size_t r, size_t rows, struct sums sums)
{
    bool finite = (sums.bits & ~(uint32_t)ALL_BITS) == INT8_NEAREST_ZERO;
    float one = finite ? 1.0f / (float)((sums.high << LOW_BITS) + sums.low) : NAN;

    int8_put_head(tile, r, rows, (float)(1 << LOW_BITS) * one, sums.high);
    int8_put_head(tile + int8_group_bytes(rows, n), r, rows, one, sums.low);
}

/* Not of NaN, unless all are. */
KERNEL_CLONES static float largest_of(const float *scores, size_t n)
{
    float top = -INFINITY;

    for (size_t j = 0; j < n; j++)
        top = scores[j] > top ? scores[j] : top;
    return top;
}

/* n scores, at most a chunk of them, to their two halves. */
BYTE_KERNEL_CLONES static void plain_chunk(const float *restrict scores, size_t n, float top,
                                           float scale, int8_t *restrict high, int8_t *restrict low,
                                           struct sums *sums)
{
    uint32_t all = 0, all_low = 0, bits = 0;

    for (size_t j = 0; j < n; j++) {
        float p = fmaf(exp2_coarse((scores[j] - top) * scale), (float)ONE, 0x1.8p23f);
        uint32_t t;

        memcpy(&t, &p, sizeof t);
        bits |= t;
        high[j] = (int8_t)(t >> LOW_BITS & LOW_MASK);
        low[j] = (int8_t)(t & LOW_MASK);
        all += t >> LOW_BITS & LOW_MASK;
        all_low += t & LOW_MASK;
    }
    sums->high += all;
    sums->low += all_low;
    sums->bits |= bits;
}

static void plain_row(const float *scores, size_t n, float scale, int8_t *tile, size_t r,
                      size_t rows)
{
    const struct place place = place_of(tile, n, r, rows);
    float top = largest_of(scores, n);
    struct sums sums = {0};

    for (size_t j = 0; j < n; j += INT8_CHUNK) {
        size_t part = MIN(n - j, (size_t)INT8_CHUNK);
        int8_t *to = value_at(&place, j);

        plain_chunk(scores + j, part, top, scale * log2_e, to, to + place.low, &sums);
        memset(to + part, 0, INT8_CHUNK - part);
        memset(to + place.low + part, 0, INT8_CHUNK - part);
    }
    put_heads(tile, n, r, rows, sums);
}

void int8_put_probabilities_plain(const float *scores, size_t apart, size_t rows, size_t n,
                                  float scale, int8_t *tile)
{
    for (size_t r = 0; r < rows; r++)
        plain_row(scores + r * apart, n, scale, tile, r, rows);
}

#if defined(KERNEL_TARGET)
enum { VECTORS = 4, LINE = VECTORS * INT8_LANES };

INT8_AVX512 static ALWAYS_INLINE float avx512_largest(const float *scores, size_t n)
{
    __m512 top[VECTORS];
    size_t j = 0;

    for (size_t i = 0; i < VECTORS; i++)
        top[i] = _mm512_set1_ps(-INFINITY);
    for (; j + LINE <= n; j += LINE)
        UNROLL
    for (size_t i = 0; i < VECTORS; i++)
        top[i] = _mm512_max_ps(_mm512_loadu_ps(scores + j + i * INT8_LANES), top[i]);
    for (; j < n; j += INT8_LANES)
        top[0] = _mm512_max_ps(int8_some(scores, n, j, -INFINITY), top[0]);
    return _mm512_reduce_max_ps(
        _mm512_max_ps(_mm512_max_ps(top[0], top[1]), _mm512_max_ps(top[2], top[3])));
}

/* exp2_coarse() of what lies below the largest score, as bits. */
INT8_AVX512 static ALWAYS_INLINE __m512i probability(__m512 score, __m512 top, __m512 scale)
{
    const __m512 magic = _mm512_set1_ps(12583039.0f);
    __m512 x =
        _mm512_max_ps(_mm512_set1_ps(-100.0f), _mm512_mul_ps(_mm512_sub_ps(score, top), scale));
    __m512 n = _mm512_add_ps(x, magic), f = _mm512_sub_ps(x, _mm512_sub_ps(n, magic)), p;

    p = _mm512_fmadd_ps(_mm512_set1_ps(0.0095701020f), f, _mm512_set1_ps(0.0559178610f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.2402474500f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.6931218150f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.9999992600f));
    p = _mm512_mul_ps(p, _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(n), 23)));
    p = _mm512_fmadd_ps(p, _mm512_set1_ps((float)ONE), _mm512_set1_ps(0x1.8p23f));
    return _mm512_castps_si512(p);
}

INT8_AVX512 static ALWAYS_INLINE void avx512_row(const float *scores, size_t n, float largest,
                                                 float scale, int8_t *tile, size_t r, size_t rows)
{
    const struct place place = place_of(tile, n, r, rows);
    const __m512i kept = _mm512_set1_epi32(ALL_BITS), low_mask = _mm512_set1_epi16(LOW_MASK),
                  none = _mm512_setzero_si512();
    const __m512 top = _mm512_set1_ps(largest), by = _mm512_set1_ps(scale * log2_e);
    __m512i halves = none, bits = none; /* sums of low halves above those of high ones */
    uint64_t sum;
    size_t j = 0;

    for (; j < n; j += LINE) {
        int8_t *to = value_at(&place, j);
        __m512i t[VECTORS], pair[2], high, low;

        if (j + LINE <= n)
            for (size_t i = 0; i < VECTORS; i++)
                t[i] = probability(_mm512_loadu_ps(scores + j + i * INT8_LANES), top, by);
        else
            for (size_t i = 0; i < VECTORS; i++)
                t[i] =
                    j + i * INT8_LANES < n
                        ? probability(int8_some(scores, n, j + i * INT8_LANES, -INFINITY), top, by)
                        : _mm512_set1_epi32(INT8_NEAREST_ZERO);
        bits = _mm512_or_si512(_mm512_or_si512(_mm512_or_si512(t[0], t[1]), bits),
                               _mm512_or_si512(t[2], t[3]));
        for (size_t i = 0; i < VECTORS; i++)
            t[i] = _mm512_and_si512(t[i], kept);
        pair[0] = _mm512_packus_epi32(t[0], t[1]);
        pair[1] = _mm512_packus_epi32(t[2], t[3]);
        high = int8_bytes_of(_mm512_srli_epi16(pair[0], LOW_BITS),
                             _mm512_srli_epi16(pair[1], LOW_BITS));
        low =
            int8_bytes_of(_mm512_and_si512(pair[0], low_mask), _mm512_and_si512(pair[1], low_mask));
        halves = _mm512_add_epi64(halves, _mm512_sad_epu8(high, none));
        halves = _mm512_add_epi64(halves, _mm512_slli_epi64(_mm512_sad_epu8(low, none), 32));
        _mm512_store_si512(to, high);
        _mm512_store_si512(to + place.low, low);
    }
    for (; j < int8_whole_chunks(n); j += LINE) {
        _mm512_store_si512(value_at(&place, j), none);
        _mm512_store_si512(value_at(&place, j) + place.low, none);
    }
    sum = (uint64_t)_mm512_reduce_add_epi64(halves);
    put_heads(tile, n, r, rows,
              (struct sums){.high = (uint32_t)sum,
                            .low = (uint32_t)(sum >> 32),
                            .bits = (uint32_t)_mm512_reduce_or_epi32(bits)});
}

INT8_AVX512 static void avx512_rows(const float *scores, size_t apart, size_t rows, size_t n,
                                    float scale, int8_t *tile)
{
    float top[INT8_ROWS];

    for (size_t r = 0; r < rows; r++) /* none waits for another */
        top[r] = avx512_largest(scores + r * apart, n);
    for (size_t r = 0; r < rows; r++)
        avx512_row(scores + r * apart, n, top[r], scale, tile, r, rows);
}
#endif

void int8_put_probabilities(const float *scores, size_t apart, size_t rows, size_t n, float scale,
                            int8_t *tile)
{
#if defined(KERNEL_TARGET)
    if (__builtin_cpu_supports("avx512bw")) {
        avx512_rows(scores, apart, rows, n, scale, tile);
        return;
    }
#endif
    int8_put_probabilities_plain(scores, apart, rows, n, scale, tile);
}
