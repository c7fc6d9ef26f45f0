#include "reinforce/nn/conv.h"

#include <string.h>

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
