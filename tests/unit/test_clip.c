/* The towers against open_clip 2.31 and transformers 4.49, on snapshots in their published layouts
 * (tests/golden/make_models.py). */
#include "reinforce/models/clip.h"
#include "reinforce/nn/ops.h"
#include "tests/support/test.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODELS "tests/golden/models/"

enum { SCRATCH_BYTES = 64 << 20, N_IMAGES = 10 };

/* The acceptance is 1e-4; float32 against float32 on these sizes leaves much less. */
static const double tolerance = 2e-6;

static const char *const models[] = {"clip_gelu", "clip_quickgelu", "clip_hf", "clip_hf_single",
                                     "clip_custom_text"};

static struct clip *open_model(const char *name, const char *activation)
{
    char dir[256], digest[SHA256_HEX_LEN + 1];
    struct snapshot snapshot;
    struct weights *weights = NULL;
    struct clip *clip = NULL;
    struct error err = {0};

    (void)snprintf(dir, sizeof dir, MODELS "%s", name);
    assert_ok(snapshot_read(dir, activation, &snapshot, &err));
    assert_ok(snapshot_open_weights(&snapshot, &weights, digest, &err));
    assert_ok(clip_create(&snapshot, &weights, &clip, &err));
    assert_null(weights);
    return clip;
}

static struct safetensors *open_golden(const char *name)
{
    char path[256];
    struct safetensors *golden = NULL;
    struct error err = {0};

    (void)snprintf(path, sizeof path, MODELS "%s/golden.safetensors", name);
    assert_ok(safetensors_open(path, &golden, &err));
    return golden;
}

static const struct tensor *golden_tensor(const struct safetensors *golden, const char *name)
{
    const struct tensor *tensor = safetensors_peek(golden, name);

    assert_non_null(tensor);
    return tensor;
}

/* Image k of make_coca.py's `pattern`; 8 is black, 9 white; normalised with OpenAI's mean and std.
 */
static void make_pixels(const struct clip *clip, size_t k, float *pixels)
{
    static const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f};
    static const float std[3] = {0.26862954f, 0.26130258f, 0.27577711f};
    size_t S = clip->vit.image_size;

    for (size_t c = 0; c < 3; c++)
        for (size_t y = 0; y < S; y++)
            for (size_t x = 0; x < S; x++) {
                size_t v = (37 + 2 * k) * x + (101 + 6 * k) * y + (7 + k) * x * y + 59 * c + 29 * k;

                v = k == 8 ? 0 : k == 9 ? 255 : v % 256;
                pixels[(c * S + y) * S + x] = ((float)v / 255.0f - mean[c]) / std[c];
            }
}

static void embed_image(const struct clip *clip, size_t k, struct arena *scratch, float *out)
{
    struct error err = {0};
    float *pixels;

    assert_ok(arena_alloc(scratch, 3 * clip->vit.image_size * clip->vit.image_size * sizeof *pixels,
                          &pixels, &err));
    make_pixels(clip, k, pixels);
    assert_ok(clip_encode_images(clip, pixels, 1, scratch, out, &err));
    (void)ops_l2_normalize(out, clip->dim);
}

static double max_difference(const float *a, const float *b, size_t n)
{
    double max = 0;

    for (size_t i = 0; i < n; i++)
        max = fmax(max, fabs((double)a[i] - (double)b[i]));
    return isfinite(max) ? max : INFINITY;
}

static double image_difference(const struct clip *clip, const struct safetensors *golden)
{
    const struct tensor *want = golden_tensor(golden, "image");
    float *got = malloc(clip->dim * sizeof *got), *row = malloc(clip->dim * sizeof *row);
    struct arena scratch;
    double max = 0;

    assert_int_equal(want->shape[0], N_IMAGES);
    assert_int_equal(want->shape[1], clip->dim);
    for (size_t k = 0; k < N_IMAGES; k++) {
        arena_init(&scratch, SCRATCH_BYTES);
        embed_image(clip, k, &scratch, got);
        arena_release(&scratch);
        memcpy(row, want->data.data + k * clip->dim * sizeof *row, clip->dim * sizeof *row);
        max = fmax(max, max_difference(got, row, clip->dim));
    }
    free(got);
    free(row);
    return max;
}

