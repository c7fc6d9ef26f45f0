/*
 * Products of the shapes of PaliGemma 2 3B against what the registers of this processor can do:
 * bench_gemm [ROWS [ROUNDS]]
 *
 * In each round, in turns on one thread: a loop of multiply-adds on registers alone and, for every
 * shape, the product of ROWS rows (256) with random weights; for int8 (vpdpbusd and
 * reinforce/nn/int8) and for float32 (FMA and reinforce/nn/gemm). Prints medians over ROUNDS (9) of
 * operations per second of the thread's own time and their ratios, which alone stay true when
 * others use the machine. Few ROWS are multiplied as in decoding, through ops_linear_rows().
 */
#include "reinforce/base/parse.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/nn/int8.h"
#include "reinforce/nn/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(KERNEL_TARGET)

enum { MAX_ROUNDS = 99, SUMS = 12, LOOPS = 4000000, ROWS_AT_MOST = 64 };

static const struct {
    const char *name;
    size_t N, K;
} shapes[] = {
    {"q, 2304 -> 2048", 2048, 2304},        {"k or v, 2304 -> 1024", 1024, 2304},
    {"o, 2048 -> 2304", 2304, 2048},        {"gate or up, 2304 -> 9216", 9216, 2304},
    {"down, 9216 -> 2304", 2304, 9216},     {"tower q, k, v, 1152 -> 3456", 3456, 1152},
    {"tower fc, 1152 -> 4304", 4304, 1152}, {"tower proj, 4304 -> 1152", 1152, 4304},
};

/* Of this thread: what others run meanwhile is not counted. */
static double cpu_seconds(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, compare);
    return values[n / 2];
}

/* Seconds of LOOPS times SUMS independent multiply-adds whose operands, zeros, never leave the
 * registers. */
