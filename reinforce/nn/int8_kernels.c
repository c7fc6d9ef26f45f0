#include "reinforce/nn/int8_kernels.h"

#include "reinforce/nn/int8.h"

#include <string.h>

#if defined(KERNEL_TARGET)
#include <immintrin.h>
#endif

/* Of the group that begins at value k. */
static ALWAYS_INLINE size_t group_quads(size_t K, size_t k)
{
    return (MIN(K - k, (size_t)INT8_GROUP) + 3) / 4;
}

static ALWAYS_INLINE int32_t four_at(const int8_t *at)
{
    int32_t four;

    memcpy(&four, at, sizeof four);
    return four;
}

BYTE_KERNEL_CLONES static void plain_tile(float *total, const int8_t *x, size_t rows,
                                          const uint8_t *w, size_t K)
{
    memset(total, 0, rows * INT8_COLUMNS * sizeof *total);
    for (size_t k = 0; k < K; k += INT8_GROUP) {
        size_t quads = group_quads(K, k);

        for (size_t r = 0; r < rows; r++, x += 4) {
            int32_t sum[INT8_COLUMNS];
            float scale;

            memcpy(&scale, x, sizeof scale);
            for (size_t c = 0; c < INT8_COLUMNS; c++)
                sum[c] = four_at(x + 4 * rows);
            for (size_t q = 0; q < quads; q++) {
                const int8_t *quad = x + 4 * (q + 2) * rows;
                const uint8_t *columns = w + q * 4 * INT8_COLUMNS;

                for (size_t c = 0; c < INT8_COLUMNS; c++)
                    sum[c] += quad[0] * columns[4 * c] + quad[1] * columns[4 * c + 1] +
                              quad[2] * columns[4 * c + 2] + quad[3] * columns[4 * c + 3];
            }
            for (size_t c = 0; c < INT8_COLUMNS; c++)
                total[r * INT8_COLUMNS + c] += (float)sum[c] * scale;
        }
        x += 4 * (quads + 1) * rows;
        w += 4 * quads * INT8_COLUMNS;
    }
}

#if defined(KERNEL_TARGET)
#define AVX2 KERNEL_TARGET("avx2")

/* Products of bytes in pairs of 16 bits, even and odd ones apart: the instruction that takes bytes
 * saturates. */
AVX2 static void avx2_tile(float *total, const int8_t *x, size_t rows, const uint8_t *w, size_t K)
{
    enum { VECTORS = INT8_COLUMNS / 8 };
    const __m256i low_bytes = _mm256_set1_epi16(255);

    memset(total, 0, rows * INT8_COLUMNS * sizeof *total);
    for (size_t k = 0; k < K; k += INT8_GROUP) {
        size_t quads = group_quads(K, k);

        for (size_t r = 0; r < rows; r++, x += 4) {
            const __m256 scale = _mm256_castsi256_ps(_mm256_set1_epi32(four_at(x)));
            __m256i sum[VECTORS];

            for (int v = 0; v < VECTORS; v++)
                sum[v] = _mm256_set1_epi32(four_at(x + 4 * rows));
            for (size_t q = 0; q < quads; q++) {
                const __m256i quad = _mm256_set1_epi32(four_at(x + 4 * (q + 2) * rows));
                const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(quad, 8), 8);
                const __m256i odd = _mm256_srai_epi16(quad, 8);

                for (int v = 0; v < VECTORS; v++) {
                    const __m256i bytes = _mm256_load_si256(
                        (const __m256i *)(const void *)(w + (q * VECTORS + (size_t)v) * 32));

                    sum[v] = _mm256_add_epi32(
                        sum[v], _mm256_madd_epi16(_mm256_and_si256(bytes, low_bytes), even));
                    sum[v] = _mm256_add_epi32(sum[v],
                                              _mm256_madd_epi16(_mm256_srli_epi16(bytes, 8), odd));
                }
            }
            for (int v = 0; v < VECTORS; v++) {
                float *to = total + r * INT8_COLUMNS + 8 * v;

                _mm256_storeu_ps(to,
                                 _mm256_add_ps(_mm256_loadu_ps(to),
                                               _mm256_mul_ps(_mm256_cvtepi32_ps(sum[v]), scale)));
            }
        }
        x += 4 * (quads + 1) * rows;
        w += 4 * quads * INT8_COLUMNS;
    }
}

