/* MobileCLIP against timm and open_clip, and against Apple's own code, at full size:
 * tests/golden/make_mobileclip.py. */
#include "reinforce/base/deflate.h"
#include "reinforce/base/file.h"
#include "reinforce/base/json.h"
#include "reinforce/models/clip.h"
#include "reinforce/models/fastvit_load.c" /* its folding, module by module */
#include "reinforce/models/snapshot_config.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/nn/ops.h"
#include "tests/support/oom.h"
#include "tests/support/synthetic_weights.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>

#define GOLDEN "tests/golden/mobileclip/"

enum { CONTEXT = 77, N_TEXTS = 3, MAX_DIM = 768 };

static const double tolerance = 2e-6;

struct model_case {
    const char *name;
    int side;
    const char *trunk, *pool; /* pool NULL: the config has Apple's form */
    int dim, width, heads;
    bool bidirectional;
};

static const struct model_case cases[] = {
    {"MobileCLIP2-S0", 256, "fastvit_mci0", "avg", 512, 512, 8, true},
    {"MobileCLIP-S1", 256, "fastvit_mci1", "avg", 512, 512, 8, true},
    {"MobileCLIP2-S2", 256, "fastvit_mci2", "avg", 512, 512, 8, true},
    {"MobileCLIP2-S3", 256, "fastvit_mci3", "avg", 768, 768, 12, true},
    {"MobileCLIP2-S4", 256, "fastvit_mci4", "avg", 768, 768, 12, true},
    {"MobileCLIP-B", 224, "vit_base_mci_224", "token", 512, 512, 8, false},
    {"MobileCLIP2-L-14", 224, "vit_large_patch14_clip_224", "token", 768, 768, 12, true},
    {"mobileclip_s0", 256, "mci0", NULL, 512, 512, 8, true},
    {"mobileclip_s0_folded", 256, "mci0", NULL, 512, 512, 8, true},
    {"mobileclip_s1", 256, "mci1", NULL, 512, 512, 8, true},
    {"mobileclip_s2", 256, "mci2", NULL, 512, 512, 8, true},
    {"mobileclip_b", 224, "vit_b16", NULL, 512, 512, 8, false},
};
enum { FIRST_OF_APPLE = 7 };

/* open_clip_config.json, or Apple's config.json, as these repositories hold it. */
static void read_config(const struct model_case *c, struct snapshot *snapshot)
{
    bool mixers = strcmp(c->trunk, "mci0") == 0;
    struct error err = {0};
    json_t *config;
    char text[1024];

    if (c->pool != NULL)
        (void)snprintf(
            text, sizeof text,
            "{\"model_cfg\": {\"embed_dim\": %d, \"vision_cfg\": {\"timm_model_name\": \"%s\", "
            "\"timm_model_pretrained\": false, \"timm_pool\": \"%s\", \"timm_proj\": null, "
            "\"timm_drop\": 0.0, \"timm_drop_path\": 0.0, \"image_size\": %d}, \"text_cfg\": "
            "{\"context_length\": 77, \"vocab_size\": 49408, \"width\": %d, \"heads\": %d, "
            "\"layers\": 12, \"no_causal_mask\": %s}, \"custom_text\": true}}",
            c->dim, c->trunk, c->pool, c->side, c->width, c->heads,
            c->bidirectional ? "true" : "false");
    else
        (void)snprintf(
            text, sizeof text,
            "{\"embed_dim\": %d, \"image_cfg\": {\"image_size\": %d, \"model_name\": \"%s\"}, "
            "\"text_cfg\": {\"context_length\": 77, \"vocab_size\": 49408, \"dim\": %d, "
            "\"ffn_multiplier_per_layer\": 4.0, \"n_heads_per_layer\": %d, "
            "\"n_transformer_layers\": %d, \"norm_layer\": \"layer_norm_fp32\", "
            "\"causal_masking\": %s, \"model_name\": \"%s\"}}",
            c->dim, c->side, c->trunk, c->width, c->heads, mixers ? 4 : 12,
            c->bidirectional ? "false" : "true", mixers ? "mct" : "base");
    memset(snapshot, 0, sizeof *snapshot);
    assert_ok(json_parse(bytes_of_string(text), &config, &err));
    assert_ok(snapshot_config_open_clip(config, snapshot, &err));
    json_decref(config);
}

