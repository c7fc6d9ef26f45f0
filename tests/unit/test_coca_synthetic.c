/* coca_ViT-B-32 at full size on weights made by formula, against open_clip 3.3 in float32: CLIP
 * items 30, 32 and 33. One gigabyte of weights. */
#include "reinforce/nn/gemm.h"
#include "tests/support/coca_rows.h"
#include "tests/support/synthetic_weights.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DIM = 512,
    VOCAB = 49408,
    CONTEXT = 76,
    QUERIES = 256,
    LAYERS = 12,
    SIDE = 224,
    START = 49406,
    END = 49407,
    ROW = 12,
};

/* Loaded once for all tests. */
struct fixture {
    struct synthetic_model *model;
    struct weights *weights;
    struct snapshot *snapshot;
    struct coca coca;
    struct coca_image image;
    float latent[DIM];
    struct arena results, scratch;
};

static const struct transformer_shape vision_shape = {LAYERS,          768,  12, 3072,
                                                      ACTIVATION_GELU, 1e-5f};
static const struct transformer_shape text_shape = {LAYERS, DIM, 8, 2048, ACTIVATION_GELU, 1e-5f};

static void add_pooler(struct synthetic_model *model)
{
    static const char prefix[] = "visual.attn_pool.";

    synthetic_add_matrix(model, prefix, "query", QUERIES, DIM);
    synthetic_add_norm(model, prefix, "ln_q", DIM);
    synthetic_add_norm(model, prefix, "ln_k", 768);
    synthetic_add_matrix(model, prefix, "attn.q_proj_weight", DIM, DIM);
    synthetic_add_matrix(model, prefix, "attn.k_proj_weight", DIM, 768);
    synthetic_add_matrix(model, prefix, "attn.v_proj_weight", DIM, 768);
    synthetic_add_vector(model, prefix, "attn.in_proj_bias", 3 * DIM);
    synthetic_add_matrix(model, prefix, "attn.out_proj.weight", DIM, DIM);
    synthetic_add_vector(model, prefix, "attn.out_proj.bias", DIM);
    synthetic_add_norm(model, "visual.", "ln_post", DIM);
    synthetic_add_matrix(model, "visual.", "proj", DIM, DIM);
}

static void add_decoder(struct synthetic_model *model)
{
    char cross[SYNTHETIC_NAME_SIZE];

    synthetic_add_blocks(model, "text_decoder.", &text_shape);
    for (size_t i = 0; i < LAYERS; i++) {
        (void)snprintf(cross, sizeof cross, "text_decoder.cross_attn.%zu.", i);
        synthetic_add_norm(model, cross, "ln_1", DIM);
        synthetic_add_norm(model, cross, "ln_1_kv", DIM);
        synthetic_add_matrix(model, cross, "attn.in_proj_weight", 3 * DIM, DIM);
        synthetic_add_vector(model, cross, "attn.in_proj_bias", 3 * DIM);
        synthetic_add_matrix(model, cross, "attn.out_proj.weight", DIM, DIM);
        synthetic_add_vector(model, cross, "attn.out_proj.bias", DIM);
        synthetic_add_norm(model, cross, "ln_2", DIM);
        synthetic_add_matrix(model, cross, "mlp.c_fc.weight", 4 * DIM, DIM);
        synthetic_add_vector(model, cross, "mlp.c_fc.bias", 4 * DIM);
        synthetic_add_matrix(model, cross, "mlp.c_proj.weight", DIM, 4 * DIM);
        synthetic_add_vector(model, cross, "mlp.c_proj.bias", DIM);
    }
    synthetic_add_norm(model, "text_decoder.", "ln_final", DIM);
    synthetic_add_matrix(model, "text_decoder.", "text_projection", DIM, VOCAB);
}

static struct synthetic_model *make_model(void)
{
    struct synthetic_model *model = synthetic_create();

