/*
 * An image tower, timed round by round: bench_vit MODEL_DIR THREADS IMAGES [int8|bf16]
 *
 * Each line on stdin runs one round of IMAGES images, shared out one by one among THREADS callers,
 * and prints its seconds; so that a driver (bench_vit.py) can take turns with another engine. With
 * "-" for MODEL_DIR's image the input is a fixed pattern. "embed" on stdin prints the first image's
 * embedding.
 */
#include "reinforce/base/clock.h"
#include "reinforce/base/parse.h"
#include "reinforce/models/clip.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/nn/ops.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_THREADS = 64 };

struct round {
    const struct clip *clip;
    const float *pixels;
    size_t n_images;
    atomic_size_t next;
};

struct caller {
    struct round *round;
    struct arena scratch; /* kept between rounds: its pages stay */
    float *out;
    enum status st;
    struct error err;
};

static void *run(void *argument)
{
    struct caller *caller = argument;
    struct round *round = caller->round;

    caller->st = ST_OK;
    while (caller->st == ST_OK && atomic_fetch_add(&round->next, 1) < round->n_images)
        caller->st = clip_encode_image(round->clip, round->pixels, &caller->scratch, caller->out,
                                       &caller->err);
    return NULL;
}

static int fail(const struct error *err)
{
    (void)fprintf(stderr, "bench_vit: %s: %s\n", err->context, err->message);
    return 1;
}

static int serve(const struct clip *clip, size_t n_threads, size_t n_images, const float *pixels)
{
    struct round round = {.clip = clip, .pixels = pixels, .n_images = n_images};
    struct caller callers[MAX_THREADS];
    pthread_t threads[MAX_THREADS];
    char line[64];

    for (size_t t = 0; t < n_threads; t++) {
        callers[t] = (struct caller){.round = &round};
        arena_init(&callers[t].scratch, clip_scratch_bytes(clip));
        callers[t].out = calloc(clip->dim, sizeof *callers[t].out);
        if (callers[t].out == NULL)
            return 1;
    }
    while (fgets(line, sizeof line, stdin) != NULL) {
        int64_t start = clock_monotonic_ns();

        if (strcmp(line, "embed\n") == 0) {
            round.n_images = 1;
            atomic_store(&round.next, 0);
            (void)run(&callers[0]);
            (void)ops_l2_normalize(callers[0].out, clip->dim);
            for (size_t d = 0; d < clip->dim; d++)
                (void)printf("%.9g%c", (double)callers[0].out[d], d + 1 < clip->dim ? ' ' : '\n');
            (void)fflush(stdout);
            round.n_images = n_images;
            continue;
        }
        atomic_store(&round.next, 0);
        for (size_t t = 1; t < n_threads; t++)
            if (pthread_create(&threads[t], NULL, run, &callers[t]) != 0)
                return 1;
        (void)run(&callers[0]);
        for (size_t t = 1; t < n_threads; t++)
            (void)pthread_join(threads[t], NULL);
        for (size_t t = 0; t < n_threads; t++)
            if (callers[t].st != ST_OK)
                return fail(&callers[t].err);
        (void)printf("%.6f\n", (double)(clock_monotonic_ns() - start) / 1e9);
        (void)fflush(stdout);
    }
    for (size_t t = 0; t < n_threads; t++) {
        (void)fprintf(stderr, "caller %zu: scratch peak %.1f MB\n", t,
                      (double)callers[t].scratch.peak_bytes / 1e6);
        arena_release(&callers[t].scratch);
        free(callers[t].out);
    }
    return 0;
}

int main(int argc, char **argv)
{
    int64_t n_threads, n_images;
    struct error err = {0};
    struct snapshot snapshot;
    struct weights *weights = NULL;
    struct clip *clip = NULL;
    enum matrix_form form = MATRIX_FLOAT32;
    float *pixels;
    size_t S;
    int code;

    if (argc == 5 && strcmp(argv[4], "int8") == 0)
        form = MATRIX_INT8;
    else if (argc == 5 && strcmp(argv[4], "bf16") == 0)
        form = MATRIX_BF16;
    else if (argc != 4) {
        (void)fprintf(stderr, "usage: bench_vit MODEL_DIR THREADS IMAGES [int8|bf16]\n");
        return 2;
    }
    if (parse_i64(argv[2], 1, MAX_THREADS, &n_threads, &err) != ST_OK ||
        parse_i64(argv[3], 1, 1 << 20, &n_images, &err) != ST_OK ||
        snapshot_read(argv[1], NULL, &snapshot, &err) != ST_OK)
        return fail(&err);
    snapshot.vision.matrices = snapshot.text.matrices = form;
    if (weights_open(snapshot.weights_path, &weights, &err) != ST_OK ||
        clip_create(&snapshot, &weights, &clip, &err) != ST_OK)
        return fail(&err);
    S = clip->vit.image_size;
    pixels = malloc(3 * S * S * sizeof *pixels);
    if (pixels == NULL)
        return 1;
    for (size_t i = 0; i < 3 * S * S; i++)
        pixels[i] = (float)((37 * i + 11 * (i / S)) % 255) / 127.5f - 1;
    (void)fprintf(stderr, "float32 kernel: %s\n", gemm_kernel_name());
    code = serve(clip, (size_t)n_threads, (size_t)n_images, pixels);
    free(pixels);
    clip_destroy(&clip);
    return code;
}
