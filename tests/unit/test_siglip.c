/* SigLIP teachers against transformers and open_clip, on snapshots in their published layouts
 * (tests/golden/make_siglip.py). Numbers are those of the specification's checklist. */
#include "reinforce/image/naflex.h"
#include "reinforce/models/siglip.h"
#include "reinforce/nn/ops.h"
#include "reinforce/teach/siglip_text.h"
#include "reinforce/teach/teacher.h"
#include "tests/support/oom.h"
#include "tests/support/teacher_contract.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODELS "tests/golden/models/"
#define TABLE  "a small wooden table with one yellow cup, some bread and three apples "

enum { SCRATCH_BYTES = 64 << 20, MAX_DIM = 144, N_SQUARES = 10, N_SIZES = 12, MAX_SIDE = 200 };

/* The acceptance is 1e-4; float32 against float32 on these sizes leaves much less. */
static const double tolerance = 3e-6;

static const char *const fixed_models[] = {MODELS "siglip_hf",      MODELS "siglip_hf_14",
                                           MODELS "siglip_hf_16",   MODELS "siglip_timm",
                                           MODELS "siglip_timm_14", MODELS "siglip_timm_16"};
static const char *const naflex_models[] = {MODELS "siglip2_naflex", MODELS "siglip2_naflex_8",
                                            MODELS "siglip2_naflex_4"};

/* TEXTS and SIZES of make_siglip.py. */
static const char *const texts[] = {
    "a photo of a cat",
    "Two DOGS running on the beach.",
    "",
    "red  bus\tnear a CHURCH",
    "it's 42!",
    "\xc3\x89"
    "COLE d'\xc3\xa9t\xc3\xa9_2",
    "&amp;lt;b&gt; curly \xe2\x80\x9cquotes\xe2\x80\x9d",
    TABLE TABLE TABLE TABLE TABLE TABLE TABLE TABLE TABLE,
};
static const int sizes[N_SIZES][2] = {{64, 64},  {48, 64},  {64, 48},  {90, 160},
                                      {160, 90}, {33, 100}, {100, 33}, {10, 200},
                                      {200, 10}, {37, 53},  {1, 1},    {130, 111}};

static struct teacher *open_teacher(const char *dir, enum teacher_clean clean)
{
    const struct teacher_options options = {.model_dir = dir, .clean = clean};
    struct teacher *teacher = NULL;
    struct error err = {0};

    assert_ok(teacher_open(&options, &teacher, &err));
    return teacher;
}

static struct siglip *open_model(const char *dir)
{
    char digest[SHA256_HEX_LEN + 1];
    struct snapshot snapshot;
    struct weights *weights = NULL;
    struct siglip *siglip = NULL;
    struct error err = {0};

    assert_ok(snapshot_read(dir, NULL, &snapshot, &err));
    assert_ok(snapshot_open_weights(&snapshot, &weights, digest, &err));
    assert_ok(siglip_create(&snapshot, &weights, &siglip, &err));
    assert_null(weights);
    return siglip;
}

static struct safetensors *open_golden(const char *dir)
{
    char path[128];
    struct safetensors *golden = NULL;
    struct error err = {0};

    (void)snprintf(path, sizeof path, "%s/golden.safetensors", dir);
    assert_ok(safetensors_open(path, &golden, &err));
    return golden;
}

/* Row `row` of a golden tensor, whose rows are `n` numbers of 4 bytes. */
static void golden_row(const struct safetensors *golden, const char *name, size_t row, size_t n,
                       void *out)
{
    const struct tensor *tensor = safetensors_peek(golden, name);

    assert_non_null(tensor);
    assert_int_equal(tensor->shape[1], n);
    assert_true(row < tensor->shape[0]);
    memcpy(out, tensor->data.data + row * n * 4, n * 4);
}

static double difference(const float *a, const float *b, size_t n)
{
    double max = 0;

    for (size_t i = 0; i < n; i++)
        max = fmax(max, fabs((double)a[i] - (double)b[i]));
    return max;
}

/* Image k of make_coca.py's `pattern`; 8 is black, 9 white when it is one of the squares. */
static struct image make_image(size_t k, bool square, int height, int width, uint8_t *pixels)
{
    for (size_t y = 0; y < (size_t)height; y++)
        for (size_t x = 0; x < (size_t)width; x++)
            for (size_t c = 0; c < 3; c++)
                pixels[(y * (size_t)width + x) * 3 + c] =
                    (uint8_t)(square && k == 8   ? 0
                              : square && k == 9 ? 255
                                                 : ((37 + 2 * k) * x + (101 + 6 * k) * y +
                                                    (7 + k) * x * y + 59 * c + 29 * k) %
                                                       256);
    return image_of(width, height, 3, pixels);
}