/* clang-format off */
#define ONE(op, sum) op " %%zmm30, %%zmm31, %%zmm" #sum "\n\t"
#define SECONDS_OF(op)                                                                             \
    KERNEL_TARGET("avx512f") static double seconds_of_##op(void)                                   \
    {                                                                                              \
        double begin = cpu_seconds();                                                              \
        int64_t loops = LOOPS;                                                                     \
                                                                                                   \
        __asm__ volatile("vzeroall\n\t"                                                            \
                         "vpxord %%zmm30, %%zmm30, %%zmm30\n\t"                                    \
                         "vpxord %%zmm31, %%zmm31, %%zmm31\n\t"                                    \
                         "1:\n\t"                                                                  \
                         ONE(#op, 0) ONE(#op, 1) ONE(#op, 2) ONE(#op, 3) ONE(#op, 4) ONE(#op, 5)   \
                         ONE(#op, 6) ONE(#op, 7) ONE(#op, 8) ONE(#op, 9) ONE(#op, 10) ONE(#op, 11) \
                         "dec %0\n\t"                                                              \
                         "jnz 1b\n\t"                                                              \
                         : "+r"(loops)                                                             \
                         :                                                                         \
                         : "cc", "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7",   \
                           "zmm8", "zmm9", "zmm10", "zmm11", "zmm12", "zmm13", "zmm14", "zmm15",   \
                           "zmm30", "zmm31");                                                      \
        return cpu_seconds() - begin;                                                              \
    }
/* clang-format on */
SECONDS_OF(vpdpbusd)
SECONDS_OF(vfmadd231ps)

struct operands {
    size_t M, N, K;
    float *x, *w, *y, *memory;
    struct weights *weights;
    struct int8_matrix quantized;
};

static void *allocate(size_t n, size_t size)
{
    void *memory = aligned_alloc(64, (n * size + 63) / 64 * 64);

    if (memory == NULL)
        abort();
    return memory;
}

static void fill(float *x, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = 1664525u * seed + 1013904223u;
        x[i] = (float)(seed >> 8) * 0x1p-23f - 1;
    }
}

static void make(struct operands *o, size_t M, size_t N, size_t K)
{
    static const char *const name[] = {"w"};
    struct tensor tensor = {.name = "w", .dtype = TENSOR_F32, .rank = 2, .shape = {N, K}};
    struct error err = {0};

    *o = (struct operands){.M = M,
                           .N = N,
                           .K = K,
                           .x = allocate(M * K, sizeof(float)),
                           .w = allocate(N * K, sizeof(float)),
                           .y = allocate(M * N, sizeof(float)),
                           .memory = allocate(int8_rows_floats(M, K), sizeof(float))};
    fill(o->x, M * K, 1);
    fill(o->w, N * K, 2);
    tensor.data = bytes_view_of(o->w, N * K * sizeof(float));
    if (weights_create(&tensor, 1, &o->weights, &err) != ST_OK ||
        int8_matrix_load(o->weights, "", name, 1, N, K, &o->quantized, &err) != ST_OK)
        abort();
}

/* As a model runs it: with the rows' quantisation. */
static double time_int8(const struct operands *o)
{
    double begin = cpu_seconds();
    struct int8_rows rows = int8_quantize(o->x, o->M, o->K, o->memory);

    int8_product(&o->quantized, o->N, o->y, &rows, NULL);
    return 2.0 * (double)(o->M * o->N * o->K) / (cpu_seconds() - begin);
}

static double time_float(const struct operands *o)
{
    double begin = cpu_seconds();

    if (o->M <= ROWS_AT_MOST) /* as decoding does */
        ops_linear_rows(o->y, o->x, o->w, NULL, o->M, o->N, o->K);
    else
        ops_linear(o->y, o->x, o->K, o->w, NULL, o->M, o->N, o->K);
    return 2.0 * (double)(o->M * o->N * o->K) / (cpu_seconds() - begin);
}

int main(int argc, char **argv)
{
    static double int8_rate[ARRAY_LEN(shapes)][MAX_ROUNDS],
        float_rate[ARRAY_LEN(shapes)][MAX_ROUNDS], int8_roof[MAX_ROUNDS], float_roof[MAX_ROUNDS];
    static struct operands operands[ARRAY_LEN(shapes)];
    int64_t M = 256, rounds = 9;
    double roof8, roof32;
    struct error err = {0};

    if (argc > 3 || (argc > 1 && parse_i64(argv[1], 1, 1 << 16, &M, &err) != ST_OK) ||
        (argc > 2 && parse_i64(argv[2], 1, MAX_ROUNDS, &rounds, &err) != ST_OK)) {
        (void)fprintf(stderr, "usage: bench_gemm [ROWS [ROUNDS]]\n");
        return 2;
    }
    if (gemm_init(&err) != ST_OK || strcmp(int8_kernel_name(), "avx512vnni") != 0) {
        (void)fprintf(stderr, "bench_gemm: needs AVX-512 VNNI %s\n", err.message);
        return 1;
    }
    for (size_t s = 0; s < ARRAY_LEN(shapes); s++)
        make(&operands[s], (size_t)M, shapes[s].N, shapes[s].K);
    for (int64_t round = -1; round < rounds; round++) { /* the first one warms up */
        size_t at = (size_t)MAX(round, (int64_t)0);

        int8_roof[at] = 2.0 * 64 * SUMS * LOOPS / seconds_of_vpdpbusd();
        float_roof[at] = 2.0 * 16 * SUMS * LOOPS / seconds_of_vfmadd231ps();
        for (size_t s = 0; s < ARRAY_LEN(shapes); s++) {
            int8_rate[s][at] = time_int8(&operands[s]);
            float_rate[s][at] = time_float(&operands[s]);
        }
    }
    roof8 = median(int8_roof, (size_t)rounds);
    roof32 = median(float_roof, (size_t)rounds);
    (void)printf("%d rows, medians of %d rounds; registers alone: int8 %.0f GOP/s, float32 %.0f\n",
                 (int)M, (int)rounds, roof8 * 1e-9, roof32 * 1e-9);
    for (size_t s = 0; s < ARRAY_LEN(shapes); s++) {
        double int8 = median(int8_rate[s], (size_t)rounds);
        double float32 = median(float_rate[s], (size_t)rounds);

        (void)printf("%-28s int8 %4.0f GOP/s, %3.0f %%; float32 %4.0f, %3.0f %%; ratio %.2f\n",
                     shapes[s].name, int8 * 1e-9, 100 * int8 / roof8, float32 * 1e-9,
                     100 * float32 / roof32, int8 / float32);
        weights_destroy(&operands[s].weights);
        free(operands[s].x);
        free(operands[s].w);
        free(operands[s].y);
        free(operands[s].memory);
    }
    return 0;
}

#else

int main(void)
{
    (void)fprintf(stderr, "bench_gemm: this build has no kernels for this processor\n");
    return 1;
}

#endif
