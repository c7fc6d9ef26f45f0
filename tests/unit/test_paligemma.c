/* PaliGemma and its decoders against transformers 4.49 (tests/golden/make_paligemma.py). */
#include "reinforce/nn/ops.h"
#include "tests/support/floats.h"
#include "tests/support/paligemma_golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_TENSORS = 256, CAPACITY = 96 };

static float *floats(struct paligemma_golden *g, size_t n)
{
    struct error err = {0};
    float *out;

    assert_ok(arena_alloc(&g->arena, n * sizeof *out, &out, &err));
    return out;
}

/* Prefix of picture and prompt k and what the golden says behind it, embedded: [*T, D]. */
static float *sequence(struct paligemma_golden *g, const struct paligemma *model, size_t k,
                       const int32_t *said, size_t n_said, size_t *n_prefix, size_t *T)
{
    size_t D = model->gemma.config.width, n = model->n_image_tokens;
    int32_t ids[64];
    size_t n_ids = paligemma_golden_prompt(g, k, ids);
    float *x = floats(g, (n + n_ids + n_said) * D);
    struct error err = {0};

    *n_prefix = n + n_ids;
    *T = *n_prefix + n_said;
    assert_ok(
        paligemma_prefix(model, paligemma_golden_tokens(g, model, (int)k), ids, n_ids, x, &err));
    assert_ok(gemma_embed(&model->gemma, said, n_said, x + *n_prefix * D, &err));
    return x;
}

static void init_cache(struct paligemma_golden *g, const struct gemma_config *c, size_t capacity,
                       struct kv_cache *cache)
{
    const struct kv_shape shape = {.n_layers = c->n_layers,
                                   .n_heads = c->n_kv_heads,
                                   .head_dim = c->head_dim,
                                   .n_rows = 1,
                                   .capacity = capacity};
    struct error err = {0};

    assert_ok(kv_cache_init(cache, &shape, &g->arena, &err));
}

/* Logits from the newline on, all at once: [1 + n_said, V]. */
static float *whole_logits(struct paligemma_golden *g, const struct paligemma *model, size_t k,
                           const int32_t *said, size_t n_said)
{
    const struct gemma_config *c = &model->gemma.config;
    size_t n_prefix, T;
    float *x = sequence(g, model, k, said, n_said, &n_prefix, &T);
    float *logits = floats(g, (1 + n_said) * c->vocab_size);
    struct kv_cache cache;
    struct error err = {0};

    init_cache(g, c, T, &cache);
    assert_ok(gemma_prefill(&model->gemma, x, T, n_prefix, &cache, 0, true, &g->scratch, &err));
    gemma_head(&model->gemma, x + (n_prefix - 1) * c->width, 1 + n_said, logits,
               floats(g, gemma_rows_floats(c, 1 + n_said)));
    return logits;
}

/* The same token by token, the newline first. */
static float *stepped_logits(struct paligemma_golden *g, const struct paligemma *model, size_t k,
                             const int32_t *said, size_t n_said, bool finish)
{
    const struct gemma_config *c = &model->gemma.config;
    size_t n_prefix, T, row = 1;
    float *x = sequence(g, model, k, NULL, 0, &n_prefix, &T);
    float *logits = floats(g, (1 + n_said) * c->vocab_size);
    int32_t ids[64], newline;
    struct gemma_decoder decoder;
    struct error err = {0};

    newline = ids[paligemma_golden_prompt(g, k, ids) - 1];
    assert_ok(gemma_decoder_init(&decoder, &model->gemma, 2, CAPACITY, &g->arena, &err));
    assert_ok(gemma_prefill(&model->gemma, x, n_prefix, n_prefix, &decoder.cache, 0, finish,
                            &g->scratch, &err));
    kv_cache_copy_row(&decoder.cache, 0, 1, 0, n_prefix - 1);
    for (size_t i = 0; i <= n_said; i++) {
        size_t position = n_prefix - 1 + i;

        gemma_decoder_step(&decoder, 1, &row, &position, i == 0 ? &newline : &said[i - 1],
                           logits + i * c->vocab_size);
    }
    return logits;
}

