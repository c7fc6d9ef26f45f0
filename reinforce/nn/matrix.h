/* A linear layer's weights as they are stored, float32 or bfloat16, and products with them. */
#ifndef REINFORCE_NN_MATRIX_H
#define REINFORCE_NN_MATRIX_H

#include "reinforce/base/arena.h"
#include "reinforce/nn/weights.h"

/** [out, in], row-major. A bfloat16 is widened on its way into a product: exact, and half the
 * memory. */
struct matrix {
    const void *data; /* float or uint16_t, aligned; the weights' */
    enum tensor_dtype dtype;
    size_t out, in;
};

/**
 * Tensor `prefix` + `name` of shape [out, in] as it is stored: BF16 stays where it is mapped,
 * anything else is as weights_get() gives it. Errors as there.
 */
NODISCARD enum status matrix_load(struct weights *weights, const char *prefix, const char *name,
                                  size_t out, size_t in, struct matrix *matrix, struct error *err);

/** A matrix of the first `out` rows: a table of which only some are ever wanted. */
struct matrix matrix_first_rows(const struct matrix *matrix, size_t out);

/** y float32 [in] = row `i`: a table of embeddings. */
void matrix_row(const struct matrix *matrix, size_t i, float *y);

/**
 * y[T, out] = x[T, in] w^T: one sample's rows, through the BLAS. bfloat16 is widened into a panel
 * of at most MATRIX_PANEL floats (or 16 rows) in `scratch`, which is given back. ST_NO_MEMORY:
 * scratch is too small. As exact as ops_linear().
 */
enum { MATRIX_PANEL = 1 << 20 };
NODISCARD enum status matrix_product(const struct matrix *w, float *y, const float *x, size_t T,
                                     struct arena *scratch, struct error *err);

/** The same for M rows of different samples: the bits of ops_linear_rows() with widened weights. */
void matrix_product_rows(const struct matrix *w, float *y, const float *x, size_t M);

/** Plain twin of both: double sums. */
void matrix_product_ref(const struct matrix *w, float *y, const float *x, size_t T);

#endif