/* Row r of "text_ids", and its length. */
static size_t golden_ids(const struct safetensors *golden, size_t r, int32_t *ids)
{
    const struct tensor *rows = golden_tensor(golden, "text_ids");
    size_t n = 0, width = rows->shape[1];

    memcpy(ids, rows->data.data + r * width * sizeof *ids, width * sizeof *ids);
    while (n < width && ids[n] >= 0)
        n++;
    return n;
}

static enum status encode_text(const struct clip *clip, const int32_t *ids, size_t n,
                               struct arena *scratch, float *out, struct error *err)
{
    return clip_encode_texts(clip, &ids, &n, 1, scratch, out, err);
}

static double text_difference(const struct clip *clip, const struct safetensors *golden)
{
    const struct tensor *want = golden_tensor(golden, "text");
    float *got = malloc(clip->dim * sizeof *got), *row = malloc(clip->dim * sizeof *row);
    int32_t ids[128];
    struct arena scratch;
    struct error err = {0};
    double max = 0;

    for (size_t r = 0; r < want->shape[0]; r++) {
        size_t n = golden_ids(golden, r, ids);

        arena_init(&scratch, SCRATCH_BYTES);
        assert_ok(encode_text(clip, ids, n, &scratch, got, &err));
        arena_release(&scratch);
        (void)ops_l2_normalize(got, clip->dim);
        memcpy(row, want->data.data + r * clip->dim * sizeof *row, clip->dim * sizeof *row);
        max = fmax(max, max_difference(got, row, clip->dim));
    }
    free(got);
    free(row);
    return max;
}

static void towers_equal_open_clip_and_transformers(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        struct clip *clip = open_model(models[i], NULL);
        struct safetensors *golden = open_golden(models[i]);
        double image = image_difference(clip, golden), text = text_difference(clip, golden);

        if (!(image <= tolerance) || !(text <= tolerance))
            fail_msg("%s: images differ by %g, texts by %g", models[i], image, text);
        safetensors_close(&golden);
        clip_destroy(&clip);
    }
}

/* CLIP 25 */
static void the_other_activation_gives_other_embeddings(void **state)
{
    static const struct {
        const char *model, *wrong;
    } cases[] = {{"clip_gelu", "quick_gelu"}, {"clip_quickgelu", "gelu"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct clip *clip = open_model(cases[i].model, cases[i].wrong);
        struct safetensors *golden = open_golden(cases[i].model);

        assert_true(image_difference(clip, golden) > 1e-4);
        assert_true(text_difference(clip, golden) > 1e-4);
        safetensors_close(&golden);
        clip_destroy(&clip);
    }
}

/* A model whose matrix `name` was stored the other way round by a careless converter. */
static enum status open_transposed(const char *model, const char *name, struct error *why)
{
    struct error err = {0};
    struct clip *clip = NULL;
    char dir[256];
    struct snapshot snapshot;
    struct safetensors *file = NULL;
    struct weights *weights = NULL;
    const struct tensor *stored;
    struct tensor *tensors;
    uint8_t *turned = NULL;
    size_t n;
    enum status st;

    (void)snprintf(dir, sizeof dir, MODELS "%s", model);
    assert_ok(snapshot_read(dir, NULL, &snapshot, &err));
    assert_ok(safetensors_open(snapshot.weights_path, &file, &err));
    stored = safetensors_view(file, &n);
    tensors = malloc(n * sizeof *tensors);
    memcpy(tensors, stored, n * sizeof *tensors);
    for (size_t i = 0; i < n; i++) {
        size_t rows = stored[i].shape[0], columns = stored[i].shape[1],
               size = tensor_dtype_size(stored[i].dtype);

        if (strcmp(stored[i].name, name) != 0)
            continue;
        turned = malloc(stored[i].data.len);
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < columns; c++)
                memcpy(turned + (c * rows + r) * size,
                       stored[i].data.data + (r * columns + c) * size, size);
        tensors[i].shape[0] = columns;
        tensors[i].shape[1] = rows;
        tensors[i].data.data = turned;
    }
    assert_non_null(turned);
    assert_ok(weights_create(tensors, n, &weights, &err));
    st = clip_create(&snapshot, &weights, &clip, &err);
    if (st == ST_OK) {
        struct safetensors *golden = open_golden(model);
        double difference = strcmp(name, "visual.proj") == 0 ? image_difference(clip, golden)
                                                             : text_difference(clip, golden);

        assert_true(difference > 1e-4);
        safetensors_close(&golden);
    }
    clip_destroy(&clip);
    weights_destroy(&weights);
    safetensors_close(&file);
    free(tensors);
    free(turned);
    *why = err;
    return st;
}

