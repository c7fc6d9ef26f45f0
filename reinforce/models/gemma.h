/* The decoders Gemma and Gemma 2: embedded prefixes and tokens to logits. */
#ifndef REINFORCE_MODELS_GEMMA_H
#define REINFORCE_MODELS_GEMMA_H

#include "reinforce/nn/kv_cache.h"
#include "reinforce/nn/matrix.h"
#include "reinforce/nn/rope.h"

/** What a config says. Plain data. */
struct gemma_config {
    int generation; /* 1 or 2: two norms a layer, or four */
    size_t n_layers, width, mlp_width;
    size_t n_heads, n_kv_heads, head_dim;
    size_t vocab_size;     /* V: ids that may be said; a table of more rows is cut to these */
    size_t context_length; /* positions */
    float query_scale;     /* of scores */
    float attention_cap;   /* soft cap of scores; 0: off */
    float final_cap;       /* of logits; 0: off. Changes no order, but probabilities */
    size_t window;         /* layers 0, 2, 4, ... see so many keys back; 0: all */
    float eps;
    double rope_base;
    int32_t end_id;            /* ends a text */
    int32_t other_end_id;      /* ends it too, as <end_of_turn> of tuned models; -1: none */
    enum matrix_form matrices; /* how they are kept */
    enum kv_type kv_type;      /* how keys and values are */
};

struct gemma_layer {
    const float *norm_attention, *norm_mlp;           /* in front of each half; [D] */
    const float *norm_attention_post, *norm_mlp_post; /* Gemma 2: behind them; else NULL */
    struct matrix q, k, v, o, gate, up, down;
};

/** Immutable after loading. */
struct gemma {
    struct gemma_config config;
    struct matrix embedding; /* [V, D]: the head too */
    const float *norm;       /* [D] */
    struct gemma_layer *layers;
    struct rope rope;
};

/** ST_INVALID names the value that cannot be. */
NODISCARD enum status gemma_config_check(const struct gemma_config *config, struct error *err);

/**
 * Loads `prefix` + "embed_tokens.weight", "layers.{i}...", "norm.weight". The caller destroys
 * `weights` after gemma_release(). Errors name the tensor.
 */
NODISCARD enum status gemma_load(struct weights *weights, const char *prefix,
                                 const struct gemma_config *config, struct gemma *out,
                                 struct error *err);
void gemma_release(struct gemma *g);

/** Parameters that the config describes, the table counted once with `table_rows` rows. */
size_t gemma_n_parameters(const struct gemma_config *config, size_t table_rows);

/** x float32 [n, D] = sqrt(D) times the ids' embeddings. ST_INVALID: an id outside V. */
NODISCARD enum status gemma_embed(const struct gemma *g, const int32_t *ids, size_t n, float *x,
                                  struct error *err);

/**
 * One sequence through all layers; its keys and values become row `row` of `cache`.
 *
 * x         float32 [T, D], embedded, at positions 0..T-1; in place: changed
 * n_prefix  positions that see each other in both directions; the others see what came before
 * finish    true: x becomes what gemma_head() takes; false: only the cache is wanted, and the last
 *           layer stops at its keys and values
 *
 * Scratch is given back. ST_NO_MEMORY: scratch is too small, see gemma_prefill_bytes().
 */
NODISCARD enum status gemma_prefill(const struct gemma *g, float *x, size_t T, size_t n_prefix,
                                    struct kv_cache *cache, size_t row, bool finish,
                                    struct arena *scratch, struct error *err);
size_t gemma_prefill_bytes(const struct gemma_config *config, size_t T);

/** logits float32 [M, V] of rows x [M, D] that have passed all layers; x is changed (normed).
 * scratch: gemma_rows_floats(). */
void gemma_head(const struct gemma *g, float *x, size_t M, float *logits, float *scratch);

/** Floats of scratch for products of M rows of different samples. */
size_t gemma_rows_floats(const struct gemma_config *config, size_t M);

/** Sequences that are decoded token by token, and their memory. */
struct gemma_decoder {
    const struct gemma *gemma;
    struct kv_cache cache;
    size_t max_rows;
    float *scratch;
};

/** Caches of `max_rows` rows of `capacity` positions. ST_INVALID: more than the model's context. */
NODISCARD enum status gemma_decoder_init(struct gemma_decoder *d, const struct gemma *g,
                                         size_t max_rows, size_t capacity, struct arena *arena,
                                         struct error *err);
size_t gemma_decoder_bytes(const struct gemma_config *config, size_t max_rows, size_t capacity);

/**
 * One token more in each of M distinct rows of the cache: logits float32 [M, V] behind `token` [M]
 * at `position` [M], whose earlier positions are in the cache already. A row's bits depend on that
 * row alone. Cannot fail.
 */
void gemma_decoder_step(struct gemma_decoder *d, size_t M, const size_t *row,
                        const size_t *position, const int32_t *token, float *logits);

#endif