/* Every tensor of the published file, its values from its name. */
static struct synthetic_model *make_model(const char *name)
{
    struct synthetic_model *model = synthetic_create();
    struct byte_buf packed, text;
    struct error err = {0};
    json_t *table, *shape;
    const char *key;
    char path[128];

    (void)snprintf(path, sizeof path, GOLDEN "%s.json.gz", name);
    byte_buf_init(&packed, 1 << 20);
    byte_buf_init(&text, 1 << 20);
    assert_ok(file_read(path, &packed, &err));
    assert_ok(gzip_decompress(byte_buf_view(&packed), 1 << 20, &text, &err));
    assert_ok(json_parse(byte_buf_view(&text), &table, &err));
    json_object_foreach(table, key, shape)
    {
        size_t dims[TENSOR_MAX_RANK], rank = json_array_size(shape);

        for (size_t d = 0; d < rank; d++)
            dims[d] = (size_t)json_integer_value(json_array_get(shape, d));
        synthetic_add(model, "", key, rank, dims);
    }
    synthetic_add(model, "", "logit_scale", 0, NULL);
    json_decref(table);
    byte_buf_release(&text);
    byte_buf_release(&packed);
    return model;
}

static struct clip *build(const struct snapshot *snapshot, const struct synthetic_model *model)
{
    struct weights *weights;
    struct clip *clip;
    struct error err = {0};

    assert_ok(weights_create(model->tensors, model->n, &weights, &err));
    if (clip_create(snapshot, &weights, &clip, &err) != ST_OK)
        fail_msg("%s: %s", err.context, err.message);
    return clip;
}

/* The pattern, or its mirror, with the snapshot's own mean and std. */
static float *make_pixels(const struct preprocess *pre, bool mirrored)
{
    size_t S = (size_t)pre->size;
    float *pixels = malloc(3 * S * S * sizeof *pixels);

    assert_non_null(pixels);
    for (size_t c = 0; c < 3; c++)
        for (size_t y = 0; y < S; y++)
            for (size_t i = 0; i < S; i++) {
                size_t x = mirrored ? S - 1 - i : i;
                size_t v = (37 * x + 101 * y + 7 * x * y + 59 * c) % 256;

                pixels[(c * S + y) * S + i] = ((float)v / 255.0f - pre->mean[c]) / pre->std[c];
            }
    return pixels;
}

static void check_row(const char *name, const char *what, size_t row, float *got, size_t dim,
                      const struct safetensors *golden)
{
    const struct tensor *want = safetensors_peek(golden, what);
    const float norm = ops_l2_normalize(got, dim);
    char norm_name[32];
    float expected[MAX_DIM], expected_norm;
    double worst = 0;

    (void)snprintf(norm_name, sizeof norm_name, "%s_norm", what);
    memcpy(expected, want->data.data + row * dim * sizeof *expected, dim * sizeof *expected);
    memcpy(&expected_norm, safetensors_peek(golden, norm_name)->data.data + row * sizeof norm,
           sizeof norm);
    for (size_t d = 0; d < dim; d++)
        worst = fmax(worst, fabs((double)(got[d] - expected[d])));
    if (!(worst <= tolerance) || fabs((double)(norm / expected_norm - 1)) > 1e-5)
        fail_msg("%s: %s %zu differs by %g, its norm is %g, want %g", name, what, row, worst,
                 (double)norm, (double)expected_norm);
}

static void check_model(const struct model_case *c)
{
    struct snapshot *snapshot = malloc(sizeof *snapshot);
    struct synthetic_model *model = make_model(c->name);
    struct safetensors *golden;
    struct arena scratch;
    struct clip *clip;
    struct error err = {0};
    float out[MAX_DIM];
    char path[128];

    read_config(c, snapshot);
    assert_int_equal(snapshot->family, SNAPSHOT_MOBILECLIP);
    clip = build(snapshot, model);
    (void)snprintf(path, sizeof path, GOLDEN "%s.safetensors", c->name);
    assert_ok(safetensors_open(path, &golden, &err));
    arena_init(&scratch, clip_scratch_bytes(clip));
    for (size_t k = 0; k < 2; k++) {
        float *pixels = make_pixels(&snapshot->preprocess, k == 1);

        assert_ok(clip_encode_images(clip, pixels, 1, &scratch, out, &err));
        assert_int_equal(scratch.used_bytes, 0);
        check_row(c->name, "image", k, out, (size_t)c->dim, golden);
        free(pixels);
    }
    for (size_t r = 0; r < N_TEXTS; r++) {
        int32_t ids[CONTEXT];
        const int32_t *row = ids;
        size_t n = CONTEXT;

        memcpy(ids, safetensors_peek(golden, "text_ids")->data.data + r * sizeof ids, sizeof ids);
        assert_ok(clip_encode_texts(clip, &row, &n, 1, &scratch, out, &err));
        check_row(c->name, "text", r, out, (size_t)c->dim, golden);
    }
    arena_release(&scratch);
    safetensors_close(&golden);
    clip_destroy(&clip);
    synthetic_destroy(&model);
    free(snapshot);
}

