#include "reinforce/nn/float_kernels.h"

#include "reinforce/nn/gemm.h"

#include <math.h>
#include <string.h>

#if defined(KERNEL_TARGET)
#include <immintrin.h>
#endif

enum { PLAIN_ROWS = 4 };

static void plain_tile(float *y, size_t ldy, const struct float_panel *panel,
                       const struct float_strip *strip, bool add)
{
    const float *rows = panel->data, *columns = strip->data;
    size_t row_step = panel->ld > 0 ? panel->ld : 1, k_step = panel->ld > 0 ? 1 : panel->rows;
    size_t n = strip->is_half ? FLOAT_HALF : FLOAT_COLUMNS;

    for (size_t r = 0; r < panel->rows; r++, y += ldy) {
        float sum[FLOAT_COLUMNS] = {0};

        for (size_t k = 0; k < strip->K; k++)
            for (size_t c = 0; c < n; c++)
                sum[c] =
                    fmaf(rows[k * k_step + r * row_step], columns[k * FLOAT_COLUMNS + c], sum[c]);
        for (size_t c = 0; c < n; c++)
            y[c] = add ? y[c] + sum[c] : sum[c];
    }
}

static void plain_pack(float *packed, size_t width, const void *x, size_t ldx, size_t rows,
                       size_t K)
{
    const float *row = x;

    for (size_t r = 0; r < width; r++, row += ldx)
        for (size_t k = 0; k < K; k++)
            packed[k * width + r] = r < rows ? row[k] : 0;
}

static void plain_pack_bf16(float *packed, size_t width, const void *x, size_t ldx, size_t rows,
                            size_t K)
{
    const uint16_t *row = x;

    for (size_t r = 0; r < width; r++, row += ldx)
        for (size_t k = 0; k < K; k++) {
            uint32_t bits = r < rows ? (uint32_t)row[k] << 16 : 0;

            memcpy(&packed[k * width + r], &bits, sizeof bits);
        }
}

#if defined(KERNEL_TARGET)
enum { AVX2_ROWS = 6, AVX2_LANES = 8, AVX512_ROWS = 14, AVX512_LANES = 16 };

#define AVX2   KERNEL_TARGET("avx2,fma")
#define AVX512 KERNEL_TARGET("avx512f")

/* Sums are variables of their own, as those of an array go through memory; `rows`, `loose` (they
 * are where they lie) and `half` are constants when inlined. */
#define EACH_OF_6(DO)  DO(0) DO(1) DO(2) DO(3) DO(4) DO(5)
#define EACH_OF_14(DO) EACH_OF_6(DO) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13)

/* Six rows and half a strip fill the sixteen registers. */
#define AVX2_BEGIN(r) __m256 low##r = _mm256_setzero_ps(), high##r = low##r;
#define AVX2_MULTIPLY(r)                                                                           \
    if ((r) < rows) {                                                                              \
        const __m256 a = _mm256_broadcast_ss(row + (loose ? (r)*ld + k : k * rows + (r)));         \
        low##r = _mm256_fmadd_ps(a, w_low, low##r);                                                \
        high##r = _mm256_fmadd_ps(a, w_high, high##r);                                             \
    }
