/* EXIF orientation: ignored by the trainers, and so by decoding; applied only where a job asks. */
#ifndef REINFORCE_IMAGE_EXIF_H
#define REINFORCE_IMAGE_EXIF_H

#include "reinforce/image/decode.h"

/**
 * The orientation tag, 1..8, of an encoded image: JPEG APP1, PNG eXIf, WebP EXIF. 1 when there is
 * none or it is broken; GIF has none. XMP is not looked at. Source: CIPA DC-008 (EXIF 2.3).
 */
int exif_orientation(struct bytes_view encoded, enum image_format format);

/**
 * Turns and mirrors `src` so that it stands upright, into a new image in `arena`; orientation 1 and
 * values outside 1..8 share src's pixels.
 */
NODISCARD enum status image_apply_orientation(const struct image *src, int orientation,
                                              struct arena *arena, struct image *out,
                                              struct error *err);

#endif
