/*
 * PaliGemma 2 3B at 224 pixels with random weights, as stored (bfloat16) and in int8:
 * bench_paligemma [ROUNDS [THREADS [FORM [ROWS]]]]
 *
 * In each round (3), for each form in turn, THREADS (2) callers each encode an image and prefill
 * 260 tokens, and then decode 30 tokens of ROWS (32, as a job does) captions. Prints medians over
 * rounds: seconds per image and per caption of all callers together, on the clock and, divided by
 * THREADS, of processor time, which is what the clock would show if nobody else used the machine.
 * FORM is stored, int8 or all (both). Takes 8 GB, 6 for int8 alone, and 2 for each caller's caches.
 */
#include "bench/median.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/parse.h"
#include "reinforce/models/paligemma.h"
#include "reinforce/nn/gemm.h"
#include "tests/support/random_paligemma.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_ROUNDS = 99, MAX_THREADS = 16, MAX_ROWS = 64, TOKENS = 30, PREFIX_TEXT = 4, SIDE = 224 };

struct form {
    const char *name;
    enum matrix_form matrices;
    struct weights *weights;
    struct paligemma model;
    struct cost {
        double image[MAX_ROUNDS], decode[MAX_ROUNDS]; /* seconds for one image, one caption */
    } clock, processor;
};

struct caller {
    const struct paligemma *model;
    bool decode; /* or encode and prefill */
    size_t rows; /* decoded together */
    struct gemma_decoder decoder;
    float *pixels, *tokens, *x, *logits;
    struct arena arena;
    pthread_t thread;
    enum status st;
    struct error err;
};

static enum status prepare(struct caller *c, const struct paligemma *model)
{
    size_t n = model->n_image_tokens, D = model->gemma.config.width;
    enum status st;

    c->model = model;
    arena_reset(&c->arena);
    st = gemma_decoder_init(&c->decoder, &model->gemma, 1 + c->rows, n + PREFIX_TEXT + TOKENS,
                            &c->arena, &c->err);
    if (st == ST_OK)
        st = arena_alloc(&c->arena, (size_t)3 * SIDE * SIDE * sizeof(float), &c->pixels, &c->err);
    if (st == ST_OK)
        st = arena_alloc(&c->arena, n * D * sizeof(float), &c->tokens, &c->err);
    if (st == ST_OK)
        st = arena_alloc(&c->arena, (n + PREFIX_TEXT) * D * sizeof(float), &c->x, &c->err);
    if (st == ST_OK)
        st = arena_alloc(&c->arena, c->rows * model->gemma.config.vocab_size * sizeof(float),
                         &c->logits, &c->err);
    for (size_t i = 0; i < (size_t)3 * SIDE * SIDE && st == ST_OK; i++)
        c->pixels[i] = (float)(i * 7919 % 255) / 127.5f - 1;
    return st;
}

static enum status encode(struct caller *c)
{
    static const int32_t text[PREFIX_TEXT] = {2, 16995, 657, 108};
    const struct paligemma *model = c->model;
    size_t S = model->n_image_tokens + PREFIX_TEXT;
    enum status st = paligemma_encode_image(model, c->pixels, &c->arena, c->tokens, &c->err);

    if (st == ST_OK)
        st = paligemma_prefix(model, c->tokens, text, PREFIX_TEXT, c->x, &c->err);
    return st == ST_OK ? gemma_prefill(&model->gemma, c->x, S, S, &c->decoder.cache, 0, false,
                                       &c->arena, &c->err)
                       : st;
}

static void decode(struct caller *c)
{
    size_t S = c->model->n_image_tokens + PREFIX_TEXT, V = c->model->gemma.config.vocab_size;
    size_t row[MAX_ROWS], position[MAX_ROWS];
    int32_t token[MAX_ROWS];

    for (size_t b = 0; b < c->rows; b++) {
        row[b] = 1 + b;
        token[b] = 108 + (int32_t)b;
        kv_cache_copy_row(&c->decoder.cache, 0, row[b], 0, S - 1);
    }
    for (size_t i = 0; i < TOKENS; i++) {
        for (size_t b = 0; b < c->rows; b++)
            position[b] = S - 1 + i;
        gemma_decoder_step(&c->decoder, c->rows, row, position, token, c->logits);
        for (size_t b = 0; b < c->rows; b++) {
            const float *logits = c->logits + b * V;
            size_t best = 0;

            for (size_t v = 1; v < V; v++)
                best = logits[v] > logits[best] ? v : best;
            token[b] = (int32_t)best;
        }
    }
}

static void *work(void *argument)
{
    struct caller *c = argument;

    if (c->decode)
        decode(c);
    else
        c->st = encode(c);
    return NULL;
}