    synthetic_add(model, "", "logit_scale", 0, NULL);
    synthetic_add_vision(model, SIDE, 32, &vision_shape);
    add_pooler(model);
    synthetic_add_matrix(model, "text.", "token_embedding.weight", VOCAB, DIM);
    synthetic_add_matrix(model, "text.", "positional_embedding", CONTEXT + 1, DIM);
    synthetic_add_vector(model, "text.", "cls_emb", DIM);
    synthetic_add_blocks(model, "text.transformer.", &text_shape);
    synthetic_add_norm(model, "text.", "ln_final", DIM);
    synthetic_add_matrix(model, "text.", "text_projection", DIM, DIM);
    add_decoder(model);
    return model;
}

static int open_model(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct error err = {0};
    float *pixels = synthetic_pixels(SIDE);

    assert_non_null(f);
    f->snapshot = calloc(1, sizeof *f->snapshot);
    assert_non_null(f->snapshot);
    f->snapshot->family = SNAPSHOT_COCA;
    f->snapshot->naming = NAMING_OPEN_CLIP;
    f->snapshot->embed_dim = DIM;
    f->snapshot->vision = (struct vision_config){.image_size = SIDE,
                                                 .patch_size = 32,
                                                 .shape = vision_shape,
                                                 .pooler_heads = 8,
                                                 .pooler_queries = QUERIES};
    f->snapshot->text = (struct text_config){.context_length = CONTEXT,
                                             .vocab_size = VOCAB,
                                             .shape = text_shape,
                                             .eos_id = SNAPSHOT_EOS_LARGEST};
    f->snapshot->multimodal = f->snapshot->text;
    f->model = make_model();
    arena_init(&f->results, 1 << 30);
    arena_init(&f->scratch, 1 << 30);
    assert_ok(gemm_init(&err));
    assert_ok(weights_create(f->model->tensors, f->model->n, &f->weights, &err));
    assert_ok(coca_load(f->snapshot, f->weights, &f->coca, &err));
    assert_ok(coca_encode_image(&f->coca, pixels, true, &f->results, &f->scratch, f->latent,
                                &f->image, &err));
    free(pixels);
    *state = f;
    return 0;
}

static int close_model(void **state)
{
    struct fixture *f = *state;

    coca_release(&f->coca);
    weights_destroy(&f->weights);
    synthetic_destroy(&f->model);
    arena_release(&f->results);
    arena_release(&f->scratch);
    free(f->snapshot);
    free(f);
    return 0;
}

static void assert_near(const char *what, const float *got, const double *want, size_t n,
                        double tolerance)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= tolerance))
            fail_msg("%s: element %zu is %.7f, want %.6f", what, i, (double)got[i], want[i]);
}

/* CLIP 30 */
static void latents_and_image_tokens_equal_open_clip(void **state)
{
    static const double image[] = {0.007673, -0.063866, -0.052059, -0.001158};
    static const double text[] = {-0.030978, 0.089570, 0.060672, 0.028546};
    static const double first[] = {1.306147, -0.347456, -0.255817, 1.527094};
    static const double last[] = {1.468314, -0.350643, -0.329033, 1.534531};
    static const int32_t ids[CONTEXT] = {49406, 320, 1125, 539, 320, 2368, 49407};
    struct fixture *f = *state;
    struct error err = {0};
    float latent[DIM];
    double cosine = 0;

    assert_int_equal(f->coca.n_image_tokens, 255);
    assert_near("image latent", f->latent, image, 4, 2e-6);
    assert_near("image token 0", f->image.tokens, first, 4, 1e-5);
    assert_near("image token 254", f->image.tokens + (size_t)254 * DIM, last, 4, 1e-5);
    assert_ok(
        coca_embed_text(&f->coca, ids, CONTEXT, 0, COCA_PAD_MASK_CLASS, &f->scratch, latent, &err));
    assert_near("text latent", latent, text, 4, 2e-6);
    for (size_t d = 0; d < DIM; d++)
        cosine += (double)latent[d] * (double)f->latent[d];
    assert_true(fabs(cosine + 0.004682) <= 2e-6);
    assert_ok(
        coca_embed_text(&f->coca, ids, CONTEXT, 0, COCA_PAD_MASK_ALL, &f->scratch, latent, &err));
    assert_near("text latent, every row masked", latent, text, 4, 2e-6);
}