/* Through the model's own transform, as `reinforce embed` does. */
static void embed_picture(const struct teacher *teacher, const struct image *image, float *emb)
{
    struct image view;
    struct arena scratch;
    struct error err = {0};

    arena_init(&scratch, SCRATCH_BYTES);
    assert_ok(preprocess_pixels(&teacher_info(teacher)->preprocess, image, &scratch, &view, &err));
    assert_ok(teacher_embed_images(teacher, &view, 1, &scratch, emb, &err));
    arena_release(&scratch);
}

static void embed_text(const struct teacher *teacher, const char *text, float *emb)
{
    struct bytes_view view = bytes_of_string(text);
    struct arena scratch;
    struct error err = {0};

    arena_init(&scratch, SCRATCH_BYTES);
    assert_ok(teacher_embed_texts(teacher, &view, 1, &scratch, emb, &err));
    arena_release(&scratch);
}

static void compare(const struct safetensors *golden, const char *name, size_t row,
                    const float *got, size_t D, const char *model)
{
    float want[MAX_DIM];

    golden_row(golden, name, row, D, want);
    if (!(difference(got, want, D) <= tolerance))
        fail_msg("%s: %s %zu differs by %g", model, name, row, difference(got, want, D));
}

/* SIGLIP 24, 26 on these models: cosine, scale and bias are the reference's. */
static void compare_logits(const struct safetensors *golden, const struct teacher_info *info,
                           size_t row, const float *image, float (*text)[MAX_DIM],
                           const char *model)
{
    float want[ARRAY_LEN(texts)];

    golden_row(golden, "logits", row, ARRAY_LEN(texts), want);
    for (size_t t = 0; t < ARRAY_LEN(texts); t++) {
        double cosine = 0, logit;

        for (size_t d = 0; d < info->dim; d++)
            cosine += (double)image[d] * (double)text[t][d];
        logit = (double)info->logit_scale * cosine + (double)info->logit_bias;
        if (!(fabs(logit - (double)want[t]) <= 1e-3))
            fail_msg("%s: logit %zu, %zu is %g, want %g", model, row, t, logit, (double)want[t]);
    }
}

static void check_model(const char *dir, bool squares)
{
    struct teacher *teacher = open_teacher(dir, TEACHER_CLEAN_AUTO);
    const struct teacher_info *info = teacher_info(teacher);
    struct safetensors *golden = open_golden(dir);
    uint8_t *pixels = malloc((size_t)3 * MAX_SIDE * MAX_SIDE);
    float emb[MAX_DIM], text[ARRAY_LEN(texts)][MAX_DIM];

    assert_non_null(pixels);
    assert_true(info->has_logit_bias);
    assert_true(fabs((double)info->logit_scale - exp(4.7)) < 2); /* half precision rounds it */
    for (size_t t = 0; t < ARRAY_LEN(texts); t++) {
        embed_text(teacher, texts[t], text[t]);
        compare(golden, "text", t, text[t], info->dim, dir);
    }
    for (size_t k = 0; squares && k < N_SQUARES; k++) {
        int S = info->preprocess.size;
        struct image image = make_image(k, true, S, S, pixels);

        embed_picture(teacher, &image, emb);
        compare(golden, "image", k, emb, info->dim, dir);
    }
    for (size_t k = 0; k < N_SIZES; k++) {
        struct image image = make_image(k, false, sizes[k][0], sizes[k][1], pixels);

        embed_picture(teacher, &image, emb);
        compare(golden, "sizes", k, emb, info->dim, dir);
        compare_logits(golden, info, k, emb, text, dir);
    }
    free(pixels);
    safetensors_close(&golden);
    teacher_close(&teacher);
}

static void images_and_texts_equal_the_references(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(fixed_models); m++)
        check_model(fixed_models[m], true);
}

static void naflex_images_of_twelve_aspect_ratios_equal_the_reference(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(naflex_models); m++)
        check_model(naflex_models[m], false);
}

static void every_layout_keeps_the_contract(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(fixed_models); m++)
        teacher_contract(&(struct teacher_options){.model_dir = fixed_models[m]});
    for (size_t m = 0; m < ARRAY_LEN(naflex_models); m++)
        teacher_contract(&(struct teacher_options){.model_dir = naflex_models[m]});
}

