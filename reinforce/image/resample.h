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

enum { RESAMPLE_LARGEST_REDUCTION = 4 };

/** By how much (1, 2 or 4) an image may be reduced before it is resized, so that at least two
 * pixels are left for each of the result along both sides; 1 for a filter that picks pixels instead
 * of averaging.
 */
int resample_reduction(int height, int width, int out_height, int out_width,
                       enum resample_filter filter);

/**
 * out = src cropped to the box [top, left, height, width] (inside src) and resized to out_height x
 * out_width. Pixels outside the box are never read, so this equals Pillow's crop followed by
 * resize. A reduced image has boxes in stored pixels, which may begin and end inside of its own;
 * those are read whole. `out` is allocated in `arena`; scratch behind it is given back. A pass
 * whose size is already right is skipped; equal sizes are a pure copy. ST_INVALID: an empty size, a
 * box outside the image or an unknown filter; ST_NO_MEMORY. Source: Pillow
 * src/libImaging/Resample.c, Geometry.c (nearest).
 */
NODISCARD enum status image_resize(const struct image *src, int top, int left, int height,
                                   int width, int out_height, int out_width,
                                   enum resample_filter filter, struct arena *arena,
                                   struct image *out, struct error *err);

/**
 * The part `window` of what image_resize() would give for `box`, byte for byte, computing nothing
 * else: resize then crop at the price of the crop. The window lies inside out_height x out_width.
 */
NODISCARD enum status image_resize_window(const struct image *src, const struct image_box *box,
                                          int out_height, int out_width,
                                          const struct image_box *window,
                                          enum resample_filter filter, struct arena *arena,
                                          struct image *out, struct error *err);

/** As image_resize_window() on a processor without AVX-512 VNNI. */
NODISCARD enum status image_resize_window_plain(const struct image *src,
                                                const struct image_box *box, int out_height,
                                                int out_width, const struct image_box *window,
                                                enum resample_filter filter, struct arena *arena,
                                                struct image *out, struct error *err);

/** The same as image_resize_window() in plain loops, one pass after the other over whole images:
 * what the fast one is tested against. */
NODISCARD enum status image_resize_window_ref(const struct image *src, const struct image_box *box,
                                              int out_height, int out_width,
                                              const struct image_box *window,
                                              enum resample_filter filter, struct arena *arena,
                                              struct image *out, struct error *err);

#endif
