/* The vision transformer that every head and pooler stands on: CLIP's (class token, norm before the
 * blocks), SigLIP's (patches only, patch bias, norm after the blocks) and MobileCLIP-B's. */
#ifndef REINFORCE_MODELS_VIT_H
#define REINFORCE_MODELS_VIT_H

#include "reinforce/models/mci_stem.h"
#include "reinforce/models/snapshot.h"

/** Immutable after loading; pointers into the model's weights. */
struct vit {
    size_t image_size, patch_size;
    size_t grid;     /* the positional table's patches a side */
    size_t n_tokens; /* class token, if any, and grid x grid patches */
    size_t width;
    const float *conv;         /* [width, 3 * patch * patch]: see vit_run_patches() */
    const float *conv_bias;    /* [width]; NULL: none */
    const float *cls;          /* [width]; NULL: no class token */
    const float *position;     /* [n_tokens, width] */
    bool bare_cls;             /* the class token has no row in `position` */
    struct mci_stem stem;      /* first.w NULL: none */
    struct arena arena;        /* of the stem */
    struct layer_norm ln_pre;  /* w NULL: none */
    struct layer_norm ln_post; /* over all tokens; w NULL: left to the head */
    struct transformer blocks;
};

/**
 * Loads the tower under any naming; every tensor's name begins with `prefix` ("" for a model of its
 * own, "vision_tower." inside PaliGemma). Released by vit_release(); errors name the tensor.
 */
NODISCARD enum status vit_load(struct weights *weights, const char *prefix, enum naming naming,
                               const struct vision_config *config, struct vit *out,
                               struct error *err);
void vit_release(struct vit *vit);

/**
 * pixels float32 [n, 3, S, S], normalised; tokens float32 [n, n_tokens, width] out, after the last
 * block and ln_post; patches follow row by row, behind the class token if there is one. An image's
 * bits do not depend on its company. class_only: row i is image i's class token, the others are
 * undefined. Scratch is given back.
 */
NODISCARD enum status vit_run(const struct vit *vit, const float *pixels, size_t n, bool class_only,
                              struct arena *scratch, float *tokens, struct error *err);

/**
 * The same from n images of P patches of any grid, cut already.
 *
 * patches   float32 [n, P, 3 * patch * patch], elements in the order of conv: channel, row, column;
 *           row, column, channel where the patch embedding is a linear layer (NaFlex)
 * position  float32 [P, width], behind the class token's row if there is one
 */
NODISCARD enum status vit_run_patches(const struct vit *vit, const float *patches, size_t n,
                                      size_t P, const float *position, bool class_only,
                                      struct arena *scratch, float *tokens, struct error *err);

#endif
