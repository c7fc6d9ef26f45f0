/* The products of towers: y = x w^T + b, the matrix packed for float32, in bfloat16 or in int8. */
#ifndef REINFORCE_MODELS_BLOCK_LINEAR_H
#define REINFORCE_MODELS_BLOCK_LINEAR_H

#include "reinforce/nn/int8.h"
#include "reinforce/nn/matrix.h"
#include "reinforce/nn/packed.h"
#include "reinforce/nn/strassen.h"

/** Values of a row that share a scale when it is quantised: 0011-int8.md says why so many. */
enum { BLOCK_LINEAR_INT8_GROUP = 1024 };

enum activation {
    ACTIVATION_GELU = 1,
    ACTIVATION_QUICK_GELU = 2,
    ACTIVATION_GELU_TANH = 3,
};

/** In place. */
void activation_apply(enum activation activation, float *x, size_t n);

/** Immutable; in memory of the weights it came from. */
struct block_linear {
    enum matrix_form form;
    struct packed_matrix packed;     /* MATRIX_FLOAT32, MATRIX_BF16 */
    struct strassen_matrix strassen; /* MATRIX_STRASSEN */
    struct int8_matrix int8;         /* MATRIX_INT8 */
    const float *b;                  /* [out] or NULL; set by whoever loads it */
    size_t in, out;
};

/** Rows that belong together, T of each of n samples, one behind the other. */
struct samples {
    size_t n, T;
};

/** MATRIX_STRASSEN for MATRIX_FLOAT32, else `form`: for towers whose rows always come in samples.
 */
enum matrix_form block_linear_form_of_samples(enum matrix_form form);

/** `n` tensors named `prefix` + names[i], each [out, in], as one matrix. MATRIX_STRASSEN that does
 * not fit becomes MATRIX_FLOAT32. row_scale [n * out]: what its rows are multiplied by, or NULL.
 * Errors name the tensor. */
NODISCARD enum status block_linear_load(struct weights *weights, const char *prefix,
                                        const char *const *names, size_t n, enum matrix_form form,
                                        size_t in, size_t out_width, const float *row_scale,
                                        struct block_linear *out, struct error *err);
/** The same of w float32 [out, in], which errors call `name`. */
NODISCARD enum status block_linear_pack(struct weights *weights, const char *name, const float *w,
                                        enum matrix_form form, size_t in, size_t out_width,
                                        struct block_linear *out, struct error *err);

/** y[n T, l->out] = x[n T, l->in] w^T + b and what `then` says, whose bias is not looked at. A
 * row's bits never depend on the others, but with MATRIX_STRASSEN on those of its sample. y and x
 * may not overlap. codes: of block_linear_codes_floats(). Cannot fail. */
void block_linear_apply(const struct block_linear *l, float *y, const float *x,
                        struct samples samples, float *codes, struct epilogue then);
/** The same with nothing behind it. */
void block_linear_run(const struct block_linear *l, float *y, const float *x,
                      struct samples samples, float *codes);

/** block_linear_run() of normalised rows of x; norm->rows [n T, in]. */
void block_linear_run_normed(const struct block_linear *l, const struct prologue *norm, float *y,
                             const float *x, struct samples samples, float *codes);

/** Floats of `codes` for T rows: 0 unless the matrix is int8. */
size_t block_linear_codes_floats(const struct block_linear *l, size_t T);

/** Rows [first, first + n) of l, which is not MATRIX_STRASSEN, as a matrix of its own; first: whole
 * panels of INT8_COLUMNS. */
struct block_linear block_linear_rows(const struct block_linear *l, size_t first, size_t n);

/** An MLP: two layers and what is between them. */
struct block_mlp {
    struct block_linear fc, proj;
    enum activation activation;
};

/**
 * y[n T, proj.out] = proj(activation(fc(x[n T, fc.in]))), or that added to y; x may be y if it is
 * not added. In int8 what is between the layers is never float32 as a whole. Cannot fail.
 *
 * codes  of block_linear_codes_floats() of fc
 * wide   of block_mlp_wide_floats()
 */
void block_mlp_run(const struct block_mlp *mlp, float *y, const float *x, struct samples samples,
                   bool add, float *codes, float *wide);
/** x += mlp(norm(x)); norm->rows [n T, fc.in]. */
void block_mlp_add_normed(const struct block_mlp *mlp, const struct prologue *norm, float *x,
                          struct samples samples, float *codes, float *wide);
size_t block_mlp_wide_floats(const struct block_mlp *mlp, size_t T);

#endif
