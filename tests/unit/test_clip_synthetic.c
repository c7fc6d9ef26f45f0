/* CLIP 24: full-size architectures on weights made by formula, against open_clip 3.3 in float32.
 * With an argument (ViT-H-14: 4 GB, about a minute) only that model is run. */
#include "reinforce/models/clip.h"
#include "reinforce/nn/ops.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TENSORS = 1024, NAME_SIZE = 64 };

struct golden {
    const char *name;
    size_t dim;
    struct vision_config vision;
    struct transformer_shape text_shape;
    double image_norm, text_norm;
    float image[4], text[4];
    double cosine;
};

static const struct golden goldens[] = {
    {"ViT-B-32",
     512,
     {224, 32, {12, 768, 12, 3072, ACTIVATION_GELU, 1e-5f}, 0, 0},
     {12, 512, 8, 2048, ACTIVATION_GELU, 1e-5f},
     23.04302,
     22.74830,
     {-0.006904f, -0.036050f, -0.022518f, 0.019219f},
     {0.024783f, 0.001677f, 0.026486f, -0.018188f},
     0.013425},
    {"ViT-B-32-quickgelu",
     512,
     {224, 32, {12, 768, 12, 3072, ACTIVATION_QUICK_GELU, 1e-5f}, 0, 0},
     {12, 512, 8, 2048, ACTIVATION_QUICK_GELU, 1e-5f},
     23.05253,
     22.74637,
     {-0.006554f, -0.036574f, -0.021700f, 0.019096f},
     {0.024811f, 0.001800f, 0.027008f, -0.017565f},
     0.012888},
    {"ViT-H-14",
     1024,
     {224, 14, {32, 1280, 16, 5120, ACTIVATION_GELU, 1e-5f}, 0, 0},
     {24, 1024, 16, 4096, ACTIVATION_GELU, 1e-5f},
     32.85697,
     32.71018,
     {-0.019094f, 0.004441f, 0.009599f, 0.015016f},
     {0.069925f, -0.013994f, -0.036290f, 0.081606f},
     -0.011194},
};

/* Tensors in memory, made one by one. */
struct model {
    struct tensor tensors[MAX_TENSORS];
    char names[MAX_TENSORS][NAME_SIZE];
    size_t n;
};

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n >= m && strcmp(text + n - m, end) == 0;
}

/* An LCG seeded with the name's FNV-1a hash, scaled by the tensor's kind; every step in float32. */
static void fill(const struct tensor *tensor, float *out)
{
    size_t count = tensor_count(tensor), fan = 1;
    uint32_t s = 2166136261u;
    float scale;

    for (const char *c = tensor->name; *c != '\0'; c++)
        s = (s ^ (uint8_t)*c) * 16777619u;
    if (ends_with(tensor->name, "proj") || ends_with(tensor->name, "text_projection"))
        fan = tensor->shape[0]; /* stored in, out */
    else
        for (size_t d = 1; d < tensor->rank; d++)
            fan *= tensor->shape[d];
    scale = (float)sqrt(3.0 / (double)fan);
    for (size_t j = 0; j < count; j++) {
        float u;

        s = 1664525u * s + 1013904223u;
        u = (float)(s >> 8) * 0x1p-23f - 1.0f;
        if (tensor->rank == 0)
            out[j] = 2.6592f;
        else if (tensor->rank >= 2)
            out[j] = scale * u;
        else if (ends_with(tensor->name, ".weight"))
            out[j] = 1.0f + 0.1f * u;
        else
            out[j] = 0.1f * u;
    }
}

static void add(struct model *model, const char *prefix, const char *name, size_t rank,
                const size_t *shape)
{
    struct tensor *tensor = &model->tensors[model->n];
    float *data;

    assert_true(model->n < MAX_TENSORS);
    (void)snprintf(model->names[model->n], NAME_SIZE, "%s%s", prefix, name);
    tensor->name = model->names[model->n++];
    tensor->dtype = TENSOR_F32;
    tensor->rank = rank;
    for (size_t d = 0; d < rank; d++)
        tensor->shape[d] = shape[d];
    data = malloc(tensor_count(tensor) * sizeof *data);
    assert_non_null(data);
    fill(tensor, data);
    tensor->data = bytes_view_of(data, tensor_count(tensor) * sizeof *data);
}