/* CLIP 38: in the published training form, folded at load; every size. */
static void every_size_equals_timm_and_open_clip(void **state)
{
    (void)state;
    for (size_t i = 0; i < FIRST_OF_APPLE; i++)
        check_model(&cases[i]);
}

/* CLIP 38: under Apple's names, folded at load or before. */
static void every_size_equals_apples_own_code(void **state)
{
    (void)state;
    for (size_t i = FIRST_OF_APPLE; i < ARRAY_LEN(cases); i++)
        check_model(&cases[i]);
}

static void apples_tensors_tell_what_their_config_says(void **state)
{
    struct snapshot *said = malloc(sizeof *said), *inferred = malloc(sizeof *inferred);
    struct error err = {0};

    (void)state;
    for (size_t i = FIRST_OF_APPLE; i < ARRAY_LEN(cases); i++) {
        struct synthetic_model *model = make_model(cases[i].name);
        struct weights *weights;

        read_config(&cases[i], said);
        memset(inferred, 0, sizeof *inferred);
        assert_ok(weights_create(model->tensors, model->n, &weights, &err));
        assert_ok(snapshot_infer(weights, NULL, inferred, &err));
        if (memcmp(said, inferred, sizeof *said) != 0)
            fail_msg("%s", cases[i].name);
        weights_destroy(&weights);
        synthetic_destroy(&model);
    }
    free(inferred);
    free(said);
}

/* Mean of the dot products of rows that have unit norm afterwards. */
static double mean_cosine(float *a, float *b, size_t n, size_t dim)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        (void)ops_l2_normalize(a + i * dim, dim);
        (void)ops_l2_normalize(b + i * dim, dim);
        for (size_t d = 0; d < dim; d++)
            sum += (double)a[i * dim + d] * (double)b[i * dim + d];
    }
    return sum / (double)n;
}

enum { N_IMAGES = FASTVIT_IMAGES_AT_ONCE + 1 }; /* more than go together */

/* N_IMAGES that differ, one behind the other. */
static float *make_images(const struct preprocess *pre)
{
    size_t n = (size_t)3 * (size_t)pre->size * (size_t)pre->size;
    float *images = malloc(N_IMAGES * n * sizeof *images), *first = make_pixels(pre, false);

    assert_non_null(images);
    for (size_t i = 0; i < N_IMAGES; i++)
        for (size_t k = 0; k < n; k++)
            images[i * n + k] = first[(k + i * n / N_IMAGES) % n] * (1 + 0.1f * (float)i);
    free(first);
    return images;
}

/* out [n_images, dim]; `together` at most in a call. */
static void encode_images(const struct model_case *c, enum matrix_form form, size_t n_images,
                          size_t together, float *out)
{
    struct snapshot *snapshot = malloc(sizeof *snapshot);
    struct synthetic_model *model = make_model(c->name);
    size_t n = (size_t)3 * (size_t)c->side * (size_t)c->side;
    struct arena scratch;
    struct clip *clip;
    struct error err = {0};
    float *images;

    read_config(c, snapshot);
    snapshot->vision.matrices = snapshot->text.matrices = form;
    clip = build(snapshot, model);
    images = make_images(&snapshot->preprocess);
    arena_init(&scratch, clip_scratch_bytes(clip));
    for (size_t i = 0; i < n_images; i += together)
        assert_ok(clip_encode_images(clip, images + i * n, MIN(together, n_images - i), &scratch,
                                     out + i * (size_t)c->dim, &err));
    assert_int_equal(scratch.used_bytes, 0);
    arena_release(&scratch);
    clip_destroy(&clip);
    free(images);
    synthetic_destroy(&model);
    free(snapshot);
}