/* SIGLIP 3 */
static void the_model_type_decides_between_fixed_resolution_and_naflex(void **state)
{
    struct snapshot s;
    struct error err = {0};

    (void)state;
    assert_ok(snapshot_read(MODELS "siglip_hf_14", NULL, &s, &err));
    assert_int_equal(s.family, SNAPSHOT_SIGLIP);
    assert_int_equal(s.preprocess.mode, PREPROCESS_SQUASH);
    assert_int_equal(s.preprocess.filter, RESAMPLE_BILINEAR);
    assert_int_equal(s.vision.naflex_patches, 0);
    assert_ok(snapshot_read(MODELS "siglip2_naflex_8", NULL, &s, &err));
    assert_int_equal(s.family, SNAPSHOT_SIGLIP2);
    assert_int_equal(s.preprocess.mode, PREPROCESS_NAFLEX);
    assert_int_equal(s.preprocess.size, 80);
    assert_int_equal(s.vision.image_size, 64);
    assert_int_equal(s.vision.naflex_patches, 100);
    assert_ok(snapshot_read(MODELS "siglip_timm_14", NULL, &s, &err));
    assert_int_equal(s.family, SNAPSHOT_SIGLIP);
    assert_int_equal(s.vision.shape.activation, ACTIVATION_GELU);
    assert_int_equal(s.text.shape.activation, ACTIVATION_GELU_TANH);
    assert_int_equal(s.preprocess.filter, RESAMPLE_BICUBIC);
}

static float *random_floats(size_t n, uint32_t seed)
{
    float *x = malloc((n + 1) * sizeof *x);

    assert_non_null(x);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(seed >> 8) / 8388608.0f - 1;
    }
    return x;
}

/* SIGLIP 7 */
static void patches_have_no_order_beside_their_positions(void **state)
{
    struct siglip *siglip = open_model(MODELS "siglip_hf");
    struct vit *vit = &siglip->vit;
    size_t n = vit->n_tokens, K = 3 * vit->patch_size * vit->patch_size, D = vit->width;
    float *patches = random_floats(n * K, 7), *turned = malloc(n * K * sizeof *turned);
    float *position = malloc(n * D * sizeof *position), *tokens = malloc(n * D * sizeof *tokens);
    float a[MAX_DIM], b[MAX_DIM];
    struct arena scratch;
    struct error err = {0};

    (void)state;
    assert_true(turned != NULL && position != NULL && tokens != NULL);
    for (size_t i = 0; i < n; i++) { /* 16 patches: 5 is coprime */
        memcpy(turned + i * K, patches + (5 * i + 3) % n * K, K * sizeof *turned);
        memcpy(position + i * D, vit->position + (5 * i + 3) % n * D, D * sizeof *position);
    }
    arena_init(&scratch, SCRATCH_BYTES);
    assert_ok(vit_run_patches(vit, patches, 1, n, vit->position, false, &scratch, tokens, &err));
    assert_ok(map_pool_run(&siglip->pool, tokens, n, &scratch, a, &err));
    assert_ok(vit_run_patches(vit, turned, 1, n, position, false, &scratch, tokens, &err));
    assert_ok(map_pool_run(&siglip->pool, tokens, n, &scratch, b, &err));
    (void)ops_l2_normalize(a, D);
    (void)ops_l2_normalize(b, D);
    assert_true(difference(a, b, D) <= 1e-5);
    arena_release(&scratch);
    free(patches);
    free(turned);
    free(position);
    free(tokens);
    siglip_destroy(&siglip);
}

/* SIGLIP 8 */
static void pooling_before_projecting_equals_projecting_every_token(void **state)
{
    static const char *const models[] = {MODELS "siglip_hf_14", MODELS "siglip_hf_16",
                                         MODELS "siglip_timm_14"};

    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        struct siglip *siglip = open_model(models[m]);
        size_t D = siglip->dim;
        struct map_pool other = siglip->pool;
        float *bias = random_floats(D, 11);
        struct arena scratch;
        struct error err = {0};

        arena_init(&scratch, SCRATCH_BYTES);
        for (size_t T = 1; T < 300; T = 3 * T + 1) {
            float *tokens = random_floats(T * D, (uint32_t)T), fast[MAX_DIM], plain[MAX_DIM];

            assert_ok(map_pool_run(&siglip->pool, tokens, T, &scratch, fast, &err));
            assert_ok(map_pool_run_ref(&siglip->pool, tokens, T, &scratch, plain, &err));
            assert_true(difference(fast, plain, D) <= 1e-5);
            other.k.b = bias; /* cancels in the softmax */
            assert_ok(map_pool_run_ref(&other, tokens, T, &scratch, plain, &err));
            assert_true(difference(fast, plain, D) <= 1e-5);
            free(tokens);
        }
        arena_release(&scratch);
        free(bias);
        siglip_destroy(&siglip);
    }
}