static void add_vector(struct model *model, const char *prefix, const char *name, size_t n)
{
    add(model, prefix, name, 1, &n);
}

static void add_matrix(struct model *model, const char *prefix, const char *name, size_t rows,
                       size_t columns)
{
    add(model, prefix, name, 2, (size_t[]){rows, columns});
}

static void add_blocks(struct model *model, const char *prefix,
                       const struct transformer_shape *shape)
{
    size_t D = shape->width, mlp = shape->mlp_width;
    char block[NAME_SIZE];

    for (size_t i = 0; i < shape->n_layers; i++) {
        (void)snprintf(block, sizeof block, "%stransformer.resblocks.%zu.", prefix, i);
        add_vector(model, block, "ln_1.weight", D);
        add_vector(model, block, "ln_1.bias", D);
        add_matrix(model, block, "attn.in_proj_weight", 3 * D, D);
        add_vector(model, block, "attn.in_proj_bias", 3 * D);
        add_matrix(model, block, "attn.out_proj.weight", D, D);
        add_vector(model, block, "attn.out_proj.bias", D);
        add_vector(model, block, "ln_2.weight", D);
        add_vector(model, block, "ln_2.bias", D);
        add_matrix(model, block, "mlp.c_fc.weight", mlp, D);
        add_vector(model, block, "mlp.c_fc.bias", mlp);
        add_matrix(model, block, "mlp.c_proj.weight", D, mlp);
        add_vector(model, block, "mlp.c_proj.bias", D);
    }
}

static struct model *make_model(const struct golden *golden)
{
    size_t V = golden->vision.shape.width, T = golden->text_shape.width,
           p = (size_t)golden->vision.patch_size, grid = (size_t)golden->vision.image_size / p;
    struct model *model = calloc(1, sizeof *model);

    assert_non_null(model);
    add(model, "", "logit_scale", 0, NULL);
    add_vector(model, "visual.", "class_embedding", V);
    add(model, "visual.", "conv1.weight", 4, (size_t[]){V, 3, p, p});
    add_matrix(model, "visual.", "positional_embedding", grid * grid + 1, V);
    add_vector(model, "visual.", "ln_pre.weight", V);
    add_vector(model, "visual.", "ln_pre.bias", V);
    add_vector(model, "visual.", "ln_post.weight", V);
    add_vector(model, "visual.", "ln_post.bias", V);
    add_matrix(model, "visual.", "proj", V, golden->dim);
    add_blocks(model, "visual.", &golden->vision.shape);
    add_matrix(model, "", "token_embedding.weight", 49408, T);
    add_matrix(model, "", "positional_embedding", 77, T);
    add_vector(model, "", "ln_final.weight", T);
    add_vector(model, "", "ln_final.bias", T);
    add_matrix(model, "", "text_projection", T, golden->dim);
    add_blocks(model, "", &golden->text_shape);
    return model;
}

static void free_model(struct model *model)
{
    for (size_t i = 0; i < model->n; i++) {
        union {
            const uint8_t *in;
            void *out;
        } cast = {.in = model->tensors[i].data.data};

        free(cast.out);
    }
    free(model);
}

/* Pattern (37 x + 101 y + 7 x y + 59 c) mod 256, /255, OpenAI's mean and std. */
static float *make_pixels(size_t S)
{
    static const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f};
    static const float std[3] = {0.26862954f, 0.26130258f, 0.27577711f};
    float *pixels = malloc(3 * S * S * sizeof *pixels);

    assert_non_null(pixels);
    for (size_t c = 0; c < 3; c++)
        for (size_t y = 0; y < S; y++)
            for (size_t x = 0; x < S; x++)
                pixels[(c * S + y) * S + x] =
                    ((float)((37 * x + 101 * y + 7 * x * y + 59 * c) % 256) / 255.0f - mean[c]) /
                    std[c];
    return pixels;
}

