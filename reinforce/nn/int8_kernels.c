#include "reinforce/nn/int8_kernels.h"

#include "reinforce/nn/int8.h"

#include <string.h>

#if defined(KERNEL_TARGET)
#include <immintrin.h>
#endif

/* Sums wrap as they do in the instructions: on the way to the end the offset may leave the range.
 */
BYTE_KERNEL_CLONES static void plain_tile(int32_t *sum, const uint8_t *x, size_t rows,
                                          const int8_t *panel, const int32_t *offset, size_t quads)
{
    for (size_t r = 0; r < rows; r++) {
        const uint8_t *quad = x + 4 * r;
        const int8_t *w = panel;
        uint32_t row[INT8_COLUMNS];

        memcpy(row, offset, sizeof row);
        for (size_t k = 0; k < quads; k++, quad += 4 * rows, w += 4 * INT8_COLUMNS)
            for (size_t c = 0; c < INT8_COLUMNS; c++)
                row[c] += (uint32_t)(quad[0] * w[4 * c] + quad[1] * w[4 * c + 1] +
                                     quad[2] * w[4 * c + 2] + quad[3] * w[4 * c + 3]);
        memcpy(sum + r * INT8_COLUMNS, row, sizeof row);
    }
}

#if defined(KERNEL_TARGET)
#define VNNI KERNEL_TARGET("avx512f,avx512bw,avx512vnni")

/* Sums are variables of their own: those of an array would go through memory. */
#define EACH_ROW(DO)                                                                               \
    DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13)
#define BEGIN(r) __m512i low##r = offset_low, high##r = offset_high;
#define MULTIPLY(r)                                                                                \
    if (r < rows) {                                                                                \
        const __m512i quad = broadcast(x + 4 * r);                                                 \
        low##r = _mm512_dpbusd_epi32(low##r, quad, w_low);                                         \
        high##r = _mm512_dpbusd_epi32(high##r, quad, w_high);                                      \
    }
#define STORE(r)                                                                                   \
    if (r < rows) {                                                                                \
        _mm512_storeu_si512(sum + r * INT8_COLUMNS, low##r);                                       \
        _mm512_storeu_si512(sum + r * INT8_COLUMNS + 16, high##r);                                 \
    }

VNNI static ALWAYS_INLINE __m512i broadcast(const uint8_t *quad)
{
    int32_t four;

    memcpy(&four, quad, sizeof four);
    return _mm512_set1_epi32(four);
}

/* `rows` is a constant when inlined. */
VNNI static ALWAYS_INLINE void vnni_rows(int32_t *sum, const uint8_t *x, const size_t rows,
                                         const int8_t *panel, const int32_t *offset, size_t quads)
{
    const __m512i offset_low = _mm512_loadu_si512(offset);
    const __m512i offset_high = _mm512_loadu_si512(offset + 16);

    EACH_ROW(BEGIN)
    for (size_t k = 0; k < quads; k++, x += 4 * rows, panel += 4 * INT8_COLUMNS) {
        const __m512i w_low = _mm512_load_si512(panel), w_high = _mm512_load_si512(panel + 64);

        EACH_ROW(MULTIPLY)
    }
    EACH_ROW(STORE)
}

VNNI static void vnni_tile(int32_t *sum, const uint8_t *x, size_t rows, const int8_t *panel,
                           const int32_t *offset, size_t quads)
{
#define CASE(r)                                                                                    \
    case r + 1:                                                                                    \
        vnni_rows(sum, x, r + 1, panel, offset, quads);                                            \
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
#endif
    {"plain", plain_tile},
};

const struct int8_kernel *int8_kernels(size_t *n)
{
    size_t first = 0;

#if defined(KERNEL_TARGET)
    if (!__builtin_cpu_supports("avx512vnni") || !__builtin_cpu_supports("avx512bw"))
        first = 1;
#endif
    *n = ARRAY_LEN(kernels) - first;
    return kernels + first;
}
