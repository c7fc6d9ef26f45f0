#include "reinforce/nn/gemm.h"

#include "reinforce/base/log.h"
#include "reinforce/base/philox.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* CBLAS's constants and its entry point, whose header we do not need. */
enum { CBLAS_ROW_MAJOR = 101, CBLAS_NO_TRANS = 111, CBLAS_TRANS = 112 };
typedef void sgemm_fn(int order, int ta, int tb, int M, int N, int K, float alpha, const float *a,
                      int lda, const float *b, int ldb, float beta, float *c, int ldc);

/* Written once, under `once`; read-only afterwards. */
static struct {
    sgemm_fn *sgemm;
    void (*set_threads)(int n);     /* of the process, and of this thread */
    void (*omp_set_threads)(int n); /* of this thread; NULL in a build without OpenMP */
    const char *core;
    enum status status;
    struct error error;
} blas = {.core = ""};
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* OpenMP counts threads per calling thread, and a new one starts with a core's worth: two callers
 * with two spinning helpers each ran five times slower than with none. So every caller is told the
 * count before its first product. */
static atomic_int wanted_threads = 1;
static _Thread_local int told_threads;

/* The OpenMP build first: the pthread build keeps threads of its own spinning beside ours. */
static const char *const library_names[] = {
#if defined(__x86_64__)
    "/usr/lib/x86_64-linux-gnu/openblas-openmp/libopenblas.so.0",
#elif defined(__aarch64__)
    "/usr/lib/aarch64-linux-gnu/openblas-openmp/libopenblas.so.0",
#endif
    "libopenblas.so.0",
    "libopenblas.so",
};

void gemm_ref(enum gemm_transpose ta, enum gemm_transpose tb, int M, int N, int K, float alpha,
              const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc)
{
    for (int m = 0; m < M; m++) {
        for (int n = 0; n < N; n++) {
            double sum = 0;
            float *to = &c[(size_t)m * (size_t)ldc + (size_t)n];

            for (int k = 0; k < K; k++) {
                size_t at = ta == GEMM_PLAIN ? (size_t)m * (size_t)lda + (size_t)k
                                             : (size_t)k * (size_t)lda + (size_t)m;
                size_t bt = tb == GEMM_PLAIN ? (size_t)k * (size_t)ldb + (size_t)n
                                             : (size_t)n * (size_t)ldb + (size_t)k;

                sum += (double)a[at] * (double)b[bt];
            }
            *to = (float)((double)alpha * sum + (beta != 0 ? (double)beta * (double)*to : 0));
        }
    }
}

void gemm(enum gemm_transpose ta, enum gemm_transpose tb, int M, int N, int K, float alpha,
          const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc)
{
    int wanted = atomic_load_explicit(&wanted_threads, memory_order_relaxed);

    if (told_threads != wanted) {
        if (blas.omp_set_threads != NULL)
            blas.omp_set_threads(wanted);
        told_threads = wanted;
    }
    blas.sgemm(CBLAS_ROW_MAJOR, ta == GEMM_PLAIN ? CBLAS_NO_TRANS : CBLAS_TRANS,
               tb == GEMM_PLAIN ? CBLAS_NO_TRANS : CBLAS_TRANS, M, N, K, alpha, a, lda, b, ldb,
               beta, c, ldc);
}

/* One shape against the plain loop, with NaN in c where beta is 0 and a guard behind the last row.
 */