/* A FastViT's matrices in every form: near float32, and the same bits in any company. */
static void forms_of_a_fastvit_are_near_float32(void **state)
{
    static const struct {
        size_t model, n_images;
    } some[] = {
#if defined(REINFORCE_SANITIZED) /* where plain C takes minutes */
        {0, 3},
#else
        {0, N_IMAGES},
        {2, 3},
        {4, 3}, /* S0, S2; S4, with layer norms and five stages */
#endif
    };
    static const struct {
        enum matrix_form form;
        double cosine;
    } forms[] = {{MATRIX_BF16, 0.9999}, {MATRIX_INT8, 0.9999}};
    float *alone = malloc(sizeof *alone * N_IMAGES * MAX_DIM);
    float *together = malloc(sizeof *together * N_IMAGES * MAX_DIM);
    float *exact = malloc(sizeof *exact * N_IMAGES * MAX_DIM);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(some); i++) {
        const struct model_case *c = &cases[some[i].model];
        size_t n_images = some[i].n_images;

        encode_images(c, MATRIX_FLOAT32, n_images, n_images, exact);
        for (size_t f = 0; f < ARRAY_LEN(forms); f++) {
            double cosine;

            encode_images(c, forms[f].form, n_images, 1, alone);
            encode_images(c, forms[f].form, n_images, n_images, together);
            assert_memory_equal(alone, together, n_images * (size_t)c->dim * sizeof *alone);
            cosine = mean_cosine(together, exact, n_images, (size_t)c->dim);
            if (!(cosine >= forms[f].cosine))
                fail_msg("%s: form %d has a mean cosine of %.6f", c->name, (int)forms[f].form,
                         cosine);
        }
    }
    free(exact);
    free(together);
    free(alone);
}

/* A text of MobileCLIP-S0, whose tower has mixers at both ends. */
static void forms_of_a_text_mixer_are_near_float32(void **state)
{
    static const enum matrix_form forms[] = {MATRIX_FLOAT32, MATRIX_BF16, MATRIX_INT8};
    static const int32_t ids[] = {49406, 320, 1125, 539, 320, 2368, 49407};
    const struct model_case *c = &cases[FIRST_OF_APPLE];
    struct snapshot *snapshot = malloc(sizeof *snapshot);
    struct synthetic_model *model = make_model(c->name);
    const int32_t *row = ids;
    size_t n_ids = ARRAY_LEN(ids);
    float exact[MAX_DIM], out[MAX_DIM];

    (void)state;
    read_config(c, snapshot);
    for (size_t f = 0; f < ARRAY_LEN(forms); f++) {
        struct arena scratch;
        struct clip *clip;
        struct error err = {0};

        snapshot->vision.matrices = snapshot->text.matrices = forms[f];
        clip = build(snapshot, model);
        assert_int_equal(clip->text.before.mlp.mlp.fc.form, forms[f]);
        arena_init(&scratch, clip_scratch_bytes(clip));
        assert_ok(clip_encode_texts(clip, &row, &n_ids, 1, &scratch, f == 0 ? exact : out, &err));
        if (f > 0 && !(mean_cosine(out, exact, 1, (size_t)c->dim) >= 0.999))
            fail_msg("form %d has a cosine of %.6f", (int)forms[f],
                     mean_cosine(out, exact, 1, (size_t)c->dim));
        arena_release(&scratch);
        clip_destroy(&clip);
    }
    synthetic_destroy(&model);
    free(snapshot);
}

