#include "reinforce/nn/conv.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#if defined(KERNEL_TARGET)
#include <immintrin.h>
#endif

enum { BLOCK = 64 }; /* channels all along a row: their kernel and their input rows stay near */

/* What a row of outputs sees: rows [first, end) of the kernel, the first of them on x. */
struct view {
    const struct conv_depthwise *conv;
    const float *x;
    size_t W, first, end;
};

/* One row of outputs. */
typedef void row_fn(const struct view *view, float *y);

/* n <= BLOCK channels from c of the output in a column. */
static ALWAYS_INLINE void plain_output(const struct view *view, size_t column, size_t c, size_t n,
                                       float *y)
{
    const struct conv_depthwise *conv = view->conv;
    const float *w = conv->w + view->first * conv->columns * conv->C + c, *row = view->x + c;
    size_t from = column * conv->stride, pad = conv->columns / 2;
    float sum[BLOCK];

    memcpy(sum, conv->b + c, n * sizeof *sum);
    for (size_t r = view->first; r < view->end; r++, row += view->W * conv->C)
        for (size_t k = from; k < from + conv->columns; k++, w += conv->C)
            /* two loops: GCC 12 swaps a single one with the one over k and vectorises neither */
            if (k >= pad && k < view->W + pad) {
                const float *in = row + (k - pad) * conv->C;

                for (size_t i = 0; i < n; i++)
                    sum[i] = fmaf(w[i], in[i], sum[i]);
            } else {
                for (size_t i = 0; i < n; i++)
                    sum[i] = fmaf(w[i], 0, sum[i]);
            }
    memcpy(y + column * conv->C + c, sum, n * sizeof *y);
}

static ALWAYS_INLINE void plain_row(const struct view *view, float *y)
{
    size_t columns = conv_side(view->W, view->conv->stride), C = view->conv->C;

    for (size_t c = 0; c < C; c += BLOCK)
        for (size_t k = 0; k < columns; k++)
            if (C - c >= BLOCK)
                plain_output(view, k, c, BLOCK, y);
            else
                plain_output(view, k, c, C - c, y);
}

static void base_row(const struct view *view, float *y)
{
    plain_row(view, y);
}

#if defined(KERNEL_TARGET)
KERNEL_TARGET("avx2,fma") static void avx2_row(const struct view *view, float *y)
{
    plain_row(view, y);
}

#define AVX512 KERNEL_TARGET("avx512f")

enum {
    LANES = 16,
    GROUP = 8, /* neighbouring outputs: the chains that two units of four cycles can take */
    NARROW_GROUP = 4,
    MAX_INPUTS = 21, /* with the sums and a weight they fill 30 of 32 registers */
};

static const float zeros[LANES]; /* a pixel left or right of the picture */

/* Keeps GCC from computing the addresses of all pixels at once, for which it has too few registers.
 */
#define STEP(at) __asm__("" : "+r"(at))

/* LANES channels from c of `group` outputs from column k on. inside: they see no zeros. What is
 * const is a constant when inlined, so that sums and pixels are registers. */
AVX512 static ALWAYS_INLINE void avx512_group(const struct view *view, size_t k, size_t c,
                                              const size_t columns, const size_t stride,
                                              const size_t group, const bool inside, float *y)
{
    const size_t C = view->conv->C, W = view->W, pad = columns / 2, from = k * stride;
    const float *w = view->conv->w + view->first * columns * C + c, *row = view->x + c;
    const __m512 bias = _mm512_loadu_ps(view->conv->b + c);
    __m512 sum[GROUP], in[MAX_INPUTS];

    UNROLL
    for (size_t i = 0; i < group; i++)
        sum[i] = bias;
    for (size_t r = view->first; r < view->end; r++, row += W * C) {
        size_t at = (from - pad) * C;

        UNROLL
        for (size_t i = 0; i < (group - 1) * stride + columns; i++, at += C) {
            bool seen = inside || (from + i >= pad && from + i < W + pad);

            STEP(at);
            in[i] = _mm512_loadu_ps(seen ? row + at : zeros);
        }
        UNROLL
        for (size_t t = 0; t < columns; t++, w += C) {
            const __m512 weight = _mm512_loadu_ps(w);

            STEP(w);
            UNROLL
            for (size_t i = 0; i < group; i++)
                sum[i] = _mm512_fmadd_ps(weight, in[i * stride + t], sum[i]);
        }
    }
    y += k * C + c;
    UNROLL
    for (size_t i = 0; i < group; i++, y += C) {
        STEP(y);
        _mm512_storeu_ps(y, sum[i]);
    }
}

/* A row of at least `group` outputs of at least LANES channels; the last of both are made with some
 * of those before them once more. */
