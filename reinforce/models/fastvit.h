/*
 * FastViT-MCi, the image towers of MobileCLIP: stages of convolutional mixers, and attention where
 * the picture has become small. Source: Vasu et al. 2023 (FastViT), 2024 (MobileCLIP).
 *
 * Pictures are rows of pixels, channels together. Every branch and batch norm of the published
 * training form is folded into the convolution or product it belongs to when the tower is loaded,
 * in double. Matrices of blocks are packed or quantised then.
 */
#ifndef REINFORCE_MODELS_FASTVIT_H
#define REINFORCE_MODELS_FASTVIT_H

#include "reinforce/models/rep_mixer.h"

enum { FASTVIT_MAX_STAGES = 5 };

/** What a variant's name stands for. */
struct fastvit_shape {
    const char *name; /* timm's: "fastvit_mci0" */
    size_t n_stages;
    size_t n_blocks[FASTVIT_MAX_STAGES];
    size_t width; /* of stage 0; each later one has twice the last one's */
    size_t mlp_ratio;
    bool squeeze;    /* squeeze-and-excite where stages 2 and 3 begin */
    bool layer_norm; /* in attention blocks; else a batch norm */
};

/** The variant of that name, or NULL. */
const struct fastvit_shape *fastvit_shape_find(const char *name);

/** Weighs channels by what the whole picture holds. reduce.w NULL: there is none. */
struct squeeze_excite {
    struct linear reduce, expand;
};

/** A 3 x 3 mixer or attention, then an MLP behind a 7 x 7 convolution. */
struct fastvit_block {
    struct rep_mixer_block mix;        /* mixer.w NULL: attention, and of `mix` the MLP alone */
    struct layer_norm norm;            /* w NULL: a batch norm, in qkv */
    struct block_linear qkv, attn_out; /* the layer scale inside */
};

struct fastvit_stage {
    size_t width, n_blocks;
    struct conv_depthwise down; /* 7 x 7, stride 2, of channels doubled; w NULL: stage 0 */
    struct squeeze_excite squeeze;
    struct block_linear down_mix;
    struct conv_depthwise position; /* 7 x 7, the identity inside; w NULL: none */
    struct fastvit_block *blocks;
};

/** Immutable after loading; all in `arena` or pointers into the model's weights. */
struct fastvit {
    size_t image_size, dim, n_stages;
    size_t n_alone;           /* stages that run image by image; others see too few pixels of one */
    epilogue_fn *gelu;        /* between the blocks; coarse where those are int8 */
    struct block_linear stem; /* 3 x 3, stride 2 */
    struct conv_depthwise stem_depthwise;
    struct block_linear stem_mix;
    struct fastvit_stage stages[FASTVIT_MAX_STAGES];
    struct conv_depthwise final_conv; /* 3 x 3 of channels doubled */
    struct squeeze_excite final_squeeze;
    struct linear head;
    struct arena arena;
};

enum {
    FASTVIT_IMAGES_AT_ONCE = 8, /* of a call that are worth it */
    FASTVIT_ALONE_SIDE = 16,    /* pixels along a side that are enough for products at their best */
};

/** Loads the tower "visual.trunk." (timm) or "image_encoder.model." (Apple), in its training form
 * or folded. Matrices of blocks are of `form`; convolutions and what is between the blocks are
 * always float32. Errors name the tensor. Released by fastvit_release(), also after an error. */
NODISCARD enum status fastvit_load(struct weights *weights, enum naming naming,
                                   const struct fastvit_shape *shape, size_t image_size, size_t dim,
                                   enum matrix_form form, struct fastvit *out, struct error *err);
void fastvit_release(struct fastvit *fastvit);

/** What matrices of its blocks take in MATRIX_STRASSEN in addition to float32. */
size_t fastvit_added_bytes(const struct fastvit_shape *shape);

/** pixels float32 [n, 3, S, S], normalised; out float32 [n, dim], not yet of unit norm. An image's
 * bits do not depend on its company. Scratch is given back. */
NODISCARD enum status fastvit_run(const struct fastvit *fastvit, const float *pixels, size_t n,
                                  struct arena *scratch, float *out, struct error *err);

/** Floats of scratch that fastvit_run() needs for any n. */
size_t fastvit_scratch_floats(const struct fastvit *fastvit);

#endif
