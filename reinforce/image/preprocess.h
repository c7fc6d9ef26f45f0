/* Evaluation transforms: a decoded image to the float tensor that a model's image tower reads. */
#ifndef REINFORCE_IMAGE_PREPROCESS_H
#define REINFORCE_IMAGE_PREPROCESS_H

#include "reinforce/image/resample.h"

enum preprocess_mode {
    PREPROCESS_SHORTEST = 0, /* shorter side to size, centre crop */
    PREPROCESS_LONGEST = 1,  /* longer side to size, pad */
    PREPROCESS_SQUASH = 2,   /* both sides to size, aspect not kept */
};

enum preprocess_crop {
    PREPROCESS_CROP_HALF_EVEN = 0, /* open_clip, torchvision */
    PREPROCESS_CROP_FLOOR = 1,     /* transformers */
};

/** Plain data, read from a snapshot's own config. */
struct preprocess {
    int size; /* pixels, square */
    enum preprocess_mode mode;
    enum preprocess_crop crop;
    enum resample_filter filter;
    uint8_t fill; /* padding value for longest */
    float mean[3], std[3];
};

/** Resize and crop only: out is RGB [size, size, 3] in `arena`. src is RGB. */
NODISCARD enum status preprocess_pixels(const struct preprocess *pre, const struct image *src,
                                        struct arena *arena, struct image *out, struct error *err);

/**
 * out   float32 [3, H, W], CHW: ((u8 / 255) - mean) / std, each step rounded to float32, as torch
 * does src   RGB [H, W, 3]
 */
void preprocess_tensor(const struct image *src, const float mean[3], const float std[3],
                       float *out);

#endif