static void encode_ids(const struct siglip *siglip, const int32_t *ids, float *out)
{
    struct arena scratch;
    struct error err = {0};

    arena_init(&scratch, siglip_scratch_bytes(siglip));
    assert_ok(siglip_encode_texts(siglip, &(const int32_t *){ids}, 1, &scratch, out, &err));
    (void)ops_l2_normalize(out, siglip->dim);
    arena_release(&scratch);
}

/* SIGLIP 9: what stands behind the end takes part, and how much of it there is. */
static void pads_are_attended(void **state)
{
    static const int32_t start[] = {300, 301, 302, 1};
    struct siglip *siglip = open_model(MODELS "siglip_hf"),
                  *shorter = open_model(MODELS "siglip_hf");
    int32_t ids[64] = {0};
    float padded[MAX_DIM], other[MAX_DIM];

    (void)state;
    memcpy(ids, start, sizeof start);
    encode_ids(siglip, ids, padded);
    ids[20] = 305;
    encode_ids(siglip, ids, other);
    assert_true(difference(padded, other, siglip->dim) > 1e-3);
    shorter->context_length = 4; /* as if the row were cut at its end */
    encode_ids(shorter, start, other);
    assert_true(difference(padded, other, siglip->dim) > 1e-3);
    siglip_destroy(&siglip);
    siglip_destroy(&shorter);
}

/* SIGLIP 10: final states of positions 0..62 change nothing, since nobody reads them: the pooled
 * run, which leaves them undefined, equals the whole one at the last position. */
static void a_text_is_read_at_the_last_position(void **state)
{
    struct siglip *siglip = open_model(MODELS "siglip_hf_14");
    const struct text_tower *text = &siglip->text;
    size_t T = siglip->context_length, D = text->width;
    int32_t ids[64] = {300, 301, 302, 1};
    float *x = malloc(T * D * sizeof *x), *last = x + (T - 1) * D, want[MAX_DIM], got[MAX_DIM];
    struct arena scratch;
    struct error err = {0};

    (void)state;
    assert_non_null(x);
    arena_init(&scratch, SCRATCH_BYTES);
    assert_ok(text_tower_embed(text, ids, T, 0, x, &err));
    assert_ok(transformer_run(&text->blocks, x, 1, T, false, NULL, &scratch, &err));
    memset(x, 0, (T - 1) * D * sizeof *x);
    ops_layer_norm(last, last, text->ln_final.w, text->ln_final.b, text->blocks.eps, 1, D);
    ops_linear_rows_ref(want, last, text->projection, text->projection_bias, 1, siglip->dim, D);
    (void)ops_l2_normalize(want, siglip->dim);
    encode_ids(siglip, ids, got);
    assert_true(difference(want, got, siglip->dim) <= 2e-6);
    arena_release(&scratch);
    free(x);
    siglip_destroy(&siglip);
}

static void open_text(const char *dir, enum teacher_clean clean, struct siglip_text *text)
{
    struct snapshot snapshot;
    struct error err = {0};

    assert_ok(snapshot_read(dir, NULL, &snapshot, &err));
    assert_ok(siglip_text_open(&snapshot, clean, false, text, &err));
}

static void row_of(const struct siglip_text *text, const char *from, int32_t *row)
{
    struct arena arena;
    struct error err = {0};
    int32_t *ids;

    arena_init(&arena, SCRATCH_BYTES);
    assert_ok(siglip_text_row(text, bytes_of_string(from), &arena, &ids, &err));
    memcpy(row, ids, text->context * sizeof *row);
    arena_release(&arena);
}

static void rows_of_ids_equal_the_references(void **state)
{
    static const char *const models[] = {MODELS "siglip_hf", MODELS "siglip_hf_16",
                                         MODELS "siglip2_naflex", MODELS "siglip_timm"};

    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        struct safetensors *golden = open_golden(models[m]);
        struct siglip_text text;
        int32_t row[64], want[64];

        open_text(models[m], TEACHER_CLEAN_AUTO, &text);
        for (size_t t = 0; t < ARRAY_LEN(texts); t++) {
            golden_row(golden, "text_ids", t, text.context, want);
            row_of(&text, texts[t], row);
            assert_memory_equal(row, want, text.context * sizeof *row);
        }
        siglip_text_close(&text);
        safetensors_close(&golden);
    }
}

