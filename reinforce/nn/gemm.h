/* Matrix products through OpenBLAS, loaded by us so that we choose its kernels and can refuse wrong
 * answers. */
#ifndef REINFORCE_NN_GEMM_H
#define REINFORCE_NN_GEMM_H

#include "reinforce/base/error.h"

/**
 * Loads OpenBLAS (the OpenMP build if there is one), once per process; later calls return the
 * first's answer. Sets OPENBLAS_CORETYPE to a choice by processor features unless the user has set
 * it: OpenBLAS 0.3.21 takes several newer processors for a "Prescott" and then runs five times too
 * slow. Products run on the calling thread alone. Compares products of awkward shapes with
 * gemm_ref(). ST_NOT_FOUND: no library, and which package has it; ST_INTERNAL: it computes wrong
 * results on this machine.
 */
NODISCARD enum status gemm_init(struct error *err);

/** "SkylakeX": the kernels in use; "" before gemm_init(). For model info and benchmarks. */
const char *gemm_core_name(void);

/** Threads inside one product, for benchmarks; everything else is data-parallel with one. After
 * gemm_init(). */
void gemm_set_threads(int n);

/** How an operand is stored. */
enum gemm_transpose {
    GEMM_PLAIN = 0,
    GEMM_TRANSPOSED = 1,
};

/**
 * c = alpha * op(a) op(b) + beta * c, row-major.
 *
 * c   float32 [M, N], rows ldc apart   a   float32 [M, K] (or stored [K, M]), rows lda apart
 * b   float32 [K, N] (or stored [N, K] when transposed), rows ldb apart
 *
 * gemm_init() must have succeeded. Cannot fail.
 */
void gemm(enum gemm_transpose ta, enum gemm_transpose tb, int M, int N, int K, float alpha,
          const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc);

/** The same in scalar loops, accumulating in double. */
void gemm_ref(enum gemm_transpose ta, enum gemm_transpose tb, int M, int N, int K, float alpha,
              const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc);

#endif
