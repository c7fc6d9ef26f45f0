/* Bilinear resizing without antialiasing, as TensorFlow does it: how SigLIP's published numbers
 * were made. */
#ifndef REINFORCE_IMAGE_RESIZE_TENSORFLOW_H
#define REINFORCE_IMAGE_RESIZE_TENSORFLOW_H

#include "reinforce/image/image.h"

/**
 * Half-pixel centres, columns before rows, float32, cut (not rounded) to 8 bits. `out` is allocated
 * in `arena`. ST_INVALID: an empty size.
 * Source: TensorFlow resize_bilinear_op (half_pixel_centers); big_vision pp/ops_image.py.
 */
NODISCARD enum status image_resize_tensorflow(const struct image *src, int out_height,
                                              int out_width, struct arena *arena, struct image *out,
                                              struct error *err);

#endif