/* Loading and one text of S0 under Apple's names: both towers fold into arenas of their own. */
static void every_failed_allocation_is_reported(void **state)
{
    static const int32_t ids[] = {49406, 320, 49407};
    const struct model_case *c = &cases[FIRST_OF_APPLE + 1];
    struct snapshot *snapshot = malloc(sizeof *snapshot);
    struct synthetic_model *model = make_model(c->name);
    const int32_t *row = ids;
    size_t n_ids = ARRAY_LEN(ids);
    float out[MAX_DIM];
    unsigned n = 0;
    bool fired;

    (void)state;
    read_config(c, snapshot);
    do {
        struct weights *weights = NULL;
        struct clip *clip = NULL;
        struct arena scratch;
        struct error err = {0};
        enum status st;

        arena_init(&scratch, 64 << 20);
        oom_fail_at(++n);
        st = weights_create(model->tensors, model->n, &weights, &err);
        if (st == ST_OK)
            st = clip_create(snapshot, &weights, &clip, &err);
        if (st == ST_OK)
            st = clip_encode_texts(clip, &row, &n_ids, 1, &scratch, out, &err);
        fired = oom_fired();
        oom_fail_at(0);
        assert_int_equal(st, fired ? ST_NO_MEMORY : ST_OK);
        clip_destroy(&clip);
        arena_release(&scratch);
    } while (fired);
    assert_true(n > 20);
    synthetic_destroy(&model);
    free(snapshot);
}

/* As in ml-mobileclip, whatever is stored. */
static void apples_logit_scale_is_at_most_100(void **state)
{
    const struct model_case *c = &cases[FIRST_OF_APPLE];
    struct snapshot *snapshot = malloc(sizeof *snapshot);
    struct synthetic_model *model = make_model(c->name);
    struct tensor *scale = &model->tensors[model->n - 1]; /* added last */
    struct bytes_view stored = scale->data;
    static const float large = 4.7f;
    struct clip *clip;

    (void)state;
    assert_string_equal(scale->name, "logit_scale");
    read_config(c, snapshot);
    scale->data = bytes_view_of(&large, sizeof large);
    clip = build(snapshot, model);
    assert_true(clip->logit_scale == 100);
    clip_destroy(&clip);
    scale->data = stored;
    synthetic_destroy(&model);
    free(snapshot);
}

/* CLIP 39 */
static void padding_counts_where_texts_are_seen_whole(void **state)
{
    static const int32_t short_ids[] = {49406, 320, 1125, 49407};
    static const struct {
        size_t model; /* index into cases */
        bool changes;
    } expected[] = {{0, true}, {5, false}, {FIRST_OF_APPLE, true}, {FIRST_OF_APPLE + 4, false}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        const struct model_case *c = &cases[expected[i].model];
        struct snapshot *snapshot = malloc(sizeof *snapshot);
        struct synthetic_model *model = make_model(c->name);
        int32_t padded[CONTEXT], other[CONTEXT];
        const int32_t *rows[3] = {short_ids, padded, other};
        size_t n[3] = {ARRAY_LEN(short_ids), CONTEXT, CONTEXT};
        float out[3][MAX_DIM];
        struct arena scratch;
        struct clip *clip;
        struct error err = {0};
        double worst = 0;

        read_config(c, snapshot);
        clip = build(snapshot, model);
        memset(padded, 0, sizeof padded);
        memcpy(padded, short_ids, sizeof short_ids);
        for (size_t t = 0; t < CONTEXT; t++)
            other[t] = t < ARRAY_LEN(short_ids) ? short_ids[t] : 49407;
        arena_init(&scratch, 3 * clip_scratch_bytes(clip));
        for (size_t r = 0; r < 3; r++) {
            assert_ok(clip_encode_texts(clip, &rows[r], &n[r], 1, &scratch, out[r], &err));
            (void)ops_l2_normalize(out[r], (size_t)c->dim);
        }
        /* what a row leaves open is padded with 0 */
        assert_memory_equal(out[0], out[1], (size_t)c->dim * sizeof(float));
        for (int d = 0; d < c->dim; d++)
            worst = fmax(worst, fabs((double)(out[1][d] - out[2][d])));
        assert_true(expected[i].changes ? worst > 1e-4 : worst == 0);
        arena_release(&scratch);
        clip_destroy(&clip);
        synthetic_destroy(&model);
        free(snapshot);
    }
}

/* A convolution the long way: double, [C_out, in, k, k] with in per group, over [H * W, C_in];
 * over a picture one row high the kernel is one row high too. */
