/* SigLIP and SigLIP 2: an image tower and a text tower that meet in one embedding space, scored by
 * a sigmoid of scale * cosine + bias. */
#ifndef REINFORCE_MODELS_SIGLIP_H
#define REINFORCE_MODELS_SIGLIP_H

#include "reinforce/models/map_pool.h"
#include "reinforce/models/text_tower.h"
#include "reinforce/models/vit.h"

/** Immutable after loading: any number of threads may use one, each with its own scratch. */
struct siglip {
    struct weights *weights; /* owned */
    struct vit vit;
    struct map_pool pool;
    struct text_tower text;
    size_t dim;            /* D */
    size_t context_length; /* tokens; every text has as many */
    size_t naflex_patches; /* 0: images are vit.image_size squared */
    float logit_scale;     /* exp() applied */
    float logit_bias;
};

/**
 * Builds the model that `snapshot` describes. Tensor names decide the naming. *weights goes to the
 * model and is NULL afterwards, also on failure. ST_NOT_FOUND or ST_INVALID name a missing,
 * mis-shaped or surplus tensor.
 */
NODISCARD enum status siglip_create(const struct snapshot *snapshot, struct weights **weights,
                                    struct siglip **out, struct error *err);
void siglip_destroy(struct siglip **siglip);

/**
 * pixels float32 [n, 3, height, width], normalised; out float32 [n, dim], not yet of unit norm; a
 * row depends on its own image alone. NaFlex: both sides are whole patches, at most naflex_patches
 * in all, and no other tokens are computed; else ST_INVALID unless both are vit.image_size. Scratch
 * is given back.
 */
NODISCARD enum status siglip_encode_images(const struct siglip *siglip, const float *pixels,
                                           size_t n, size_t height, size_t width,
                                           struct arena *scratch, float *out, struct error *err);

/** Images of a call that are worth it: see transformer_samples_at_once(). */
size_t siglip_images_at_once(const struct siglip *siglip, size_t height, size_t width);

/**
 * ids_b[b] int32 [context_length], padded: pads are attended like any token, and a text is read at
 * the last position, whatever is there. out float32 [B, dim], not yet of unit norm; a row depends
 * on its own text alone. ST_INVALID: an id outside the vocabulary. Scratch is given back.
 */
NODISCARD enum status siglip_encode_texts(const struct siglip *siglip, const int32_t *const *ids_b,
                                          size_t B, struct arena *scratch, float *out,
                                          struct error *err);

/**
 * The stored grid of positions for rows x columns patches: bilinear between patch centres, and
 * averaged over what a patch of the new grid covers where that is larger (antialiasing). At the
 * stored size nothing changes.
 *
 * out float32 [rows * columns, D]; table float32 [grid * grid, D]. Scratch is given back.
 * Source: torch interpolate(mode=bilinear, antialias=True); SigLIP 2, section 2.4.2.
 */
NODISCARD enum status siglip_resample_positions(const float *table, size_t grid, size_t rows,
                                                size_t columns, size_t D, struct arena *scratch,
                                                float *out, struct error *err);

/** What to give a scratch arena so that one call of either fits, of so many images. */
size_t siglip_scratch_bytes(const struct siglip *siglip);

/** 1 / (1 + exp(-logit)), for any logit. */
double siglip_probability(double logit);

#endif