/* PALI 18: Pillow's bytes, of thin, tiny and large pictures too */
static void pictures_are_resized_to_pillows_bytes(void **state)
{
    (void)state;
    for (size_t d = 0; d < ARRAY_LEN(paligemma_golden_dirs); d++) {
        struct paligemma_golden g;
        struct error err = {0};
        const json_t *list;

        paligemma_golden_open(&g, paligemma_golden_dirs[d]);
        list = json_object_get(g.words, "resized");
        assert_int_equal(json_array_size(list), 200);
        for (size_t k = 0; k < json_array_size(list); k++) {
            const json_t *want = json_array_get(list, k);
            int height = (int)json_integer_value(json_array_get(want, 0));
            int width = (int)json_integer_value(json_array_get(want, 1));
            char hex[SHA256_HEX_LEN + 1];
            struct image picture, square;

            arena_reset(&g.arena);
            paligemma_golden_pattern((int)k % 20, height, width, &g.arena, &picture);
            assert_ok(preprocess_pixels(&g.snapshot.preprocess, &picture, &g.arena, &square, &err));
            sha256_of(bytes_view_of(square.pixels, image_bytes(&square)), hex);
            if (strncmp(hex, json_string_value(json_array_get(want, 2)), 16) != 0)
                fail_msg("%d x %d pixels: other bytes than Pillow's", height, width);
        }
        paligemma_golden_close(&g);
    }
}

/* PALI 20, 21: tower and projector, which is linear and nothing else */
static void the_image_side_agrees_with_the_reference(void **state)
{
    (void)state;
    for (size_t d = 0; d < ARRAY_LEN(paligemma_golden_dirs); d++) {
        struct paligemma_golden g;
        const float *projected, *got;
        size_t n;

        paligemma_golden_open(&g, paligemma_golden_dirs[d]);
        projected = paligemma_golden_get(&g, "projected", &n);
        got = paligemma_golden_tokens(&g, &g.model, 0);
        assert_int_equal(n, g.model.n_image_tokens * g.model.gemma.config.width);
        assert_near(got, projected, n, 1e-4, paligemma_golden_dirs[d]);
        paligemma_golden_close(&g);
    }
}

/* PALI 6 (which norm is which), 22, 23 (the second model is bfloat16), 24 (with the window) and
 * 13 (what is cached equals what is whole) */
static void logits_agree_with_the_reference_whole_and_stepped(void **state)
{
    static const char *const suffixes[] = {"", "_window"};

    (void)state;
    for (size_t d = 0; d < ARRAY_LEN(paligemma_golden_dirs); d++) {
        struct paligemma_golden g;
        size_t window;

        paligemma_golden_open(&g, paligemma_golden_dirs[d]);
        window = g.model.gemma.config.window;
        for (size_t w = 0; w < (window > 0 ? 2 : 1); w++) {
            g.model.gemma.config.window = w == 0 ? 0 : window;
            for (size_t p = 0; p < PALIGEMMA_N_PROMPTS; p++) {
                size_t n, n_said;
                char name[64];
                const int32_t *said;
                const float *want, *whole, *stepped;

                (void)snprintf(name, sizeof name, "said_%zu%s", p, suffixes[w]);
                said = paligemma_golden_get(&g, name, &n_said);
                (void)snprintf(name, sizeof name, "logits_%zu%s", p, suffixes[w]);
                want = paligemma_golden_get(&g, name, &n);
                assert_int_equal(n, (1 + n_said) * g.model.gemma.config.vocab_size);
                whole = whole_logits(&g, &g.model, p, said, n_said);
                assert_near(whole, want, n, 1e-3, name);
                stepped = stepped_logits(&g, &g.model, p, said, n_said, false);
                assert_near(stepped, whole, n, 1e-4, "stepped");
            }
        }
        paligemma_golden_close(&g);
    }
}

