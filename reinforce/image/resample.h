/* Resizing, bit-identical to Pillow's 8-bit two-pass resampler. */
#ifndef REINFORCE_IMAGE_RESAMPLE_H
#define REINFORCE_IMAGE_RESAMPLE_H

#include "reinforce/image/image.h"

/** Values are Pillow's Resampling constants. */
enum resample_filter {
    RESAMPLE_NEAREST = 0,
    RESAMPLE_LANCZOS = 1,
    RESAMPLE_BILINEAR = 2,
    RESAMPLE_BICUBIC = 3, /* a = -0.5 */
    RESAMPLE_BOX = 4,
};

/**
 * out = src cropped to the box [top, left, height, width] (inside src) and resized to out_height x
 * out_width. Pixels outside the box are never read, so this equals Pillow's crop followed by
 * resize. `out` is allocated in `arena`, with scratch beside it. A pass whose size is already right
 * is skipped; equal sizes are a pure copy. Source: Pillow src/libImaging/Resample.c, Geometry.c
 * (nearest).
 */
NODISCARD enum status image_resize(const struct image *src, int top, int left, int height,
                                   int width, int out_height, int out_width,
                                   enum resample_filter filter, struct arena *arena,
                                   struct image *out, struct error *err);

#endif