/* CLIP 4: by its shape, or, of a square one, by the goldens. */
static void a_transposed_projection_is_noticed(void **state)
{
    static const char *const names[] = {"visual.proj", "text_projection"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct error err = {0};

        assert_status(open_transposed("clip_gelu", names[i], &err), ST_INVALID);
        assert_non_null(strstr(err.message, names[i]));
        assert_non_null(strstr(err.message, "[48, 64]"));
        assert_non_null(strstr(err.message, "[64, 48]"));
        assert_ok(open_transposed("clip_quickgelu", names[i], &err));
    }
}

/* CLIP 3 */
static void both_namings_give_the_same_bits(void **state)
{
    struct clip *fused = open_model("clip_gelu", NULL), *split = open_model("clip_hf", NULL);
    struct safetensors *golden = open_golden("clip_gelu");
    struct arena scratch;
    struct error err = {0};
    float a[64], b[64];
    int32_t ids[128];

    (void)state;
    arena_init(&scratch, SCRATCH_BYTES);
    for (size_t k = 0; k < N_IMAGES; k++) {
        embed_image(fused, k, &scratch, a);
        embed_image(split, k, &scratch, b);
        assert_memory_equal(a, b, fused->dim * sizeof *a);
    }
    for (size_t r = 0; r < golden_tensor(golden, "text_ids")->shape[0]; r++) {
        size_t n = golden_ids(golden, r, ids);

        assert_ok(encode_text(fused, ids, n, &scratch, a, &err));
        assert_ok(encode_text(split, ids, n, &scratch, b, &err));
        assert_memory_equal(a, b, fused->dim * sizeof *a);
    }
    arena_release(&scratch);
    safetensors_close(&golden);
    clip_destroy(&fused);
    clip_destroy(&split);
}

/* CLIP 26: the golden rows went through open_clip at all 77 positions; here nothing behind the end
 * may matter. */
static void padding_behind_the_end_changes_nothing(void **state)
{
    struct clip *clip = open_model("clip_gelu", NULL);
    struct safetensors *golden = open_golden("clip_gelu");
    struct arena scratch;
    struct error err = {0};
    float a[64], b[64];
    int32_t ids[128];
    size_t n = golden_ids(golden, 0, ids);

    (void)state;
    arena_init(&scratch, SCRATCH_BYTES);
    assert_ok(encode_text(clip, ids, n, &scratch, a, &err));
    for (size_t i = n; i < 77; i++)
        ids[i] = (int32_t)(i % 3);
    assert_ok(encode_text(clip, ids, 77, &scratch, b, &err));
    assert_memory_equal(a, b, sizeof a / 64 * clip->dim);
    arena_release(&scratch);
    safetensors_close(&golden);
    clip_destroy(&clip);
}

static void rows_that_cannot_be_texts_are_refused(void **state)
{
    struct clip *clip = open_model("clip_hf_single", NULL); /* its end token has an id of its own */
    int32_t end = clip->eos_id;
    struct arena scratch;
    struct error err = {0};
    float out[64];
    int32_t too_long[78] = {0};

    (void)state;
    arena_init(&scratch, SCRATCH_BYTES);
    assert_true(end > 0);
    assert_status(encode_text(clip, (int32_t[]){1, 2}, 2, &scratch, out, &err), ST_INVALID);
    assert_status(encode_text(clip, &end, 0, &scratch, out, &err), ST_INVALID);
    assert_status(encode_text(clip, (int32_t[]){-1, end}, 2, &scratch, out, &err), ST_INVALID);
    assert_status(encode_text(clip, (int32_t[]){end + 1, end}, 2, &scratch, out, &err), ST_INVALID);
    too_long[77] = end;
    assert_status(encode_text(clip, too_long, 78, &scratch, out, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "context of 77"));
    arena_release(&scratch);
    clip_destroy(&clip);
}

struct worker {
    const struct clip *clip;
    size_t first, step;
    float *out; /* [N_IMAGES, dim] */
};

static void *embed_some(void *argument)
{
    const struct worker *worker = argument;
    struct arena scratch;

    arena_init(&scratch, SCRATCH_BYTES);
    for (size_t k = worker->first; k < N_IMAGES; k += worker->step) {
        arena_reset(&scratch);
        embed_image(worker->clip, k, &scratch, worker->out + k * worker->clip->dim);
    }
    arena_release(&scratch);
    return NULL;
}