static void check_vector(const char *model, const char *what, float norm, const float *got,
                         double want_norm, const float want[4])
{
    if (!(fabs((double)norm - want_norm) <= 2e-5)) /* stored with 5 decimals */
        fail_msg("%s: %s norm is %.6f, want %.5f", model, what, (double)norm, want_norm);
    for (int i = 0; i < 4; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= 2e-6))
            fail_msg("%s: %s component %d is %.7f, want %.6f", model, what, i, (double)got[i],
                     (double)want[i]);
}

static void check_golden(const struct golden *golden, const struct model *model)
{
    static const int32_t ids[77] = {49406, 320, 1125, 539, 320, 2368, 49407};
    struct snapshot *snapshot = calloc(1, sizeof *snapshot);
    float *pixels = make_pixels((size_t)golden->vision.image_size), image[1024], text[1024], norm;
    struct weights *weights = NULL;
    struct clip *clip = NULL;
    struct arena scratch;
    struct error err = {0};
    double cosine = 0;

    assert_non_null(snapshot);
    snapshot->family = SNAPSHOT_CLIP;
    snapshot->naming = NAMING_OPEN_CLIP;
    snapshot->embed_dim = golden->dim;
    snapshot->vision = golden->vision;
    snapshot->text = (struct text_config){77, 49408, golden->text_shape, SNAPSHOT_EOS_LARGEST};
    assert_ok(weights_create(model->tensors, model->n, &weights, &err));
    assert_ok(clip_create(snapshot, &weights, &clip, &err));
    assert_float_equal(clip->logit_scale, 14.2848, 1e-3);
    arena_init(&scratch, clip_scratch_bytes(clip));
    assert_ok(clip_encode_image(clip, pixels, &scratch, image, &err));
    norm = ops_l2_normalize(image, golden->dim);
    check_vector(golden->name, "image", norm, image, golden->image_norm, golden->image);
    arena_release(&scratch);
    arena_init(&scratch, clip_scratch_bytes(clip));
    assert_ok(clip_encode_text(clip, ids, 77, &scratch, text, &err));
    norm = ops_l2_normalize(text, golden->dim);
    check_vector(golden->name, "text", norm, text, golden->text_norm, golden->text);
    for (size_t d = 0; d < golden->dim; d++)
        cosine += (double)image[d] * (double)text[d];
    if (!(fabs(cosine - golden->cosine) <= 2e-6))
        fail_msg("%s: cosine is %.7f, want %.6f", golden->name, cosine, golden->cosine);
    arena_release(&scratch);
    clip_destroy(&clip);
    free(pixels);
    free(snapshot);
}

static void the_fill_is_the_published_one(void **state)
{
    const struct tensor tensor = {.name = "visual.proj", .rank = 2, .shape = {3, 1}};
    float out[3];

    (void)state;
    fill(&tensor, out); /* fan 3: the scale is 1 */
    assert_true(out[0] == -0.6636381149291992f && out[1] == 0.3481731414794922f &&
                out[2] == -0.5241286754608154f);
}

static void full_size_b32_equals_open_clip_under_both_activations(void **state)
{
    struct model *model = make_model(&goldens[0]);

    (void)state;
    check_golden(&goldens[0], model);
    check_golden(&goldens[1], model);
    free_model(model);
}

static void full_size_h14_equals_open_clip(void **state)
{
    struct model *model = make_model(&goldens[2]);

    (void)state;
    check_golden(&goldens[2], model);
    free_model(model);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fill_is_the_published_one),
        cmocka_unit_test(full_size_b32_equals_open_clip_under_both_activations),
    };
    const struct CMUnitTest slow[] = {
        cmocka_unit_test(full_size_h14_equals_open_clip),
    };

    if (argc > 1 && strcmp(argv[1], goldens[2].name) == 0)
        return cmocka_run_group_tests(slow, NULL, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
