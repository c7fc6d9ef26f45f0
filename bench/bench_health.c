/*
 * How fast this machine is at the moment: bench_health THREADS
 *
 * Prints a JSON object, so that a driver can set it beside what it measures: multiply-adds that
 * never leave the registers (float32, and int8 where the processor has them), the tiles of our
 * products with operands in the first-level cache (of int8, as long as those of towers, half of
 * them are), and reading memory, summed over THREADS threads at once; and which share of their time
 * the threads had a processor. A core that a neighbour also uses shows in the rates, which count
 * the threads' own time; other programs show in the share.
 */
#include "bench/reading.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/memory.h"
#include "reinforce/base/parse.h"
#include "reinforce/nn/float_kernels.h"
#include "reinforce/nn/int8_kernels.h"
#include "reinforce/nn/peaks.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_THREADS = 64, TILE_K = 128, TILE_ROUNDS = 200000, ROUNDS = 5 };
static const size_t read_bytes = (size_t)1 << 30; /* of all threads: no cache holds it */

struct probe {
    pthread_barrier_t *together;
    uint64_t *words;
    size_t n_words;
    uint64_t sum;                                /* kept, so that reading is not left out */
    double float32, int8, tile, int8_tile, read; /* operations and bytes per second */
    double share;
};

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, ascending);
    return values[ROUNDS / 2];
}

static double tile_rate(void)
{
    static const float one = 1;
    size_t n;
    const struct float_kernel *kernel = &float_kernels(&n)[0];
    _Alignas(64) float panel[TILE_K * FLOAT_MAX_ROWS + FLOAT_SLACK], strip[TILE_K * FLOAT_COLUMNS];
    _Alignas(64) float y[FLOAT_MAX_ROWS * FLOAT_COLUMNS];
    const struct float_panel rows = {.data = panel, .rows = kernel->rows, .tallest = kernel->rows};
    const struct float_strip columns = {
        .data = strip, .K = TILE_K, .ahead = (const char *)strip, .to = y, .ldto = FLOAT_COLUMNS};
    double work = 2.0 * TILE_ROUNDS * TILE_K * FLOAT_COLUMNS * (double)kernel->rows;
    int64_t begun;

    for (size_t i = 0; i < ARRAY_LEN(panel); i++)
        panel[i] = one;
    for (size_t i = 0; i < ARRAY_LEN(strip); i++)
        strip[i] = one;
    begun = clock_cpu_ns();
    for (size_t i = 0; i < TILE_ROUNDS; i++)
        kernel->tile(y, FLOAT_COLUMNS, &rows, &columns, false);
    return work / ((double)(clock_cpu_ns() - begun) * 1e-9);
}

static double int8_tile_rate(void)
{
    enum { K = 1024, ROUNDS_OF_INT8 = TILE_ROUNDS / 10 };
    static const float ones[INT8_COLUMNS];
    const struct int8_kernel *kernel = int8_kernel_for(INT8_ROWS);
    _Alignas(64) int8_t rows[INT8_ROWS * K + 8 * INT8_ROWS + INT8_SLACK];
    _Alignas(64) uint8_t panel[K * INT8_COLUMNS];
    _Alignas(64) float y[INT8_ROWS * INT8_COLUMNS];
    const struct int8_tile x = {.data = rows, .rows = INT8_ROWS, .K = K, .group = K};
    const struct int8_result to = {.y = y, .ldy = INT8_COLUMNS, .scale = ones, .bias = ones};
    int64_t begun;

    memset(rows, 1, sizeof rows);
    memset(panel, 1, sizeof panel);
    if (kernel->begin != NULL)
        kernel->begin();
    begun = clock_cpu_ns();
    for (size_t i = 0; i < ROUNDS_OF_INT8; i++)
        kernel->tile(&to, &x, panel, 1);
    begun = clock_cpu_ns() - begun;
    if (kernel->end != NULL)
        kernel->end();
    return 2.0 * INT8_ROWS * K * INT8_COLUMNS * ROUNDS_OF_INT8 / ((double)begun * 1e-9);
}

