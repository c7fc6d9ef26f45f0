/*
 * Steps of PaliGemma 2 3B's decoder with random weights, nothing else:
 * bench_decode [ROUNDS [THREADS [FORM [BATCHES [KV]]]]]
 *
 * THREADS (2) callers, as a worker has, each decode BATCHES (1,8,32) rows of their own behind 260
 * tokens, greedily. FORM is int8, stored (bfloat16 as it is mapped) or huge (stored in huge pages);
 * KV is float32, bfloat16 or int8. In each of ROUNDS (5), in turns: every thread reads memory of
 * its own, then the weights, then runs some steps of each batch. Prints one JSON object with
 * medians over rounds:
 *
 *   weight_gb        bytes of weights that a step reads
 *   read_gb          a second, all threads together: memory of their own, the faster of two ways
 *   weights_read_gb  the same of the weights in one stream, which all threads read: a shared cache
 *                    may help
 *   steps            of each batch: rows of all callers; tokens a second on the clock, and of the
 *                    threads' own time; of that, weights a second and their share of read_gb
 *   share            of its time that a thread had a processor
 *
 * Takes 4 GB in int8 and 7 else, and caches.
 */
#include "bench/median.h"
#include "bench/reading.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/memory.h"
#include "reinforce/base/parse.h"
#include "reinforce/models/gemma.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/nn/sampler.h"
#include "tests/support/random_paligemma.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_ROUNDS = 99,
    MAX_THREADS = 16,
    MAX_BATCHES = 8,
    MAX_ROWS = 64,
    PREFIX = 260,
    STEPS = 4, /* of a batch in a round */
    READS = 2, /* of a kind in a round */
    N_KINDS = 3 + MAX_BATCHES,
};
static const size_t read_bytes = (size_t)1 << 30; /* of all threads: no cache holds it */
static const char prefix[] = "language_model.model.";

/* What is timed: reading in two ways, reading the weights, steps of each batch. */
enum kind { READ, READ_STREAMS, READ_WEIGHTS, STEP };

struct bench {
    struct gemma gemma;
    struct weights *weights;
    void *copy; /* of the weights as stored */
    size_t batches[MAX_BATCHES], n_batches;
    size_t n_threads, rounds, weight_bytes;
    pthread_barrier_t together;
};

struct caller {
    struct bench *bench;

    struct gemma_decoder decoder;
    struct arena arena;
    uint64_t *words, sum;
    size_t n_words;
    float *logits;
    int64_t own[MAX_ROUNDS][N_KINDS], clock[MAX_ROUNDS][N_KINDS]; /* ns */
    pthread_t thread;
    struct error err;
};

static size_t matrix_bytes(const struct matrix *w)
{
    return w->form == MATRIX_INT8
               ? int8_matrix_bytes(w->out, w->in)
               : w->out * w->in * (w->dtype == TENSOR_BF16 ? sizeof(uint16_t) : sizeof(float));
}

static const void *matrix_memory(const struct matrix *w)
{
    return w->form == MATRIX_INT8 ? w->int8.panels : w->data;
}

/* The i-th matrix that a step reads, NULL behind the last. */
static const struct matrix *matrix_at(const struct gemma *g, size_t i)
{
    const struct gemma_layer *layer = &g->layers[i / 7];
    const struct matrix *const of_layer[] = {&layer->q,    &layer->k,  &layer->v,   &layer->o,
                                             &layer->gate, &layer->up, &layer->down};

    if (i / 7 == g->config.n_layers)
        return i % 7 == 0 ? &g->embedding : NULL;
    return of_layer[i % 7];
}

static uint64_t read_weights(const struct gemma *g)
{
    const struct matrix *w;
    uint64_t sum = 0;

    for (size_t i = 0; (w = matrix_at(g, i)) != NULL; i++)
        sum += reading_sum(matrix_memory(w), matrix_bytes(w) / sizeof(uint64_t));
    return sum;
}

