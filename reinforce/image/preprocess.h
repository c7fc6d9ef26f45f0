/* Evaluation transforms: a decoded image to the float tensor that a model's image tower reads. */
#ifndef REINFORCE_IMAGE_PREPROCESS_H
#define REINFORCE_IMAGE_PREPROCESS_H

#include "reinforce/image/decode.h"
#include "reinforce/image/resample.h"

enum preprocess_mode {
    PREPROCESS_SHORTEST = 0, /* shorter side to size, centre crop */
    PREPROCESS_LONGEST = 1,  /* longer side to size, pad */
    PREPROCESS_SQUASH = 2,   /* both sides to size, aspect not kept */
    PREPROCESS_NAFLEX = 3,   /* aspect kept, whole patches, see naflex.h */
};

enum preprocess_crop {
    PREPROCESS_CROP_HALF_EVEN = 0, /* open_clip, torchvision */
    PREPROCESS_CROP_FLOOR = 1,     /* transformers */
};

/** Plain data, read from a snapshot's own config. */
struct preprocess {
    int size; /* pixels, square; NaFlex: the largest square; 0: of a served model, any */
    enum preprocess_mode mode;
    enum preprocess_crop crop;
    enum resample_filter filter;
    bool tensorflow; /* SQUASH: image_resize_tensorflow() instead of filter */
    uint8_t fill;    /* padding value for longest */
    float mean[3], std[3];
    int patch, max_patches; /* NaFlex: pixels a side, and how many in all */
};

/** What a transform does to an image of a given size. */
struct preprocess_plan {
    int height, width;       /* after resizing */
    struct image_box window; /* the part of it that is kept */
    int pad_top, pad_left;   /* where that part lies in size x size; for LONGEST only */
};

/** Whether an image of this size can go to the image tower as it is: size squared, or under NaFlex
 * whole patches within the budget. */
bool preprocess_fits(const struct preprocess *pre, int width, int height);

/** Cannot fail. Sources: torchvision resize, open_clip ResizeKeepRatio and CenterCropOrPad,
 * transformers CLIPImageProcessor. */
void preprocess_plan_of(const struct preprocess *pre, int width, int height,
                        struct preprocess_plan *plan);

/** By how much (1, 2 or 4) an image of width x height pixels may be reduced before it comes here.
 */
int preprocess_reduction(const struct preprocess *pre, int width, int height);

/** Resize and crop or pad only: out is RGB [size, size, 3] in `arena`; NaFlex: of the image's own
 * size. src is RGB. Pixels that the crop does not show are not computed. */
NODISCARD enum status preprocess_pixels(const struct preprocess *pre, const struct image *src,
                                        struct arena *arena, struct image *out, struct error *err);

/**
 * The same in open_clip's order, which converts to RGB last: palette and bilevel images are resized
 * nearest on their indices, LA and RGBA premultiplied. `src` is used up. Equal to converting first
 * for grey and RGB. The product converts first unless a job asks for reference modes.
 */
NODISCARD enum status preprocess_pixels_stored(const struct preprocess *pre,
                                               struct image_stored *src, struct arena *arena,
                                               struct image *out, struct error *err);

/**
 * Pixels to what the image tower reads; each step is rounded to float32, as torch does.
 *
 * out   float32 [3, H, W]  ((u8 / 255) - mean) / std
 * src   RGB [H, W, 3]
 */
void preprocess_tensor(const struct image *src, const float mean[3], const float std[3],
                       float *out);

#endif
