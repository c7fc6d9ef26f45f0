/* CoCa: CLIP's towers, an attentional pooler, and a decoder that captions what the pooler saw. */
#ifndef REINFORCE_MODELS_COCA_H
#define REINFORCE_MODELS_COCA_H

#include "reinforce/models/vit.h"

/** Attention from text to image with a norm on either side and an MLP of its own. */
struct coca_cross_block {
    struct transformer_block block; /* its qkv in parts: */
    struct block_linear q, kv;
    struct layer_norm ln_1_kv;
};

struct coca {
    size_t embed_dim;      /* D of latents and of image tokens */
    size_t n_image_tokens; /* queries - 1 */
    struct vit vision;
    struct layer_norm ln_k, ln_q, ln_post;
    const float *pool_query;  /* [queries, D] as projected: ln_q and q_proj are applied at load */
    float *pool_query_memory; /* owns it */
    struct linear pool_k, pool_v, pool_out;
    size_t pool_heads;
    const float *visual_proj; /* [D, D] */
    size_t context_length;    /* tokens a caption may have: rows of the positional table - 1 */
    size_t vocab_size;
    const float *token_embedding, *positions, *cls_embedding;
    struct transformer text; /* unimodal */
    struct layer_norm ln_final;
    const float *text_proj;
    struct transformer decoder;     /* self-attention halves */
    struct coca_cross_block *cross; /* [decoder.n_layers], owned */
    struct layer_norm decoder_ln_final;
    const float *decoder_proj; /* [vocab, width] */
    float logit_scale;
};

/** The image side of one image: everything caption decoding needs of it. */
struct coca_image {
    float *tokens;  /* float32 [n_image_tokens, D] */
    float *cross_k; /* float32 [n_layers, n_image_tokens, width] */
    float *cross_v;
};

/** Loads all parts; every stored tensor must be used. The weights must outlive *out; coca_release()
 * it. */
NODISCARD enum status coca_load(const struct snapshot *snapshot, struct weights *weights,
                                struct coca *out, struct error *err);
void coca_release(struct coca *coca);

/**
 * pixels float32 [3, S, S], normalised. latent float32 [embed_dim] out, unit norm; NULL: not
 * wanted. *image in `results` with the cross keys and values when `for_decoding`, else only tokens.
 * Source: open_clip coca_model.py, one pooler.
 */
NODISCARD enum status coca_encode_image(const struct coca *coca, const float *pixels,
                                        bool for_decoding, struct arena *results,
                                        struct arena *scratch, float *latent,
                                        struct coca_image *image, struct error *err);

/** Who does not see padding. The two agree unless a pad id stands between the tokens. */
enum coca_pad_mask {
    COCA_PAD_MASK_CLASS = 1, /* the class token alone: open_clip 2.x, what published models saw */
    COCA_PAD_MASK_ALL = 2,   /* every token: open_clip 3.x */
};

/**
 * ids int32 [n], n <= context_length: start, tokens, end, padded with `pad` or not. latent float32
 * [embed_dim], unit norm. The class token stands behind the row; padding is hidden by open_clip's
 * mask, which is shifted by one: key i goes by id i - 1.
 */
NODISCARD enum status coca_embed_text(const struct coca *coca, const int32_t *ids, size_t n,
                                      int32_t pad, enum coca_pad_mask mask, struct arena *scratch,
                                      float *latent, struct error *err);

/** Decoding state: caches for R rows of up to `capacity` tokens. */
struct coca_decoder {
    const struct coca *coca;
    struct kv_cache text, decoder;
    float *scratch;
    size_t max_rows;
};

/** Allocates in `arena`. ST_INVALID when `capacity` is more than the model's context. */
NODISCARD enum status coca_decoder_init(struct coca_decoder *decoder, const struct coca *coca,
                                        size_t max_rows, size_t capacity, struct arena *arena,
                                        struct error *err);

/**
 * One token more in each of M rows.
 *
 * row       [M] distinct cache rows, < max_rows     position  [M] of the token, 0 = start
 * token     [M] its id                              image     [M] the image each row describes
 * logits    float32 [M, vocab] out: the scores of the token behind
 *
 * A row's bits do not depend on the other rows. Cannot fail.
 */
void coca_decoder_step(struct coca_decoder *decoder, size_t M, const size_t *row,
                       const size_t *position, const int32_t *token,
                       const struct coca_image *const *image, float *logits);

/** A row goes on from another's first n positions. */
void coca_decoder_copy_row(struct coca_decoder *decoder, size_t from, size_t to, size_t n);

/**
 * Logits of a whole row at once, float32 [n, vocab]: what teacher forcing computes; the check of
 * the cached path.
 */
NODISCARD enum status coca_logits(const struct coca *coca, const struct coca_image *image,
                                  const int32_t *ids, size_t n, struct arena *scratch,
                                  float *logits, struct error *err);

#endif
