/* RandAugment's operators on RGB pixels, byte-equal to torchvision over Pillow. */
#ifndef REINFORCE_IMAGE_AUGMENT_OPS_H
#define REINFORCE_IMAGE_AUGMENT_OPS_H

#include "reinforce/image/augment.h"

/** ST_INVALID: unknown operator, magnitude no finite float32, or bits of Posterize not in 0..8. */
NODISCARD enum status augment_op_check(enum augment_op op, double magnitude, struct error *err);

/** True if the result at a byte depends on no other position, so that `to` may be src->pixels. */
bool augment_op_is_pointwise(enum augment_op op);

/**
 * Runs a checked operator. src: RGB of any size; to: as many bytes as src has, apart from them
 * unless the operator is pointwise.
 */
void augment_op_run(enum augment_op op, double magnitude, const struct image *src, uint8_t *to);

/** The same in plain loops, byte by byte as Pillow goes; `to` is always apart. */
void augment_op_run_ref(enum augment_op op, double magnitude, const struct image *src, uint8_t *to);

/** Output pixel (x, y) shows input (m[0] x + m[1] y + m[2], m[3] x + m[4] y + m[5]), in pixel
 * corners' coordinates. */
struct affine_map {
    double m[6];
};

/** The map of a shear, translation or rotation of a width x height image, in the libraries' own
 * sequence of double operations. */
void affine_map_of(enum augment_op op, double magnitude, int width, int height,
                   struct affine_map *map);

/** True if every corner stays below 32768: then Pillow computes in 16.16 fixed point. */
bool affine_map_fits_fixed(const struct affine_map *map, int width, int height);

/** floor(v * 65536 + 0.5) */
int64_t affine_fixed(double v);

#endif
