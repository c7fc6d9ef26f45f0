/*
 * Convolutions over images that lie as rows of pixels, channels together: float32 [H * W, C]. One
 * by one convolutions are products; these are the others. A text is an image one row high.
 *
 * A side of n becomes (n - 1) / stride + 1 when kernels are odd and padded by kernel / 2 zeros on
 * both sides, as everything here is.
 */
#ifndef REINFORCE_NN_CONV_H
#define REINFORCE_NN_CONV_H

#include "reinforce/base/macros.h"

#include <stddef.h>

/** One convolution with as many groups as channels, bias included. */
struct conv_depthwise {
    const float *w; /* [rows * columns, C]: row, column, channel */
    const float *b; /* [C] */
    size_t C, rows, columns, stride;
};

/** Rows or columns after a convolution of this stride. */
size_t conv_side(size_t side, size_t stride);

/**
 * y float32 [conv_side(H) * conv_side(W), C] = x [H * W, C] * conv. y must not overlap x. Cannot
 * fail.
 *
 * An output is one chain of fused multiply-adds that begins with its bias: over the kernel's rows
 * that lie in the picture, in each over all columns of the kernel. Pixels left and right of the
 * picture take part as zeros. So a pixel's bits depend on its neighbourhood alone.
 */
void conv_depthwise_run(const struct conv_depthwise *conv, const float *x, size_t H, size_t W,
                        float *y);
/** Plain twin, bit-equal. */
void conv_depthwise_ref(const struct conv_depthwise *conv, const float *x, size_t H, size_t W,
                        float *y);

/** Pixels float32 [C, n] as preprocess_tensor() leaves them to rows [n, C] out. */
void conv_rows_from_planes(const float *planes, size_t n, size_t C, float *rows);

/**
 * Lays out what a dense convolution sees, so that it is one product with [out, kernel * kernel * C]
 * (row, column, channel): patches float32 [conv_side(H) * conv_side(W), kernel * kernel * C] out.
 */
void conv_gather(const float *x, size_t H, size_t W, size_t C, size_t kernel, size_t stride,
                 float *patches);

/**
 * The same without overlap, stride = kernel: [H / kernel * W / kernel, ...]. The first patch begins
 * `padding` zeros before the image; what the last ones then leave over is not seen.
 */
void conv_cut(const float *x, size_t H, size_t W, size_t C, size_t kernel, size_t padding,
              float *patches);

#endif