#define AVX2_END(r)                                                                                \
    if ((r) < rows) {                                                                              \
        avx2_store(y + (r)*ldy, low##r, add);                                                      \
        avx2_store(y + (r)*ldy + AVX2_LANES, high##r, add);                                        \
    }

AVX2 static ALWAYS_INLINE void avx2_store(float *y, __m256 sum, bool add)
{
    _mm256_storeu_ps(y, add ? _mm256_add_ps(_mm256_loadu_ps(y), sum) : sum);
}

AVX2 static ALWAYS_INLINE void avx2_rows(float *y, size_t ldy, const struct float_panel *panel,
                                         const struct float_strip *strip, const size_t rows,
                                         bool add, const bool loose)
{
    const float *columns = strip->data, *row = panel->data;
    const float *end = columns + (strip->is_half ? FLOAT_HALF : FLOAT_COLUMNS);
    const size_t ld = panel->ld;

    for (; columns < end; columns += 2 * AVX2_LANES) {
        EACH_OF_6(AVX2_BEGIN)
        for (size_t k = 0; k < strip->K; k++) {
            const __m256 w_low = _mm256_loadu_ps(columns + k * FLOAT_COLUMNS);
            const __m256 w_high = _mm256_loadu_ps(columns + k * FLOAT_COLUMNS + AVX2_LANES);

            __builtin_prefetch(strip->ahead + k * strip->ahead_step, 0, 2);
            EACH_OF_6(AVX2_MULTIPLY)
        }
        EACH_OF_6(AVX2_END)
        y += 2 * AVX2_LANES;
    }
}

AVX2 static ALWAYS_INLINE void avx2_any(float *y, size_t ldy, const struct float_panel *panel,
                                        const struct float_strip *strip, bool add, const bool loose)
{
#define AVX2_CASE(r)                                                                               \
    case (r) + 1:                                                                                  \
        avx2_rows(y, ldy, panel, strip, (r) + 1, add, loose);                                      \
        break;
    switch (panel->rows) {
        EACH_OF_6(AVX2_CASE)
    default:
        break;
    }
}

AVX2 static void avx2_tile(float *y, size_t ldy, const struct float_panel *panel,
                           const struct float_strip *strip, bool add)
{
    if (panel->ld > 0)
        avx2_any(y, ldy, panel, strip, add, true);
    else
        avx2_any(y, ldy, panel, strip, add, false);
}

/* Fourteen rows and a whole strip: 28 of 32 registers, two loads for every twenty-eight products.
 * The rows come from the second cache: asked for this many bytes before their turn. */
enum { AVX512_AHEAD = 1024 };
#define AVX512_BEGIN(r) __m512 low##r = _mm512_setzero_ps(), high##r = low##r;
#define AVX512_MULTIPLY(r)                                                                         \
    if ((r) < rows) {                                                                              \
        const __m512 a = _mm512_set1_ps(*avx512_value(&row, r, loose));                            \
        low##r = _mm512_fmadd_ps(a, w_low, low##r);                                                \
        if (!half)                                                                                 \
            high##r = _mm512_fmadd_ps(a, w_high, high##r);                                         \
    }
#define AVX512_END(r)                                                                              \
    if ((r) < rows) {                                                                              \
        avx512_store(y + (r)*ldy, low##r, add);                                                    \
        if (!half)                                                                                 \
            avx512_store(y + (r)*ldy + AVX512_LANES, high##r, add);                                \
    }

AVX512 static ALWAYS_INLINE void avx512_store(float *y, __m512 sum, bool add)
{
    _mm512_storeu_ps(y, add ? _mm512_add_ps(_mm512_loadu_ps(y), sum) : sum);
}

/* Where the next value of each row is: packed, behind `first`; else `ld` bytes behind that of the
 * row before, so that three pointers reach all by what an address can add to them. */
struct avx512_values {
    const char *first, *fifth, *tenth;
    size_t ld, three;
};

AVX512 static ALWAYS_INLINE const float *avx512_value(const struct avx512_values *row,
                                                      const size_t r, const bool loose)
{
    const char *at = row->first + r * sizeof(float);

    if (loose)
        at = r == 3              ? row->first + row->three
             : r < 5 || r == 8   ? row->first + r * row->ld
             : r < 10 || r == 13 ? row->fifth + (r - 5) * row->ld
                                 : row->tenth + (r - 10) * row->ld;
    return (const float *)(const void *)at;
}

AVX512 static ALWAYS_INLINE void avx512_next(struct avx512_values *row, size_t rows,
                                             const bool loose)
{
    row->first += loose ? sizeof(float) : rows * sizeof(float);
    if (!loose)
        return;
    row->fifth += sizeof(float);
    row->tenth += sizeof(float);
    /* or GCC keeps fourteen addresses in memory */
    __asm__("" : "+r"(row->first), "+r"(row->fifth), "+r"(row->tenth), "+r"(row->ld));
}

AVX512 static ALWAYS_INLINE void avx512_rows(float *y, size_t ldy, const struct float_panel *panel,
                                             const struct float_strip *strip, const size_t rows,
                                             bool add, const bool loose, const bool half)
{
    const char *first = panel->data;
    const size_t ld = panel->ld * sizeof(float);
    struct avx512_values row = {first, first + 5 * ld, first + 10 * ld, ld, 3 * ld};
    /* of loose ones the next panel's, which mostly lie behind these */
    const char *next = first + (loose ? rows * ld : AVX512_AHEAD);
    const float *at = strip->data, *end = at + strip->K * FLOAT_COLUMNS, *to = strip->to;
    const char *ahead = strip->ahead;
    /* all results are on their way when half of k is done */
    const size_t turn = strip->K / (2 * rows) * FLOAT_COLUMNS;

    EACH_OF_14(AVX512_BEGIN)
    for (size_t r = 0; r <= rows; r++, to += strip->ldto) {
        const float *stop = r < rows ? at + turn : end;

        if (r < rows) {
            __builtin_prefetch(to, 1);
            __builtin_prefetch(to + AVX512_LANES, 1);
        }
        for (; at < stop; at += FLOAT_COLUMNS, ahead += strip->ahead_step) {
            const __m512 w_low = _mm512_loadu_ps(at), w_high = _mm512_loadu_ps(at + AVX512_LANES);

            __builtin_prefetch(ahead, 0, 2);
            __builtin_prefetch(next, 0, 3);
            EACH_OF_14(AVX512_MULTIPLY)
            avx512_next(&row, rows, loose);
            next += rows * sizeof(float);
        }
    }
    EACH_OF_14(AVX512_END)
}

AVX512 static ALWAYS_INLINE void avx512_any(float *y, size_t ldy, const struct float_panel *panel,
                                            const struct float_strip *strip, bool add,
                                            const bool loose, const bool half)
{
#define AVX512_CASE(r)                                                                             \
    case (r) + 1:                                                                                  \
        avx512_rows(y, ldy, panel, strip, (r) + 1, add, loose, half);                              \
        break;
    switch (panel->rows) {
        EACH_OF_14(AVX512_CASE)
    default:
        break;
    }
}

AVX512 static void avx512_tile(float *y, size_t ldy, const struct float_panel *panel,
                               const struct float_strip *strip, bool add)
{
    if (panel->ld > 0 && strip->is_half)
        avx512_any(y, ldy, panel, strip, add, true, true);
    else if (panel->ld > 0)
        avx512_any(y, ldy, panel, strip, add, true, false);
    else if (strip->is_half)
        avx512_any(y, ldy, panel, strip, add, false, true);
    else
        avx512_any(y, ldy, panel, strip, add, false, false);
}

/* Squares of a matrix are transposed in registers: pairs of rows, of pairs, then of quarters. A
 * square's last rows may hang over the panel's edge; the next k overwrites them. */
AVX2 static ALWAYS_INLINE void avx2_square(float *packed, size_t width, const __m256 row[8],
                                           size_t n)
{
    __m256 pair[8], four[8], out[8];

    for (int i = 0; i < 8; i += 2) {
        pair[i] = _mm256_unpacklo_ps(row[i], row[i + 1]);
        pair[i + 1] = _mm256_unpackhi_ps(row[i], row[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            four[i + 2 * j] = _mm256_shuffle_ps(pair[i + j], pair[i + j + 2], 0x44);
            four[i + 2 * j + 1] = _mm256_shuffle_ps(pair[i + j], pair[i + j + 2], 0xee);
        }
    for (int i = 0; i < 4; i++) {
        out[i] = _mm256_permute2f128_ps(four[i], four[i + 4], 0x20);
        out[i + 4] = _mm256_permute2f128_ps(four[i], four[i + 4], 0x31);
    }
    for (size_t k = 0; k < 8; k++)
        if (k < n)
            _mm256_storeu_ps(packed + k * width, out[k]);
}

AVX2 static ALWAYS_INLINE __m256 avx2_load(const char *row, size_t n, bool bf16)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    uint16_t half[AVX2_LANES] = {0};

    if (!bf16)
        return _mm256_maskload_ps((const float *)(const void *)row,
                                  _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane));
    memcpy(half, row, n * sizeof *half);
    return _mm256_castsi256_ps(_mm256_slli_epi32(
        _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)half)), 16));
}

AVX2 static ALWAYS_INLINE void avx2_pack_any(float *packed, size_t width, const char *x, size_t ldx,
                                             size_t rows, size_t K, bool bf16)
{
    const size_t bytes = bf16 ? sizeof(uint16_t) : sizeof(float);
    __m256 row[AVX2_LANES];

    for (size_t r = 0; r < width; r += AVX2_LANES)
        for (size_t k = 0; k < K; k += AVX2_LANES) {
            size_t n = MIN(K - k, (size_t)AVX2_LANES);

            for (size_t i = 0; i < AVX2_LANES; i++)
                row[i] = r + i < rows ? avx2_load(x + ((r + i) * ldx + k) * bytes, n, bf16)
                                      : _mm256_setzero_ps();
            avx2_square(packed + k * width + r, width, row, n);
        }
}

AVX2 static void avx2_pack(float *packed, size_t width, const void *x, size_t ldx, size_t rows,
                           size_t K)
{
    avx2_pack_any(packed, width, x, ldx, rows, K, false);
}

AVX2 static void avx2_pack_bf16(float *packed, size_t width, const void *x, size_t ldx, size_t rows,
                                size_t K)
{
    avx2_pack_any(packed, width, x, ldx, rows, K, true);
}

AVX512 static ALWAYS_INLINE void avx512_square(float *packed, size_t width, const __m512 row[16],
                                               size_t n)
{
    __m512 pair[16], four[16], half[16], out[16];

    for (int i = 0; i < 16; i += 2) {
        pair[i] = _mm512_unpacklo_ps(row[i], row[i + 1]);
        pair[i + 1] = _mm512_unpackhi_ps(row[i], row[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            four[i + 2 * j] = _mm512_shuffle_ps(pair[i + j], pair[i + j + 2], 0x44);
            four[i + 2 * j + 1] = _mm512_shuffle_ps(pair[i + j], pair[i + j + 2], 0xee);
        }
    for (int i = 0; i < 16; i += 8)
        for (int j = 0; j < 4; j++) {
            half[i + j] = _mm512_shuffle_f32x4(four[i + j], four[i + j + 4], 0x88);
            half[i + j + 4] = _mm512_shuffle_f32x4(four[i + j], four[i + j + 4], 0xdd);
        }
    for (int j = 0; j < 8; j++) {
        out[j] = _mm512_shuffle_f32x4(half[j], half[j + 8], 0x88);
        out[j + 8] = _mm512_shuffle_f32x4(half[j], half[j + 8], 0xdd);
    }
    for (size_t k = 0; k < 16; k++)
        if (k < n)
            _mm512_storeu_ps(packed + k * width, out[k]);
}

AVX512 static ALWAYS_INLINE __m512 avx512_load(const char *row, size_t n, bool bf16)
{
    uint16_t half[AVX512_LANES] = {0};

    if (!bf16)
        return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), row);
    memcpy(half, row, n * sizeof *half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(
        _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)half)), 16));
}

