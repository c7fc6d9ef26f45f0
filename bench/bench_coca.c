/*
 * A captioner, timed round by round:
 * bench_coca MODEL_DIR THREADS IMAGES CAPTIONS [STRATEGY [MAX_TOKENS [FORM]]]
 *
 * Each line on stdin runs one round: THREADS callers, each with one call of IMAGES images and
 * CAPTIONS captions of each, and prints its seconds, so that a driver (bench_coca.py) can take
 * turns with another engine. "say" prints the first caller's last captions instead. STRATEGY is
 * top_p (default, p = 0.9), greedy, beam or beam_open_clip; FORM is float32, bf16 or int8. Images
 * are patterns.
 */
#include "reinforce/base/clock.h"
#include "reinforce/base/parse.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/teach/captioner.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_THREADS = 64, MAX_IMAGES = 256, SIDE = 256 };

struct caller {
    const struct captioner *captioner;
    const struct caption_options *how;
    const struct image *images;
    const struct bytes_view *uids;
    size_t n_images;
    struct arena scratch, results; /* kept between rounds: their pages stay */
    struct caption *captions;
    enum status st;
    struct error err;
};

static const struct {
    const char *name;
    enum caption_strategy strategy;
} strategies[] = {
    {"top_p", CAPTION_SAMPLE},
    {"greedy", CAPTION_GREEDY},
    {"beam", CAPTION_BEAM},
    {"beam_open_clip", CAPTION_BEAM_OPEN_CLIP},
};

static const char *const forms[] = {
    [MATRIX_FLOAT32] = "float32", [MATRIX_BF16] = "bf16", [MATRIX_INT8] = "int8"};

static void *run(void *argument)
{
    struct caller *c = argument;

    arena_reset(&c->scratch);
    arena_reset(&c->results);
    c->st = captioner_caption_images(c->captioner, c->images, c->uids, c->n_images, c->how,
                                     &c->results, &c->scratch, c->captions, &c->err);
    return NULL;
}

static int fail(const struct error *err)
{
    (void)fprintf(stderr, "bench_coca: %s: %s\n", err->context, err->message);
    return 1;
}

static int serve(struct caller *callers, size_t n_threads)
{
    pthread_t threads[MAX_THREADS];
    char line[64];

    while (fgets(line, sizeof line, stdin) != NULL) {
        int64_t start = clock_monotonic_ns();

        if (strcmp(line, "say\n") == 0) {
            for (size_t i = 0; i < callers[0].n_images * (size_t)callers[0].how->n_captions; i++)
                (void)printf("%.4f %s\n", callers[0].captions[i].score,
                             callers[0].captions[i].text);
            (void)printf("\n");
            (void)fflush(stdout);
            continue;
        }
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
    return 0;
}

/* Image i of a caller: the pattern of the goldens, shifted. */
static void draw(uint8_t *pixels, size_t i)
{
    for (size_t y = 0; y < SIDE; y++)
        for (size_t x = 0; x < SIDE; x++)
            for (size_t c = 0; c < 3; c++)
                pixels[(y * SIDE + x) * 3 + c] =
                    (uint8_t)((37 + 2 * i) * x + 101 * y + 7 * x * y + 59 * c + 29 * i);
}

int main(int argc, char **argv)
{
    static struct image images[MAX_THREADS][MAX_IMAGES];
    static char names[MAX_IMAGES][24];
    static struct bytes_view uids[MAX_IMAGES];
    static struct caller callers[MAX_THREADS];
    int64_t n_threads, n_images, n_captions, max_tokens = 30;
    struct captioner_options options = {0};
    struct captioner *captioner = NULL;
    struct caption_options how;
    struct error err = {0};
    struct arena memory;
    size_t s = 0;
    int code;

    if (argc < 5 || argc > 8) {
        (void)fprintf(stderr, "usage: bench_coca MODEL_DIR THREADS IMAGES CAPTIONS [STRATEGY "
                              "[MAX_TOKENS [FORM]]]\n");
        return 2;
    }
    while (argc > 7 && options.matrices < ARRAY_LEN(forms) &&
           strcmp(argv[7], forms[options.matrices]) != 0)
        options.matrices++;
    if (options.matrices == ARRAY_LEN(forms)) {
        (void)fprintf(stderr, "bench_coca: unknown form \"%s\"\n", argv[7]);
        return 2;
    }
    while (argc > 5 && s < ARRAY_LEN(strategies) && strcmp(argv[5], strategies[s].name) != 0)
        s++;
    if (s == ARRAY_LEN(strategies)) {
        (void)fprintf(stderr, "bench_coca: unknown strategy \"%s\"\n", argv[5]);
        return 2;
    }
    options.model_dir = argv[1];
    caption_options_default(&how);
    if (parse_i64(argv[2], 1, MAX_THREADS, &n_threads, &err) != ST_OK ||
        parse_i64(argv[3], 1, MAX_IMAGES, &n_images, &err) != ST_OK ||
        parse_i64(argv[4], 1, 1 << 10, &n_captions, &err) != ST_OK ||
        (argc > 6 && parse_i64(argv[6], 6, 1 << 10, &max_tokens, &err) != ST_OK) ||
        captioner_open(&options, &captioner, &err) != ST_OK)
        return fail(&err);
    how.strategy = strategies[s].strategy;
    how.n_captions = (int)n_captions;
    how.max_tokens = (int)max_tokens;
    how.seed = 7;
    arena_init(&memory, (size_t)4 << 30);
    for (size_t i = 0; i < (size_t)n_images; i++) {
        (void)snprintf(names[i], sizeof names[i], "%zu", i);
        uids[i] = bytes_of_string(names[i]);
    }
    for (size_t t = 0; t < (size_t)n_threads; t++) {
        struct caller *c = &callers[t];

        *c = (struct caller){.captioner = captioner,
                             .how = &how,
                             .images = images[t],
                             .uids = uids,
                             .n_images = (size_t)n_images};
        arena_init(&c->scratch, (size_t)4 << 30);
        arena_init(&c->results, (size_t)1 << 30);
        if (arena_calloc(&memory, (size_t)(n_images * n_captions), sizeof *c->captions,
                         &c->captions, &err) != ST_OK)
            return fail(&err);
        for (size_t i = 0; i < (size_t)n_images; i++) {
            images[t][i] = (struct image){.width = SIDE, .height = SIDE, .channels = 3};
            if (arena_alloc(&memory, (size_t)SIDE * SIDE * 3, &images[t][i].pixels, &err) != ST_OK)
                return fail(&err);
            draw(images[t][i].pixels, t * (size_t)n_images + i);
        }
    }
    (void)fprintf(stderr, "float32 kernel: %s\n", gemm_kernel_name());
    code = serve(callers, (size_t)n_threads);
    for (size_t t = 0; t < (size_t)n_threads; t++) {
        (void)fprintf(stderr, "caller %zu: scratch peak %.1f MB\n", t,
                      (double)callers[t].scratch.peak_bytes / 1e6);
        arena_release(&callers[t].scratch);
        arena_release(&callers[t].results);
    }
    arena_release(&memory);
    captioner_close(&captioner);
    return code;
}
