/*
 * Near-duplicates by embedding: bench_duplicates ROWS COLUMNS DISTINCT [THREADS]
 *
 * ROWS unit rows in a scratch file that is mapped, as `reinforce curate` has them; row i is the
 * (i mod DISTINCT)th of as many random ones, and a little noise, so that DISTINCT are kept and each
 * other one must name the first of its kind. Prints seconds, multiply-adds a second and what the
 * process held; exits 1 when a row was told wrongly.
 */
#include "reinforce/base/clock.h"
#include "reinforce/base/parse.h"
#include "reinforce/base/philox.h"
#include "reinforce/curate/duplicates.h"
#include "reinforce/nn/ops.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_COLUMNS = 4096 };

static const double radius = 0.02; /* rows of a kind are 0.001 apart */
static const float noise = 0.03f;  /* length of what is added to a unit row */

static void draw(float *row, size_t D, uint32_t kind, uint32_t index)
{
    struct philox rng;
    float own[MAX_COLUMNS];

    philox_init(&rng, 1, bytes_of_string("kind"), PHILOX_STAGE_SELECT, kind);
    for (size_t d = 0; d < D; d++)
        row[d] = philox_f32(&rng) - 0.5f;
    (void)ops_l2_normalize(row, D);
    philox_init(&rng, 1, bytes_of_string("noise"), PHILOX_STAGE_SELECT, index);
    for (size_t d = 0; d < D; d++)
        own[d] = philox_f32(&rng) - 0.5f;
    (void)ops_l2_normalize(own, D);
    for (size_t d = 0; d < D; d++)
        row[d] += noise * own[d];
    (void)ops_l2_normalize(row, D);
}

/* A page of the file that is mapped takes no memory that others could not have. */
static float *map_scratch(size_t bytes)
{
    FILE *file = tmpfile();
    void *rows = MAP_FAILED;

    if (file != NULL && ftruncate(fileno(file), (off_t)bytes) == 0)
        rows = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
    if (file != NULL)
        (void)fclose(file);
    return rows == MAP_FAILED ? NULL : rows;
}

static size_t count_wrong(const struct duplicates *found, size_t n, size_t distinct)
{
    size_t wrong = 0;

    for (size_t i = 0; i < n; i++)
        wrong += found->of[i] != (i < distinct ? DUPLICATE_OF_NONE : (uint32_t)(i % distinct));
    return wrong;
}

/* "RssAnon" of /proc/self/status, in MB; 0: not to be had. */
static int64_t own_megabytes(void)
{
    FILE *status = fopen("/proc/self/status", "r");
    char line[128];
    long kb = 0;

    while (status != NULL && fgets(line, sizeof line, status) != NULL)
        if (strncmp(line, "RssAnon:", 8) == 0)
            kb = strtol(line + 8, NULL, 10);
    if (status != NULL)
        (void)fclose(status);
    return kb / 1000;
}

int main(int argc, char **argv)
{
    int64_t n = 0, D = 0, distinct = 0, n_threads = 2, began;
    struct duplicates found = {0};
    struct arena arena;
    struct error err = {0};
    float *rows;
    double seconds;
    size_t wrong;

    if (argc < 4 || parse_i64(argv[1], 1, INT32_MAX, &n, &err) != ST_OK ||
        parse_i64(argv[2], 1, MAX_COLUMNS, &D, &err) != ST_OK ||
        parse_i64(argv[3], 1, n, &distinct, &err) != ST_OK ||
        (argc > 4 && parse_i64(argv[4], 1, 1024, &n_threads, &err) != ST_OK)) {
        (void)fprintf(stderr, "bench_duplicates ROWS COLUMNS DISTINCT [THREADS] %s\n", err.message);
        return 2;
    }
    rows = map_scratch((size_t)(n * D) * sizeof *rows);
    found.of = malloc((size_t)n * sizeof *found.of);
    found.distance = malloc((size_t)n * sizeof *found.distance);
    if (rows == NULL || found.of == NULL || found.distance == NULL) {
        (void)fprintf(stderr, "bench_duplicates: no memory, or no room in the scratch folder\n");
        return 1;
    }
    for (int64_t i = 0; i < n; i++)
        draw(rows + i * D, (size_t)D, (uint32_t)(i % distinct), (uint32_t)i);
    arena_init(&arena, SIZE_MAX / 2);
    began = clock_monotonic_ns();
    if (duplicates_by_embedding(rows, (size_t)n, (size_t)D, radius, (size_t)n_threads, &found,
                                &arena, &err) != ST_OK) {
        (void)fprintf(stderr, "bench_duplicates: %s\n", err.message);
        return 1;
    }
    seconds = (double)(clock_monotonic_ns() - began) * 1e-9;
    wrong = count_wrong(&found, (size_t)n, (size_t)distinct);
    (void)printf("%" PRId64 " rows of %" PRId64 ", %" PRId64 " distinct, %" PRId64
                 " threads: %.1f s, %.1f thousand million multiply-adds/s, scratch %.0f MB, "
                 "own memory %" PRId64 " MB, %zu wrong\n",
                 n, D, distinct, n_threads, seconds,
                 (double)n * (double)distinct * (double)D / seconds * 1e-9,
                 (double)arena.peak_bytes * 1e-6, own_megabytes(), wrong);
    arena_release(&arena);
    free(found.of);
    free(found.distance);
    (void)munmap(rows, (size_t)(n * D) * sizeof *rows);
    return wrong > 0;
}
