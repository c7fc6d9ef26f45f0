/* A matrix in the strips that products take: packed once, when it is loaded. */
#ifndef REINFORCE_NN_PACKED_H
#define REINFORCE_NN_PACKED_H

#include "reinforce/nn/gemm.h"
#include "reinforce/nn/weights.h"

/**
 * A matrix [out, in]. Immutable; in memory of the weights it came from.
 *
 * strips  [ceil(out / 32)][in][32], columns that fill up are zeros: float32, or bfloat16, each the
 *         nearest to its weight
 */
struct packed_matrix {
    size_t out, in;
    const void *strips;
    enum tensor_dtype dtype; /* TENSOR_F32 or TENSOR_BF16 */
};

/**
 * Packs `n` stored tensors named `prefix` + names[i], each [out, in], F32, F16 or BF16, as one
 * matrix [n * out, in], 32 rows at a time from where they are mapped. Their pages need not stay in
 * memory afterwards. row_scale: float32 [n * out], what rows are multiplied by first, or NULL.
 * Errors as weights_get_stored().
 */
NODISCARD enum status packed_matrix_load(struct weights *weights, const char *prefix,
                                         const char *const *names, size_t n, size_t out, size_t in,
                                         const float *row_scale, enum tensor_dtype dtype,
                                         struct packed_matrix *matrix, struct error *err);

/** Packs w float32 [out, in]. */
NODISCARD enum status packed_matrix_pack(struct weights *weights, const float *w, size_t out,
                                         size_t in, enum tensor_dtype dtype,
                                         struct packed_matrix *matrix, struct error *err);

/** Its rows [first, first + n); first is a multiple of 32. */
struct packed_matrix packed_matrix_rows(const struct packed_matrix *matrix, size_t first, size_t n);

/** y[T, out] = x[T, in] w^T and what `then` says, with the bits of gemm_run() on the same weights
 * in rows; in any order of sums where they are bfloat16. y and x may not overlap. */
void packed_product(const struct packed_matrix *w, float *y, const float *x, size_t T,
                    const struct epilogue *then);

#endif