static enum status check_shape(enum gemm_transpose ta, enum gemm_transpose tb, int M, int N, int K,
                               float beta, struct error *err)
{
    size_t n_a = (size_t)M * (size_t)K, n_b = (size_t)K * (size_t)N, n_c = (size_t)M * (size_t)N;
    float *memory = malloc((n_a + n_b + 2 * n_c + 2) * sizeof *memory);
    float *a = memory, *b = a + n_a, *got = b + n_b, *want = got + n_c + 1;
    struct philox rng;
    enum status st = ST_OK;

    if (memory == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate the BLAS self-test");
    philox_init(&rng, 1, bytes_view_of("gemm", 4), PHILOX_STAGE_SELECT, (uint32_t)(M * 31 + N));
    for (size_t i = 0; i < n_a + n_b; i++)
        memory[i] = philox_f32(&rng) - 0.5f;
    for (size_t i = 0; i < n_c; i++)
        got[i] = want[i] = beta == 0 ? NAN : 1;
    got[n_c] = 1234.5f;
    gemm(ta, tb, M, N, K, 1, a, ta == GEMM_PLAIN ? K : M, b, tb == GEMM_PLAIN ? N : K, beta, got,
         N);
    gemm_ref(ta, tb, M, N, K, 1, a, ta == GEMM_PLAIN ? K : M, b, tb == GEMM_PLAIN ? N : K, beta,
             want, N);
    for (size_t i = 0; i < n_c && st == ST_OK; i++)
        if (!(fabsf(got[i] - want[i]) <= 1e-5f * (float)(K + 16)))
            st = error_set(
                err, ST_INTERNAL,
                "OpenBLAS (%s kernels) computes %g where %g is right (product %d x %d x %d); set "
                "OPENBLAS_CORETYPE to another core type, such as Haswell",
                blas.core, (double)got[i], (double)want[i], M, N, K);
    if (st == ST_OK && got[n_c] != 1234.5f)
        st = error_set(err, ST_INTERNAL, "OpenBLAS (%s kernels) writes behind its result",
                       blas.core);
    free(memory);
    return st;
}

static enum status self_test(struct error *err)
{
    static const int shapes[][3] = {{1, 1, 1},     {1, 64, 77},    {5, 3, 9},
                                    {17, 33, 129}, {50, 64, 50},   {64, 257, 64},
                                    {77, 31, 512}, {197, 65, 193}, {3, 300, 768}};
    enum status st = ST_OK;

    for (size_t i = 0; i < ARRAY_LEN(shapes) && st == ST_OK; i++)
        for (int t = 0; t < 4 && st == ST_OK; t++)
            st = check_shape((enum gemm_transpose)(t & 1), (enum gemm_transpose)(t >> 1),
                             shapes[i][0], shapes[i][1], shapes[i][2], (float)(i & 1), err);
    return st;
}

/* POSIX gives functions as void *. */
static void symbol(void *library, const char *name, void *out)
{
    void *address = dlsym(library, name);

    memcpy(out, &address, sizeof address);
}

/* An unknown word makes 0.3.21 choose by features; newer releases know every processor and ignore
 * it. That choice is right but for AMD's family 25: on Zen 4 it takes the AVX-512 kernels, and the
 * 256-bit ones of "Zen" are 10 % faster there (docs/decisions/0002-parallelism.md). */
static const char *core_type(void)
{
#if defined(__x86_64__)
    unsigned a, b, c, d;

    if (__get_cpuid(0, &a, &b, &c, &d) != 0 && b == signature_AMD_ebx && c == signature_AMD_ecx &&
        d == signature_AMD_edx && __get_cpuid(1, &a, &b, &c, &d) != 0 &&
        (a >> 8 & 15) + (a >> 20 & 255) == 25)
        return "Zen";
#endif
    return "auto";
}

static void load(void)
{
    void *library = NULL;
    char *(*core_name)(void) = NULL;

    /* NOLINTNEXTLINE(concurrency-mt-unsafe): under pthread_once, before any thread of ours asks */
    (void)setenv("OPENBLAS_CORETYPE", core_type(), 0);
    for (size_t i = 0; i < ARRAY_LEN(library_names) && library == NULL; i++)
        library = dlopen(library_names[i], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        blas.status = error_set(&blas.error, ST_NOT_FOUND,
                                "no OpenBLAS library; install libopenblas0-openmp");
        return;
    }
    symbol(library, "cblas_sgemm", &blas.sgemm);
    symbol(library, "openblas_set_num_threads", &blas.set_threads);
    symbol(library, "openblas_get_corename", &core_name);
    symbol(library, "omp_set_num_threads", &blas.omp_set_threads);
    if (blas.sgemm == NULL || blas.set_threads == NULL || core_name == NULL) {
        blas.status = error_set(&blas.error, ST_INVALID,
                                "libopenblas.so.0 is not OpenBLAS: it lacks its functions");
        return;
    }
    blas.core = core_name();
    blas.set_threads(1);
    blas.status = self_test(&blas.error);
    if (strcmp(blas.core, "Prescott") == 0)
        log_at(LOG_WARN, "slow_blas",
               "core=Prescott hint=\"OpenBLAS uses kernels of 2004; set OPENBLAS_CORETYPE\"");
}

enum status gemm_init(struct error *err)
{
    (void)pthread_once(&once, load);
    if (blas.status != ST_OK)
        *err = blas.error;
    return blas.status;
}

const char *gemm_core_name(void)
{
    return blas.core;
}

void gemm_set_threads(int n)
{
    blas.set_threads(n);
    atomic_store(&wanted_threads, n);
}