AVX512 static ALWAYS_INLINE void avx512_pack_any(float *packed, size_t width, const char *x,
                                                 size_t ldx, size_t rows, size_t K, bool bf16)
{
    const size_t bytes = bf16 ? sizeof(uint16_t) : sizeof(float);
    __m512 row[AVX512_LANES];

    for (size_t r = 0; r < width; r += AVX512_LANES)
        for (size_t k = 0; k < K; k += AVX512_LANES) {
            size_t n = MIN(K - k, (size_t)AVX512_LANES);

            for (size_t i = 0; i < AVX512_LANES; i++)
                row[i] = r + i < rows ? avx512_load(x + ((r + i) * ldx + k) * bytes, n, bf16)
                                      : _mm512_setzero_ps();
            avx512_square(packed + k * width + r, width, row, n);
        }
}

AVX512 static void avx512_pack(float *packed, size_t width, const void *x, size_t ldx, size_t rows,
                               size_t K)
{
    avx512_pack_any(packed, width, x, ldx, rows, K, false);
}

AVX512 static void avx512_pack_bf16(float *packed, size_t width, const void *x, size_t ldx,
                                    size_t rows, size_t K)
{
    avx512_pack_any(packed, width, x, ldx, rows, K, true);
}
#endif

static const struct float_kernel kernels[] = {
#if defined(KERNEL_TARGET)
    {"avx512", AVX512_ROWS, FLOAT_BLOCK_ROWS, GEMM_GROUP, avx512_tile, NULL, avx512_pack,
     avx512_pack_bf16},
    {"avx2", AVX2_ROWS, FLOAT_BLOCK_ROWS, GEMM_GROUP, avx2_tile, NULL, avx2_pack, avx2_pack_bf16},
#endif
    {"plain", PLAIN_ROWS, FLOAT_BLOCK_ROWS, GEMM_GROUP, plain_tile, NULL, plain_pack,
     plain_pack_bf16},
};

const struct float_kernel *float_kernels(size_t *n)
{
    size_t first = 0;

#if defined(KERNEL_TARGET)
    if (!__builtin_cpu_supports("avx512f"))
        first = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 1 : 2;
#endif
    *n = ARRAY_LEN(kernels) - first;
    return kernels + first;
}
