#include "reinforce/nn/ops.h"

#include <string.h>

/* A row's bits must not depend on M or on the machine: every output is 16 lanes, lane l the sum
 * over k = l mod 16 in order, then one tree. Which vectors hold the lanes is the machine's affair.
 */
enum { LANES = 16, FEW_ROWS = 4 };

/* How far ahead of each row of w memory is asked for: a processor does not look past a page. */
enum { FETCH_BYTES = 1024 };

/* Of up to struct kernels' rows. */
typedef void tile_fn(float *y, size_t N, const float *x, const void *w, const float *bias, size_t K,
                     const void *ahead, size_t rows);

struct kernels {
    size_t rows, columns; /* of a tile */
    size_t weight_bytes;
    tile_fn *tile, *column; /* of all columns, of one */
};

typedef float vec4 FLOAT_VECTOR(4);

/* Written so that its first steps are vector instructions; the order is the plain twin's. */
static ALWAYS_INLINE float add_lanes(const float *lane)
{
    vec4 low = *(const vec4 *)lane + *(const vec4 *)(lane + 8);
    vec4 high = *(const vec4 *)(lane + 4) + *(const vec4 *)(lane + 12);
    vec4 sum = low + high;

    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

#define FLOAT_WEIGHT(vector, p) (*(const vector *)(p))
/* a bfloat16 is the upper half of a float */
#define BF16_WEIGHT(n, p) ((vec##n)(CONVERT_VECTOR(*(const half##n *)(p), word##n) << 16))

typedef uint16_t half4 WORD_VECTOR(4, uint16_t);
typedef uint32_t word4 WORD_VECTOR(4, uint32_t);

#define TARGET
#define NAME(x)       base_##x
#define VECTOR        vec4
#define VECTOR_FLOATS 4
#define WEIGHT        float
#define WIDEN(p)      FLOAT_WEIGHT(vec4, p)
#define ROWS          2
#define COLUMNS       1
#include "reinforce/nn/rows_kernel.h"

#define TARGET
#define NAME(x)       base_bf16_##x
#define VECTOR        vec4
#define VECTOR_FLOATS 4
#define WEIGHT        uint16_t
#define WIDEN(p)      BF16_WEIGHT(4, p)
#define ROWS          2
#define COLUMNS       1
#include "reinforce/nn/rows_kernel.h"

#if defined(KERNEL_TARGET)
typedef float vec8 FLOAT_VECTOR(8);
typedef float vec16 FLOAT_VECTOR(16);
typedef uint16_t half8 WORD_VECTOR(8, uint16_t);
typedef uint16_t half16 WORD_VECTOR(16, uint16_t);
typedef uint32_t word8 WORD_VECTOR(8, uint32_t);
typedef uint32_t word16 WORD_VECTOR(16, uint32_t);

#define TARGET        KERNEL_TARGET("avx2")
#define NAME(x)       avx2_##x
#define VECTOR        vec8
#define VECTOR_FLOATS 8
#define WEIGHT        float
#define WIDEN(p)      FLOAT_WEIGHT(vec8, p)
#define ROWS          2
#define COLUMNS       2
#include "reinforce/nn/rows_kernel.h"

#define TARGET        KERNEL_TARGET("avx2")
#define NAME(x)       avx2_bf16_##x
#define VECTOR        vec8
#define VECTOR_FLOATS 8
#define WEIGHT        uint16_t
#define WIDEN(p)      BF16_WEIGHT(8, p)
#define ROWS          2
#define COLUMNS       2
#include "reinforce/nn/rows_kernel.h"

#define TARGET        KERNEL_TARGET("avx512f")
#define NAME(x)       avx512_##x
#define VECTOR        vec16
#define VECTOR_FLOATS 16
#define WEIGHT        float
#define WIDEN(p)      FLOAT_WEIGHT(vec16, p)
#define ROWS          4
#define COLUMNS       4
#include "reinforce/nn/rows_kernel.h"

#define TARGET        KERNEL_TARGET("avx512f")
#define NAME(x)       avx512_bf16_##x
#define VECTOR        vec16
#define VECTOR_FLOATS 16
#define WEIGHT        uint16_t
#define WIDEN(p)      BF16_WEIGHT(16, p)
#define ROWS          4
#define COLUMNS       4
#include "reinforce/nn/rows_kernel.h"
#endif

static const struct kernels *choose(bool bf16)
{
#if defined(KERNEL_TARGET)
    if (__builtin_cpu_supports("avx512f"))
        return bf16 ? &avx512_bf16_kernels : &avx512_kernels;
    if (__builtin_cpu_supports("avx2"))
        return bf16 ? &avx2_bf16_kernels : &avx2_kernels;
#endif
    return bf16 ? &base_bf16_kernels : &base_kernels;
}

/* Products of so few rows wait for memory. Measured: a Zen 4 reads one row of w faster than several
 * at once (and widening half as many bytes waits for it with one row of x only), an Emerald Rapids
 * four rows twice as fast as one. */
static size_t rows_of_one_stream(const struct kernels *kernels)
{
#if defined(KERNEL_TARGET)
    if (!__builtin_cpu_is("amd"))
        return 0;
#endif
    return kernels->weight_bytes < sizeof(float) ? 1 : FEW_ROWS;
}

static void linear_rows(const struct kernels *kernels, float *y, const float *x, const void *w,
                        const float *bias, size_t M, size_t N, size_t K)
{
    size_t row_bytes = K * kernels->weight_bytes;
    size_t columns = M <= rows_of_one_stream(kernels) ? 1 : kernels->columns;

    for (size_t n = 0; n < N;) {
        size_t step = N - n >= columns ? columns : 1;
        const char *w_n = (const char *)w + n * row_bytes;
        const char *ahead = n + 2 * step <= N ? w_n + step * row_bytes : w_n;
        tile_fn *tile = step > 1 ? kernels->tile : kernels->column;

        for (size_t m = 0; m < M; m += kernels->rows)
            tile(y + m * N + n, N, x + m * K, w_n, bias != NULL ? bias + n : NULL, K, ahead,
                 MIN(M - m, kernels->rows));
        n += step;
    }
}

void ops_linear_rows(float *y, const float *x, const float *w, const float *bias, size_t M,
                     size_t N, size_t K)
{
    linear_rows(choose(false), y, x, w, bias, M, N, K);
}

void ops_linear_rows_bf16(float *y, const float *x, const uint16_t *w, size_t M, size_t N, size_t K)
{
    linear_rows(choose(true), y, x, w, NULL, M, N, K);
}

void ops_linear_rows_ref(float *y, const float *x, const float *w, const float *bias, size_t M,
                         size_t N, size_t K)
{
    for (size_t m = 0; m < M; m++) {
        for (size_t n = 0; n < N; n++) {
            float lane[LANES] = {0};

            for (size_t k = 0; k < K; k++)
                lane[k % LANES] += x[m * K + k] * w[n * K + k];
            for (int width = LANES / 2; width > 0; width /= 2)
                for (int l = 0; l < width; l++)
                    lane[l] += lane[l + width];
            y[m * N + n] = lane[0] + (bias != NULL ? bias[n] : 0);
        }
    }
}