static void steps(struct caller *c, size_t batch, size_t round)
{
    size_t V = c->bench->gemma.config.vocab_size, row[MAX_ROWS], position[MAX_ROWS];
    int32_t token[MAX_ROWS];

    for (size_t b = 0; b < batch; b++) {
        row[b] = b;
        token[b] = (int32_t)(108 + b + 64 * round);
    }
    for (size_t i = 0; i < STEPS; i++) {
        for (size_t b = 0; b < batch; b++)
            position[b] = PREFIX + i;
        gemma_decoder_step(&c->decoder, batch, row, position, token, c->logits);
        for (size_t b = 0; b < batch; b++)
            if (sampler_argmax(c->logits + b * V, V, &token[b], &c->err) != ST_OK)
                abort();
    }
}

static void run_kind(struct caller *c, size_t kind, size_t round)
{
    if (kind >= STEP)
        steps(c, c->bench->batches[kind - STEP], round);
    for (size_t i = 0; i < READS; i++)
        switch (kind) {
        case READ:
            c->sum += reading_sum(c->words, c->n_words);
            break;
        case READ_STREAMS:
            c->sum += reading_sum_in_streams(c->words, c->n_words);
            break;
        case READ_WEIGHTS:
            c->sum += read_weights(&c->bench->gemma);
            break;
        default:
            break;
        }
}

static void *work(void *argument)
{
    struct caller *c = argument;

    for (size_t round = 0; round < c->bench->rounds; round++)
        for (size_t kind = 0; kind < STEP + c->bench->n_batches; kind++) {
            int64_t own, begin;

            (void)pthread_barrier_wait(&c->bench->together);
            begin = clock_monotonic_ns();
            own = clock_cpu_ns();
            run_kind(c, kind, round);
            c->own[round][kind] = clock_cpu_ns() - own;
            c->clock[round][kind] = clock_monotonic_ns() - begin;
        }
    return NULL;
}

/* Keys and values of the prefix: small random numbers, the same for all rows. */
static void fill_cache(struct kv_cache *cache)
{
    float k[1024], v[1024];
    uint32_t seed = 7;

    if (cache->width > ARRAY_LEN(k))
        abort();
    for (size_t layer = 0; layer < cache->shape.n_layers; layer++)
        for (size_t t = 0; t < PREFIX; t++) {
            for (size_t d = 0; d < cache->width; d++) {
                seed = 1664525u * seed + 1013904223u;
                k[d] = (float)(seed >> 8) * 0x1p-24f - 0.5f;
                v[d] = k[d] * 0.5f;
            }
            for (size_t row = 0; row < cache->shape.n_rows; row++)
                kv_cache_put(cache, layer, row, t, 1, k, v);
        }
}

static enum status caller_init(struct caller *c, struct bench *bench)
{
    size_t rows = 1;
    enum status st;

    for (size_t i = 0; i < bench->n_batches; i++)
        rows = MAX(rows, bench->batches[i]);
    c->bench = bench;
    c->n_words = read_bytes / sizeof *c->words / bench->n_threads;
    arena_init(&c->arena, (size_t)16 << 30);
    st = gemma_decoder_init(&c->decoder, &bench->gemma, rows, PREFIX + STEPS, &c->arena, &c->err);
    if (st == ST_OK)
        st = arena_alloc(&c->arena, rows * bench->gemma.config.vocab_size * sizeof(float),
                         &c->logits, &c->err);
    if (st != ST_OK)
        return st;
    c->words = aligned_alloc(64, c->n_words * sizeof *c->words);
    if (c->words == NULL)
        return error_set(&c->err, ST_NO_MEMORY, "could not allocate what is read");
    memory_prefer_huge_pages(c->words, c->n_words * sizeof *c->words);
    memset(c->words, 1, c->n_words * sizeof *c->words);
    fill_cache(&c->decoder.cache);
    return ST_OK;
}

/* The tensors' pools overlap: what is read as stored gets memory of its own. */
static enum status copy_tensors(struct random_paligemma *m, bool huge, void **copy,
                                struct error *err)
{
    size_t bytes = 0, at = 0;