/* CLIP 30, 32: whole and token by token */
static void logits_equal_open_clip_and_their_cached_twins(void **state)
{
    static const int32_t ids[] = {49406, 320, 1125, 539, 320, 2368};
    static const double first[] = {1.985758, -0.977080, -1.695892, -0.519185};
    static const double largest[] = {4.25255, 4.76468, 4.60843, 4.28191, 4.29187, 4.66449};
    struct fixture *f = *state;
    const struct coca_image *image = &f->image;
    struct coca_decoder decoder;
    struct error err = {0};
    float *logits, *stepped;

    assert_ok(arena_calloc(&f->results, ARRAY_LEN(ids) * VOCAB, sizeof *logits, &logits, &err));
    assert_ok(arena_calloc(&f->results, VOCAB, sizeof *stepped, &stepped, &err));
    assert_ok(coca_logits(&f->coca, image, ids, ARRAY_LEN(ids), &f->scratch, logits, &err));
    assert_near("logits", logits, first, 4, 2e-5);
    assert_ok(coca_decoder_init(&decoder, &f->coca, 1, CONTEXT, &f->results, &err));
    for (size_t t = 0; t < ARRAY_LEN(ids); t++) {
        const float *row = logits + t * VOCAB;
        int32_t top;

        assert_ok(sampler_argmax(row, VOCAB, &top, &err));
        assert_int_equal(top, 25845);
        assert_true(fabs((double)row[top] - largest[t]) <= 2e-5);
        coca_decoder_step(&decoder, 1, &(size_t){0}, &t, &ids[t], &image, stepped);
        for (size_t i = 0; i < VOCAB; i++)
            if (!(fabs((double)stepped[i] - (double)row[i]) <= 1e-5))
                fail_msg("position %zu: logit %zu is %.7f, want %.7f", t, i, (double)stepped[i],
                         (double)row[i]);
    }
}

struct expected_row {
    const char *name;
    int32_t end;
    int n;
    int32_t ids[ROW];
};

/* The deviation of one from the other, as a share of what they are made of. */
static double share_of_difference(const float *a, const float *b, size_t n)
{
    double difference = 0, all = 0;

    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];

        difference += d * d;
        all += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / all);
}

/* Image tower, text, decoder and what it sees of the image: near to float32, whole and token by
 * token. */
static void logits_in_int8_are_near_to_float32(void **state)
{
    static const int32_t ids[] = {49406, 320, 1125, 539, 320, 2368};
    struct fixture *f = *state;
    struct snapshot snapshot = *f->snapshot;
    struct coca_decoder decoder;
    const struct coca_image *images[1];
    struct coca_image image;
    struct coca coca;
    struct error err = {0};
    float *want, *whole, *stepped, *pixels = synthetic_pixels(SIDE);

    snapshot.vision.matrices = snapshot.text.matrices = snapshot.multimodal.matrices = MATRIX_INT8;
    assert_ok(coca_load(&snapshot, f->weights, &coca, &err));
    assert_int_equal(coca.cross[0].kv.form, MATRIX_INT8);
    assert_ok(coca_encode_image(&coca, pixels, true, &f->results, &f->scratch, NULL, &image, &err));
    assert_ok(arena_calloc(&f->results, ARRAY_LEN(ids) * VOCAB, sizeof *want, &want, &err));
    assert_ok(arena_calloc(&f->results, ARRAY_LEN(ids) * VOCAB, sizeof *whole, &whole, &err));
    assert_ok(arena_calloc(&f->results, ARRAY_LEN(ids) * VOCAB, sizeof *stepped, &stepped, &err));
    assert_ok(coca_logits(&f->coca, &f->image, ids, ARRAY_LEN(ids), &f->scratch, want, &err));
    assert_ok(coca_logits(&coca, &image, ids, ARRAY_LEN(ids), &f->scratch, whole, &err));
    assert_ok(coca_decoder_init(&decoder, &coca, 1, CONTEXT, &f->results, &err));
    images[0] = &image;
    for (size_t t = 0; t < ARRAY_LEN(ids); t++)
        coca_decoder_step(&decoder, 1, (const size_t[]){0}, &t, ids + t, images,
                          stepped + t * VOCAB);
    assert_true(share_of_difference(whole, want, ARRAY_LEN(ids) * VOCAB) < 0.03);
    assert_true(share_of_difference(stepped, want, ARRAY_LEN(ids) * VOCAB) < 0.03);
    coca_release(&coca);
    free(pixels);
}

