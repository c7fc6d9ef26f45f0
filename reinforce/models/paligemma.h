/* PaliGemma and PaliGemma 2: an image's patches in front of a text, read by Gemma in both
 * directions. */
#ifndef REINFORCE_MODELS_PALIGEMMA_H
#define REINFORCE_MODELS_PALIGEMMA_H

#include "reinforce/models/vit.h"

/** Immutable after loading: any number of threads may use one, each with its own scratch. */
struct paligemma {
    struct vit vision;       /* SigLIP without its head */
    struct linear projector; /* [D, vision.width] */
    struct gemma gemma;
    size_t n_image_tokens; /* n */
};

/**
 * Loads what `snapshot` describes under any of the published namings; its decoder and vision say in
 * which form. The caller destroys `weights`
 * after paligemma_release(). ST_NOT_FOUND or ST_INVALID name a missing, mis-shaped or surplus
 * tensor, a head that is not the table, a weight that is not finite.
 */
NODISCARD enum status paligemma_load(const struct snapshot *snapshot, struct weights *weights,
                                     struct paligemma *out, struct error *err);
void paligemma_release(struct paligemma *p);

/**
 * pixels float32 [3, S, S], normalised; tokens float32 [n, D] out: what stands for the image in the
 * decoder, the same for every prompt. Scratch is given back. ST_CORRUPT: not finite.
 */
NODISCARD enum status paligemma_encode_image(const struct paligemma *p, const float *pixels,
                                             struct arena *scratch, float *tokens,
                                             struct error *err);

/**
 * x float32 [n + n_ids, D]: the image's tokens as they are, behind them the embedded text <bos>
 * prompt \n. ST_INVALID: an id that the model cannot say.
 */
NODISCARD enum status paligemma_prefix(const struct paligemma *p, const float *tokens,
                                       const int32_t *ids, size_t n_ids, float *x,
                                       struct error *err);

/** Of the model, with V rows of the table, counted once. */
size_t paligemma_n_parameters(const struct snapshot *snapshot);

/** Bytes that a loaded model and a decoding of `rows` sequences of `capacity` positions take. */
struct paligemma_memory {
    size_t weights;     /* as kept: bfloat16 of the decoder as stored, of the tower widened too; or
                           int8 of both, and nothing of the files */
    size_t cache;       /* keys and values, logits, activations of a step */
    size_t activations; /* of encoding one image and prefilling one sequence */
};

/** From shapes alone: `weights` is mapped but not read. */
void paligemma_memory(const struct snapshot *snapshot, const struct weights *weights, size_t rows,
                      size_t capacity, struct paligemma_memory *out);

#endif