static double processor_seconds(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Seconds until all callers are done, and their share of the processor's. */
static void run(struct caller *callers, size_t n, bool decoding, double *clock, double *processor)
{
    int64_t begin = clock_monotonic_ns();
    double used = processor_seconds();

    for (size_t i = 0; i < n; i++) {
        callers[i].decode = decoding;
        if (pthread_create(&callers[i].thread, NULL, work, &callers[i]) != 0)
            abort();
    }
    for (size_t i = 0; i < n; i++)
        (void)pthread_join(callers[i].thread, NULL);
    *clock = (double)(clock_monotonic_ns() - begin) * 1e-9;
    *processor = (processor_seconds() - used) / (double)n;
}

static enum status load(struct form *form, const struct random_paligemma *m, struct error *err)
{
    struct snapshot snapshot;
    enum status st = weights_create(m->tensors, m->n, &form->weights, err);

    paligemma2_3b_snapshot(&snapshot);
    snapshot.decoder.matrices = snapshot.vision.matrices = form->matrices;
    return st == ST_OK ? paligemma_load(&snapshot, form->weights, &form->model, err) : st;
}

static enum status measure(struct form *form, struct caller *callers, size_t n, size_t round,
                           struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        enum status st = prepare(&callers[i], &form->model);

        if (st != ST_OK) {
            *err = callers[i].err;
            return st;
        }
    }
    run(callers, n, false, &form->clock.image[round], &form->processor.image[round]);
    for (size_t i = 0; i < n; i++)
        if (callers[i].st != ST_OK) {
            *err = callers[i].err;
            return callers[i].st;
        }
    run(callers, n, true, &form->clock.decode[round], &form->processor.decode[round]);
    form->clock.image[round] /= (double)n;
    form->processor.image[round] /= (double)n;
    form->clock.decode[round] /= (double)(n * callers[0].rows);
    form->processor.decode[round] /= (double)(n * callers[0].rows);
    return ST_OK;
}

/* Returns the seconds for a caption. */
static double report(const char *form, const char *what, struct cost *cost, size_t rounds)
{
    double image = median(cost->image, rounds), decoding = median(cost->decode, rounds);

    (void)printf("%-6s %-9s image %.2f s, decoding %.2f, a caption %.2f\n", form, what, image,
                 decoding, image + decoding);
    return image + decoding;
}

int main(int argc, char **argv)
{
    static struct form forms[] = {{.name = "int8", .matrices = MATRIX_INT8},
                                  {.name = "stored", .matrices = MATRIX_FLOAT32}};
    static struct caller callers[MAX_THREADS];
    static struct random_paligemma m;
    struct snapshot snapshot;
    int64_t rounds = 3, n = 2, rows = 32;
    const char *only = argc > 3 && strcmp(argv[3], "all") != 0 ? argv[3] : NULL;
    double seconds[ARRAY_LEN(forms)] = {0};
    struct error err = {0};
    enum status st = ST_OK;

    if (argc > 5 || (argc > 4 && parse_i64(argv[4], 1, MAX_ROWS, &rows, &err) != ST_OK) ||
        (argc > 1 && parse_i64(argv[1], 1, MAX_ROUNDS, &rounds, &err) != ST_OK) ||
        (argc > 2 && parse_i64(argv[2], 1, MAX_THREADS, &n, &err) != ST_OK)) {
        (void)fprintf(stderr,
                      "usage: bench_paligemma [ROUNDS [THREADS [stored|int8|all [ROWS]]]]\n");
        return 2;
    }
    paligemma2_3b_snapshot(&snapshot);
    if (gemm_init(&err) != ST_OK || !random_paligemma_init(&m, &snapshot)) {
        (void)fprintf(stderr, "bench_paligemma: no kernel or no memory %s\n", err.message);
        return 1;
    }
    for (size_t i = 0; i < (size_t)n; i++)
        arena_init(&callers[i].arena, (size_t)8 << 30);
    for (size_t i = 0; i < (size_t)n; i++)
        callers[i].rows = (size_t)rows;
    for (size_t f = 0; f < ARRAY_LEN(forms) && st == ST_OK; f++)
        if (only == NULL || strcmp(only, forms[f].name) == 0)
            st = load(&forms[f], &m, &err);
    for (size_t round = 0; round < (size_t)rounds && st == ST_OK; round++)
        for (size_t f = 0; f < ARRAY_LEN(forms) && st == ST_OK; f++)
            if (forms[f].weights != NULL)
                st = measure(&forms[f], callers, (size_t)n, round, &err);
    for (size_t f = 0; f < ARRAY_LEN(forms) && st == ST_OK; f++) {
        if (forms[f].weights == NULL)
            continue;
        (void)report(forms[f].name, "clock", &forms[f].clock, (size_t)rounds);
        seconds[f] = report(forms[f].name, "processor", &forms[f].processor, (size_t)rounds);
    }
    if (seconds[0] > 0 && seconds[1] > 0)
        (void)printf("ratio of processor times %.2f\n", seconds[1] / seconds[0]);
    for (size_t i = 0; i < (size_t)n; i++)
        arena_release(&callers[i].arena);
    for (size_t f = 0; f < ARRAY_LEN(forms); f++) {
        if (forms[f].weights != NULL)
            paligemma_release(&forms[f].model);
        weights_destroy(&forms[f].weights);
    }
    random_paligemma_release(&m);
    if (st != ST_OK)
        (void)fprintf(stderr, "bench_paligemma: %s\n", err.message);
    return st == ST_OK ? 0 : 1;
}
