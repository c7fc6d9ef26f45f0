/*
 * Selection of a training batch, timed round by round:
 * bench_select B SELECTED CHUNKS D THREADS [TILE_ROWS [PAIRS_FILE]]
 *
 * Each line on stdin runs one round and prints its seconds, so that a driver (bench_select.py) can
 * take turns with another engine. "say" prints the indices of the last round instead, "noise K" the
 * Gumbel noise of chunk K. Pairs are random unit rows that mostly match; PAIRS_FILE gets them,
 * float32: learner's images and texts, then the reference's.
 */
#include "reinforce/base/clock.h"
#include "reinforce/base/parse.h"
#include "reinforce/base/philox.h"
#include "reinforce/curate/joint.h"
#include "reinforce/curate/selection.h"
#include "reinforce/nn/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MODELS = 2 };

struct bench {
    struct super_batch batch;
    struct selection_options options;
    struct selection selection;
    struct arena rows, scratch; /* scratch is kept between rounds: its pages stay */
};

static int fail(const struct error *err)
{
    (void)fprintf(stderr, "bench_select: %s: %s\n", err->context, err->message);
    return 1;
}

/* [B, D] unit rows: of `base` (NULL: of nothing) and noise. */
static void draw(float *rows, const float *base, size_t B, size_t D, uint32_t index)
{
    struct philox rng;

    philox_init(&rng, 1, bytes_of_string("bench"), PHILOX_STAGE_SELECT, index);
    for (size_t i = 0; i < B; i++) {
        float *row = rows + i * D;

        for (size_t d = 0; d < D; d++)
            row[d] = philox_f32(&rng) - 0.5f;
        (void)ops_l2_normalize(row, D);
        for (size_t d = 0; d < D && base != NULL; d++)
            row[d] = 0.5f * row[d] + base[i * D + d];
        (void)ops_l2_normalize(row, D);
    }
}

static enum status make(struct bench *bench, size_t D, struct error *err)
{
    struct super_batch *batch = &bench->batch;
    struct pair_model *models[MODELS] = {&batch->learner, &batch->reference};
    struct example_id *ids;
    enum status st = arena_calloc(&bench->rows, batch->B, sizeof *ids, &ids, err);

    for (size_t i = 0; i < batch->B && st == ST_OK; i++)
        ids[i].low = i;
    batch->ids = ids;
    for (uint32_t m = 0; m < MODELS && st == ST_OK; m++) {
        float *rows[PAIR_SIDES];

        *models[m] = (struct pair_model){
            .dtype = TENSOR_F32, .D = D, .scale = m == 0 ? 60 : 110, .bias = m == 0 ? -14 : -16.6f};
        for (uint32_t s = 0; s < PAIR_SIDES && st == ST_OK; s++) {
            st = arena_alloc(&bench->rows, batch->B * D * sizeof(float), &rows[s], err);
            if (st != ST_OK)
                break;
            draw(rows[s], s == PAIR_TEXT ? rows[PAIR_IMAGE] : NULL, batch->B, D, 2 * m + s);
            models[m]->rows[s] = bytes_view_of(rows[s], batch->B * D * sizeof(float));
        }
    }
    return st;
}

static int write_pairs(const struct bench *bench, const char *path)
{
    const struct pair_model *models[MODELS] = {&bench->batch.learner, &bench->batch.reference};
    FILE *file = fopen(path, "wb");
    bool written = file != NULL;

    for (int m = 0; m < MODELS; m++)
        for (int s = 0; s < PAIR_SIDES && written; s++)
            written = fwrite(models[m]->rows[s].data, models[m]->rows[s].len, 1, file) == 1;
    if (file != NULL && fclose(file) != 0)
        written = false;
    if (!written)
        (void)fprintf(stderr, "bench_select: could not write %s\n", path);
    return written ? 0 : 1;
}

static void say(const struct bench *bench)
{
    for (size_t i = 0; i < bench->selection.n; i++)
        (void)printf("%u ", (unsigned)bench->selection.index[i]);
    (void)printf("\n");
}

static void say_noise(const struct bench *bench, uint32_t chunk)
{
    for (size_t i = 0; i < bench->batch.B; i++)
        (void)printf("%.9g ", joint_noise(bench->options.seed, bench->options.step, chunk,
                                          bench->batch.ids[i]));
    (void)printf("\n");
}

static int serve(struct bench *bench)
{
    struct error err = {0};
    char line[64];

    while (fgets(line, sizeof line, stdin) != NULL) {
        int64_t start = clock_monotonic_ns(), chunk = 0;

        if (strcmp(line, "say\n") == 0) {
            say(bench);
        } else if (strncmp(line, "noise ", 6) == 0) {
            line[strcspn(line, "\n")] = '\0';
            if (parse_i64(line + 6, 0, UINT16_MAX, &chunk, &err) != ST_OK)
                return fail(&err);
            say_noise(bench, (uint32_t)chunk);
        } else {
            arena_reset(&bench->scratch);
            if (selection_run(&bench->batch, &bench->options, &bench->selection, &bench->scratch,
                              &err) != ST_OK)
                return fail(&err);
            (void)printf("%.6f\n", (double)(clock_monotonic_ns() - start) / 1e9);
        }
        (void)fflush(stdout);
    }
    (void)fprintf(stderr, "products: %.3f tera-operations; scratch peak %.1f MB\n",
                  2 * (double)bench->selection.stats.multiply_adds / 1e12,
                  (double)bench->scratch.peak_bytes / 1e6);
    return 0;
}

int main(int argc, char **argv)
{
    static struct bench bench;
    int64_t values[6] = {0};
    struct error err = {0};
    int code;

    if (argc < 6 || argc > 8) {
        (void)fprintf(stderr, "usage: bench_select B SELECTED CHUNKS D THREADS [TILE_ROWS "
                              "[PAIRS_FILE]]\n");
        return 2;
    }
    for (int a = 1; a < MIN(argc, 7); a++)
        if (parse_i64(argv[a], a == 6 ? 0 : 1, 1 << 20, &values[a - 1], &err) != ST_OK)
            return fail(&err);
    bench.batch.B = (size_t)values[0];
    selection_options_default(&bench.options);
    bench.options.n_selected = (size_t)values[1];
    bench.options.n_chunks = (size_t)values[2];
    bench.options.n_threads = (size_t)values[4];
    bench.options.tile_rows = (size_t)values[5];
    arena_init(&bench.rows, (size_t)8 << 30);
    arena_init(&bench.scratch, (size_t)2 << 30);
    if (make(&bench, (size_t)values[3], &err) != ST_OK)
        return fail(&err);
    code = argc > 7 ? write_pairs(&bench, argv[7]) : 0;
    if (code == 0)
        code = serve(&bench);
    arena_release(&bench.rows);
    arena_release(&bench.scratch);
    return code;
}
