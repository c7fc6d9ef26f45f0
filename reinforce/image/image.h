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

#endif