/* SIGLIP 11 */
static void an_empty_text_is_an_end_and_pads(void **state)
{
    struct teacher *teacher = open_teacher(MODELS "siglip2_naflex", TEACHER_CLEAN_AUTO);
    struct siglip_text text;
    int32_t row[64], want[64] = {1};
    float emb[MAX_DIM];

    (void)state;
    open_text(MODELS "siglip2_naflex", TEACHER_CLEAN_AUTO, &text);
    row_of(&text, "", row);
    assert_memory_equal(row, want, sizeof row);
    embed_text(teacher, "", emb);
    assert_true(ops_all_finite(emb, teacher_info(teacher)->dim));
    siglip_text_close(&text);
    teacher_close(&teacher);
}

/* SIGLIP 12: n characters that merge with nothing are n tokens. */
static void a_long_text_is_cut_before_its_end(void **state)
{
    static const struct {
        size_t n;
        int32_t at_62, at_63;
    } cases[] = {{200, -1, 1}, {63, -1, 1}, {62, 1, 0}};
    struct siglip_text text;
    int32_t row[64];

    (void)state;
    open_text(MODELS "siglip_hf", TEACHER_CLEAN_AUTO, &text);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char from[401];

        for (size_t j = 0; j < cases[i].n; j++)
            memcpy(from + 2 * j, "\xc2\x8f", 3); /* a control character: two byte pieces */
        from[cases[i].n / 2 * 2] = '\0';
        if (cases[i].n % 2 != 0) { /* and a digit, to make it odd */
            memmove(from + 1, from, strlen(from) + 1);
            from[0] = '7';
        }
        row_of(&text, from, row);
        assert_true(row[61] > 4);
        assert_true(cases[i].at_62 < 0 ? row[62] > 4 : row[62] == cases[i].at_62);
        assert_int_equal(row[63], cases[i].at_63);
    }
    siglip_text_close(&text);
}