/* CLIP 28 */
static void results_do_not_depend_on_threads_or_order(void **state)
{
    static const size_t counts[] = {3, 16};
    struct clip *clip = open_model("clip_quickgelu", NULL);
    float *one = calloc(N_IMAGES * clip->dim, sizeof *one);
    float *many = calloc(N_IMAGES * clip->dim, sizeof *many);

    (void)state;
    (void)embed_some(&(struct worker){clip, 0, 1, one});
    for (size_t c = 0; c < ARRAY_LEN(counts); c++) {
        struct worker workers[16];
        pthread_t threads[16];

        memset(many, 0, N_IMAGES * clip->dim * sizeof *many);
        for (size_t t = 0; t < counts[c]; t++) {
            workers[t] = (struct worker){clip, counts[c] - 1 - t, counts[c], many};
            assert_int_equal(pthread_create(&threads[t], NULL, embed_some, &workers[t]), 0);
        }
        for (size_t t = 0; t < counts[c]; t++)
            assert_int_equal(pthread_join(threads[t], NULL), 0);
        assert_memory_equal(one, many, N_IMAGES * clip->dim * sizeof *one);
    }
    free(one);
    free(many);
    clip_destroy(&clip);
}

static void scratch_is_bounded_and_given_back(void **state)
{
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        struct clip *clip = open_model(models[i], NULL);
        size_t n_pixels = 3 * clip->vit.image_size * clip->vit.image_size;
        size_t n = clip_images_at_once(clip);
        float *pixels = malloc(n * n_pixels * sizeof *pixels);
        float *out = malloc(n * clip->dim * sizeof *out);
        int32_t ids[77] = {0};
        struct arena scratch;

        for (size_t k = 0; k < n; k++)
            make_pixels(clip, k % N_IMAGES, pixels + k * n_pixels);
        ids[clip->context_length - 1] =
            clip->eos_id >= 0 ? clip->eos_id : (int32_t)clip->text.vocab_size - 1;
        arena_init(&scratch, clip_scratch_bytes(clip));
        assert_ok(clip_encode_images(clip, pixels, n, &scratch, out, &err));
        assert_int_equal(scratch.used_bytes, 0);
        assert_true(scratch.peak_bytes <= clip_scratch_bytes(clip));
        arena_release(&scratch);
        arena_init(&scratch, clip_scratch_bytes(clip));
        assert_ok(encode_text(clip, ids, clip->context_length, &scratch, out, &err));
        assert_int_equal(scratch.used_bytes, 0);
        arena_release(&scratch);
        arena_init(&scratch, 1000); /* the arena's owner meant less */
        assert_status(clip_encode_images(clip, pixels, 1, &scratch, out, &err), ST_NO_MEMORY);
        arena_release(&scratch);
        free(out);
        free(pixels);
        clip_destroy(&clip);
    }
}

/* README, promise 2 */
static void an_image_does_not_depend_on_its_company(void **state)
{
    enum { N = 3 };
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        struct clip *clip = open_model(models[i], NULL);
        size_t n_pixels = 3 * clip->vit.image_size * clip->vit.image_size, D = clip->dim;
        float *pixels = malloc(N * n_pixels * sizeof *pixels);
        float together[N * 64], alone[64];
        struct arena scratch;

        arena_init(&scratch, SCRATCH_BYTES);
        for (size_t k = 0; k < N; k++)
            make_pixels(clip, k, pixels + k * n_pixels);
        assert_ok(clip_encode_images(clip, pixels, N, &scratch, together, &err));
        for (size_t k = 0; k < N; k++) {
            assert_ok(clip_encode_images(clip, pixels + k * n_pixels, 1, &scratch, alone, &err));
            assert_memory_equal(together + k * D, alone, D * sizeof *alone);
        }
        arena_release(&scratch);
        free(pixels);
        clip_destroy(&clip);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(towers_equal_open_clip_and_transformers),
        cmocka_unit_test(the_other_activation_gives_other_embeddings),
        cmocka_unit_test(a_transposed_projection_is_noticed),
        cmocka_unit_test(both_namings_give_the_same_bits),
        cmocka_unit_test(padding_behind_the_end_changes_nothing),
        cmocka_unit_test(rows_that_cannot_be_texts_are_refused),
        cmocka_unit_test(results_do_not_depend_on_threads_or_order),
        cmocka_unit_test(an_image_does_not_depend_on_its_company),
        cmocka_unit_test(scratch_is_bounded_and_given_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
