/* Texts and views to embeddings, as the references get them (tests/golden/make_models.py). */
#include "reinforce/base/file.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/nn/safetensors.h"
#include "reinforce/teach/teacher.h"
#include "tests/support/oom.h"
#include "tests/support/teacher_contract.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODELS "tests/golden/models/"

enum { SCRATCH_BYTES = 64 << 20, N_IMAGES = 10, MAX_DIM = 96 };

#define TABLE "a small wooden table with one yellow cup, some bread and three apples "

/* TEXTS of make_models.py. */
static const char *const texts[] = {"a photo of a cat",
                                    "two dogs running on the beach",
                                    "",
                                    "red  bus\tnear a CHURCH",
                                    "it's 42!",
                                    TABLE TABLE TABLE TABLE TABLE TABLE TABLE TABLE TABLE};

static const char *const models[] = {MODELS "clip_gelu", MODELS "clip_quickgelu", MODELS "clip_hf",
                                     MODELS "clip_hf_single", MODELS "clip_custom_text"};

static struct teacher *open_teacher(const struct teacher_options *options)
{
    struct teacher *teacher = NULL;
    struct error err = {0};

    assert_ok(teacher_open(options, &teacher, &err));
    return teacher;
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

static double difference(const float *a, const float *b, size_t n)
{
    double max = 0;

    for (size_t i = 0; i < n; i++)
        max = fmax(max, fabs((double)a[i] - (double)b[i]));
    return max;
}

/* How far two texts' embeddings are apart. */
static double text_distance(const struct teacher *teacher, const char *a, const char *b)
{
    float x[MAX_DIM], y[MAX_DIM];

    embed_text(teacher, a, x);
    embed_text(teacher, b, y);
    return difference(x, y, teacher_info(teacher)->dim);
}

static void compare(const struct safetensors *golden, const char *name, size_t row,
                    const float *got, size_t D, const char *what)
{
    const struct tensor *tensor = safetensors_peek(golden, name);
    float want[MAX_DIM];

    assert_non_null(tensor);
    memcpy(want, tensor->data.data + row * D * sizeof *want, D * sizeof *want);
    if (!(difference(got, want, D) <= 2e-6))
        fail_msg("%s: %s %zu differs by %g", what, name, row, difference(got, want, D));
}

/* Image k of make_coca.py's `pattern`; 8 is black, 9 white. */
static void make_view(size_t k, size_t S, uint8_t *pixels)
{
    for (size_t y = 0; y < S; y++)
        for (size_t x = 0; x < S; x++)
            for (size_t c = 0; c < 3; c++)
                pixels[(y * S + x) * 3 + c] =
                    (uint8_t)(k == 8   ? 0
                              : k == 9 ? 255
                                       : ((37 + 2 * k) * x + (101 + 6 * k) * y + (7 + k) * x * y +
                                          59 * c + 29 * k) %
                                             256);
}

static void views_and_texts_equal_the_references(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        struct teacher *teacher = open_teacher(&(struct teacher_options){.model_dir = models[m]});
        const struct teacher_info *info = teacher_info(teacher);
        size_t S = (size_t)info->preprocess.size;
        uint8_t *pixels = malloc(3 * S * S);
        struct safetensors *golden = NULL;
        struct arena scratch;
        struct error err = {0};
        char path[128];
        float emb[MAX_DIM];

        (void)snprintf(path, sizeof path, "%s/golden.safetensors", models[m]);
        assert_ok(safetensors_open(path, &golden, &err));
        arena_init(&scratch, SCRATCH_BYTES);
        assert_string_equal(info->family, "clip");
        assert_false(info->has_logit_bias);
        assert_true(fabs((double)info->logit_scale - 1 / 0.07) < 0.1); /* bf16 rounds it */
        for (size_t k = 0; k < N_IMAGES; k++) {
            struct image view = image_of((int)S, (int)S, 3, pixels);

            make_view(k, S, pixels);
            assert_ok(teacher_embed_images(teacher, &view, 1, &scratch, emb, &err));
            compare(golden, "image", k, emb, info->dim, models[m]);
        }
        for (size_t t = 0; t < ARRAY_LEN(texts); t++) {
            embed_text(teacher, texts[t], emb);
            compare(golden, "text", t, emb, info->dim, models[m]);
        }
        arena_release(&scratch);
        safetensors_close(&golden);
        free(pixels);
        teacher_close(&teacher);
    }
}

static void every_layout_keeps_the_contract(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(models); m++)
        teacher_contract(&(struct teacher_options){.model_dir = models[m]});
}

/* CLIP 21: cleaning is open_clip's for open_clip snapshots and tokenizer.json's for transformers'.
 */