/* PALI 28: whether the last layer of a prefill is finished changes no bit behind it */
static void a_last_layer_left_unfinished_changes_no_bit(void **state)
{
    struct paligemma_golden g;
    const int32_t said[] = {7, 300, 5};
    const float *pruned, *finished;

    (void)state;
    paligemma_golden_open(&g, paligemma_golden_dirs[1]);
    pruned = stepped_logits(&g, &g.model, 0, said, 3, false);
    finished = stepped_logits(&g, &g.model, 0, said, 3, true);
    assert_memory_equal(pruned, finished, 4 * g.model.gemma.config.vocab_size * sizeof *pruned);
    paligemma_golden_close(&g);
}

/* PALI 24: a window longer than the sequence is none, to the bit */
static void a_window_nobody_reaches_changes_no_bit(void **state)
{
    struct paligemma_golden g;
    const int32_t said[] = {7, 300, 5};
    const float *without, *with;

    (void)state;
    paligemma_golden_open(&g, paligemma_golden_dirs[2]);
    g.model.gemma.config.window = 0;
    without = stepped_logits(&g, &g.model, 0, said, 3, false);
    g.model.gemma.config.window = 4096;
    with = stepped_logits(&g, &g.model, 0, said, 3, false);
    assert_memory_equal(without, with, 4 * g.model.gemma.config.vocab_size * sizeof *with);
    paligemma_golden_close(&g);
}

/* PALI 12: the prefix is read in both directions */
static void the_last_prompt_token_changes_what_the_image_is(void **state)
{
    struct paligemma_golden g;
    struct kv_cache cache;
    struct error err = {0};
    const struct gemma_config *c;
    float *x[2];
    size_t n_prefix, T, D;

    (void)state;
    paligemma_golden_open(&g, paligemma_golden_dirs[0]);
    c = &g.model.gemma.config;
    D = c->width;
    for (int i = 0; i < 2; i++) {
        x[i] = sequence(&g, &g.model, 0, NULL, 0, &n_prefix, &T);
        x[i][(T - 1) * D] += (float)i;
        init_cache(&g, c, T, &cache);
        assert_ok(
            gemma_prefill(&g.model.gemma, x[i], T, n_prefix, &cache, 0, true, &g.scratch, &err));
    }
    assert_memory_not_equal(x[0], x[1], D * sizeof *x[0]);
    paligemma_golden_close(&g);
}

/* PALI 14: the image's rows are not scaled, the text's are, by sqrt(D) */
static void image_tokens_enter_as_they_are(void **state)
{
    struct paligemma_golden g;
    struct error err = {0};
    const float *tokens;
    int32_t ids[64];
    float *x, row[64];
    size_t n, D, n_ids;

    (void)state;
    paligemma_golden_open(&g, paligemma_golden_dirs[1]);
    D = g.model.gemma.config.width;
    n = g.model.n_image_tokens;
    n_ids = paligemma_golden_prompt(&g, 0, ids);
    x = floats(&g, (n + n_ids) * D);
    tokens = paligemma_golden_tokens(&g, &g.model, 0);
    assert_ok(paligemma_prefix(&g.model, tokens, ids, n_ids, x, &err));
    assert_memory_equal(x, tokens, n * D * sizeof *x);
    matrix_row(&g.model.gemma.embedding, (size_t)ids[0], row);
    for (size_t d = 0; d < D; d++)
        assert_true(x[n * D + d] == row[d] * sqrtf((float)D));
    ids[0] = (int32_t)g.model.gemma.config.vocab_size; /* <image> is not embedded */
    assert_int_equal(paligemma_prefix(&g.model, tokens, ids, n_ids, x, &err), ST_INVALID);
    paligemma_golden_close(&g);
}

/* PALI 10: a query scale that is not the head's */
static void the_query_scale_is_the_configs(void **state)
{
    struct paligemma_golden g;
    size_t n, n_said;
    const int32_t *said;
    const float *want, *got;
    bool differs = false;

    (void)state;
    paligemma_golden_open(&g, paligemma_golden_dirs[2]);
    assert_true(fabsf(g.model.gemma.config.query_scale - 1 / sqrtf(6)) < 1e-6f);
    g.model.gemma.config.window = 0;
    g.model.gemma.config.query_scale = 1 / sqrtf(8);
    said = paligemma_golden_get(&g, "said_0", &n_said);
    want = paligemma_golden_get(&g, "logits_0", &n);
    got = whole_logits(&g, &g.model, 0, said, n_said);
    for (size_t i = 0; i < n; i++)
        differs = differs || fabsf(got[i] - want[i]) > 2e-3f;
    assert_true(differs);
    paligemma_golden_close(&g);
}

