#include "reinforce/nn/blas.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

/* CBLAS's constants and its entry point, whose header we do not need. */
enum { CBLAS_ROW_MAJOR = 101, CBLAS_NO_TRANS = 111, CBLAS_TRANS = 112 };
typedef void sgemm_fn(int order, int ta, int tb, int M, int N, int K, float alpha, const float *a,
                      int lda, const float *b, int ldb, float beta, float *c, int ldc);

/* Written once, under `once`; read-only afterwards. */
static struct {
    sgemm_fn *sgemm;
    const char *core;
    enum status status;
    struct error error;
} blas = {.core = ""};
static pthread_once_t once = PTHREAD_ONCE_INIT;

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

/* POSIX gives functions as void *. */
static void symbol(void *library, const char *name, void *out)
{
    void *address = dlsym(library, name);

    memcpy(out, &address, sizeof address);
}

/* An unknown word makes 0.3.21 choose by features; newer releases know every processor and ignore
 * it. That choice is right but for AMD's family 25: on Zen 4 it takes the AVX-512 kernels, and the
 * 256-bit ones of "Zen" are 10 % faster there. */
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
    void (*set_threads)(int n) = NULL;

    /* NOLINTNEXTLINE(concurrency-mt-unsafe): under pthread_once, in a program of one thread */
    (void)setenv("OPENBLAS_CORETYPE", core_type(), 0);
    for (size_t i = 0; i < ARRAY_LEN(library_names) && library == NULL; i++)
        library = dlopen(library_names[i], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        blas.status = error_set(&blas.error, ST_NOT_FOUND,
                                "no OpenBLAS library; install libopenblas0-openmp");
        return;
    }
    symbol(library, "cblas_sgemm", &blas.sgemm);
    symbol(library, "openblas_set_num_threads", &set_threads);
    symbol(library, "openblas_get_corename", &core_name);
    if (blas.sgemm == NULL || set_threads == NULL || core_name == NULL) {
        blas.status = error_set(&blas.error, ST_INVALID,
                                "libopenblas.so.0 is not OpenBLAS: it lacks its functions");
        return;
    }
    blas.core = core_name();
    set_threads(1);
}

enum status blas_init(struct error *err)
{
    (void)pthread_once(&once, load);
    if (blas.status != ST_OK)
        *err = blas.error;
    return blas.status;
}

const char *blas_core_name(void)
{
    return blas.core;
}

void blas_linear(float *y, const float *x, const float *w, size_t T, size_t N, size_t K)
{
    blas.sgemm(CBLAS_ROW_MAJOR, CBLAS_NO_TRANS, CBLAS_TRANS, (int)T, (int)N, (int)K, 1, x, (int)K,
               w, (int)K, 0, y, (int)N);
}