    for (size_t i = 0; i < m->n; i++)
        if (strncmp(m->tensors[i].name, prefix, sizeof prefix - 1) == 0)
            bytes += (m->tensors[i].data.len + 63) / 64 * 64;
    *copy = aligned_alloc((size_t)2 << 20, (bytes >> 21 << 21) + (2 << 20));
    if (*copy == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate %zu bytes of weights", bytes);
    if (huge)
        memory_prefer_huge_pages(*copy, bytes);
    for (size_t i = 0; i < m->n; i++) {
        struct bytes_view *data = &m->tensors[i].data;
        char *to = (char *)*copy + at;

        if (strncmp(m->tensors[i].name, prefix, sizeof prefix - 1) != 0)
            continue;
        memcpy(to, data->data, data->len);
        *data = bytes_view_of(to, data->len);
        at += (data->len + 63) / 64 * 64;
    }
    return ST_OK;
}

static enum status load(struct bench *bench, struct random_paligemma *m, const char *form,
                        enum kv_type kv, struct error *err)
{
    struct snapshot snapshot;
    const struct matrix *w;
    bool int8 = strcmp(form, "int8") == 0;
    enum status st = ST_OK;

    paligemma2_3b_snapshot(&snapshot);
    if (!random_paligemma_init(m, &snapshot))
        return error_set(err, ST_NO_MEMORY, "could not allocate random weights");
    snapshot.decoder.matrices = int8 ? MATRIX_INT8 : MATRIX_FLOAT32;
    snapshot.decoder.kv_type = kv;
    if (!int8)
        st = copy_tensors(m, strcmp(form, "huge") == 0, &bench->copy, err);
    if (st == ST_OK)
        st = weights_create(m->tensors, m->n, &bench->weights, err);
    if (st == ST_OK)
        st = gemma_load(bench->weights, prefix, &snapshot.decoder, &bench->gemma, err);
    for (size_t i = 0; st == ST_OK && (w = matrix_at(&bench->gemma, i)) != NULL; i++)
        bench->weight_bytes += matrix_bytes(w);
    return st;
}

/* Work a second, all callers together: of their own time, or until the last is done. */
static double rate(const struct bench *bench, const struct caller *callers, size_t kind,
                   size_t round, double work_of_caller, bool own)
{
    double sum = 0;
    int64_t last = 0;

    for (size_t i = 0; i < bench->n_threads; i++) {
        sum += work_of_caller / ((double)callers[i].own[round][kind] * 1e-9);
        last = MAX(last, callers[i].clock[round][kind]);
    }
    return own ? sum : work_of_caller * (double)bench->n_threads / ((double)last * 1e-9);
}

static double median_rate(const struct bench *bench, const struct caller *callers, size_t kind,
                          double work_of_caller, bool own)
{
    double values[MAX_ROUNDS];

    for (size_t round = 0; round < bench->rounds; round++)
        values[round] = rate(bench, callers, kind, round, work_of_caller, own);
    return median(values, bench->rounds);
}

static double median_share(const struct bench *bench, const struct caller *callers)
{
    double own = 0, clock = 0;

    for (size_t i = 0; i < bench->n_threads; i++)
        for (size_t round = 0; round < bench->rounds; round++)
            for (size_t kind = 0; kind < STEP + bench->n_batches; kind++) {
                own += (double)callers[i].own[round][kind];
                clock += (double)callers[i].clock[round][kind];
            }
    return own / clock;
}

static void report(const struct bench *bench, const struct caller *callers, const char *form,
                   const char *kv)
{
    double weights = (double)bench->weight_bytes * 1e-9, share[MAX_ROUNDS];
    double own_bytes = (double)(callers[0].n_words * sizeof(uint64_t) * READS) * 1e-9;
    double read = MAX(median_rate(bench, callers, READ, own_bytes, true),
                      median_rate(bench, callers, READ_STREAMS, own_bytes, true));

    (void)printf("{\"form\": \"%s\", \"kv\": \"%s\", \"threads\": %zu, \"weight_gb\": %.3f, "
                 "\"read_gb\": %.2f, \"read_one_stream_gb\": %.2f, \"weights_read_gb\": %.2f, "
                 "\"steps\": [",
                 form, kv, bench->n_threads, weights, read,
                 median_rate(bench, callers, READ, own_bytes, true),
                 median_rate(bench, callers, READ_WEIGHTS, weights * READS, true));
    for (size_t i = 0; i < bench->n_batches; i++) {
        size_t kind = STEP + i;
        double tokens = (double)(bench->batches[i] * STEPS);

        for (size_t round = 0; round < bench->rounds; round++)
            share[round] = rate(bench, callers, kind, round, weights * STEPS, true) /
                           MAX(rate(bench, callers, READ, round, own_bytes, true),
                               rate(bench, callers, READ_STREAMS, round, own_bytes, true));
        (void)printf("%s{\"rows\": %zu, \"tokens_clock\": %.2f, \"tokens\": %.2f, "
                     "\"weights_gb\": %.2f, \"of_read\": %.3f}",
                     i > 0 ? ", " : "", bench->batches[i] * bench->n_threads,
                     median_rate(bench, callers, kind, tokens, false),
                     median_rate(bench, callers, kind, tokens, true),
                     median_rate(bench, callers, kind, weights * STEPS, true),
                     median(share, bench->rounds));
    }
    (void)printf("], \"share\": %.3f}\n", median_share(bench, callers));
}

static enum status measure(struct bench *bench, struct caller *callers, struct error *err)
{
    enum status st = ST_OK;

