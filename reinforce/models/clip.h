/* CLIP and MobileCLIP: an image tower and a text tower that meet in one space. */
#ifndef REINFORCE_MODELS_CLIP_H
#define REINFORCE_MODELS_CLIP_H

#include "reinforce/models/fastvit.h"
#include "reinforce/models/text_tower.h"
#include "reinforce/models/vit.h"

/** Immutable after loading: any number of threads may use one, each with its own scratch. */
struct clip {
    struct weights *weights; /* owned */
    bool is_fastvit; /* which of the two image towers there is; a FastViT ends in D itself */
    struct fastvit fastvit;
    struct vit vit;
    struct layer_norm ln_post;     /* w NULL: in the tower */
    const float *image_projection; /* [dim, vit.width] */
    const float *image_bias;       /* [dim]; NULL: none */
    struct text_tower text;
    bool bidirectional;    /* texts: every token sees all of the context, padding included */
    size_t dim;            /* D */
    size_t context_length; /* tokens */
    int32_t eos_id;        /* as in struct text_config; the first of them counts */
    float logit_scale;     /* exp() applied */
};

/**
 * Builds the model that `snapshot` describes. Tensor names decide the naming (a model.safetensors
 * beside open_clip's config may hold either). *weights goes to the model and is NULL afterwards,
 * also on failure. ST_NOT_FOUND or ST_INVALID name a missing, mis-shaped or surplus tensor.
 */
NODISCARD enum status clip_create(const struct snapshot *snapshot, struct weights **weights,
                                  struct clip **out, struct error *err);
void clip_destroy(struct clip **clip);

/** pixels float32 [n, 3, S, S], normalised; out float32 [n, dim], not yet of unit norm; a row
 * depends on its own image alone. Scratch is given back. */
NODISCARD enum status clip_encode_images(const struct clip *clip, const float *pixels, size_t n,
                                         struct arena *scratch, float *out, struct error *err);

/** Images of a call that are worth it: see transformer_samples_at_once(). */
size_t clip_images_at_once(const struct clip *clip);

/**
 * ids_b[b] int32 [n_b[b]], n_b[b] <= context_length, start and end included; padding after the end
 * changes nothing: only positions up to the end are run, which a causal mask makes the whole
 * result. A bidirectional tower sees its whole context; what ids_b leaves open is padded with 0.
 * out float32 [B, dim], not yet of unit norm; a row depends on its own text alone. ST_INVALID: an
 * id outside the vocabulary, no end, too long. Scratch is given back.
 */
NODISCARD enum status clip_encode_texts(const struct clip *clip, const int32_t *const *ids_b,
                                        const size_t *n_b, size_t B, struct arena *scratch,
                                        float *out, struct error *err);

/** What to give a scratch arena so that one call of either fits, of so many images. */
size_t clip_scratch_bytes(const struct clip *clip);

#endif
