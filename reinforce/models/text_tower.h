/* The text transformer of CLIP and SigLIP: also CoCa's unimodal side, and, between two
 * convolutional blocks, MobileCLIP-S0's. */
#ifndef REINFORCE_MODELS_TEXT_TOWER_H
#define REINFORCE_MODELS_TEXT_TOWER_H

#include "reinforce/models/rep_mixer.h"
#include "reinforce/models/snapshot.h"

/** Immutable after loading; pointers into the model's weights. */
struct text_tower {
    size_t n_positions, vocab_size, width;
    const float *token;                    /* [vocab_size, width] */
    const float *position;                 /* [n_positions, width] */
    struct rep_mixer_block before, behind; /* 1 x 11; mixer.w NULL: none */
    struct transformer blocks;
    struct layer_norm ln_final;
    const float *projection;      /* [embed_dim, width]; NULL: none */
    const float *projection_bias; /* [embed_dim]; NULL: none */
    struct arena arena;           /* of the folded blocks */
};

/** "text." if the tensors are stored under that prefix (custom_text, CoCa), Apple's
 * "text_encoder.", else "". */
const char *text_tower_prefix(const struct weights *weights);

/**
 * Loads the tower under either naming; `prefix` is text_tower_prefix() for open_clip names.
 * n_positions: rows of the positional table (the context, and one more for CoCa's class token).
 * Released by text_tower_release(); errors name the tensor.
 */
NODISCARD enum status text_tower_load(struct weights *weights, enum naming naming,
                                      const char *prefix, const struct text_config *config,
                                      size_t n_positions, size_t embed_dim, struct text_tower *out,
                                      struct error *err);
void text_tower_release(struct text_tower *tower);

/**
 * x float32 [n, width] out: token and positional embeddings of ids [n] at positions first_position,
 * first_position + 1, ... ST_INVALID: an id outside the vocabulary, or more positions than the
 * table has rows.
 */
NODISCARD enum status text_tower_embed(const struct text_tower *tower, const int32_t *ids, size_t n,
                                       size_t first_position, float *x, struct error *err);

/**
 * x float32 [T, width], in place: a text that is seen whole, from its embeddings to the last block,
 * of which only row `row` is wanted: it becomes row 0, the others are undefined. Scratch is given
 * back.
 */
NODISCARD enum status text_tower_run_whole(const struct text_tower *tower, float *x, size_t T,
                                           size_t row, struct arena *scratch, struct error *err);

#endif