AVX512 static ALWAYS_INLINE void avx512_groups(const struct view *view, const size_t columns,
                                               const size_t stride, const size_t group, float *y)
{
    const size_t outputs = conv_side(view->W, stride), C = view->conv->C, pad = columns / 2;

    for (size_t block = 0; block < C; block += BLOCK)
        for (size_t done = 0; done < outputs; done += group) {
            size_t k = MIN(done, outputs - group), end = MIN(C, block + BLOCK);

            if (k * stride >= pad && (k + group - 1) * stride + columns <= view->W + pad)
                for (size_t c = block; c < end; c += LANES)
                    avx512_group(view, k, MIN(c, C - LANES), columns, stride, group, true, y);
            else
                for (size_t c = block; c < end; c += LANES)
                    avx512_group(view, k, MIN(c, C - LANES), columns, stride, group, false, y);
        }
}

#define AVX512_ROW(columns, stride)                                                                \
    AVX512 static void avx512_row_##columns##_##stride(const struct view *view, float *y)          \
    {                                                                                              \
        if (conv_side(view->W, stride) >= GROUP)                                                   \
            avx512_groups(view, columns, stride, GROUP, y);                                        \
        else                                                                                       \
            avx512_groups(view, columns, stride, NARROW_GROUP, y);                                 \
    }
AVX512_ROW(3, 1)
AVX512_ROW(3, 2)
AVX512_ROW(7, 1)
AVX512_ROW(7, 2)
AVX512_ROW(11, 1)

static const struct {
    size_t columns, stride;
    row_fn *row;
} avx512_rows[] = {
    {3, 1, avx512_row_3_1}, {3, 2, avx512_row_3_2},   {7, 1, avx512_row_7_1},
    {7, 2, avx512_row_7_2}, {11, 1, avx512_row_11_1},
};

/* NULL: not on this processor, or not of this shape. */
static row_fn *choose_avx512(const struct conv_depthwise *conv, size_t W)
{
    if (!__builtin_cpu_supports("avx512f") || conv->C < LANES ||
        conv_side(W, conv->stride) < NARROW_GROUP)
        return NULL;
    for (size_t i = 0; i < ARRAY_LEN(avx512_rows); i++)
        if (avx512_rows[i].columns == conv->columns && avx512_rows[i].stride == conv->stride)
            return avx512_rows[i].row;
    return NULL;
}
#endif

static row_fn *choose(const struct conv_depthwise *conv, size_t W)
{
#if defined(KERNEL_TARGET)
    row_fn *row = choose_avx512(conv, W);

    if (row != NULL)
        return row;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return avx2_row;
#else
    (void)conv;
    (void)W;
#endif
    return base_row;
}

static void run_with(row_fn *row, const struct conv_depthwise *conv, const float *x, size_t H,
                     size_t W, float *y)
{
    size_t rows = conv_side(H, conv->stride), columns = conv_side(W, conv->stride);
    size_t pad = conv->rows / 2;

    for (size_t r = 0; r < rows; r++, y += columns * conv->C) {
        size_t from = r * conv->stride, first = from < pad ? pad - from : 0;
        const struct view view = {.conv = conv,
                                  .x = x + (from + first - pad) * W * conv->C,
                                  .W = W,
                                  .first = first,
                                  .end = MIN(conv->rows, H + pad - from)};

        row(&view, y);
    }
}

void conv_depthwise_run(const struct conv_depthwise *conv, const float *x, size_t H, size_t W,
                        float *y)
{
    run_with(choose(conv, W), conv, x, H, W, y);
}

void conv_depthwise_ref(const struct conv_depthwise *conv, const float *x, size_t H, size_t W,
                        float *y)
{
    size_t rows = conv_side(H, conv->stride), columns = conv_side(W, conv->stride);
    ptrdiff_t above = (ptrdiff_t)(conv->rows / 2), before = (ptrdiff_t)(conv->columns / 2);

    for (size_t o = 0; o < rows * columns; o++)
        for (size_t c = 0; c < conv->C; c++) {
            float sum = conv->b[c];

            for (size_t t = 0; t < conv->rows * conv->columns; t++) {
                ptrdiff_t r = (ptrdiff_t)(o / columns * conv->stride + t / conv->columns) - above;
                ptrdiff_t k = (ptrdiff_t)(o % columns * conv->stride + t % conv->columns) - before;
                bool inside = k >= 0 && k < (ptrdiff_t)W;

                if (r >= 0 && r < (ptrdiff_t)H)
                    sum = fmaf(conv->w[t * conv->C + c],
                               inside ? x[((size_t)r * W + (size_t)k) * conv->C + c] : 0, sum);
            }
            y[o * conv->C + c] = sum;
        }
}