/* PALI 11 */
static void the_final_cap_changes_scores_and_no_choice(void **state)
{
    enum { RUNS = 1000 };
    struct paligemma_golden g;
    size_t D, V;
    float *x, *logits[2];
    uint32_t seed = 1;

    (void)state;
    paligemma_golden_open(&g, paligemma_golden_dirs[1]);
    D = g.model.gemma.config.width;
    V = g.model.gemma.config.vocab_size;
    x = floats(&g, D);
    logits[0] = floats(&g, V);
    logits[1] = floats(&g, V);
    for (int run = 0; run < RUNS; run++) {
        size_t best[2] = {0, 0};

        for (int capped = 0; capped < 2; capped++) {
            uint32_t s = seed;

            for (size_t d = 0; d < D; d++) {
                s = 1664525u * s + 1013904223u;
                x[d] = (float)(s >> 8) * 0x1p-23f - 1;
            }
            g.model.gemma.config.final_cap = capped ? 2 : 0;
            gemma_head(&g.model.gemma, x, 1, logits[capped], NULL);
            for (size_t i = 0; i < V; i++)
                if (logits[capped][i] > logits[capped][best[capped]])
                    best[capped] = i;
            if (capped)
                seed = s;
        }
        assert_int_equal(best[0], best[1]);
        assert_true(logits[0][best[0]] > logits[1][best[0]]);
    }
    paligemma_golden_close(&g);
}

/* The tensors of the small model, some renamed or replaced. */
struct copy {
    struct tensor tensors[MAX_TENSORS];
    char names[MAX_TENSORS][160];
    size_t n;
};

static void copy_tensors(const struct paligemma_golden *g, struct copy *copy)
{
    const struct tensor *tensors = weights_view(g->weights, &copy->n);

    assert_true(copy->n < MAX_TENSORS - 1);
    memcpy(copy->tensors, tensors, copy->n * sizeof *tensors);
}

static void rename_prefix(struct copy *copy, const char *from, const char *to)
{
    for (size_t i = 0; i < copy->n; i++)
        if (strncmp(copy->tensors[i].name, from, strlen(from)) == 0) {
            char name[160];

            (void)snprintf(name, sizeof name, "%s%s", to, copy->tensors[i].name + strlen(from));
            memcpy(copy->names[i], name, sizeof name);
            copy->tensors[i].name = copy->names[i];
        }
}

static struct tensor *tensor_of(struct copy *copy, const char *name)
{
    for (size_t i = 0; i < copy->n; i++)
        if (strcmp(copy->tensors[i].name, name) == 0)
            return &copy->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

/* Logits of the model that `copy` makes, or its error. */
static const float *logits_of(struct paligemma_golden *g, const struct copy *copy,
                              struct error *err)
{
    const int32_t said[] = {7, 300, 5};
    struct weights *weights = NULL;
    struct paligemma model;
    const float *logits = NULL;

