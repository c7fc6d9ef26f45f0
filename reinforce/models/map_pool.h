/* SigLIP's MAP head: one learned query attends over all tokens, then a residual MLP. */
#ifndef REINFORCE_MODELS_MAP_POOL_H
#define REINFORCE_MODELS_MAP_POOL_H

#include "reinforce/models/transformer.h"

/** Immutable after loading; but for `keys`, pointers into the model's weights. */
struct map_pool {
    size_t width, n_heads;
    enum activation activation;
    float eps;
    const float *probe; /* [width] */
    struct linear q, k, v, out;
    struct layer_norm norm;
    struct linear fc, proj;
    float *keys; /* [n_heads, width]: Wk_h^T q_h, what a token is scored with; owned */
};

/** Loads the head from under `prefix` ("vision_model.head.", "visual.trunk.attn_pool."). `shape` is
 * the encoder's. Released by map_pool_release(); errors name the tensor. */
NODISCARD enum status map_pool_load(struct weights *weights, const char *prefix, enum naming naming,
                                    const struct transformer_shape *shape, struct map_pool *out,
                                    struct error *err);
void map_pool_release(struct map_pool *pool);

/**
 * tokens float32 [T, width] of one image, after its final norm; out float32 [width], not yet of
 * unit norm. Scores tokens with the query moved behind the keys' projection, and projects the
 * pooled token once a head instead of every token: 4 T D H operations, not 4 T D^2. Scratch is
 * given back.
 */
NODISCARD enum status map_pool_run(const struct map_pool *pool, const float *tokens, size_t T,
                                   struct arena *scratch, float *out, struct error *err);

/** The same as written in the reference: keys and values of every token, then attention. */
NODISCARD enum status map_pool_run_ref(const struct map_pool *pool, const float *tokens, size_t T,
                                       struct arena *scratch, float *out, struct error *err);

#endif
