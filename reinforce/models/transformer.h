/* The pre-norm residual blocks of CLIP, loaded under either naming and run whole or token by token.
 */
#ifndef REINFORCE_MODELS_TRANSFORMER_H
#define REINFORCE_MODELS_TRANSFORMER_H

#include "reinforce/models/block_linear.h"
#include "reinforce/nn/kv_cache.h"

/** How a snapshot names its tensors. */
enum naming {
    NAMING_OPEN_CLIP = 1,
    NAMING_TRANSFORMERS = 2,
    NAMING_TIMM = 3,  /* the image tower of open_clip's SigLIP */
    NAMING_APPLE = 4, /* apple/ml-mobileclip */
};

/** y = x w^T + b; pointers into the model's weights. */
struct linear {
    const float *w, *b; /* [out, in]; [out] or NULL */
    size_t in, out;
};

struct layer_norm {
    const float *w, *b; /* [D] */
};

struct transformer_block {
    struct layer_norm ln_1, ln_2;
    struct block_linear qkv; /* [3 D, D]: q, k, v */
    struct block_linear attn_out;
    struct block_mlp mlp;
};

struct transformer {
    size_t n_layers, width, n_heads, mlp_width;
    enum activation activation;
    float eps;
    struct transformer_block *blocks; /* [n_layers] and one of zeros, owned */
};

/** What a tower's config says. */
struct transformer_shape {
    size_t n_layers, width, n_heads, mlp_width;
    enum activation activation;
    float eps;
};

/**
 * Loads the blocks named `prefix` + "resblocks.0." (open_clip), "layers.0." (transformers),
 * "blocks.0." (timm) or "transformer.0." (Apple); the first number is `first`. Errors name the
 * tensor. `out` is released by transformer_release(), the tensors by weights_destroy().
 */
NODISCARD enum status transformer_load(struct weights *weights, const char *prefix,
                                       enum naming naming, size_t first,
                                       const struct transformer_shape *shape, enum matrix_form form,
                                       struct transformer *out, struct error *err);
void transformer_release(struct transformer *t);

/** `prefix` + "weight" and "bias". */
NODISCARD enum status layer_norm_load(struct weights *weights, const char *prefix, size_t width,
                                      struct layer_norm *out, struct error *err);
NODISCARD enum status linear_load(struct weights *weights, const char *prefix, size_t in,
                                  size_t out_width, struct linear *out, struct error *err);

/** One block alone: its tensors' names begin with `prefix`. `t` says its sizes. */
NODISCARD enum status transformer_block_load(struct weights *weights, const char *prefix,
                                             enum naming naming, enum matrix_form form,
                                             const struct transformer *t,
                                             struct transformer_block *block, struct error *err);

/** What matrices of its blocks take in MATRIX_STRASSEN in addition to float32. */
size_t transformer_added_bytes(const struct transformer_shape *shape);

/** Activations of T rows while they are in a block. */
struct transformer_work {
    float *normed; /* [T, D] */
    float *mixed;  /* [T, D] */
    float *wide;   /* [T, max(3 D, mlp)], or the MLP's quantised rows */
    float *codes;  /* of quantised rows [T, D]; not looked at where weights are not int8 */
    float *scores; /* of a step's attention */
};

/** A block's second half: x += attn_out(work->mixed), then the MLP. */
void transformer_finish_block(const struct transformer *t, const struct transformer_block *b,
                              float *x, struct samples samples,
                              const struct transformer_work *work);

/** Floats that a run of T rows takes of its scratch at most, for any of the three below. */
size_t transformer_scratch_floats(const struct transformer *t, size_t T);

/**
 * n samples of T rows, one behind the other: x float32 [n, T, D], in place. Weights are read once
 * for all; a sample's bits do not depend on its company. causal: position i sees 0..i; hide_last,
 * of each sample, as in struct attention.
 */
NODISCARD enum status transformer_run(const struct transformer *t, float *x, size_t n, size_t T,
                                      bool causal, const bool *hide_last, struct arena *scratch,
                                      struct error *err);

/** Samples of T rows that are worth running together: weights are read once for all, products have
 * enough rows, and activations stay in a core's second cache. At least 1. */
size_t transformer_samples_at_once(size_t T);

/**
 * The same without masks, when only row `row` of each sample is wanted (a pooled token): the last
 * block, of at least one, computes those alone, which saves five sixths of its work. Afterwards row
 * i of x is sample i's, the others are undefined.
 */
NODISCARD enum status transformer_run_pooled(const struct transformer *t, float *x, size_t n,
                                             size_t T, size_t row, struct arena *scratch,
                                             struct error *err);

/**
 * Causal runs of n sequences that lie behind one another in x, of which only the last rows are
 * wanted: afterwards row i of x is sequence i's last, the others are undefined. Weights are read
 * once for all; a sequence's bits do not depend on its company.
 * length [n], each at least 1
 */
NODISCARD enum status transformer_run_last_rows(const struct transformer *t, float *x,
                                                const size_t *length, size_t n,
                                                struct arena *scratch, struct error *err);

/**
 * Layer `layer`'s self-attention and MLP for one new token in each of M rows.
 *
 * x         float32 [M, D], in place
 * row       [M] which row of the cache each is; distinct
 * position  [M] where its token stands, < capacity; keys and values of earlier positions are there
 * already scratch   for M rows: see transformer_step_scratch()
 *
 * A row's bits depend on that row alone. Cannot fail.
 */
void transformer_step(const struct transformer *t, size_t layer, float *x, size_t M,
                      const size_t *row, const size_t *position, struct kv_cache *cache,
                      float *scratch);

/** Floats of scratch that transformer_step() needs, and how they are shared out. */
size_t transformer_step_scratch(const struct transformer *t, size_t M, size_t capacity);
struct transformer_work transformer_step_work(const struct transformer *t, size_t M,
                                              float *scratch);

#endif
