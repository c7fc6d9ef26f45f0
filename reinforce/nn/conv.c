#include "reinforce/nn/conv.h"

#include <stdint.h>
#include <string.h>

enum { BLOCK = 64 }; /* channels whose sums stay in registers */

size_t conv_side(size_t side, size_t stride)
{
    return (side - 1) / stride + 1;
}

/* The taps of one output that lie inside: [first, end) of the kernel, and where the first looks. */
struct span {
    size_t first, end, at;
};

static struct span span_of(size_t out, size_t stride, size_t kernel, size_t side)
{
    size_t from = out * stride, pad = kernel / 2;
    struct span s = {.first = from < pad ? pad - from : 0};

    s.at = from + s.first - pad;
    s.end = MIN(kernel, side + pad - from);
    return s;
}

/* BLOCK channels of one output pixel. */
static inline void run_block(const struct conv_depthwise *conv, const float *x, size_t W,
                             struct span rows, struct span columns, float *y)
{
    float sum[BLOCK];

    memcpy(sum, conv->b, sizeof sum);
    for (size_t r = rows.first; r < rows.end; r++)
        for (size_t c = columns.first; c < columns.end; c++) {
            const float *w = conv->w + (r * conv->columns + c) * conv->C;
            const float *in =
                x + ((rows.at + r - rows.first) * W + columns.at + c - columns.first) * conv->C;

            for (int i = 0; i < BLOCK; i++)
                sum[i] += w[i] * in[i];
        }
    memcpy(y, sum, sizeof sum);
}

static inline void run_rest(const struct conv_depthwise *conv, const float *x, size_t W,
                            struct span rows, struct span columns, size_t n, float *y)
{
    memcpy(y, conv->b, n * sizeof *y);
    for (size_t r = rows.first; r < rows.end; r++)
        for (size_t c = columns.first; c < columns.end; c++) {
            const float *w = conv->w + (r * conv->columns + c) * conv->C;
            const float *in =
                x + ((rows.at + r - rows.first) * W + columns.at + c - columns.first) * conv->C;

            for (size_t i = 0; i < n; i++)
                y[i] += w[i] * in[i];
        }
}

KERNEL_CLONES void conv_depthwise_run(const struct conv_depthwise *conv, const float *x, size_t H,
                                      size_t W, float *y)
{
    size_t rows = conv_side(H, conv->stride), columns = conv_side(W, conv->stride), C = conv->C;

    for (size_t r = 0; r < rows; r++) {
        struct span in_rows = span_of(r, conv->stride, conv->rows, H);

        /* a block of channels all along a row: its kernel and its input rows stay near */
        for (size_t c = 0; c < C; c += BLOCK) {
            const struct conv_depthwise part = {conv->w + c, conv->b + c,   C,
                                                conv->rows,  conv->columns, conv->stride};

            for (size_t k = 0; k < columns; k++) {
                struct span in_columns = span_of(k, conv->stride, conv->columns, W);
                float *to = y + (r * columns + k) * C + c;

                if (C - c >= BLOCK)
                    run_block(&part, x + c, W, in_rows, in_columns, to);
                else
                    run_rest(&part, x + c, W, in_rows, in_columns, C - c, to);
            }
        }
    }
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

                if (r >= 0 && k >= 0 && r < (ptrdiff_t)H && k < (ptrdiff_t)W)
                    sum += conv->w[t * conv->C + c] * x[((size_t)r * W + (size_t)k) * conv->C + c];
            }
            y[o * conv->C + c] = sum;
        }
}

void conv_rows_from_planes(const float *planes, size_t n, size_t C, float *rows)
{
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < C; c++)
            rows[i * C + c] = planes[c * n + i];
}

void conv_gather(const float *x, size_t H, size_t W, size_t C, size_t kernel, size_t stride,
                 float *patches)
{
    size_t rows = conv_side(H, stride), columns = conv_side(W, stride);

    memset(patches, 0, rows * columns * kernel * kernel * C * sizeof *patches);
    for (size_t r = 0; r < rows; r++) {
        struct span in_rows = span_of(r, stride, kernel, H);

        for (size_t k = 0; k < columns; k++, patches += kernel * kernel * C) {
            struct span in_columns = span_of(k, stride, kernel, W);

            for (size_t t = in_rows.first; t < in_rows.end; t++)
                memcpy(patches + (t * kernel + in_columns.first) * C,
                       x + ((in_rows.at + t - in_rows.first) * W + in_columns.at) * C,
                       (in_columns.end - in_columns.first) * C * sizeof *patches);
        }
    }
}

void conv_cut(const float *x, size_t H, size_t W, size_t C, size_t kernel, size_t padding,
              float *patches)
{
    for (size_t r = 0; r + kernel <= H; r += kernel)
        for (size_t k = 0; k + kernel <= W; k += kernel)
            for (size_t t = 0; t < kernel; t++, patches += kernel * C) {
                size_t zeros = r + t < padding ? kernel : k < padding ? padding - k : 0;
                const float *row = x + (r + t < padding ? 0 : r + t - padding) * W * C;

                memset(patches, 0, zeros * C * sizeof *patches);
                memcpy(patches + zeros * C, row + (k + zeros - padding) * C,
                       (kernel - zeros) * C * sizeof *patches);
            }
}