/* SIGLIP 13, 14 */
static void lower_case_is_of_ascii_unless_asked_for_otherwise(void **state)
{
    static const struct {
        enum teacher_clean clean;
        const char *a, *b;
        bool same;
    } cases[] = {
        {TEACHER_CLEAN_AUTO, "A Photo Of A CAT", "a photo of a cat", true},
        {TEACHER_CLEAN_TOKENIZER_JSON, "A Photo Of A CAT", "a photo of a cat", false},
        {TEACHER_CLEAN_LOWER_UNICODE, "A Photo Of A CAT", "a photo of a cat", true},
        {TEACHER_CLEAN_AUTO,
         "\xc3\x89"
         "COLE",
         "\xc3\x89"
         "cole",
         true},
        {TEACHER_CLEAN_AUTO,
         "\xc3\x89"
         "COLE",
         "\xc3\xa9"
         "cole",
         false},
        {TEACHER_CLEAN_LOWER_UNICODE,
         "\xc3\x89"
         "COLE",
         "\xc3\xa9"
         "cole",
         true},
        {TEACHER_CLEAN_AUTO, "cat.", "cat", false},
        {TEACHER_CLEAN_CANONICAL, "A  \"Cat\".", "a cat", true},
        {TEACHER_CLEAN_CANONICAL, "a_cat", "acat", true},
        {TEACHER_CLEAN_OPEN_CLIP, "a_cat &amp; dog", "a cat dog", true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct siglip_text text;
        int32_t a[64], b[64];

        open_text(MODELS "siglip2_naflex", cases[i].clean, &text);
        row_of(&text, cases[i].a, a);
        row_of(&text, cases[i].b, b);
        if ((memcmp(a, b, sizeof a) == 0) != cases[i].same)
            fail_msg("case %zu: \"%s\", \"%s\"", i, cases[i].a, cases[i].b);
        siglip_text_close(&text);
    }
}

/* SIGLIP 15 */
static void no_text_gives_a_control_id(void **state)
{
    static const char *const from[] = {"<pad>",     "<bos>x",
                                       "a <eos> b", "<unk>",
                                       "<mask>",    "\xf0\x9f\x98\xb6\xe2\x80\x8d\xf0\x9f\x8c\xab",
                                       "\x01\xff"};
    struct siglip_text text;
    int32_t row[64];

    (void)state;
    open_text(MODELS "siglip2_naflex", TEACHER_CLEAN_AUTO, &text);
    for (size_t i = 0; i < ARRAY_LEN(from); i++) {
        size_t n = 0;

        row_of(&text, from[i], row);
        while (row[n] > 4)
            n++;
        assert_int_equal(row[n], 1); /* the first is the end, then pads */
        assert_true(n > 0);
        while (++n < 64)
            assert_int_equal(row[n], 0);
    }
    siglip_text_close(&text);
}

/* SIGLIP 18, at 62 pixels and patches of 14: columns and rows 56..61 are not read. */
static void what_does_not_fill_a_patch_is_not_seen(void **state)
{
    struct teacher *teacher = open_teacher(MODELS "siglip_hf_14", TEACHER_CLEAN_AUTO);
    uint8_t pixels[3 * 62 * 62];
    struct image image = make_image(3, false, 62, 62, pixels);
    float a[MAX_DIM], b[MAX_DIM];

    (void)state;
    embed_picture(teacher, &image, a);
    for (size_t i = 0; i < 62; i++)
        for (size_t j = 56; j < 62; j++) {
            pixels[(i * 62 + j) * 3] ^= 0x5a;
            pixels[(j * 62 + i) * 3 + 1] ^= 0x33;
        }
    embed_picture(teacher, &image, b);
    assert_memory_equal(a, b, teacher_info(teacher)->dim * sizeof *a);
    pixels[(55 * 62 + 55) * 3] ^= 0x80;
    embed_picture(teacher, &image, b);
    assert_true(difference(a, b, teacher_info(teacher)->dim) > 0);
    teacher_close(&teacher);
}

/* SIGLIP 20, 21 */
static void positions_are_resampled_with_antialiasing(void **state)
{
    enum { GRID = 16 };
    static const struct {
        size_t n, i;
        float weight[GRID];
    } cases[] = {
        {12, 0, {0.7f, 0.3f}},
        {12, 1, {0, 0.5f, 0.5f}},
        {12, 2, {0, 0, 0.272727f, 0.636364f, 0.090909f}},
        {32, 0, {1}},
        {32, 1, {0.75f, 0.25f}},
        {32, 2, {0.25f, 0.75f}},
    };
    /* D = GRID: cell (j, l) holds the unit vector of its row, so rows come out as weights */
    float table[GRID * GRID * GRID] = {0}, *out = malloc((size_t)64 * 64 * GRID * sizeof *out);
    struct arena scratch;
    struct error err = {0};

    (void)state;
    assert_non_null(out);
    for (size_t j = 0; j < GRID; j++)
        for (size_t l = 0; l < GRID; l++)
            table[(j * GRID + l) * GRID + j] = 1;
    arena_init(&scratch, SCRATCH_BYTES);
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        size_t n = cases[c].n;

        assert_ok(siglip_resample_positions(table, GRID, n, 5, GRID, &scratch, out, &err));
        assert_true(difference(out + cases[c].i * 5 * GRID, cases[c].weight, GRID) <= 1e-6);
    }
    for (size_t n = 1; n <= 64; n += 7) {
        assert_ok(siglip_resample_positions(table, GRID, n, 65 - n, GRID, &scratch, out, &err));
        for (size_t i = 0; i < n * (65 - n); i++) {
            double sum = 0;

            for (size_t d = 0; d < GRID; d++)
                sum += (double)out[i * GRID + d];
            assert_true(fabs(sum - 1) <= 1e-6);
        }
    }
    assert_ok(siglip_resample_positions(table, GRID, GRID, GRID, GRID, &scratch, out, &err));
    assert_memory_equal(out, table, sizeof table);
    arena_release(&scratch);
    free(out);
}