static void assert_row(const struct expected_row *want, const int32_t *got, int n)
{
    for (int i = 0; i < n && i < want->n; i++)
        if (got[i] != want->ids[i])
            fail_msg("%s: id %d is %d, want %d", want->name, i, (int)got[i], (int)want->ids[i]);
    if (n != want->n)
        fail_msg("%s: %d ids, want %d", want->name, n, want->n);
}

/* CLIP 33: minimum length, forced end, repetition penalty, fixed length */
static void greedy_rows_equal_open_clip(void **state)
{
    static const struct {
        struct expected_row row;
        double penalty;
        bool fixed_length;
    } cases[] = {
        {{"plain",
          END,
          12,
          {49406, 25845, 25845, 25845, 33637, 25845, 25845, 25845, 25845, 25845, 25845, 49407}},
         1,
         false},
        {{"repetition penalty",
          END,
          12,
          {49406, 25845, 11600, 21616, 9525, 28086, 28794, 10062, 7798, 38905, 9823, 49407}},
         1.5,
         false},
        {{"another end", 33637, 6, {49406, 25845, 25845, 25845, 25845, 33637}}, 1, false},
        {{"another end, fixed length",
          33637,
          12,
          {49406, 25845, 25845, 25845, 25845, 33637, 0, 0, 0, 0, 0, 0}},
         1,
         true},
        {{"the favourite as end", 25845, 6, {49406, 33637, 21616, 21616, 21616, 25845}}, 1, false},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct sampler_config config = {.greedy = true,
                                              .temperature = 1,
                                              .repetition_penalty = cases[i].penalty,
                                              .min_tokens = 5,
                                              .max_tokens = ROW,
                                              .end = cases[i].row.end};
        int32_t ids[ROW];
        struct sampler_row row = {.ids = ids};

        row.n_ids = coca_sample_row(&f->coca, &f->image, &config, START, NULL, ids);
        if (cases[i].fixed_length)
            sampler_row_pad(&config, &row);
        assert_row(&cases[i].row, ids, row.n_ids);
    }
}

/* CLIP 33 */
static void beams_on_raw_logits_equal_open_clip(void **state)
{
    static const struct {
        struct expected_row row;
        int n_groups;
    } cases[] = {
        {{"default groups",
          END,
          12,
          {49406, 25845, 11600, 25845, 33637, 33637, 25845, 28086, 25845, 25845, 25845, 25845}},
         3},
        {{"another end",
          33637,
          12,
          {49406, 25845, 11600, 25845, 28086, 25845, 25845, 28086, 28086, 25845, 25845, 25845}},
         3},
        {{"a finished hypothesis wins",
          25845,
          12,
          {49406, 33637, 44328, 11600, 28794, 21616, 11600, 11600, 43743, 25045, 25045, 25845}},
         3},
        {{"one group",
          END,
          12,
          {49406, 33637, 25845, 25845, 25845, 25845, 33637, 25845, 25845, 25845, 25845, 25845}},
         1},
        {{"one group, the favourite as end",
          25845,
          12,
          {49406, 11728, 21616, 21616, 21616, 21616, 21616, 14435, 21616, 21616, 21616, 21616}},
         1},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct beam_config config = {.n_beams = 6,
                                           .n_groups = cases[i].n_groups,
                                           .raw_logits = true,
                                           .length_penalty = 1,
                                           .repetition_penalty = 1,
                                           .min_tokens = 5,
                                           .max_tokens = ROW,
                                           .start = START,
                                           .end = cases[i].row.end};
        int32_t ids[ROW];

        assert_row(&cases[i].row, ids, coca_beam_row(&f->coca, &f->image, &config, ids));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(latents_and_image_tokens_equal_open_clip),
        cmocka_unit_test(logits_equal_open_clip_and_their_cached_twins),
        cmocka_unit_test(logits_in_int8_are_near_to_float32),
        cmocka_unit_test(greedy_rows_equal_open_clip),
        cmocka_unit_test(beams_on_raw_logits_equal_open_clip),
    };

    return cmocka_run_group_tests(tests, open_model, close_model);
}
