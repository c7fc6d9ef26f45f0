/* Pixels back to files: views to look at, and images stored upright. */
#ifndef REINFORCE_IMAGE_ENCODE_H
#define REINFORCE_IMAGE_ENCODE_H

#include "reinforce/image/decode.h"

/** Appends `image` (1 to 4 channels: L, LA, RGB, RGBA) as PNG. The bytes depend on the pixels and
 * on the build alone. ST_NO_MEMORY past the buffer's limit; the buffer is then as it was. */
NODISCARD enum status image_write_png(const struct image *image, struct byte_buf *out,
                                      struct error *err);

/** Appends `image` (1 or 3 channels) as baseline JPEG of quality 1..100, colour at half resolution.
 * ST_INVALID: larger than 65500 a side, or other channels; else as image_write_png(). */
NODISCARD enum status image_write_jpeg(const struct image *image, int quality, struct byte_buf *out,
                                       struct error *err);

/**
 * For the option that applies EXIF orientation: decodes, turns upright, and, where that changed
 * something, appends the new file to `out` (JPEG stays JPEG, at `quality`; the rest becomes PNG)
 * without metadata. `image` gets the pixels that a trainer will decode from the stored bytes: with
 * JPEG these are those of the new file. *changed says whether `out` must replace the original.
 */
NODISCARD enum status image_write_upright(struct bytes_view encoded,
                                          const struct image_limits *limits, int quality,
                                          struct arena *arena, struct byte_buf *out,
                                          struct image *image, bool *changed, struct error *err);

#endif
