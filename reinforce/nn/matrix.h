/* A linear layer's weights as they are stored, float32 or bfloat16, or quantised to int8, and
 * products with them. */
#ifndef REINFORCE_NN_MATRIX_H
#define REINFORCE_NN_MATRIX_H

#include "reinforce/base/arena.h"
#include "reinforce/nn/int8.h"

/** How a model's matrices are kept. */
enum matrix_form {
    MATRIX_FLOAT32 = 0, /* as in the file; multiplied in float32 */
    MATRIX_INT8 = 1,    /* see struct int8_matrix */
    MATRIX_BF16 = 2,    /* rounded to bfloat16, multiplied in float32, in any order of sums */
    /* What a tower makes of MATRIX_FLOAT32 if its rows come in samples: see struct strassen_matrix,
     * where it fits. */
    MATRIX_STRASSEN = 3,
};

/** What products multiply weights of a form as: TENSOR_F32, TENSOR_BF16 or TENSOR_I8. */
enum tensor_dtype matrix_form_dtype(enum matrix_form form);

/** [out, in], row-major. A bfloat16 is widened on its way into a product: exact, and half the
 * memory. */
struct matrix {
    enum matrix_form form;
    const struct tensor *stored; /* what rows are read from */
    const void *data;            /* not MATRIX_INT8: float or uint16_t, aligned; the weights' */
    enum tensor_dtype dtype;     /* what products multiply with: F32, BF16 or I8 */
    struct int8_matrix int8;     /* MATRIX_INT8 */
    size_t out, in;
};

/**
 * Tensor `prefix` + `name` of shape [out, in]. BF16 stays where it is mapped unless it
 * is quantised; for MATRIX_FLOAT32 anything else is as weights_get() gives it. Errors as there and
 * of int8_matrix_load().
 */
NODISCARD enum status matrix_load(struct weights *weights, const char *prefix, const char *name,
                                  size_t out, size_t in, enum matrix_form form,
                                  struct matrix *matrix, struct error *err);

/** A matrix of the first `out` rows: a table of which only some are ever wanted. */
struct matrix matrix_first_rows(const struct matrix *matrix, size_t out);

/** y float32 [in] = row `i` as stored, whatever the form: a table of embeddings. */
void matrix_row(const struct matrix *matrix, size_t i, float *y);

/**
 * y[T, out] = x[T, in] w^T, by gemm_run() or int8_product(). int8 needs int8_rows_floats(T, in) of
 * `scratch`, which is given back. ST_NO_MEMORY: scratch is too small.
 */
NODISCARD enum status matrix_product(const struct matrix *w, float *y, const float *x, size_t T,
                                     struct arena *scratch, struct error *err);

/** The same for few rows: the bits of ops_linear_rows() with widened weights, or of int8_product().
 * scratch [int8_rows_floats(M, in)] if the form is MATRIX_INT8. */
void matrix_product_rows(const struct matrix *w, float *y, const float *x, size_t M,
                         float *scratch);

/** Plain twin of both for MATRIX_FLOAT32: double sums. */
void matrix_product_ref(const struct matrix *w, float *y, const float *x, size_t T);

#endif
