/*
 * An image tower, timed round by round: bench_vit MODEL_DIR THREADS IMAGES [FORM [PIXELS]]
 *
 * CLIP, MobileCLIP and SigLIP snapshots, products in FORM: float32, bf16 or int8. Each line on
 * stdin runs one round of IMAGES images, shared out a few at a time among THREADS callers, and
 * prints its seconds; so that a driver (bench_vit.py) can take turns with another engine. "embed"
 * on stdin prints the embeddings, a line for each image. PIXELS is a file that holds the images,
 * float32 [IMAGES, 3, S, S], normalised; without it all are the same pattern.
 */
#include "reinforce/base/clock.h"
#include "reinforce/base/file.h"
#include "reinforce/base/parse.h"
#include "reinforce/models/clip.h"
#include "reinforce/models/siglip.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/nn/ops.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_THREADS = 64 };

/* One of the two. */
struct model {
    struct clip *clip;
    struct siglip *siglip;
    size_t side, dim, scratch_bytes, at_once;
};

struct round {
    const struct model *model;
    const float *pixels; /* [n_images, 3, S, S] */
    float *out;          /* [n_images, dim] */
    size_t n_images;
    size_t together; /* images of a call */
    atomic_size_t next;
};

struct caller {
    struct round *round;
    struct arena scratch; /* kept between rounds: its pages stay */
    enum status st;
    struct error err;
};

static int fail(const struct error *err)
{
    (void)fprintf(stderr, "bench_vit: %s: %s\n", err->context, err->message);
    return 1;
}

static enum status encode(const struct model *m, const float *pixels, size_t n,
                          struct arena *scratch, float *out, struct error *err)
{
    return m->clip != NULL
               ? clip_encode_images(m->clip, pixels, n, scratch, out, err)
               : siglip_encode_images(m->siglip, pixels, n, m->side, m->side, scratch, out, err);
}

static void *run(void *argument)
{
    struct caller *caller = argument;
    struct round *round = caller->round;
    const struct model *m = round->model;

    caller->st = ST_OK;
    while (caller->st == ST_OK) {
        size_t i = atomic_fetch_add(&round->next, round->together);

        if (i >= round->n_images)
            break;
        caller->st = encode(m, round->pixels + i * 3 * m->side * m->side,
                            MIN(round->together, round->n_images - i), &caller->scratch,
                            round->out + i * m->dim, &caller->err);
    }
    return NULL;
}

static int run_round(struct caller *callers, size_t n_threads)
{
    pthread_t threads[MAX_THREADS];

    atomic_store(&callers[0].round->next, 0);
    for (size_t t = 1; t < n_threads; t++)
        if (pthread_create(&threads[t], NULL, run, &callers[t]) != 0)
            return 1;
    (void)run(&callers[0]);
    for (size_t t = 1; t < n_threads; t++)
        (void)pthread_join(threads[t], NULL);
    for (size_t t = 0; t < n_threads; t++)
        if (callers[t].st != ST_OK)
            return fail(&callers[t].err);
    return 0;
}

static void print_embeddings(const struct round *round)
{
    size_t dim = round->model->dim;

    for (size_t i = 0; i < round->n_images; i++) {
        float *row = round->out + i * dim;

        (void)ops_l2_normalize(row, dim);
        for (size_t d = 0; d < dim; d++)
            (void)printf("%.9g%c", (double)row[d], d + 1 < dim ? ' ' : '\n');
    }
}

static int serve(struct round *round, size_t n_threads)
{
    struct caller callers[MAX_THREADS];
    char line[64];

    assert(n_threads > 0);
    for (size_t t = 0; t < n_threads; t++) {
        callers[t] = (struct caller){.round = round};
        arena_init(&callers[t].scratch, round->model->scratch_bytes);
    }
    while (fgets(line, sizeof line, stdin) != NULL) {
        int64_t start = clock_monotonic_ns();

        if (run_round(callers, n_threads) != 0)
            return 1;
        if (strcmp(line, "embed\n") == 0)
            print_embeddings(round);
        else
            (void)printf("%.6f\n", (double)(clock_monotonic_ns() - start) / 1e9);
        (void)fflush(stdout);
    }
    for (size_t t = 0; t < n_threads; t++) {
        (void)fprintf(stderr, "caller %zu: scratch peak %.1f MB\n", t,
                      (double)callers[t].scratch.peak_bytes / 1e6);
        arena_release(&callers[t].scratch);
    }
    return 0;
}

static enum status open_model(const char *dir, enum matrix_form form, struct model *m,
                              struct error *err)
{
    struct snapshot snapshot;
    struct weights *weights = NULL;
    enum status st = snapshot_read(dir, NULL, &snapshot, err);