static void add_branch(const struct weights *weights, const char *conv, const char *norm, size_t k,
                       size_t out, size_t in, size_t stride, const float *x, size_t H, size_t W,
                       size_t C_in, double sign, double *y)
{
    const struct tensor *w = conv != NULL ? weights_peek(weights, conv) : NULL;
    const float *values = w != NULL ? (const float *)(const void *)w->data.data : NULL;
    const float *bn[4];
    static const char *const parts[] = {"weight", "bias", "running_mean", "running_var"};
    size_t rows = (H - 1) / stride + 1, columns = (W - 1) / stride + 1, taps = H == 1 ? k : k * k;

    assert_true(conv == NULL || values != NULL);
    for (size_t i = 0; i < 4; i++) {
        char name[128];

        (void)snprintf(name, sizeof name, "%s%s", norm, parts[i]);
        assert_non_null(weights_peek(weights, name));
        bn[i] = (const float *)(const void *)weights_peek(weights, name)->data.data;
    }
    for (size_t p = 0; p < rows * columns; p++)
        for (size_t o = 0; o < out; o++) {
            double sum = values == NULL ? (double)x[p * C_in + o] : 0;

            for (size_t t = 0; values != NULL && t < taps; t++) {
                ptrdiff_t r =
                    (ptrdiff_t)(p / columns * stride + t / k) - (ptrdiff_t)(H == 1 ? 0 : k / 2);
                ptrdiff_t c = (ptrdiff_t)(p % columns * stride + t % k) - (ptrdiff_t)(k / 2);

                for (size_t i = 0;
                     r >= 0 && c >= 0 && r < (ptrdiff_t)H && c < (ptrdiff_t)W && i < in; i++)
                    sum +=
                        (double)values[(o * in + i) * taps + t] *
                        (double)
                            x[((size_t)r * W + (size_t)c) * C_in + (in == 1 ? o * C_in / out : i)];
            }
            y[p * out + o] += sign * (((sum - (double)bn[2][o]) / sqrt((double)bn[3][o] + 1e-5)) *
                                          (double)bn[0][o] +
                                      (double)bn[1][o]);
        }
}

static void assert_close(const char *what, const float *got, const double *want, size_t n)
{
    double scale = 0, worst = 0;

    for (size_t i = 0; i < n; i++) {
        scale = fmax(scale, fabs(want[i]));
        worst = fmax(worst, fabs((double)got[i] - want[i]));
    }
    if (!(worst <= 1e-5 * scale))
        fail_msg("%s: the folded convolution differs by %g of %g", what, worst, scale);
}

