/* OpenBLAS, loaded if it is there: a peer to measure our products against. */
#ifndef REINFORCE_NN_BLAS_H
#define REINFORCE_NN_BLAS_H

#include "reinforce/base/error.h"

/**
 * Loads OpenBLAS (the OpenMP build if there is one), once per process; later calls return the
 * first's answer. Sets OPENBLAS_CORETYPE to a choice by processor features unless the user has set
 * it: OpenBLAS 0.3.21 takes several newer processors for a "Prescott" and then runs five times too
 * slow. Products run on the calling thread alone, and only there. ST_NOT_FOUND: no library, and
 * which package has it.
 */
NODISCARD enum status blas_init(struct error *err);

/** "SkylakeX": the kernels in use; "" before blas_init(). */
const char *blas_core_name(void);

/** y[T, N] = x[T, K] w[N, K]^T. blas_init() must have succeeded. */
void blas_linear(float *y, const float *x, const float *w, size_t T, size_t N, size_t K);

#endif
