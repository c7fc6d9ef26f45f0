/* PaliGemma 2 3B at full size, random weights in bfloat16, as stored and in int8: gigabytes, which
 * is why it is a slow test (ctest -C slow -R slow.paligemma2_3b). Loads, runs, stays within the
 * estimate of its memory; int8 is near float32. */
#include "reinforce/base/clock.h"
#include "reinforce/models/paligemma.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/nn/ops.h"
#include "tests/support/paligemma_distance.h"
#include "tests/support/random_paligemma.h"
#include "tests/support/test.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 4, CAPACITY = 300, STEPS = 6, PREFIX_TEXT = 4, FORCED_STEPS = 12 };

/* The largest resident size since reset_peak(). */
static size_t peak_bytes(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[128];
    size_t bytes = 0;

    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        uintmax_t kib;

        if (sscanf(line, "VmHWM: %" SCNuMAX, &kib) == 1)
            bytes = (size_t)kib * 1024;
    }
    (void)fclose(file);
    return bytes;
}

static void reset_peak(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "we");

    assert_non_null(file);
    assert_true(fputs("5\n", file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static double seconds_since(int64_t begin)
{
    return (double)(clock_monotonic_ns() - begin) * 1e-9;
}

/* Prefix of one image into row 0, from there to the others, and some tokens in all. */
static void run(const struct paligemma *p, struct gemma_decoder *decoder, struct arena *scratch)
{
    static const int32_t text[PREFIX_TEXT] = {2, 16995, 657, 108};
    size_t D = p->gemma.config.width, V = p->gemma.config.vocab_size, n = p->n_image_tokens;
    size_t S = n + PREFIX_TEXT, row[ROWS], position[ROWS];
    float *pixels, *tokens, *x, *logits;
    int32_t token[ROWS];
    struct error err = {0};
    int64_t begin = clock_monotonic_ns();

    assert_ok(arena_alloc(scratch, 3 * 224 * 224 * sizeof *pixels, &pixels, &err));
    assert_ok(arena_alloc(scratch, n * D * sizeof *tokens, &tokens, &err));
    assert_ok(arena_alloc(scratch, S * D * sizeof *x, &x, &err));
    assert_ok(arena_alloc(scratch, ROWS * V * sizeof *logits, &logits, &err));
    for (size_t i = 0; i < 3 * 224 * 224; i++)
        pixels[i] = (float)(i * 7919 % 255) / 127.5f - 1;
    assert_ok(paligemma_encode_image(p, pixels, scratch, tokens, &err));
    print_message("image tower: %.2f s\n", seconds_since(begin));
    assert_ok(paligemma_prefix(p, tokens, text, PREFIX_TEXT, x, &err));
    begin = clock_monotonic_ns();
    assert_ok(gemma_prefill(&p->gemma, x, S, S, &decoder->cache, 0, false, scratch, &err));
    print_message("prefill of %zu tokens: %.2f s\n", S, seconds_since(begin));
    for (size_t i = 0; i < ROWS; i++) {
        row[i] = 1 + i;
        token[i] = 108 + (int32_t)i;
        kv_cache_copy_row(&decoder->cache, 0, row[i], 0, S - 1);
    }
    begin = clock_monotonic_ns();
    for (size_t step = 0; step < STEPS; step++) {
        for (size_t i = 0; i < ROWS; i++)
            position[i] = S - 1 + step;
        gemma_decoder_step(decoder, ROWS, row, position, token, logits);
        assert_true(ops_all_finite(logits, ROWS * V));
        for (size_t i = 0; i < ROWS; i++) {
            token[i] = 0;
            for (size_t v = 1; v < V; v++)
                if (logits[i * V + v] > logits[i * V + (size_t)token[i]])
                    token[i] = (int32_t)v;
        }
    }
    print_message("step of %d rows: %.2f s\n", (int)ROWS, seconds_since(begin) / STEPS);
    for (size_t i = 1; i < ROWS; i++)
        assert_true(token[i] >= 0 && (size_t)token[i] < V);
}

/* The estimate against what is resident in addition to the pieces that stand for a file. As stored,
 * a file's pages are part of the model, so what whole tensors would have is added. */
static void measure(const struct random_paligemma *m, const struct snapshot *snapshot)
{
    struct weights *weights = NULL;
    struct paligemma p;
    struct paligemma_memory memory;
    struct gemma_decoder decoder;
    struct arena arena, scratch;
    struct error err = {0};
    bool int8 = snapshot->decoder.matrices == MATRIX_INT8;
    size_t before, used, estimate;
    int64_t begin = clock_monotonic_ns();

    print_message("%s\n", int8 ? "int8" : "as stored");
    reset_peak();
    before = peak_bytes();
    assert_ok(weights_create(m->tensors, m->n, &weights, &err));
    assert_ok(paligemma_load(snapshot, weights, &p, &err));
    print_message("loaded: %.1f s\n", seconds_since(begin));
    paligemma_memory(snapshot, weights, 1 + ROWS, CAPACITY, &memory);
    estimate = memory.weights + memory.cache + memory.activations;
    arena_init(&arena, memory.cache + (1 << 20));
    arena_init(&scratch, (size_t)4 << 30);
    assert_ok(gemma_decoder_init(&decoder, &p.gemma, 1 + ROWS, CAPACITY, &arena, &err));
    run(&p, &decoder, &scratch);
    used = peak_bytes() - before + (int8 ? 0 : random_paligemma_stored_bytes(m));
    print_message("memory: %.2f GB, estimated %.2f (weights %.2f, cache %.2f, activations %.2f)\n",
                  (double)used / 1e9, (double)estimate / 1e9, (double)memory.weights / 1e9,
                  (double)memory.cache / 1e9, (double)memory.activations / 1e9);
    assert_true((double)used < 1.1 * (double)estimate && (double)used > 0.9 * (double)estimate);
    arena_release(&arena);
    arena_release(&scratch);
    paligemma_release(&p);
    weights_destroy(&weights);
}

static struct random_paligemma *make(struct snapshot *snapshot)
{
    struct random_paligemma *m = calloc(1, sizeof *m);
    struct error err = {0};

    assert_non_null(m);
    assert_ok(gemm_init(&err));
    paligemma2_3b_snapshot(snapshot);
    assert_true(random_paligemma_init(m, snapshot));
    return m;
}

/* PALI 1, 29 and section 13 at full size */
static void paligemma_2_3b_runs_within_the_memory_it_is_said_to_need(void **state)
{
    struct snapshot snapshot;
    struct random_paligemma *m = make(&snapshot);

    (void)state;
    assert_int_equal(m->parameters - RANDOM_PALIGEMMA_EXTRA_ROWS * snapshot.decoder.width,
                     3032094960);
    assert_int_equal(paligemma_n_parameters(&snapshot), 3032094960);
    measure(m, &snapshot);
    snapshot.decoder.matrices = snapshot.vision.matrices = MATRIX_INT8;
    snapshot.decoder.kv_type = KV_INT8;
    measure(m, &snapshot);
    random_paligemma_release(m);
    free(m);
}

/* PALI 23 at full size */
static void paligemma_2_3b_in_int8_is_near_float32(void **state)
{
    struct snapshot snapshot;
    struct random_paligemma *m = make(&snapshot);
    float *logits[2];
    struct paligemma_distance d = {0};
    struct arena arena;
    struct error err = {0};

    (void)state;
    arena_init(&arena, (size_t)2 << 30);
    for (int form = MATRIX_FLOAT32; form <= MATRIX_INT8; form++) {
        struct weights *weights = NULL;

        snapshot.decoder.matrices = snapshot.vision.matrices = (enum matrix_form)form;
        assert_ok(weights_create(m->tensors, m->n, &weights, &err));
        logits[form] = paligemma_forced_logits(&snapshot, weights, FORCED_STEPS, &arena);
        weights_destroy(&weights);
    }
    paligemma_distance_add(&d, logits[0], logits[1], FORCED_STEPS, snapshot.decoder.vocab_size);
    print_message("mean error %.2f %% of the deviation, %zu of %zu clear choices\n",
                  100 * paligemma_distance_error(&d), d.same, d.clear);
    assert_true(paligemma_distance_error(&d) < 0.03 && d.clear > 0 && d.same == d.clear);
    arena_release(&arena);
    random_paligemma_release(m);
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paligemma_2_3b_runs_within_the_memory_it_is_said_to_need),
        cmocka_unit_test(paligemma_2_3b_in_int8_is_near_float32),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
