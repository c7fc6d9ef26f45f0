/* Inside of jpeg_baseline.c: coefficients to samples to RGB, bit for bit as libjpeg-turbo's vector
 * code on x86-64, overflow included. */
#ifndef REINFORCE_IMAGE_JPEG_PIXELS_H
#define REINFORCE_IMAGE_JPEG_PIXELS_H

#include "reinforce/base/macros.h"

#include <stdbool.h>
#include <stdint.h>

/** Rows are read and written up to this many bytes behind their end. */
enum { JPEG_ROW_SLACK = 64 };

struct jpeg_pixels {
    const char *name;

    /**
     * Accurate integer DCT of a group of four blocks (jpeg_huffman.h) to 8 rows of 32 samples,
     * `stride` apart. `quant` [64] by rows. False: values so large that libjpeg's way to skip
     * empty rows would change the result.
     */
    bool (*idct)(const int16_t *group, const uint16_t *quant, uint8_t *to, size_t stride);

    /** The same to 4 rows of 16 and to 2 rows of 8 samples (jidctred.c). */
    bool (*idct_4)(const int16_t *group, const uint16_t *quant, uint8_t *to, size_t stride);
    bool (*idct_2)(const int16_t *group, const uint16_t *quant, uint8_t *to, size_t stride);

    /**
     * Fancy upsampling of n samples to 2n of one row: `near` is the row of samples that lies
     * nearer, `far` the farther one. Reads samples -1 to n of both.
     */
    void (*upsample_2x2)(const uint8_t *near, const uint8_t *far, size_t n, uint8_t *to);
    void (*upsample_2x1)(const uint8_t *row, size_t n, uint8_t *to);

    /** n pixels of YCbCr to RGB [n, 3]; writes nothing behind them. */
    void (*to_rgb)(const uint8_t *y, const uint8_t *cb, const uint8_t *cr, size_t n, uint8_t *rgb);
};

/** Those this processor can run, the best first; none elsewhere than on x86-64. */
const struct jpeg_pixels *const *jpeg_pixels_kernels(size_t *n);

#endif