    if (weights_create(copy->tensors, copy->n, &weights, err) != ST_OK)
        fail_msg("%s", err->message);
    if (paligemma_load(&g->snapshot, weights, &model, err) == ST_OK) {
        logits = stepped_logits(g, &model, 0, said, 3, false);
        paligemma_release(&model);
    }
    weights_destroy(&weights);
    return logits;
}

/* PALI 3 (sharded files: the third golden model is) */
static void every_generation_of_names_is_the_same_model(void **state)
{
    static const struct {
        const char *decoder, *vision, *projector;
    } generations[] = {
        {"model.language_model.", "model.vision_tower.vision_model.",
         "model.multi_modal_projector."},
        {"model.language_model.", "model.vision_tower.", "model.multi_modal_projector."},
        {"language_model.", "vision_tower.", "multi_modal_projector."},
        {"language_model.", "vision_tower.vision_model.", "multi_modal_projector."},
    };
    struct paligemma_golden g;
    struct error err = {0};
    size_t bytes;
    const float *want, *got;
    struct copy *copy = calloc(1, sizeof *copy);

    (void)state;
    assert_non_null(copy);
    paligemma_golden_open(&g, paligemma_golden_dirs[0]);
    bytes = 4 * g.model.gemma.config.vocab_size * sizeof *want;
    copy_tensors(&g, copy);
    want = logits_of(&g, copy, &err);
    assert_non_null(want);
    for (size_t i = 0; i < ARRAY_LEN(generations); i++) {
        copy_tensors(&g, copy);
        rename_prefix(copy, "language_model.model.", generations[i].decoder);
        rename_prefix(copy, "vision_tower.vision_model.", generations[i].vision);
        rename_prefix(copy, "multi_modal_projector.", generations[i].projector);
        got = logits_of(&g, copy, &err);
        if (got == NULL)
            fail_msg("generation %zu: %s", i, err.message);
        assert_memory_equal(got, want, bytes);
    }
    free(copy);
    paligemma_golden_close(&g);
}

/* Of one form: with the rows, with other ones and without. */
static void compare_surplus_rows(enum matrix_form form)
{
    struct paligemma_golden g;
    struct error err = {0};
    const float *want, *got;
    struct copy *copy = calloc(1, sizeof *copy);
    struct tensor *table;
    size_t V, D, rows;
    float *huge;

    assert_non_null(copy);
    paligemma_golden_open(&g, paligemma_golden_dirs[0]);
    g.snapshot.decoder.matrices = g.snapshot.vision.matrices = form;
    V = g.model.gemma.config.vocab_size;
    D = g.model.gemma.config.width;
    copy_tensors(&g, copy);
    want = logits_of(&g, copy, &err);
    table = tensor_of(copy, "language_model.model.embed_tokens.weight");
    rows = table->shape[0];
    assert_true(rows > V);
    huge = floats(&g, rows * D);
    memcpy(huge, table->data.data, rows * D * sizeof *huge);
    for (size_t i = V * D; i < rows * D; i++)
        huge[i] = 1e30f;
    table->data = bytes_view_of(huge, rows * D * sizeof *huge);
    got = logits_of(&g, copy, &err);
    assert_memory_equal(got, want, 4 * V * sizeof *want);
    table->shape[0] = V;
    table->data.len = V * D * sizeof *huge;
    got = logits_of(&g, copy, &err);
    assert_memory_equal(got, want, 4 * V * sizeof *want);
    free(copy);
    paligemma_golden_close(&g);
}

/* PALI 4 and 5: rows behind those that can be said are never looked at */
static void surplus_rows_of_the_table_change_nothing(void **state)
{
    (void)state;
    compare_surplus_rows(MATRIX_FLOAT32);
    compare_surplus_rows(MATRIX_INT8);
}

/* PALI 2 and 32: errors that name the tensor */
static void a_tensor_that_cannot_be_is_named(void **state)
{
    enum damage { MISSING, SHORTER, NOT_FINITE, SURPLUS, OTHER_HEAD };
    static const struct {
        const char *name;
        enum damage damage;
        const char *message;
    } cases[] = {
        {"vision_tower.vision_model.embeddings.position_embedding.weight", SHORTER,
         "position_embedding"},
        {"language_model.model.layers.1.mlp.up_proj.weight", MISSING, "layers.1.mlp.up_proj"},
        {"language_model.model.layers.0.self_attn.k_proj.weight", SHORTER, "k_proj"},
        {"language_model.model.layers.2.self_attn.o_proj.weight", NOT_FINITE, "o_proj"},
        {"language_model.model.norm.weight", SURPLUS, "language_model.model.norm2.weight"},
        {"language_model.model.embed_tokens.weight", OTHER_HEAD, "lm_head"},
    };
    struct paligemma_golden g;
    struct copy *copy = calloc(1, sizeof *copy);

    (void)state;
    assert_non_null(copy);
    paligemma_golden_open(&g, paligemma_golden_dirs[0]);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        struct tensor *t;
        float *data;

        copy_tensors(&g, copy);
        t = tensor_of(copy, cases[i].name);
        data = floats(&g, tensor_count(t));
        memcpy(data, t->data.data, t->data.len);
        switch (cases[i].damage) {
        case MISSING:
            *t = copy->tensors[--copy->n];
            break;
        case SHORTER:
            t->shape[0]--;
            break;
        case NOT_FINITE:
            data[17] = NAN;
            t->data = bytes_view_of(data, t->data.len);
            break;
        case SURPLUS:
            copy->tensors[copy->n] = *t;
            copy->tensors[copy->n++].name = "language_model.model.norm2.weight";
            break;
        case OTHER_HEAD:
            data[5] += 1;
            copy->tensors[copy->n] = *t;
            copy->tensors[copy->n].data = bytes_view_of(data, t->data.len);
            copy->tensors[copy->n++].name = "lm_head.weight";
            break;
        }
        assert_null(logits_of(&g, copy, &err));
        if (strstr(err.message, cases[i].message) == NULL)
            fail_msg("case %zu: \"%s\"", i, err.message);
    }
    free(copy);
    paligemma_golden_close(&g);
}

