/* Pixels in memory. */
#ifndef REINFORCE_IMAGE_IMAGE_H
#define REINFORCE_IMAGE_IMAGE_H

#include "reinforce/base/arena.h"

/** 8-bit interleaved H x W x C, rows packed (stride = width * channels); pixels live as long as
 * their arena. */
struct image {
    int width;
    int height;
    int channels;  /* 1 (L), 2 (LA), 3 (RGB), 4 (RGBA or, from decoding only, CMYK) */
    int reduction; /* 2 or 4: a half or quarter of the stored image's sides, rounded up; less: it */
    int stored_width, stored_height; /* with a reduction */
    uint8_t *pixels;
};

/** A rectangle in pixels, of a reduced image in those of the stored one, in the order in which
 * param_aug stores it. */
struct image_box {
    int32_t top, left, height, width;
};

/** Pixels that are somewhere already, not reduced. */
static inline struct image image_of(int width, int height, int channels, uint8_t *pixels)
{
    return (struct image){.width = width, .height = height, .channels = channels, .pixels = pixels};
}

/** The size that transforms of a reduced image go by; that of the pixels for others. */
static inline int image_stored_width(const struct image *image)
{
    return image->reduction > 1 ? image->stored_width : image->width;
}

static inline int image_stored_height(const struct image *image)
{
    return image->reduction > 1 ? image->stored_height : image->height;
}

static inline size_t image_bytes(const struct image *image)
{
    return (size_t)image->width * (size_t)image->height * (size_t)image->channels;
}

/**
 * Sets the sizes and allocates pixels, not initialised, in `arena`, not reduced. Sizes must be
 * >= 1. ST_NO_MEMORY also when the product does not fit.
 */
NODISCARD enum status image_alloc(struct image *image, int width, int height, int channels,
                                  struct arena *arena, struct error *err);

#endif