static double cosine(const float *a, const float *b, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* One image or text, in float32 and in int8. */
static void embed_both(struct teacher *const both[2], const struct image *view, const char *text,
                       float emb[2][MAX_DIM])
{
    for (int f = 0; f < 2; f++) {
        struct arena scratch;
        struct error err = {0};

        arena_init(&scratch, SCRATCH_BYTES);
        if (view != NULL)
            assert_ok(teacher_embed_images(both[f], view, 1, &scratch, emb[f], &err));
        else
            embed_text(both[f], text, emb[f]);
        arena_release(&scratch);
    }
}

static void in_other_dtypes_embeddings_are_near_and_the_contract_is_kept(void **state)
{
    static const char *const families[] = {MODELS "clip_gelu",   MODELS "clip_quickgelu",
                                           MODELS "clip_hf",     MODELS "siglip_hf_16",
                                           MODELS "siglip_timm", MODELS "siglip2_naflex"};
    static const struct {
        enum matrix_form form;
        const char *type;
        double cosine;
    } forms[] = {{MATRIX_INT8, "I8", 0.999}, {MATRIX_BF16, "BF16", 0.9999}};
    enum { N_VIEWS = 2 };
    float emb[2][MAX_DIM];

    (void)state;
    for (size_t n = 0; n < ARRAY_LEN(families) * ARRAY_LEN(forms); n++) {
        size_t m = n / ARRAY_LEN(forms), form = n % ARRAY_LEN(forms);
        const struct teacher_options options[] = {
            {.model_dir = families[m]}, {.model_dir = families[m], .matrices = forms[form].form}};
        struct teacher *both[] = {open_teacher(&options[0]), open_teacher(&options[1])};
        const struct teacher_info *info = teacher_info(both[1]);
        size_t S = (size_t)info->preprocess.size;
        uint8_t *pixels = malloc(3 * S * S);

        assert_string_equal(info->weights_type, forms[form].type);
        assert_string_equal(teacher_info(both[0])->weights_type, "F32");
        assert_string_equal(info->weights_digest, teacher_info(both[0])->weights_digest);
        for (size_t k = 0; k < N_VIEWS + ARRAY_LEN(texts); k++) {
            struct image view = image_of((int)S, (int)S, 3, pixels);

            if (k < N_VIEWS)
                make_view(k, S, pixels);
            embed_both(both, k < N_VIEWS ? &view : NULL, texts[k % ARRAY_LEN(texts)], emb);
            if (!(cosine(emb[0], emb[1], info->dim) >= forms[form].cosine))
                fail_msg("%s, %s, %zu: cosine %g", families[m], forms[form].type, k,
                         cosine(emb[0], emb[1], info->dim));
        }
        free(pixels);
        teacher_close(&both[0]);
        teacher_close(&both[1]);
        if (m == 0) /* the others share its code */
            teacher_contract(&options[1]);
    }
}

static void cleaning_follows_the_snapshot_or_the_option(void **state)
{
    static const char dirty[] = "a photo of &amp;lt;3 a cat", clean[] = "a photo of <3 a cat";
    struct teacher_options options = {.model_dir = MODELS "clip_gelu"};
    struct teacher *teacher = open_teacher(&options);

    (void)state;
    assert_true(text_distance(teacher, dirty, clean) == 0);
    assert_true(text_distance(teacher,
                              "\xe2\x80\x9c"
                              "cat\xe2\x80\x9d",
                              "\"cat\"") == 0);
    teacher_close(&teacher);
    options.clean = TEACHER_CLEAN_TOKENIZER_JSON;
    teacher = open_teacher(&options);
    assert_true(text_distance(teacher, dirty, clean) > 1e-4);
    assert_true(text_distance(teacher, "A  Cat", "a cat") == 0);
    teacher_close(&teacher);
    options = (struct teacher_options){.model_dir = MODELS "clip_hf"};
    teacher = open_teacher(&options);
    assert_true(text_distance(teacher, dirty, clean) > 1e-4);
    teacher_close(&teacher);
    options.clean = TEACHER_CLEAN_OPEN_CLIP;
    teacher = open_teacher(&options);
    assert_true(text_distance(teacher, dirty, clean) == 0);
    teacher_close(&teacher);
}

/* CLIP 22: data that spells a special token does not become one, unless asked for. */
static void special_tokens_in_data_are_only_text(void **state)
{
    struct teacher_options options = {.model_dir = MODELS "clip_gelu"};
    struct teacher *teacher = open_teacher(&options);

    (void)state;
    /* an end token in the middle would hide what follows */
    assert_true(text_distance(teacher, "cat <end_of_text> dog", "cat <end_of_text> bird") > 1e-4);
    assert_true(text_distance(teacher, "cat <|endoftext|> dog", "cat <|endoftext|> bird") > 1e-4);
    teacher_close(&teacher);
    options.special_tokens_in_text = true;
    teacher = open_teacher(&options);
    assert_true(text_distance(teacher, "cat <end_of_text> dog", "cat <end_of_text> bird") == 0);
    teacher_close(&teacher);
}

/* CLIP 29 */
static void a_single_pixel_gives_a_finite_embedding(void **state)
{
    struct teacher *teacher =
        open_teacher(&(struct teacher_options){.model_dir = MODELS "clip_quickgelu"});
    uint8_t pixel[3] = {200, 3, 77};
    const struct image one = image_of(1, 1, 3, pixel);
    struct image view;
    struct arena scratch;
    struct error err = {0};
    float emb[MAX_DIM];

    (void)state;
    arena_init(&scratch, SCRATCH_BYTES);
    assert_ok(preprocess_pixels(&teacher_info(teacher)->preprocess, &one, &scratch, &view, &err));
    assert_ok(teacher_embed_images(teacher, &view, 1, &scratch, emb, &err));
    for (size_t d = 0; d < teacher_info(teacher)->dim; d++)
        assert_true(isfinite(emb[d]));
    arena_release(&scratch);
    teacher_close(&teacher);
}

static void copy_file(const char *from_dir, const char *to_dir, const char *name, bool poison)
{
    struct byte_buf buf;
    struct error err = {0};
    char path[160];

    byte_buf_init(&buf, 8 << 20);
    (void)snprintf(path, sizeof path, "%s/%s", from_dir, name);
    assert_ok(file_read(path, &buf, &err));
    if (poison) /* the last tensor's last values become NaN in bfloat16 */
        memset(buf.data + buf.len - 64, 0xff, 64);
    (void)snprintf(path, sizeof path, "%s/%s", to_dir, name);
    assert_ok(file_write_atomic(path, byte_buf_view(&buf), &err));
    byte_buf_release(&buf);
}

static void embeddings_that_are_not_finite_are_refused(void **state)
{
    char dir[] = "/tmp/reinforce-teacher-XXXXXX", command[64];
    struct teacher *teacher;
    struct image view = image_of(64, 64, 3, NULL);
    struct arena scratch;
    struct error err = {0};
    float emb[MAX_DIM];

    (void)state;
    assert_non_null(mkdtemp(dir));
    copy_file(MODELS "clip_gelu", dir, "open_clip_config.json", false);
    copy_file(MODELS "clip_gelu", dir, "tokenizer.json", false);
    copy_file(MODELS "clip_gelu", dir, "open_clip_model.safetensors", true);
    teacher = open_teacher(&(struct teacher_options){.model_dir = dir});
    arena_init(&scratch, SCRATCH_BYTES);
    view.pixels = calloc(3, 64 * 64);
    assert_status(teacher_embed_images(teacher, &view, 1, &scratch, emb, &err), ST_CORRUPT);
    assert_non_null(strstr(err.message, "not finite"));
    free(view.pixels);
    arena_release(&scratch);
    teacher_close(&teacher);
    (void)snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

static void a_captioner_is_no_teacher(void **state)
{
    struct teacher *teacher = NULL;
    struct error err = {0};

    (void)state;
    assert_status(
        teacher_open(&(struct teacher_options){.model_dir = MODELS "coca_small"}, &teacher, &err),
        ST_INVALID);
    assert_non_null(strstr(err.message, "coca"));
    assert_null(teacher);
    assert_status(
        teacher_open(&(struct teacher_options){.model_dir = "/nonexistent"}, &teacher, &err),
        ST_NOT_FOUND);
}

static void opening_survives_every_failing_allocation(void **state)
{
    struct error err = {0};
    unsigned n = 0;

    (void)state;
    assert_ok(gemm_init(&err)); /* once per process; its failure would be remembered */
    for (bool fired = true; fired;) {
        struct teacher *teacher = NULL;
        enum status st;

        oom_fail_at(++n);
        st = teacher_open(&(struct teacher_options){.model_dir = MODELS "clip_custom_text"},
                          &teacher, &err);
        fired = oom_fired();
        oom_fail_at(0);
        if (fired)
            assert_int_equal(st, ST_NO_MEMORY);
        else
            assert_int_equal(st, ST_OK);
        assert_int_equal(st == ST_OK, teacher != NULL);
        teacher_close(&teacher);
    }
    assert_true(n > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(views_and_texts_equal_the_references),
        cmocka_unit_test(every_layout_keeps_the_contract),
        cmocka_unit_test(in_other_dtypes_embeddings_are_near_and_the_contract_is_kept),
        cmocka_unit_test(cleaning_follows_the_snapshot_or_the_option),
        cmocka_unit_test(special_tokens_in_data_are_only_text),
        cmocka_unit_test(a_single_pixel_gives_a_finite_embedding),
        cmocka_unit_test(embeddings_that_are_not_finite_are_refused),
        cmocka_unit_test(a_captioner_is_no_teacher),
        cmocka_unit_test(opening_survives_every_failing_allocation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