/* One step of several rows against one step of each. */
static void step_together_and_alone(enum matrix_form form, enum kv_type kv_type)
{
    enum { ROWS = 7 };
    struct paligemma_golden g;
    struct snapshot snapshot;
    struct paligemma model;
    struct gemma_decoder together, alone;
    struct error err = {0};
    size_t V, row[ROWS], position[ROWS];
    int32_t token[ROWS];
    float *got, *want;

    paligemma_golden_open(&g, paligemma_golden_dirs[1]);
    snapshot = g.snapshot;
    snapshot.decoder.matrices = snapshot.vision.matrices = form;
    snapshot.decoder.kv_type = kv_type;
    assert_ok(paligemma_load(&snapshot, g.weights, &model, &err));
    V = model.gemma.config.vocab_size;
    got = floats(&g, ROWS * V);
    want = floats(&g, V);
    assert_ok(gemma_decoder_init(&together, &model.gemma, ROWS, CAPACITY, &g.arena, &err));
    for (size_t i = 0; i < ROWS; i++) {
        size_t n_prefix, T;
        float *x = sequence(&g, &model, i % 3, NULL, 0, &n_prefix, &T);

        row[i] = (i * 3 + 1) % ROWS;
        position[i] = n_prefix - 1;
        token[i] = (int32_t)(5 + 11 * i);
        assert_ok(gemma_prefill(&model.gemma, x, n_prefix, n_prefix, &together.cache, row[i], false,
                                &g.scratch, &err));
    }
    gemma_decoder_step(&together, ROWS, row, position, token, got);
    for (size_t i = 0; i < ROWS; i++) {
        size_t n_prefix, T, first = 0;
        float *x = sequence(&g, &model, i % 3, NULL, 0, &n_prefix, &T);

        assert_ok(gemma_decoder_init(&alone, &model.gemma, 1, CAPACITY, &g.arena, &err));
        assert_ok(gemma_prefill(&model.gemma, x, n_prefix, n_prefix, &alone.cache, 0, false,
                                &g.scratch, &err));
        gemma_decoder_step(&alone, 1, &first, &position[i], &token[i], want);
        assert_memory_equal(want, got + i * V, V * sizeof *want);
    }
    paligemma_release(&model);
    paligemma_golden_close(&g);
}

/* PALI 25: a row's bits depend on that row alone */
static void rows_stepped_together_have_the_bits_of_rows_alone(void **state)
{
    (void)state;
    step_together_and_alone(MATRIX_FLOAT32, KV_FLOAT32);
    step_together_and_alone(MATRIX_FLOAT32, KV_BFLOAT16);
    step_together_and_alone(MATRIX_INT8, KV_FLOAT32);
    step_together_and_alone(MATRIX_INT8, KV_INT8);
}

