/* Products in int8: weights quantised when they are loaded, rows on their way in, sums exact. */
#ifndef REINFORCE_NN_INT8_H
#define REINFORCE_NN_INT8_H

#include "reinforce/nn/epilogue.h"
#include "reinforce/nn/weights.h"

enum {
    INT8_COLUMNS = 32, /* rows of a matrix in one panel: columns of a product */
    INT8_ROWS = 32,    /* rows of x in one tile: two of AMX's */
    INT8_CHUNK = 128,  /* values of a row of x that lie side by side */
    INT8_SLACK = 2048, /* bytes behind the last tile that a kernel may read */
};

/**
 * A matrix [out, in], each row n quantised by its own largest magnitude: w = scale[n] (q - 128), q
 * in 1..255 (one factor of the instruction is unsigned), rounded to the nearest, ties to even.
 * Immutable; in memory of the weights it came from.
 *
 * panels  uint8 [ceil(out / 32)][in, filled up to whole chunks, / 4][32][4]: four of a row lie side
 *         by side, as the instructions take them
 * scale   float32 [out, filled up]
 */
struct int8_matrix {
    size_t out, in;
    const uint8_t *panels;
    const float *scale;
};

/**
 * Rows [T, K] quantised in the same way, each `group` of their values by itself: x = scale q, q in
 * -127..127. Groups, because a few values of a row are much larger than the others, and in what a
 * gated unit makes most of all. A group that holds a NaN or an infinity has the scale NaN, and so
 * every product of its row is NaN; one whose magnitudes are all below 2^-100 has the scale 0.
 *
 * group   whole chunks; sums of products of up to 1,024 are exact as float32, of more rounded once
 * data    tiles of INT8_ROWS rows, the last of what is left; each is groups: float32 [rows], the
 *         scales, int32 [rows], the sums of q times -128, for the weights' 128, then, on the next
 *         cache line, int8 [chunks][rows][INT8_CHUNK], zeros behind K
 */
struct int8_rows {
    size_t T, K, group;
    const int8_t *data;
};

/** n filled up. */
static inline size_t int8_whole_chunks(size_t n)
{
    return (n + INT8_CHUNK - 1) / INT8_CHUNK * INT8_CHUNK;
}

/**
 * Quantises `n` stored tensors named `prefix` + names[i], each [out, in], F32, F16 or BF16, as one
 * matrix [n * out, in], row by row from where they are mapped: nothing else of their size is
 * allocated. Their pages need not stay in memory afterwards, see weights_drop_pages(). row_scale:
 * float32 [n * out], what rows are multiplied by, or NULL. ST_CORRUPT names a tensor that holds a
 * NaN or an infinity; else as weights_get_stored().
 */
NODISCARD enum status int8_matrix_load(struct weights *weights, const char *prefix,
                                       const char *const *names, size_t n, size_t out, size_t in,
                                       const float *row_scale, struct int8_matrix *matrix,
                                       struct error *err);

/** The same of w float32 [out, in], which errors call `name`. */
NODISCARD enum status int8_matrix_pack(struct weights *weights, const char *name, const float *w,
                                       size_t out, size_t in, struct int8_matrix *matrix,
                                       struct error *err);

/** Its rows [first, first + n); first is a multiple of INT8_COLUMNS. */
struct int8_matrix int8_matrix_rows(const struct int8_matrix *matrix, size_t first, size_t n);

/** What a matrix takes. */
size_t int8_matrix_bytes(size_t out, size_t in);

/** q int8 [n]: x [n] quantised as a group of struct int8_rows is; returns the scale. */
float int8_quantize_vector(const float *x, size_t n, int8_t *q);

/** x float32 [T, K], rows ldx apart; the result lives in `memory`, of int8_rows_floats() floats,
 * which are enough for any group. */
struct int8_rows int8_quantize(const float *x, size_t ldx, size_t T, size_t K, size_t group,
                               float *memory);
size_t int8_rows_floats(size_t T, size_t K);

/** int8_quantize() of normalised rows of x [T, K], of which norm->rows holds one at a time. */
struct int8_rows int8_quantize_normed(const float *x, size_t T, size_t K,
                                      const struct prologue *norm, size_t group, float *memory);

/**
 * y[T, N] = x w^T of the first N <= w->out rows, rows ldy apart, and what `then` says. The sum of
 * products of integers is exact in each group; groups times their scales are added up in order,
 * then come w's scale, the bias, what is added to, and the activation. So bits depend on the row
 * and the column alone, not on T, the machine or the kernel.
 */
void int8_product(const struct int8_matrix *w, size_t N, float *y, size_t ldy,
                  const struct int8_rows *x, const struct epilogue *then);

/**
 * The rows that int8_quantize() would make of int8_product()'s y, without it: in `memory` of
 * int8_rows_floats(x->T, N) floats, which is not x's. group: whole chunks, at most 1,024; then->add
 * is false.
 */
struct int8_rows int8_product_rows(const struct int8_matrix *w, size_t N, const struct int8_rows *x,
                                   const struct epilogue *then, size_t group, float *memory);

/** int8_product() with a kernel of int8_kernels(), for tests and benchmarks. */
struct int8_kernel;
void int8_product_with(const struct int8_kernel *kernel, const struct int8_matrix *w, size_t N,
                       float *y, size_t ldy, const struct int8_rows *x,
                       const struct epilogue *then);

/** int8_product() in plain loops, bit-equal. */
void int8_product_ref(const struct int8_matrix *w, size_t N, float *y, size_t ldy,
                      const struct int8_rows *x, const struct epilogue *then);

/** "avx512vnni": the kernel in use, for many rows. */
const char *int8_kernel_name(void);

#endif