    if (pthread_barrier_init(&bench->together, NULL, (unsigned)bench->n_threads) != 0)
        return error_set(err, ST_INTERNAL, "could not create a barrier");
    for (size_t i = 0; i < bench->n_threads && st == ST_OK; i++) {
        st = caller_init(&callers[i], bench);
        if (st != ST_OK)
            *err = callers[i].err;
    }
    for (size_t i = 0; i < bench->n_threads && st == ST_OK; i++)
        if (pthread_create(&callers[i].thread, NULL, work, &callers[i]) != 0)
            abort();
    for (size_t i = 0; i < bench->n_threads && st == ST_OK; i++)
        (void)pthread_join(callers[i].thread, NULL);
    (void)pthread_barrier_destroy(&bench->together);
    return st;
}

static bool parse_batches(const char *text, struct bench *bench)
{
    char *end;

    for (bench->n_batches = 0; bench->n_batches < MAX_BATCHES; text = end + 1) {
        unsigned long batch = strtoul(text, &end, 10);

        if (end == text || batch == 0 || batch > MAX_ROWS || (*end != ',' && *end != '\0'))
            return false;
        bench->batches[bench->n_batches++] = batch;
        if (*end == '\0')
            return true;
    }
    return false;
}

static bool one_of(const char *word, const char *const *words, size_t n, size_t *index)
{
    for (*index = 0; *index < n; ++*index)
        if (strcmp(word, words[*index]) == 0)
            return true;
    return false;
}

int main(int argc, char **argv)
{
    static const char *const forms[] = {"int8", "stored", "huge"};
    static const char *const kvs[] = {"float32", "bfloat16", "int8"}; /* enum kv_type */
    static struct bench bench;
    static struct caller callers[MAX_THREADS];
    static struct random_paligemma m;
    int64_t rounds = 5, n = 2;
    size_t form = 0, kv = 0;
    struct error err = {0};
    enum status st;

    if (argc > 6 || (argc > 1 && parse_i64(argv[1], 1, MAX_ROUNDS, &rounds, &err) != ST_OK) ||
        (argc > 2 && parse_i64(argv[2], 1, MAX_THREADS, &n, &err) != ST_OK) ||
        (argc > 3 && !one_of(argv[3], forms, ARRAY_LEN(forms), &form)) ||
        !parse_batches(argc > 4 ? argv[4] : "1,8,32", &bench) ||
        (argc > 5 && !one_of(argv[5], kvs, ARRAY_LEN(kvs), &kv))) {
        (void)fprintf(
            stderr, "usage: bench_decode [ROUNDS [THREADS [int8|stored|huge [BATCH,... [KV]]]]]\n");
        return 2;
    }
    bench.rounds = (size_t)rounds;
    bench.n_threads = (size_t)n;
    st = gemm_init(&err);
    if (st == ST_OK)
        st = load(&bench, &m, forms[form], (enum kv_type)kv, &err);
    if (st == ST_OK)
        st = measure(&bench, callers, &err);
    if (st == ST_OK)
        report(&bench, callers, forms[form], kvs[kv]);
    else
        (void)fprintf(stderr, "bench_decode: %s\n", err.message);
    for (size_t i = 0; i < bench.n_threads; i++) {
        arena_release(&callers[i].arena);
        free(callers[i].words);
    }
    gemma_release(&bench.gemma);
    weights_destroy(&bench.weights);
    free(bench.copy);
    random_paligemma_release(&m);
    return st == ST_OK ? 0 : 1;
}
