/* Augmentation parameters: drawn, stored as param_aug, replayed. Byte-equal to torchvision over
 * Pillow. */
#ifndef REINFORCE_IMAGE_AUGMENT_H
#define REINFORCE_IMAGE_AUGMENT_H

#include "reinforce/base/bytes.h"
#include "reinforce/base/json.h"
#include "reinforce/image/image.h"
#include "reinforce/image/resample.h"
#include "reinforce/image/torch_rng.h"

/** RandAugment's operators; the values are stored in datasets. */
enum augment_op {
    AUGMENT_IDENTITY = 0,
    AUGMENT_SHEAR_X = 1,
    AUGMENT_SHEAR_Y = 2,
    AUGMENT_TRANSLATE_X = 3,
    AUGMENT_TRANSLATE_Y = 4,
    AUGMENT_ROTATE = 5,
    AUGMENT_BRIGHTNESS = 6,
    AUGMENT_COLOR = 7,
    AUGMENT_CONTRAST = 8,
    AUGMENT_SHARPNESS = 9,
    AUGMENT_POSTERIZE = 10,
    AUGMENT_SOLARIZE = 11,
    AUGMENT_AUTO_CONTRAST = 12,
    AUGMENT_EQUALIZE = 13,
    AUGMENT_OP_COUNT = 14,
};

enum { AUGMENT_MAX_OPS = 8 };

/** Values of n_ops beside a count. */
enum {
    AUGMENT_OPS_SKIPPED = -1, /* RandAugment was not drawn for this view; stored as null */
    AUGMENT_OPS_ABSENT = -2,  /* the chain has no RandAugment; nothing is stored */
};

/** What is drawn from; the result of augment_config_default() is the published recipe. */
struct augment_config {
    int size; /* crop output, pixels; magnitudes of the translations follow it */
    enum resample_filter filter;
    double scale_min, scale_max; /* of the area */
    double ratio_min, ratio_max; /* width / height */
    bool rand_augment;
    double rand_augment_p; /* probability of the whole step */
    int n_ops;             /* <= AUGMENT_MAX_OPS */
    int magnitude;         /* bin, 0..n_bins-1 */
    int n_bins;
};

/** One view. Boxes are absolute pixels of the decoded stored image. */
struct augment_params {
    int32_t top, left, height, width;
    int32_t n_ops; /* or AUGMENT_OPS_SKIPPED, AUGMENT_OPS_ABSENT */
    struct {
        enum augment_op op;
        double magnitude; /* signed; a float32 value widened */
    } ops[AUGMENT_MAX_OPS];
};

/** Published values: size 224, bicubic, scale 0.08..1, ratio 3/4..4/3, 2 ops, magnitude 9 of 31. */
void augment_config_default(struct augment_config *config);

/** Unsigned magnitude of `op` at the configured bin, and whether its sign is drawn (`is_signed` may
 * be NULL). A float32 value widened, as torch computes it. */
double augment_magnitude(const struct augment_config *config, enum augment_op op, bool *is_signed);

/** Draws view `view` of sample `uid` for an image of width x height: depends on nothing else
 * (Philox). */
void augment_sample(const struct augment_config *config, uint64_t seed, struct bytes_view uid,
                    uint32_t view, int width, int height, struct augment_params *out);

/** Draws as torchvision does from seeded torch, in its order; moves the generator on. */
void augment_sample_torch(const struct augment_config *config, struct torch_rng *rng, int width,
                          int height, struct augment_params *out);

/** By how much (1, 2 or 4) an image may be reduced before this view is cut from it. */
int augment_reduction(const struct augment_config *config, const struct augment_params *params);

/**
 * Replays one view: crop, resize to config->size, operators. out: RGB [size, size, 3] in `arena`.
 * ST_INVALID when the box is not inside the image or an operator is unknown.
 */
NODISCARD enum status augment_apply(const struct augment_config *config,
                                    const struct augment_params *params, const struct image *src,
                                    struct arena *arena, struct image *out, struct error *err);

/** One operator on an RGB image of any size, into a new image of the same size in `arena`.
 * ST_INVALID: unknown operator, or a magnitude it cannot have. */
NODISCARD enum status augment_apply_op(enum augment_op op, double magnitude,
                                       const struct image *src, struct arena *arena,
                                       struct image *out, struct error *err);

/** `[[top, left, height, width], [[op, magnitude], ...]]`, null for skipped operators, the box
 * alone for a chain without RandAugment. New reference; NULL: no memory. */
json_t *augment_params_to_json(const struct augment_params *params);

/** Reads the same; op indices may be integral reals. ST_CORRUPT says what is wrong. */
NODISCARD enum status augment_params_from_json(const json_t *value, struct augment_params *out,
                                               struct error *err);

#endif
