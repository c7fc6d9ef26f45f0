/* A hash that images which look alike share, whatever their size, format and compression. */
#ifndef REINFORCE_IMAGE_PERCEPTUAL_HASH_H
#define REINFORCE_IMAGE_PERCEPTUAL_HASH_H

#include "reinforce/image/image.h"

/**
 * 64 bits: the image as luma, resized to 32 x 32 (Lanczos), its DCT-II, of which the 8 x 8 lowest
 * frequencies are kept, the first of them (the mean) included; a bit says whether a coefficient is
 * above the median of the 64, the first coefficient in the highest bit. Of an image that is one
 * colour only the first is, or none.
 *
 * image  [H, W, 3]; scratch in `arena` is given back. Equal to phash() of Python's imagehash 4.3
 * but where coefficients tie with the median within rounding.
 */
NODISCARD enum status perceptual_hash(const struct image *image, struct arena *arena,
                                      uint64_t *hash, struct error *err);

#endif