/* CLIP 40: each kind of module of MobileCLIP2-S0, folded, against the sum of its branches. */
static void folded_modules_equal_the_sum_of_their_branches(void **state)
{
    enum { SIDE = 6, C = 64, C2 = 128 };
    struct synthetic_model *model = make_model("MobileCLIP2-S0");
    struct weights *weights;
    struct arena arena;
    struct error err = {0};
    struct conv_fold l = {
        .names = &conv_fold_timm, .prefix = "visual.trunk.", .arena = &arena, .err = &err};
    struct conv_depthwise depthwise;
    struct block_linear dense;
    float x[SIDE * SIDE * C2], doubled[SIDE * SIDE * C2], got[SIDE * SIDE * C2];
    double want[SIDE * SIDE * C2], mixed[SIDE * SIDE * C2];
    const float *gamma;

    (void)state;
    assert_ok(gemm_init(&err));
    assert_ok(weights_create(model->tensors, model->n, &weights, &err));
    l.weights = weights;
    arena_init(&arena, 1 << 28);
    arena_init(&l.scratch, 1 << 28);
    for (size_t i = 0; i < ARRAY_LEN(x); i++)
        x[i] = (float)((i * 7919) % 1000) / 500 - 1;

#define BRANCH(conv, norm, k, out, in, stride, C_in, sign)                                         \
    add_branch(weights, conv, "visual.trunk." norm, k, out, in, stride, x, SIDE, SIDE, C_in, sign, \
               want)
#define V(name) "visual.trunk." name
    /* stem: a depthwise block with a scale branch, stride 2 */
    memset(want, 0, sizeof want);
    BRANCH(V("stem.1.conv_kxk.0.conv.weight"), "stem.1.conv_kxk.0.bn.", 3, C, 1, 2, C, 1);
    BRANCH(V("stem.1.conv_scale.conv.weight"), "stem.1.conv_scale.bn.", 1, C, 1, 2, C, 1);
    assert_ok(load_depthwise(&l, "stem.1.", C, 3, 2, &depthwise));
    conv_depthwise_run(&depthwise, x, SIDE, SIDE, got);
    assert_close("stem.1", got, want, (size_t)SIDE / 2 * SIDE / 2 * C);

    /* stem: dense 1 x 1 with the identity */
    memset(want, 0, sizeof want);
    BRANCH(V("stem.2.conv_kxk.0.conv.weight"), "stem.2.conv_kxk.0.bn.", 1, C, C, 1, C, 1);
    BRANCH(NULL, "stem.2.identity.", 1, C, 1, 1, C, 1);
    assert_ok(load_dense(&l, "stem.2.", C, C, 1, &dense));
    block_linear_run(&dense, got, x, (struct samples){1, (size_t)SIDE * SIDE}, NULL);
    assert_close("stem.2", got, want, (size_t)SIDE * SIDE * C);

    /* token mixer: x + gamma * (mixer(x) - norm(x)) */
    memset(want, 0, sizeof want);
    BRANCH(V("stages.0.blocks.0.token_mixer.mixer.conv_kxk.0.conv.weight"),
           "stages.0.blocks.0.token_mixer.mixer.conv_kxk.0.bn.", 3, C, 1, 1, C, 1);
    BRANCH(V("stages.0.blocks.0.token_mixer.mixer.conv_scale.conv.weight"),
           "stages.0.blocks.0.token_mixer.mixer.conv_scale.bn.", 1, C, 1, 1, C, 1);
    BRANCH(NULL, "stages.0.blocks.0.token_mixer.mixer.identity.", 3, C, 1, 1, C, 1);
    BRANCH(NULL, "stages.0.blocks.0.token_mixer.norm.identity.", 3, C, 1, 1, C, -1);
    assert_ok(conv_fold_get(&l, WEIGHTS_SHAPE(C, 1, 1), &gamma, "%s",
                            "stages.0.blocks.0.token_mixer.layer_scale.gamma"));
    for (size_t i = 0; i < (size_t)SIDE * SIDE * C; i++)
        mixed[i] = (double)x[i] + (double)gamma[i % C] * want[i];
    assert_ok(rep_mixer_load(&l, "stages.0.blocks.0.", C, 3, 3, &depthwise));
    conv_depthwise_run(&depthwise, x, SIDE, SIDE, got);
    assert_close("token mixer", got, mixed, (size_t)SIDE * SIDE * C);

    /* downsampling: two kernels, two outputs of each input, stride 2 */
    {
        struct fastvit_stage stage = {.width = C2};

        memset(want, 0, sizeof want);
        BRANCH(V("stages.1.downsample.proj.0.large_conv.conv.weight"),
               "stages.1.downsample.proj.0.large_conv.bn.", 7, C2, 1, 2, C, 1);
        BRANCH(V("stages.1.downsample.proj.0.small_conv.conv.weight"),
               "stages.1.downsample.proj.0.small_conv.bn.", 3, C2, 1, 2, C, 1);
        assert_ok(load_downsample(&l, &timm_names, "stages.1.downsample.proj.", false, &stage));
        for (size_t i = 0; i < (size_t)SIDE * SIDE * C; i++)
            doubled[2 * i] = doubled[2 * i + 1] = x[i];
        conv_depthwise_run(&stage.down, doubled, SIDE, SIDE, got);
        assert_close("downsample", got, want, (size_t)SIDE / 2 * SIDE / 2 * C2);
    }
    /* the convolution in front of an MLP */
    {
        struct conv_mlp mlp;

        memset(want, 0, sizeof want);
        BRANCH(V("stages.0.blocks.0.mlp.conv.conv.weight"), "stages.0.blocks.0.mlp.conv.bn.", 7, C,
               1, 1, C, 1);
        assert_ok(
            conv_mlp_load(&l, "stages.0.blocks.0.", "layer_scale", C, (size_t)C * 3, 7, 7, &mlp));
        conv_depthwise_run(&mlp.conv, x, SIDE, SIDE, got);
        assert_close("MLP", got, want, (size_t)SIDE * SIDE * C);
    }
#undef V
#undef BRANCH
    arena_release(&l.scratch);
    arena_release(&arena);
    weights_destroy(&weights);
    synthetic_destroy(&model);
}

