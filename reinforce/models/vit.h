/* The vision transformer of CLIP up to its last block: what CLIP's head and CoCa's pooler both
 * stand on. */
#ifndef REINFORCE_MODELS_VIT_H
#define REINFORCE_MODELS_VIT_H

#include "reinforce/models/snapshot.h"

/** Immutable after loading; pointers into the model's weights. */
struct vit {
    size_t image_size, patch_size;
    size_t n_tokens; /* class token and patches */
    size_t width;
    const float *conv;     /* [width, 3 * patch * patch]: channel, row, column */
    const float *cls;      /* [width] */
    const float *position; /* [n_tokens, width] */
    struct layer_norm ln_pre;
    struct transformer blocks;
};

/** Loads the tower under either naming. Released by vit_release(); errors name the tensor. */
NODISCARD enum status vit_load(struct weights *weights, enum naming naming,
                               const struct vision_config *config, struct vit *out,
                               struct error *err);
void vit_release(struct vit *vit);

/**
 * pixels float32 [3, S, S], normalised; tokens float32 [n_tokens, width] out, after the last block
 * and before any final norm; row 0 is the class token, patches follow row by row. class_only: only
 * row 0 is wanted, the others are undefined. Scratch is given back.
 */
NODISCARD enum status vit_run(const struct vit *vit, const float *pixels, bool class_only,
                              struct arena *scratch, float *tokens, struct error *err);

#endif
