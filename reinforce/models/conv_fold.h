/* Folding batch norms and parallel branches of a trained convolution into one kernel and bias, in
 * double. Private to reinforce/models. */
#ifndef REINFORCE_MODELS_CONV_FOLD_H
#define REINFORCE_MODELS_CONV_FOLD_H

#include "reinforce/models/transformer.h"
#include "reinforce/nn/conv.h"

enum { CONV_FOLD_MAX_NAME = 160 };

/** What a naming calls the parts of a convolutional block. */
struct conv_fold_names {
    const char *norm;                    /* behind a convolution: "bn." */
    const char *conv, *scale, *identity; /* branches of a MobileOne block */
    const char *mlp;                     /* of a block: "mlp." */
    const char *gamma;                   /* what "layer_scale" ends in: ".gamma" */
};

extern const struct conv_fold_names conv_fold_timm, conv_fold_apple;

/** A tower being loaded. Names below are relative to `prefix`. */
struct conv_fold {
    struct weights *weights;
    const struct conv_fold_names *names;
    const char *prefix;
    enum matrix_form form; /* of matrices; convolutions are float32 */
    struct arena *arena;   /* where folded weights go */
    struct arena scratch;  /* kernels while they are folded */
    struct error *err;
};

/** A convolution under way: double [out, in, rows, columns], `in` per group; in scratch. */
struct conv_kernel {
    size_t out, in, rows, columns;
    double *w, *b;
};

/** Whether a tensor of that name is there. */
PRINTF_LIKE(2, 3) bool conv_fold_has(const struct conv_fold *fold, const char *format, ...);
/** The tensor of that name, of that shape, as it is stored. */
NODISCARD PRINTF_LIKE(4, 5) enum status conv_fold_get(struct conv_fold *fold, const size_t *shape,
                                                      const float **out, const char *format, ...);
/** A 1 x 1 convolution with bias, used where it is stored. */
NODISCARD enum status conv_fold_get_pointwise(struct conv_fold *fold, const char *at, size_t in,
                                              size_t out_width, struct linear *out);

/** The same as a matrix of `form`. scale float32 [out_width]: what its results are multiplied by,
 * folded into weights and bias; NULL: nothing. */
NODISCARD enum status conv_fold_load_matrix(struct conv_fold *fold, const char *at, size_t in,
                                            size_t out_width, const float *scale,
                                            struct block_linear *out);

/** All zeros, to be added to. */
NODISCARD enum status conv_fold_begin(struct conv_fold *fold, struct conv_kernel *k, size_t out,
                                      size_t in, size_t rows, size_t columns);

/** The batch norm `at` as y = x * scale + shift, [n] each, in scratch. */
NODISCARD enum status conv_fold_norm(struct conv_fold *fold, const char *at, size_t n,
                                     double **scale, double **shift);

/** Adds sign * a branch that is a batch norm alone. */
NODISCARD enum status conv_fold_add_identity(struct conv_fold *fold, struct conv_kernel *k,
                                             const char *at, double sign);
/** Adds `at` + "conv.weight" (rows x columns, laid into the middle) through the norm behind it. */
NODISCARD enum status conv_fold_add_conv(struct conv_fold *fold, struct conv_kernel *k, size_t rows,
                                         size_t columns, const char *at);
/** Adds `at` + "weight" and "bias", as they are. */
NODISCARD enum status conv_fold_add_plain(struct conv_fold *fold, struct conv_kernel *k,
                                          const char *at);
/** Adds whichever branches of a MobileOne block are there, or what they were folded into before,
 * reparam_conv. Source: Vasu et al. 2022. */
NODISCARD enum status conv_fold_add_mobile_one(struct conv_fold *fold, struct conv_kernel *k,
                                               const char *at);

/** Rounds to float32 and lays out for conv_depthwise_run(); `in` is 1. */
NODISCARD enum status conv_fold_to_depthwise(struct conv_fold *fold, const struct conv_kernel *k,
                                             size_t stride, struct conv_depthwise *out);
/** The same as a product over (row, column, channel): see conv_gather(). */
NODISCARD enum status conv_fold_to_linear(struct conv_fold *fold, const struct conv_kernel *k,
                                          struct linear *out);
/** And as a matrix of `form`, which errors call `at`. */
NODISCARD enum status conv_fold_to_matrix(struct conv_fold *fold, const struct conv_kernel *k,
                                          const char *at, enum matrix_form form,
                                          struct block_linear *out);

#endif
