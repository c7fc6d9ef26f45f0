/* Which kernel multiplies how many rows: what is wrong on this machine is left out, of the others
 * time decides. Bits are the same. */
#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "reinforce/base/philox.h"
#include "reinforce/nn/int8.h"
#include "reinforce/nn/int8_kernels.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_KERNELS = 4,
    TRIAL_K = 7 * INT8_CHUNK + 68, /* of the trials; the last group is not whole */
    PANELS = 5,                    /* more than one kernel takes at once */
    COLUMNS = PANELS * INT8_COLUMNS,
    ROUNDS = 12,  /* a neighbour slows some kernels more than others */
    HOPELESS = 3, /* times the fastest: not tried again */
    TILES = 4,    /* of a round, for each group */
};

/* Of decoders' rows, and of towers'. */
static const size_t groups[] = {3 * INT8_CHUNK, 8 * INT8_CHUNK};
static const size_t row_counts[] = {1, 2, 4, 8, INT8_ROWS / 2, INT8_ROWS / 2 + 1, INT8_ROWS};

static struct {
    const struct int8_kernel *for_rows[INT8_ROWS + 1];
} choice;

/* Random rows and columns, scales of 1. */
struct trial {
    int8_t *x; /* a tile of INT8_ROWS rows; fewer read the same bytes in another way */
    uint8_t *w;
    float *got, *want;
    float column[COLUMNS]; /* scales, and biases */
};

static bool trial_init(struct trial *trial)
{
    size_t n_w = PANELS * int8_panel_bytes(TRIAL_K);
    size_t n_x = int8_rows_floats(INT8_ROWS, TRIAL_K) * sizeof(float);
    size_t n_y = PANELS * INT8_ROWS * INT8_COLUMNS * sizeof(float); /* whole lines, as n_w */
    uint8_t *memory = aligned_alloc(64, (n_w + 2 * n_y + n_x + 63) / 64 * 64);
    struct philox rng;

    if (memory == NULL)
        return false;
    *trial = (struct trial){.w = memory,
                            .got = (float *)(void *)(memory + n_w),
                            .want = (float *)(void *)(memory + n_w + n_y),
                            .x = (int8_t *)(memory + n_w + 2 * n_y)};
    philox_init(&rng, 1, bytes_of_string("int8"), PHILOX_STAGE_SELECT, 0);
    for (size_t i = 0; i < n_w; i++)
        trial->w[i] = (uint8_t)(philox_u32(&rng) | 1);
    for (size_t i = 0; i < n_x; i++)
        trial->x[i] = (int8_t)philox_u32(&rng);
    for (size_t c = 0; c < COLUMNS; c++)
        trial->column[c] = 1 + (float)c / 16;
    return true;
}

/* Scales and offsets where a tile of `rows` has them, and zeros behind its last group's values. */
static struct int8_tile trial_tile(const struct trial *trial, size_t rows, size_t group)
{
    int8_t *x = trial->x;

    for (size_t k = 0; k < TRIAL_K; k += group) {
        size_t n = MIN(TRIAL_K - k, group);
        int8_t *last = x + int8_head_bytes(rows) + n / INT8_CHUNK * rows * INT8_CHUNK;

        for (size_t r = 0; r < rows; r++, last += INT8_CHUNK) {
            float scale = 1 + (float)r / 8;
            int32_t offset = (int32_t)(r * 77) - 1000;

            memcpy(x + 4 * r, &scale, sizeof scale);
            memcpy(x + 4 * (rows + r), &offset, sizeof offset);
            if (n % INT8_CHUNK != 0)
                memset(last + n % INT8_CHUNK, 0, INT8_CHUNK - n % INT8_CHUNK);
        }
        x += int8_group_bytes(rows, n);
    }
    return (struct int8_tile){.data = trial->x, .rows = rows, .K = TRIAL_K, .group = group};
}

static void run(const struct int8_kernel *kernel, const struct trial *trial,
                const struct int8_tile *tile, float *y, int n_tiles)
{
    const struct int8_result to = {y, COLUMNS, trial->column, trial->column, false};

    if (kernel->begin != NULL)
        kernel->begin();
    for (int i = 0; i < n_tiles; i++)
        kernel->tile(&to, tile, trial->w, PANELS);
    if (kernel->end != NULL)
        kernel->end();
}

/* Against plain C, the last. */
static bool is_right(const struct int8_kernel *kernel, const struct int8_kernel *plain,
                     const struct trial *trial)
{
    for (size_t i = 0; i < ARRAY_LEN(row_counts) * ARRAY_LEN(groups); i++) {
        size_t rows = row_counts[i / ARRAY_LEN(groups)];
        const struct int8_tile tile = trial_tile(trial, rows, groups[i % ARRAY_LEN(groups)]);

        run(plain, trial, &tile, trial->want, 1);
        run(kernel, trial, &tile, trial->got, 1);
        if (memcmp(trial->got, trial->want, rows * COLUMNS * sizeof *trial->got) != 0) {
            log_at(LOG_WARN, "kernel_refused",
                   "kernel=%s reason=\"its int8 products of %zu rows are wrong\"", kernel->name,
                   rows);
            return false;
        }
    }
    return true;
}

static int64_t time_of(const struct int8_kernel *kernel, const struct trial *trial, size_t rows)
{
    int64_t ns = 0;

    for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
        const struct int8_tile tile = trial_tile(trial, rows, groups[i]);
        int64_t begun = clock_cpu_ns();

        run(kernel, trial, &tile, trial->got, TILES);
        ns += clock_cpu_ns() - begun;
    }
    return ns;
}

/* The shortest of some rounds in turns. */
static const struct int8_kernel *fastest(const struct int8_kernel *const *kernels, size_t n,
                                         const struct trial *trial, size_t rows)
{
    int64_t best[MAX_KERNELS];
    size_t winner = 0;

    for (size_t i = 0; i < n; i++)
        best[i] = INT64_MAX;
    for (int round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < n; i++) {
            if (round == 0 || best[i] / HOPELESS < best[winner])
                best[i] = MIN(best[i], time_of(kernels[i], trial, rows));
            if (best[i] < best[winner])
                winner = i;
        }
    return kernels[winner];
}

static void choose(void)
{
    size_t n, n_right = 0;
    const struct int8_kernel *kernels = int8_kernels(&n), *plain = &kernels[n - 1];
    const struct int8_kernel *right[MAX_KERNELS] = {plain};
    struct trial trial;
    bool tried = trial_init(&trial);

    for (size_t i = 0; i + 1 < n && tried; i++)
        if (is_right(&kernels[i], plain, &trial))
            right[n_right++] = &kernels[i];
    for (size_t i = 0, rows = 0; i < ARRAY_LEN(row_counts); i++) {
        const struct int8_kernel *kernel =
            n_right > 1 ? fastest(right, n_right, &trial, row_counts[i]) : right[0];

        for (; rows <= row_counts[i]; rows++)
            choice.for_rows[rows] = kernel;
    }
    if (tried)
        free(trial.w);
}

const struct int8_kernel *int8_kernel_for(size_t rows)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, choose);
    return choice.for_rows[MIN(rows, (size_t)INT8_ROWS)];
}

const char *int8_kernel_name(void)
{
    return int8_kernel_for(INT8_ROWS)->name;
}