/* CLIP 40: the mixer over a text of MobileCLIP-S0, which has no scale branch. */
static void a_folded_text_mixer_equals_the_sum_of_its_branches(void **state)
{
    enum { D = 512 };
    static const char at[] = "text_encoder.transformer.5.";
    struct synthetic_model *model = make_model("mobileclip_s0");
    float *x = malloc(sizeof *x * CONTEXT * D), *got = malloc(sizeof *got * CONTEXT * D);
    double *want = calloc((size_t)CONTEXT * D, sizeof *want);
    struct weights *weights;
    struct arena arena;
    struct error err = {0};
    struct conv_fold l = {.names = &conv_fold_apple, .prefix = "", .arena = &arena, .err = &err};
    struct conv_depthwise mixer;
    const float *gamma;

    (void)state;
    assert_ok(weights_create(model->tensors, model->n, &weights, &err));
    l.weights = weights;
    arena_init(&arena, 1 << 28);
    arena_init(&l.scratch, 1 << 28);
    for (size_t i = 0; i < (size_t)CONTEXT * D; i++)
        x[i] = (float)((i * 7919) % 1000) / 500 - 1;
#define BRANCH(conv, norm, sign)                                                                   \
    add_branch(weights, conv, "text_encoder.transformer.5.token_mixer." norm, 11, D, 1, 1, x, 1,   \
               CONTEXT, D, sign, want)
    BRANCH("text_encoder.transformer.5.token_mixer.mixer.rbr_conv.0.conv.weight",
           "mixer.rbr_conv.0.bn.", 1);
    BRANCH(NULL, "mixer.rbr_skip.", 1);
    BRANCH(NULL, "norm.rbr_skip.", -1);
#undef BRANCH
    assert_ok(conv_fold_get(&l, WEIGHTS_SHAPE(D, 1, 1), &gamma, "%stoken_mixer.layer_scale", at));
    for (size_t i = 0; i < (size_t)CONTEXT * D; i++)
        want[i] = (double)x[i] + (double)gamma[i % D] * want[i];
    assert_ok(rep_mixer_load(&l, at, D, 1, 11, &mixer));
    conv_depthwise_run(&mixer, x, 1, CONTEXT, got);
    assert_close("text mixer", got, want, (size_t)CONTEXT * D);
    arena_release(&l.scratch);
    arena_release(&arena);
    weights_destroy(&weights);
    synthetic_destroy(&model);
    free(want);
    free(got);
    free(x);
}

/* CLIP 17: each size's own row, and a preprocess_cfg before it. */
static void preprocessing_and_activation_follow_the_trunk(void **state)
{
    static const struct {
        size_t model;
        float mean_0;
        enum resample_filter filter;
    } rows[] = {{0, 0, RESAMPLE_BILINEAR},           {2, 0, RESAMPLE_BILINEAR},
                {3, 0.48145466f, RESAMPLE_BILINEAR}, {5, 0, RESAMPLE_BILINEAR},
                {6, 0.48145466f, RESAMPLE_BICUBIC},  {7, 0, RESAMPLE_BILINEAR},
                {11, 0, RESAMPLE_BILINEAR}};
    struct snapshot *snapshot = malloc(sizeof *snapshot);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        read_config(&cases[rows[i].model], snapshot);
        assert_int_equal(snapshot->preprocess.size, cases[rows[i].model].side);
        assert_true(snapshot->preprocess.mean[0] == rows[i].mean_0);
        assert_int_equal(snapshot->preprocess.filter, rows[i].filter);
        assert_int_equal(snapshot->preprocess.mode, PREPROCESS_SHORTEST);
        assert_int_equal(snapshot->vision.shape.activation, ACTIVATION_GELU);
    }
    free(snapshot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(preprocessing_and_activation_follow_the_trunk),
        cmocka_unit_test(folded_modules_equal_the_sum_of_their_branches),
        cmocka_unit_test(a_folded_text_mixer_equals_the_sum_of_its_branches),
        cmocka_unit_test(apples_tensors_tell_what_their_config_says),
        cmocka_unit_test(apples_logit_scale_is_at_most_100),
        cmocka_unit_test(forms_of_a_fastvit_are_near_float32),
        cmocka_unit_test(forms_of_a_text_mixer_are_near_float32),
        cmocka_unit_test(every_failed_allocation_is_reported),
        cmocka_unit_test(every_size_equals_timm_and_open_clip),
        cmocka_unit_test(every_size_equals_apples_own_code),
        cmocka_unit_test(padding_counts_where_texts_are_seen_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
