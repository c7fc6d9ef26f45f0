/* Float32 products by Strassen's algorithm, once: a matrix is cut into quarters, and seven products
 * of their sums do what eight of the quarters would. Source: Strassen 1969 (Gaussian elimination is
 * not optimal). */
#ifndef REINFORCE_NN_STRASSEN_H
#define REINFORCE_NN_STRASSEN_H

#include "reinforce/nn/epilogue.h"
#include "reinforce/nn/weights.h"

struct float_kernel;

/**
 * A matrix [out, in], in 7/4 of its memory. Immutable; in memory of the weights it came from.
 *
 * strips  for each group of k, for each 32 columns of a half: the seven sums of quarters, float32
 *         [k][32] each
 */
struct strassen_matrix {
    size_t out, in;
    const float *strips;
};

/** Whether products with such a matrix are faster so: it has two halves, and they are not small. */
bool strassen_fits(size_t out, size_t in);

/** What such a matrix takes in addition to its float32; 0 if it does not fit. */
size_t strassen_added_bytes(size_t out, size_t in);

/** Sums up and packs a matrix that fits, some rows at a time from where they are mapped. Their
 * pages need not stay in memory afterwards. ST_NO_MEMORY. */
NODISCARD enum status strassen_matrix_load(struct weights *weights,
                                           const struct weights_stack *stack,
                                           struct strassen_matrix *matrix, struct error *err);

/**
 * y[n T, out] = x[n T, in] w^T and what `then` says, for n samples of T rows. y and x may not
 * overlap. On the calling thread, with 1.3 MiB of its stack; gemm_init() must have succeeded.
 *
 * Row t of a sample's first ceil(T / 2) is multiplied together with the row as far behind the
 * middle, or with zeros. So an element's bits depend on its two rows, its column's two of w, and
 * T: not on the other rows, n, threads, the kernel or the machine; and a NaN or an infinity may
 * come out in both rows. An element is within 6 in (GEMM_GROUP + in / (2 GEMM_GROUP) + 8) 2^-24 of
 * the largest magnitude in its two rows times that in w; on random values its error is twice that
 * of gemm_run().
 */
void strassen_product(const struct strassen_matrix *w, float *y, const float *x, size_t n, size_t T,
                      const struct epilogue *then);

/** The same with a kernel of float_kernels(), for tests. */
void strassen_product_with(const struct float_kernel *kernel, const struct strassen_matrix *w,
                           float *y, const float *x, size_t n, size_t T,
                           const struct epilogue *then);

#endif
