/* PaliGemma in bfloat16, in int8 and with caches of other types, against itself in float32. */
#include "reinforce/nn/convert.h"
#include "reinforce/nn/gemm.h"
#include "tests/support/paligemma_distance.h"
#include "tests/support/random_paligemma.h"
#include "tests/support/test.h"

#include <stdlib.h>

/* A random model as deep as errors need to add up, and as wide as they need to average. */
struct fixture {
    struct random_paligemma *random;
    struct weights *weights;
    struct snapshot snapshot;
    struct arena arena;
};

static void open_fixture(struct fixture *f)
{
    struct error err = {0};

    assert_ok(gemm_init(&err));
    paligemma2_3b_snapshot(&f->snapshot);
    f->snapshot.vision.image_size = 56;
    f->snapshot.vision.shape.width = 192;
    f->snapshot.vision.shape.n_layers = 4;
    f->snapshot.vision.shape.mlp_width = 500;
    f->snapshot.vision.shape.n_heads = 4;
    f->snapshot.decoder.width = 384;
    f->snapshot.decoder.n_layers = 8;
    f->snapshot.decoder.mlp_width = 1536;
    f->snapshot.decoder.n_heads = 4;
    f->snapshot.decoder.n_kv_heads = 2;
    f->snapshot.decoder.head_dim = 128;
    f->snapshot.decoder.query_scale = 0.088388f;
    f->snapshot.decoder.vocab_size = 3000;
    f->random = calloc(1, sizeof *f->random);
    assert_non_null(f->random);
    assert_true(random_paligemma_init(f->random, &f->snapshot));
    assert_ok(weights_create(f->random->tensors, f->random->n, &f->weights, &err));
    arena_init(&f->arena, (size_t)1 << 30);
}

static void close_fixture(struct fixture *f)
{
    weights_destroy(&f->weights);
    random_paligemma_release(f->random);
    free(f->random);
    arena_release(&f->arena);
}

enum { N_STEPS = 60 };

static void assert_close(const struct paligemma_distance *d, const char *what, double share,
                         double same)
{
    print_message("%s: mean error %.2f %% of the deviation, %zu of %zu clear choices\n", what,
                  100 * paligemma_distance_error(d), d->same, d->clear);
    assert_true(d->clear > N_STEPS / 2);
    assert_true(paligemma_distance_error(d) < share);
    assert_true((double)d->same >= same * (double)d->clear);
}

/* PALI 23: below 3 % of the logits' deviation, and 99 % of clear choices; the caches alone less */
static void int8_is_near_float32(void **state)
{
    static const struct {
        const char *name;
        enum matrix_form form;
        enum kv_type kv_type;
        double share;
    } modes[] = {{"int8", MATRIX_INT8, KV_FLOAT32, 0.03},
                 {"cache in bfloat16", MATRIX_FLOAT32, KV_BFLOAT16, 0.01},
                 {"cache in int8", MATRIX_FLOAT32, KV_INT8, 0.01},
                 {"int8, cache too", MATRIX_INT8, KV_INT8, 0.03}};
    struct fixture f;
    float *want, *got;

    (void)state;
    open_fixture(&f);
    want = paligemma_forced_logits(&f.snapshot, f.weights, N_STEPS, &f.arena);
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        struct arena mark = f.arena;
        struct paligemma_distance d = {0};

        f.snapshot.decoder.matrices = f.snapshot.vision.matrices = modes[i].form;
        f.snapshot.decoder.kv_type = modes[i].kv_type;
        got = paligemma_forced_logits(&f.snapshot, f.weights, N_STEPS, &f.arena);
        paligemma_distance_add(&d, want, got, N_STEPS, f.snapshot.decoder.vocab_size);
        assert_close(&d, modes[i].name, modes[i].share, 0.99);
        arena_rewind(&f.arena, &mark);
    }
    close_fixture(&f);
}

/* PALI 23, of weights that bfloat16 rounds by up to half a step */
static void bfloat16_weights_are_near_float32(void **state)
{
    struct fixture f;
    struct tensor *fine = calloc(RANDOM_PALIGEMMA_TENSORS, sizeof *fine), *half;
    struct weights *weights[2] = {NULL, NULL};
    struct paligemma_distance d = {0};
    struct error err = {0};

    (void)state;
    open_fixture(&f);
    half = f.random->tensors;
    assert_non_null(fine);
    for (size_t i = 0; i < f.random->n; i++) {
        size_t n = tensor_count(&half[i]);
        float *values = malloc(n * sizeof *values);
        uint16_t *rounded = malloc(n * sizeof *rounded);

        assert_true(values != NULL && rounded != NULL);
        convert_bf16(half[i].data.data, n, values);
        for (size_t j = 0; j < n; j++) /* up to half a step away */
            values[j] *= 1 + ((float)(j * 2654435761u % 4096) / 4096 - 0.5f) * 0x1p-8f;
        convert_to_bf16(values, n, rounded);
        fine[i] = half[i];
        fine[i].dtype = TENSOR_F32;
        fine[i].data = bytes_view_of(values, n * sizeof *values);
        half[i].data = bytes_view_of(rounded, n * sizeof *rounded);
    }
    assert_ok(weights_create(fine, f.random->n, &weights[0], &err));
    assert_ok(weights_create(half, f.random->n, &weights[1], &err));
    paligemma_distance_add(&d, paligemma_forced_logits(&f.snapshot, weights[0], N_STEPS, &f.arena),
                           paligemma_forced_logits(&f.snapshot, weights[1], N_STEPS, &f.arena),
                           N_STEPS, f.snapshot.decoder.vocab_size);
    assert_close(&d, "bfloat16 weights", 0.01, 1);
    for (size_t i = 0; i < f.random->n; i++) {
        union {
            const uint8_t *in;
            void *out;
        } values = {.in = fine[i].data.data}, rounded = {.in = half[i].data.data};

        free(values.out);
        free(rounded.out);
    }
    free(fine);
    weights_destroy(&weights[0]);
    weights_destroy(&weights[1]);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(int8_is_near_float32),
        cmocka_unit_test(bfloat16_weights_are_near_float32),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
