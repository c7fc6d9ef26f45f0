/* Pixels in memory. */
#ifndef REINFORCE_IMAGE_IMAGE_H
#define REINFORCE_IMAGE_IMAGE_H

#include "reinforce/base/arena.h"

/** 8-bit interleaved H x W x C, rows packed (stride = width * channels); pixels live as long as
 * their arena. */
struct image {
    int width;
    int height;
    int channels; /* 1 (L), 2 (LA), 3 (RGB), 4 (RGBA or, from decoding only, CMYK) */
    uint8_t *pixels;
};

/** A rectangle in pixels, in the order in which param_aug stores it. */
struct image_box {
    int32_t top, left, height, width;
};

static inline size_t image_bytes(const struct image *image)
{
    return (size_t)image->width * (size_t)image->height * (size_t)image->channels;
}

/**
 * Sets the sizes and allocates pixels, not initialised, in `arena`. Sizes must be >= 1.
 * ST_NO_MEMORY also when the product does not fit.
 */
NODISCARD enum status image_alloc(struct image *image, int width, int height, int channels,
                                  struct arena *arena, struct error *err);

#endif