/* SIGLIP 22: the model with the embedding's weights read at component 160 only. */
static void naflex_patches_are_row_column_channel(void **state)
{
    struct siglip *siglip = open_model(MODELS "siglip2_naflex");
    size_t D = siglip->dim, K = 768;
    float *conv = calloc(D * K, sizeof *conv),
          *pixels = calloc((size_t)3 * 16 * 16, sizeof *pixels);
    float blank[MAX_DIM], got[MAX_DIM];
    struct arena scratch;
    struct error err = {0};

    (void)state;
    assert_true(conv != NULL && pixels != NULL);
    for (size_t d = 0; d < D; d++)
        conv[d * K + 160] = d % 2 == 0 ? 3.0f : -2.0f;
    siglip->vit.conv = conv;
    arena_init(&scratch, SCRATCH_BYTES);
    assert_ok(siglip_encode_images(siglip, pixels, 1, 16, 16, &scratch, blank, &err));
    for (size_t i = 0; i < (size_t)3 * 16 * 16; i++)
        pixels[i] = 1;
    pixels[(1 * 16 + 3) * 16 + 5] = 0; /* c = 1, y = 3, x = 5: (3 * 16 + 5) * 3 + 1 */
    assert_ok(siglip_encode_images(siglip, pixels, 1, 16, 16, &scratch, got, &err));
    assert_memory_equal(blank, got, D * sizeof *got);
    pixels[(1 * 16 + 3) * 16 + 5] = 1;
    assert_ok(siglip_encode_images(siglip, pixels, 1, 16, 16, &scratch, got, &err));
    assert_true(difference(blank, got, D) > 1e-3);
    arena_release(&scratch);
    free(conv);
    free(pixels);
    siglip_destroy(&siglip);
}

/* SIGLIP 23, 29 (the golden embeddings are of padded batches): images of any company. */
static void ragged_batches_do_not_mix(void **state)
{
    struct teacher *teacher = open_teacher(MODELS "siglip2_naflex_8", TEACHER_CLEAN_AUTO);
    const struct teacher_info *info = teacher_info(teacher);
    struct image views[N_SIZES];
    uint8_t *pixels = malloc((size_t)3 * MAX_SIDE * MAX_SIDE);
    float together[N_SIZES * MAX_DIM], alone[MAX_DIM];
    struct arena arena, scratch;
    struct error err = {0};

    (void)state;
    assert_non_null(pixels);
    arena_init(&arena, SCRATCH_BYTES);
    arena_init(&scratch, SCRATCH_BYTES);
    for (size_t k = 0; k < N_SIZES; k++) {
        struct image image = make_image(k, false, sizes[k][0], sizes[k][1], pixels);

        assert_ok(preprocess_pixels(&info->preprocess, &image, &arena, &views[k], &err));
    }
    assert_ok(teacher_embed_images(teacher, views, N_SIZES, &scratch, together, &err));
    for (size_t k = 0; k < N_SIZES; k++) {
        assert_ok(teacher_embed_images(teacher, &views[k], 1, &scratch, alone, &err));
        assert_memory_equal(alone, together + k * info->dim, info->dim * sizeof *alone);
    }
    arena_release(&scratch);
    arena_release(&arena);
    free(pixels);
    teacher_close(&teacher);
}

/* More than run together. */
static void texts_do_not_mix(void **state)
{
    enum { N = 23 };
    struct teacher *teacher = open_teacher(MODELS "siglip2_naflex_8", TEACHER_CLEAN_AUTO);
    size_t dim = teacher_info(teacher)->dim;
    float together[N * MAX_DIM], alone[MAX_DIM];
    struct bytes_view text_b[N];
    char words[N][8];
    struct arena scratch;
    struct error err = {0};

    (void)state;
    arena_init(&scratch, SCRATCH_BYTES);
    for (size_t b = 0; b < N; b++) {
        (void)snprintf(words[b], sizeof words[b], "%zu cats", b);
        text_b[b] = bytes_of_string(words[b]);
    }
    assert_ok(teacher_embed_texts(teacher, text_b, N, &scratch, together, &err));
    for (size_t b = 0; b < N; b++) {
        assert_ok(teacher_embed_texts(teacher, &text_b[b], 1, &scratch, alone, &err));
        assert_memory_equal(alone, together + b * dim, dim * sizeof *alone);
    }
    arena_release(&scratch);
    teacher_close(&teacher);
}

static void images_of_another_size_are_refused(void **state)
{
    static const struct {
        const char *model;
        size_t height, width;
    } cases[] = {{MODELS "siglip_hf", 64, 48},
                 {MODELS "siglip_hf", 63, 64},
                 {MODELS "siglip2_naflex", 16, 17},
                 {MODELS "siglip2_naflex", 272, 256},
                 {MODELS "siglip2_naflex_8", 0, 64}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct siglip *siglip = open_model(cases[i].model);
        float *pixels = random_floats((size_t)3 * 300 * 300, 1), out[MAX_DIM];
        struct arena scratch;
        struct error err = {0};

        arena_init(&scratch, SCRATCH_BYTES);
        assert_status(siglip_encode_images(siglip, pixels, 1, cases[i].height, cases[i].width,
                                           &scratch, out, &err),
                      ST_INVALID);
        arena_release(&scratch);
        free(pixels);
        siglip_destroy(&siglip);
    }
}

