#include "reinforce/nn/dots.h"

#include <math.h>

#if defined(KERNEL_TARGET)
#include <immintrin.h>
#endif

typedef void product_fn(float *y, size_t ldy, const float *panel, const float *strip, size_t K);

struct kernel {
    size_t rows;
    product_fn *product;
};

static ALWAYS_INLINE void plain(float *y, size_t ldy, const float *panel, const float *strip,
                                size_t K, size_t rows)
{
    for (size_t r = 0; r < rows; r++) {
        float sum[DOTS_COLUMNS] = {0};

        for (size_t k = 0; k < K; k++)
            for (size_t c = 0; c < DOTS_COLUMNS; c++)
                sum[c] = fmaf(panel[k * rows + r], strip[k * DOTS_COLUMNS + c], sum[c]);
        for (size_t c = 0; c < DOTS_COLUMNS; c++)
            y[r * ldy + c] = sum[c];
    }
}

enum { BASE_ROWS = 4, AVX2_ROWS = 6, AVX512_ROWS = 12 };

static void base_product(float *y, size_t ldy, const float *panel, const float *strip, size_t K)
{
    plain(y, ldy, panel, strip, K, BASE_ROWS);
}

static const struct kernel base_kernel = {BASE_ROWS, base_product};

#if defined(KERNEL_TARGET)
/* Six rows and half a strip fill the sixteen registers. */
KERNEL_TARGET("avx2,fma")
static void avx2_product(float *y, size_t ldy, const float *panel, const float *strip, size_t K)
{
    for (size_t half = 0; half < DOTS_COLUMNS; half += 16) {
        __m256 sum[AVX2_ROWS][2];

        for (int r = 0; r < AVX2_ROWS; r++)
            sum[r][0] = sum[r][1] = _mm256_setzero_ps();
        for (size_t k = 0; k < K; k++) {
            const float *b = strip + k * DOTS_COLUMNS + half;
            const __m256 b0 = _mm256_loadu_ps(b), b1 = _mm256_loadu_ps(b + 8);

            for (int r = 0; r < AVX2_ROWS; r++) {
                const __m256 a = _mm256_broadcast_ss(panel + k * AVX2_ROWS + (size_t)r);

                sum[r][0] = _mm256_fmadd_ps(a, b0, sum[r][0]);
                sum[r][1] = _mm256_fmadd_ps(a, b1, sum[r][1]);
            }
        }
        for (size_t r = 0; r < AVX2_ROWS; r++) {
            _mm256_storeu_ps(y + r * ldy + half, sum[r][0]);
            _mm256_storeu_ps(y + r * ldy + half + 8, sum[r][1]);
        }
    }
}

/* Twelve rows and a whole strip: 24 of 32 registers, two loads for every twenty-four products. */
KERNEL_TARGET("avx512f")
static void avx512_product(float *y, size_t ldy, const float *panel, const float *strip, size_t K)
{
    __m512 sum[AVX512_ROWS][2];

    for (int r = 0; r < AVX512_ROWS; r++)
        sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    for (size_t k = 0; k < K; k++) {
        const float *b = strip + k * DOTS_COLUMNS;
        const __m512 b0 = _mm512_loadu_ps(b), b1 = _mm512_loadu_ps(b + 16);

        for (int r = 0; r < AVX512_ROWS; r++) {
            const __m512 a = _mm512_set1_ps(panel[k * AVX512_ROWS + (size_t)r]);

            sum[r][0] = _mm512_fmadd_ps(a, b0, sum[r][0]);
            sum[r][1] = _mm512_fmadd_ps(a, b1, sum[r][1]);
        }
    }
    for (size_t r = 0; r < AVX512_ROWS; r++) {
        _mm512_storeu_ps(y + r * ldy, sum[r][0]);
        _mm512_storeu_ps(y + r * ldy + 16, sum[r][1]);
    }
}

static const struct kernel avx2_kernel = {AVX2_ROWS, avx2_product};
static const struct kernel avx512_kernel = {AVX512_ROWS, avx512_product};
#endif

static const struct kernel *choose(void)
{
#if defined(KERNEL_TARGET)
    if (__builtin_cpu_supports("avx512f"))
        return &avx512_kernel;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &avx2_kernel;
#endif
    return &base_kernel;
}

size_t dots_rows(void)
{
    return choose()->rows;
}

void dots_pack(float *packed, size_t width, size_t r, const float *row, float scale, size_t K)
{
    for (size_t k = 0; k < K; k++)
        packed[k * width + r] = row[k] * scale;
}

void dots_product(float *y, size_t ldy, const float *panel, const float *strip, size_t K)
{
    choose()->product(y, ldy, panel, strip, K);
}

void dots_product_ref(float *y, size_t ldy, const float *panel, const float *strip, size_t K)
{
    plain(y, ldy, panel, strip, K, choose()->rows);
}
