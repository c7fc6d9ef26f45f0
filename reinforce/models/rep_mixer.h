/* RepMixer blocks: a depthwise convolution mixes pixels, or tokens, then an MLP behind another one
 * mixes channels. FastViT's, and in one dimension those of MobileCLIP-S0's text tower. Source: Vasu
 * et al. 2023 (FastViT), 2024 (MobileCLIP). */
#ifndef REINFORCE_MODELS_REP_MIXER_H
#define REINFORCE_MODELS_REP_MIXER_H

#include "reinforce/models/transformer.h"
#include "reinforce/nn/conv.h"

struct conv_fold;

/** x + MLP(conv(x)); the MLP's last layer holds the layer scale. */
struct conv_mlp {
    struct conv_depthwise conv;
    struct block_mlp mlp;
};

/** Pixels that go through an MLP together, so that its hidden units stay in a core's second cache.
 */
enum { CONV_MLP_PIXELS = 560 };

struct rep_mixer_block {
    struct conv_depthwise mixer; /* the identity inside; w NULL: there is no block */
    struct conv_mlp mlp;
};

/** Loads the MLP of block `at`; `scale` is what its layer scale is called, kernels are rows x
 * columns. */
NODISCARD enum status conv_mlp_load(struct conv_fold *fold, const char *at, const char *scale,
                                    size_t C, size_t hidden, size_t rows, size_t columns,
                                    struct conv_mlp *out);
/** n images x float32 [n, H * W, C], in place. Scratch: other [n, H * W, C], codes and wide as
 * block_mlp_run() takes them for CONV_MLP_PIXELS. An image's bits do not depend on its company. */
void conv_mlp_run(const struct conv_mlp *mlp, float *x, size_t n, size_t H, size_t W, float *other,
                  float *codes, float *wide);

/** Loads the token mixer of block `at`. */
NODISCARD enum status rep_mixer_load(struct conv_fold *fold, const char *at, size_t C, size_t rows,
                                     size_t columns, struct conv_depthwise *out);

#endif