    *m = (struct model){0};
    if (st != ST_OK)
        return st;
    snapshot.vision.matrices = snapshot.text.matrices = form;
    m->side = (size_t)snapshot.vision.image_size;
    m->dim = snapshot.embed_dim;
    st = weights_open(snapshot.weights_path, &weights, err);
    if (st == ST_OK && snapshot.family == SNAPSHOT_SIGLIP) {
        st = siglip_create(&snapshot, &weights, &m->siglip, err);
        m->scratch_bytes = st == ST_OK ? siglip_scratch_bytes(m->siglip) : 0;
        m->at_once = st == ST_OK ? siglip_images_at_once(m->siglip, m->side, m->side) : 0;
    } else if (st == ST_OK) {
        st = clip_create(&snapshot, &weights, &m->clip, err);
        m->scratch_bytes = st == ST_OK ? clip_scratch_bytes(m->clip) : 0;
        m->at_once = st == ST_OK ? clip_images_at_once(m->clip) : 0;
    }
    return st;
}

static void close_model(struct model *m)
{
    clip_destroy(&m->clip);
    siglip_destroy(&m->siglip);
}

/* `path` NULL: the pattern, n times. */
static enum status read_pixels(const char *path, size_t n, size_t S, float *out, struct error *err)
{
    size_t bytes = n * 3 * S * S * sizeof *out;
    struct byte_buf buf;
    enum status st;

    for (size_t i = 0; i < n * 3 * S * S && path == NULL; i++) {
        size_t at = i % (3 * S * S);

        out[i] = (float)((37 * at + 11 * (at / S)) % 255) / 127.5f - 1;
    }
    if (path == NULL)
        return ST_OK;
    byte_buf_init(&buf, bytes);
    st = file_read(path, &buf, err);
    if (st == ST_OK && byte_buf_view(&buf).len != bytes)
        st = error_set(err, ST_INVALID, "\"%.120s\" is not of %zu bytes", path, bytes);
    if (st == ST_OK)
        memcpy(out, byte_buf_view(&buf).data, bytes);
    byte_buf_release(&buf);
    return st;
}

static bool form_from_text(const char *text, enum matrix_form *out)
{
    static const char *const names[] = {
        [MATRIX_FLOAT32] = "float32", [MATRIX_BF16] = "bf16", [MATRIX_INT8] = "int8"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(text, names[i]) == 0) {
            *out = (enum matrix_form)i;
            return true;
        }
    return false;
}

/* Images of a call, at most at_once, such that all threads get as many calls of one size. */
static size_t together(size_t n_images, size_t n_threads, size_t at_once)
{
    size_t share = (n_images + n_threads - 1) / n_threads, calls = (share + at_once - 1) / at_once;

    return (share + calls - 1) / calls;
}

static int bench(const struct model *m, size_t n_threads, size_t n_images, const char *path)
{
    struct round round = {
        .model = m, .n_images = n_images, .together = together(n_images, n_threads, m->at_once)};
    struct error err = {0};
    float *pixels = malloc(n_images * 3 * m->side * m->side * sizeof *pixels);
    int code = 1;

    round.pixels = pixels;
    round.out = calloc(n_images * m->dim, sizeof *round.out);
    if (pixels != NULL && round.out != NULL) {
        code = read_pixels(path, n_images, m->side, pixels, &err) == ST_OK
                   ? serve(&round, n_threads)
                   : fail(&err);
    }
    free(round.out);
    free(pixels);
    return code;
}

int main(int argc, char **argv)
{
    int64_t n_threads, n_images;
    struct error err = {0};
    struct model model;
    enum matrix_form form = MATRIX_FLOAT32;
    int code;

    if (argc < 4 || argc > 6 || (argc > 4 && !form_from_text(argv[4], &form))) {
        (void)fprintf(stderr, "usage: bench_vit MODEL_DIR THREADS IMAGES "
                              "[float32|bf16|int8 [PIXELS]]\n");
        return 2;
    }
    if (parse_i64(argv[2], 1, MAX_THREADS, &n_threads, &err) != ST_OK ||
        parse_i64(argv[3], 1, 1 << 16, &n_images, &err) != ST_OK ||
        open_model(argv[1], form, &model, &err) != ST_OK)
        return fail(&err);
    (void)fprintf(stderr, "float32 kernel: %s\n", gemm_kernel_name());
    code = bench(&model, (size_t)n_threads, (size_t)n_images, argc > 5 ? argv[5] : NULL);
    close_model(&model);
    return code;
}