static double read_rate(struct probe *probe, uint64_t (*sum)(const uint64_t *, size_t))
{
    int64_t begun = clock_cpu_ns();

    probe->sum += sum(probe->words, probe->n_words);
    return (double)(probe->n_words * sizeof *probe->words) /
           ((double)(clock_cpu_ns() - begun) * 1e-9);
}

static void *run(void *argument)
{
    struct probe *probe = argument;
    double float32[ROUNDS], int8[ROUNDS], tile[ROUNDS], int8_tile[ROUNDS], read[ROUNDS];
    int64_t wall, cpu;

    probe->words = malloc(probe->n_words * sizeof *probe->words);
    if (probe->words == NULL)
        probe->n_words = 0; /* and on to the others, who wait */
    else {
        memory_prefer_huge_pages(probe->words, probe->n_words * sizeof *probe->words);
        memset(probe->words, 1, probe->n_words * sizeof *probe->words); /* its pages are there */
    }
    (void)pthread_barrier_wait(probe->together);
    wall = clock_monotonic_ns();
    cpu = clock_cpu_ns();
    for (size_t i = 0; i < ROUNDS; i++) {
        float32[i] = peaks_float32();
        int8[i] = peaks_int8(int8_kernel_for(INT8_ROWS));
        tile[i] = tile_rate();
        int8_tile[i] = int8_tile_rate();
    }
    (void)pthread_barrier_wait(probe->together);
    for (size_t i = 0; i < ROUNDS; i++)
        read[i] = MAX(read_rate(probe, reading_sum), read_rate(probe, reading_sum_in_streams));
    free(probe->words);
    probe->share = (double)(clock_cpu_ns() - cpu) / (double)(clock_monotonic_ns() - wall);
    probe->float32 = median(float32);
    probe->int8 = median(int8);
    probe->tile = median(tile);
    probe->int8_tile = median(int8_tile);
    probe->read = median(read);
    return NULL;
}

static int measure(size_t n_threads)
{
    struct probe probes[MAX_THREADS] = {0}, all = {0};
    pthread_t threads[MAX_THREADS];
    pthread_barrier_t together;
    bool failed = false;

    if (pthread_barrier_init(&together, NULL, (unsigned)n_threads) != 0)
        return 1;
    for (size_t t = 0; t < n_threads; t++) {
        probes[t] = (struct probe){.together = &together,
                                   .n_words = read_bytes / sizeof *probes[t].words / n_threads};
        if (pthread_create(&threads[t], NULL, run, &probes[t]) != 0)
            return 1; /* and those that wait end with the program */
    }
    for (size_t t = 0; t < n_threads; t++) {
        (void)pthread_join(threads[t], NULL);
        all.float32 += probes[t].float32;
        all.int8 += probes[t].int8;
        all.tile += probes[t].tile;
        all.int8_tile += probes[t].int8_tile;
        all.read += probes[t].read;
        all.share += probes[t].share / (double)n_threads;
        failed = failed || probes[t].sum == 0;
    }
    (void)printf(
        "{\"threads\": %zu, \"float32_gflops\": %.1f, \"tile_gflops\": %.1f, "
        "\"int8_gops\": %.1f, \"int8_tile_gops\": %.1f, \"read_gb\": %.2f, \"share\": %.3f}\n",
        n_threads, all.float32 * 1e-9, all.tile * 1e-9, all.int8 * 1e-9, all.int8_tile * 1e-9,
        all.read * 1e-9, all.share);
    (void)pthread_barrier_destroy(&together);
    return failed;
}

int main(int argc, char **argv)
{
    struct error err = {0};
    int64_t n_threads;

    if (argc != 2 || parse_i64(argv[1], 1, MAX_THREADS, &n_threads, &err) != ST_OK) {
        (void)fprintf(stderr, "usage: bench_health THREADS\n");
        return 2;
    }
    return measure((size_t)n_threads);
}