/* PALI 1 */
static void parameters_are_those_of_the_published_models(void **state)
{
    static const struct {
        const char *name;
        struct gemma_config decoder;
        int image_size;
        size_t want;
    } models[] = {
        {"PaliGemma 3B 224",
         {1, 18, 2048, 16384, 8, 1, 256, .vocab_size = 257152},
         224,
         2923335408},
        {"PaliGemma 3B 896",
         {1, 18, 2048, 16384, 8, 1, 256, .vocab_size = 257152},
         896,
         2927759088},
        {"PaliGemma 2 3B", {2, 26, 2304, 9216, 8, 4, 256, .vocab_size = 257152}, 224, 3032094960},
        {"PaliGemma 2 3B 448",
         {2, 26, 2304, 9216, 8, 4, 256, .vocab_size = 257152},
         448,
         3032979696},
        {"PaliGemma 2 10B",
         {2, 42, 3584, 14336, 16, 8, 256, .vocab_size = 257152},
         224,
         9662409456},
        {"PaliGemma 2 28B",
         {2, 46, 4608, 36864, 32, 16, 128, .vocab_size = 257152},
         224,
         27650192112},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        struct snapshot s = {
            .decoder = models[i].decoder,
            .vision = {.image_size = models[i].image_size,
                       .patch_size = 14,
                       .shape = {27, 1152, 16, 4304, ACTIVATION_GELU_TANH, 1e-6f}}};

        if (paligemma_n_parameters(&s) != models[i].want)
            fail_msg("%s: %zu parameters, published %zu", models[i].name,
                     paligemma_n_parameters(&s), models[i].want);
    }
}

/* PALI 29: 2 L k c elements a token; of int8, 4 bytes more for each head of a key or value */
static void a_cache_takes_what_the_shapes_say(void **state)
{
    struct kv_shape small = {KV_FLOAT32, 18, 1, 256, 1, 1},
                    large = {KV_FLOAT32, 26, 4, 256, 3, 290};
    size_t n = 53248 * 3 * 290;

    (void)state;
    assert_int_equal(kv_cache_bytes(&small), 9216 * sizeof(float));
    assert_int_equal(kv_cache_bytes(&large), n * sizeof(float));
    large.type = KV_BFLOAT16;
    assert_int_equal(kv_cache_bytes(&large), n * 2);
    large.type = KV_INT8;
    assert_int_equal(kv_cache_bytes(&large), n + n / 256 * sizeof(float));
}

/* PALI 31 */
static void a_sequence_longer_than_the_context_is_refused(void **state)
{
    struct paligemma_golden g;
    struct gemma_decoder decoder;
    struct error err = {0};

    (void)state;
    paligemma_golden_open(&g, paligemma_golden_dirs[0]);
    assert_int_equal(gemma_decoder_init(&decoder, &g.model.gemma, 1, 8193, &g.arena, &err),
                     ST_INVALID);
    paligemma_golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_are_resized_to_pillows_bytes),
        cmocka_unit_test(the_image_side_agrees_with_the_reference),
        cmocka_unit_test(logits_agree_with_the_reference_whole_and_stepped),
        cmocka_unit_test(a_last_layer_left_unfinished_changes_no_bit),
        cmocka_unit_test(a_window_nobody_reaches_changes_no_bit),
        cmocka_unit_test(the_last_prompt_token_changes_what_the_image_is),
        cmocka_unit_test(image_tokens_enter_as_they_are),
        cmocka_unit_test(the_query_scale_is_the_configs),
        cmocka_unit_test(the_final_cap_changes_scores_and_no_choice),
        cmocka_unit_test(every_generation_of_names_is_the_same_model),
        cmocka_unit_test(surplus_rows_of_the_table_change_nothing),
        cmocka_unit_test(a_tensor_that_cannot_be_is_named),
        cmocka_unit_test(rows_stepped_together_have_the_bits_of_rows_alone),
        cmocka_unit_test(parameters_are_those_of_the_published_models),
        cmocka_unit_test(a_cache_takes_what_the_shapes_say),
        cmocka_unit_test(a_sequence_longer_than_the_context_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