#define VNNI KERNEL_TARGET("avx512f,avx512bw,avx512vnni")

/* Sums are variables of their own, as those of an array go through memory, and the instruction is
 * spelt out, as GCC moves the intrinsic's operand about. */
#define EACH_ROW(DO)                                                                               \
    DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13)
#define BEGIN(r)                                                                                   \
    __m512i low##r = _mm512_set1_epi32((r) < rows ? four_at(x + 4 * (rows + (r))) : 0),            \
            high##r = low##r;
#define MULTIPLY(r)                                                                                \
    if ((r) < rows) {                                                                              \
        const __m512i quad = _mm512_set1_epi32(four_at(data + 4 * (r)));                           \
        __asm__("vpdpbusd %2, %1, %0" : "+v"(low##r) : "v"(w_low), "v"(quad));                     \
        __asm__("vpdpbusd %2, %1, %0" : "+v"(high##r) : "v"(w_high), "v"(quad));                   \
    }
#define ADD(r)                                                                                     \
    if ((r) < rows) {                                                                              \
        vnni_add(total + (r)*INT8_COLUMNS, low##r, x + 4 * (r));                                   \
        vnni_add(total + (r)*INT8_COLUMNS + 16, high##r, x + 4 * (r));                             \
    }

VNNI static ALWAYS_INLINE void vnni_add(float *total, __m512i sum, const int8_t *scale)
{
    const __m512 scales = _mm512_castsi512_ps(_mm512_set1_epi32(four_at(scale)));

    _mm512_storeu_ps(total, _mm512_add_ps(_mm512_loadu_ps(total),
                                          _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scales)));
}

/* `rows` is a constant when inlined. */
VNNI static ALWAYS_INLINE void vnni_rows(float *total, const int8_t *x, const size_t rows,
                                         const uint8_t *w, size_t K)
{
    memset(total, 0, rows * INT8_COLUMNS * sizeof *total);
    for (size_t k = 0; k < K; k += INT8_GROUP) {
        const int8_t *data = x + 8 * rows, *end = data + 4 * group_quads(K, k) * rows;

        EACH_ROW(BEGIN)
        for (; data < end; data += 4 * rows, w += 4 * INT8_COLUMNS) {
            const __m512i w_low = _mm512_load_si512(w), w_high = _mm512_load_si512(w + 64);

            EACH_ROW(MULTIPLY)
        }
        EACH_ROW(ADD)
        __asm__ volatile("" ::: "memory"); /* totals stay there: registers are for sums */
        x = end;
    }
}

VNNI static void vnni_tile(float *total, const int8_t *x, size_t rows, const uint8_t *w, size_t K)
{
#define CASE(r)                                                                                    \
    case (r) + 1:                                                                                  \
        vnni_rows(total, x, (r) + 1, w, K);                                                        \
        break;
    switch (rows) {
        EACH_ROW(CASE)
    default:
        break;
    }
}
#endif

static const struct int8_kernel kernels[] = {
#if defined(KERNEL_TARGET)
    {"avx512vnni", vnni_tile},
    {"avx2", avx2_tile},
#endif
    {"plain", plain_tile},
};

const struct int8_kernel *int8_kernels(size_t *n)
{
    size_t first = 0;

#if defined(KERNEL_TARGET)
    if (!__builtin_cpu_supports("avx512vnni") || !__builtin_cpu_supports("avx512bw"))
        first = __builtin_cpu_supports("avx2") ? 1 : 2;
#endif
    *n = ARRAY_LEN(kernels) - first;
    return kernels + first;
}
