/* Float32 matrix products, each element in one order of sums. */
#ifndef REINFORCE_NN_GEMM_H
#define REINFORCE_NN_GEMM_H

#include "reinforce/base/error.h"
#include "reinforce/nn/epilogue.h"

struct float_kernel;

/** How the second factor is stored. */
enum gemm_layout {
    GEMM_ROWS = 0,      /* float32 [N, K]: a linear layer's weights */
    GEMM_ROWS_BF16 = 1, /* bfloat16 [N, K], widened on the way: exact */
    GEMM_COLUMNS = 2,   /* float32 [K, N] */
    GEMM_STRIPS = 3,    /* float32 [ceil(N / 32)][K][32], see struct packed_matrix */
    GEMM_STRIPS_BF16 = 4,
};

enum { GEMM_GROUP = 256 }; /* values of k that are one chain of sums */

/**
 * c [M, N] = a b and what `then` says.
 *
 * An element is the sum over groups of GEMM_GROUP values of k, from the first on, each a chain of
 * fused multiply-adds from 0, added up from 0 or, with then.add, from what c holds; bias and
 * activation come last. So its bits depend on its row and its column alone: not on M, N, threads,
 * the kernel or the machine. A NaN or an infinity stays in its row. c may not overlap a or b.
 *
 * any_order allows the processor's own order in place of the chains where b is bfloat16 and there
 * is AMX: bits then depend on row, column and the type of processor. A row's value is three
 * bfloat16 whose sum it is, so nothing is rounded but sums. An element is within n 2^-24 of the
 * magnitudes of its products, added up: n = GEMM_GROUP + K / GEMM_GROUP with chains, 3 (512 + K /
 * 512) with AMX, which on random values errs half as much.
 */
struct gemm {
    size_t M, N, K; /* K >= 1 */
    const float *a; /* [M, K], rows lda apart */
    const void *b;  /* as `layout` says; rows, if it has any, ldb elements apart */
    float *c;       /* rows ldc apart */
    size_t lda, ldb, ldc;
    enum gemm_layout layout;
    bool any_order;
    struct epilogue then;
};

/**
 * Chooses the kernel, once per process; later calls return the first's answer. Every kernel of this
 * processor multiplies awkward shapes, and the fastest of those whose products are right is taken:
 * a matter of milliseconds, and of speed alone. ST_INTERNAL: none is right on this machine.
 */
NODISCARD enum status gemm_init(struct error *err);

/** The kernel in use; NULL before gemm_init(). */
const struct float_kernel *gemm_kernel(void);

/** "avx512": its name; "" before gemm_init(). */
const char *gemm_kernel_name(void);

/** "amx": that of any_order. */
const char *gemm_bf16_kernel_name(void);

/** On the calling thread, with 1 MiB of its stack. gemm_init() must have succeeded. */
void gemm_run(const struct gemm *g);

/** The same with a kernel of float_kernels(), for tests and benchmarks. */
void gemm_run_with(const struct float_kernel *kernel, const struct gemm *g);

/** The same in scalar loops, accumulating in double. */
void gemm_run_ref(const struct gemm *g);

#endif