/* SIGLIP 27 */
static void probabilities_do_not_overflow(void **state)
{
    (void)state;
    assert_true(siglip_probability(0) == 0.5);
    assert_true(fabs(siglip_probability(2) - 0.8807970779778823) < 1e-15);
    assert_true(fabs(siglip_probability(-2) - 0.1192029220221177) < 1e-15);
    assert_true(siglip_probability(1e4) == 1 && siglip_probability(-1e4) == 0);
    assert_true(siglip_probability(-700) > 0);
}

/* SIGLIP 28, as on a text tower of 64 */
static void a_text_head_may_be_wider_than_its_tower(void **state)
{
    struct siglip *siglip = open_model(MODELS "siglip_hf_14");

    (void)state;
    assert_int_equal(siglip->dim, 144);
    assert_int_equal(siglip->vit.width, 144);
    assert_int_equal(siglip->text.width, 64);
    siglip_destroy(&siglip);
}

static void scratch_estimates_are_enough(void **state)
{
    static const char *const models[] = {MODELS "siglip_hf_14", MODELS "siglip2_naflex"};

    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        struct siglip *siglip = open_model(models[m]);
        size_t S = siglip->naflex_patches > 0 ? 256 : siglip->vit.image_size;
        size_t n = siglip_images_at_once(siglip, S, S);
        float *pixels = random_floats(n * 3 * S * S, 3);
        float *out = malloc(n * siglip->dim * sizeof *out);
        int32_t ids[64] = {1};
        const int32_t *ids_b[64];
        size_t n_texts = MIN(n, ARRAY_LEN(ids_b));
        struct arena scratch;
        struct error err = {0};

        arena_init(&scratch, siglip_scratch_bytes(siglip));
        assert_ok(siglip_encode_images(siglip, pixels, n, S, S, &scratch, out, &err));
        for (size_t b = 0; b < n_texts; b++)
            ids_b[b] = ids;
        assert_ok(siglip_encode_texts(siglip, ids_b, n_texts, &scratch, out, &err));
        arena_release(&scratch);
        free(out);
        free(pixels);
        siglip_destroy(&siglip);
    }
}

static void every_failed_allocation_is_reported(void **state)
{
    const struct teacher_options options = {.model_dir = MODELS "siglip2_naflex_8"};
    unsigned n = 0;
    bool fired;

    (void)state;
    do {
        struct teacher *teacher = NULL;
        struct error err = {0};
        enum status st;

        oom_fail_at(++n);
        st = teacher_open(&options, &teacher, &err);
        fired = oom_fired();
        oom_fail_at(0);
        assert_true(fired ? st != ST_OK && teacher == NULL : st == ST_OK);
        teacher_close(&teacher);
    } while (fired);
    assert_true(n > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_and_texts_equal_the_references),
        cmocka_unit_test(naflex_images_of_twelve_aspect_ratios_equal_the_reference),
        cmocka_unit_test(every_layout_keeps_the_contract),
        cmocka_unit_test(the_model_type_decides_between_fixed_resolution_and_naflex),
        cmocka_unit_test(patches_have_no_order_beside_their_positions),
        cmocka_unit_test(pooling_before_projecting_equals_projecting_every_token),
        cmocka_unit_test(pads_are_attended),
        cmocka_unit_test(a_text_is_read_at_the_last_position),
        cmocka_unit_test(rows_of_ids_equal_the_references),
        cmocka_unit_test(an_empty_text_is_an_end_and_pads),
        cmocka_unit_test(a_long_text_is_cut_before_its_end),
        cmocka_unit_test(lower_case_is_of_ascii_unless_asked_for_otherwise),
        cmocka_unit_test(no_text_gives_a_control_id),
        cmocka_unit_test(what_does_not_fill_a_patch_is_not_seen),
        cmocka_unit_test(positions_are_resampled_with_antialiasing),
        cmocka_unit_test(naflex_patches_are_row_column_channel),
        cmocka_unit_test(ragged_batches_do_not_mix),
        cmocka_unit_test(texts_do_not_mix),
        cmocka_unit_test(images_of_another_size_are_refused),
        cmocka_unit_test(probabilities_do_not_overflow),
        cmocka_unit_test(a_text_head_may_be_wider_than_its_tower),
        cmocka_unit_test(scratch_estimates_are_enough),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
