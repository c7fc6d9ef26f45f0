#include "tests/support/synthetic_weights.h"

#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct synthetic_model *synthetic_create(void)
{
    struct synthetic_model *model = calloc(1, sizeof *model);

    assert_non_null(model);
    return model;
}

void synthetic_destroy(struct synthetic_model **model)
{
    for (size_t i = 0; *model != NULL && i < (*model)->n; i++) {
        union {
            const uint8_t *in;
            void *out;
        } cast = {.in = (*model)->tensors[i].data.data};

        free(cast.out);
    }
    free(*model);
    *model = NULL;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);

    return n >= m && strcmp(text + n - m, end) == 0;
}

void synthetic_fill(const struct tensor *tensor, float *out)
{
    size_t count = tensor_count(tensor), fan = 1;
    uint32_t s = 2166136261u;
    float center = 0, scale = 0.1f;

    for (const char *c = tensor->name; *c != '\0'; c++)
        s = (s ^ (uint8_t)*c) * 16777619u;
    if (ends_with(tensor->name, "proj") || ends_with(tensor->name, "text_projection") ||
        ends_with(tensor->name, "projection_layer"))
        fan = tensor->shape[0]; /* stored in, out */
    else
        for (size_t d = 1; d < tensor->rank; d++)
            fan *= tensor->shape[d];
    if (ends_with(tensor->name, "gamma") || strstr(tensor->name, "layer_scale") != NULL) {
        center = 0.1f;
        scale = 0.02f;
    } else if (tensor->rank >= 2)
        scale = (float)sqrt(3.0 / (double)fan);
    else if (ends_with(tensor->name, "running_var")) {
        center = 1;
        scale = 0.5f;
    } else if (ends_with(tensor->name, ".weight"))
        center = 1;
    for (size_t j = 0; j < count; j++) {
        s = 1664525u * s + 1013904223u;
        out[j] = center + scale * ((float)(s >> 8) * 0x1p-23f - 1.0f);
    }
    if (strstr(tensor->name, "reparam") != NULL && tensor->rank == 4 && tensor->shape[1] == 1)
        for (size_t j = fan / 2; j < count; j += fan) /* the identity, in a folded kernel */
            out[j] += 1;
    if (tensor->rank == 0)
        out[0] = 2.6592f;
}

void synthetic_add(struct synthetic_model *model, const char *prefix, const char *name, size_t rank,
                   const size_t *shape)
{
    struct tensor *tensor = &model->tensors[model->n];
    float *data;

    assert_true(model->n < SYNTHETIC_MAX_TENSORS);
    (void)snprintf(model->names[model->n], SYNTHETIC_NAME_SIZE, "%s%s", prefix, name);
    tensor->name = model->names[model->n++];
    tensor->dtype = TENSOR_F32;
    tensor->rank = rank;
    for (size_t d = 0; d < rank; d++)
        tensor->shape[d] = shape[d];
    data = malloc(tensor_count(tensor) * sizeof *data);
    assert_non_null(data);
    synthetic_fill(tensor, data);
    tensor->data = bytes_view_of(data, tensor_count(tensor) * sizeof *data);
}

void synthetic_add_vector(struct synthetic_model *model, const char *prefix, const char *name,
                          size_t n)
{
    synthetic_add(model, prefix, name, 1, &n);
}

void synthetic_add_matrix(struct synthetic_model *model, const char *prefix, const char *name,
                          size_t rows, size_t columns)
{
    synthetic_add(model, prefix, name, 2, (size_t[]){rows, columns});
}

void synthetic_add_norm(struct synthetic_model *model, const char *prefix, const char *name,
                        size_t n)
{
    char part[SYNTHETIC_NAME_SIZE];

    (void)snprintf(part, sizeof part, "%s.weight", name);
    synthetic_add_vector(model, prefix, part, n);
    (void)snprintf(part, sizeof part, "%s.bias", name);
    synthetic_add_vector(model, prefix, part, n);
}

void synthetic_add_blocks(struct synthetic_model *model, const char *prefix,
                          const struct transformer_shape *shape)
{
    size_t D = shape->width, mlp = shape->mlp_width;
    char block[SYNTHETIC_NAME_SIZE];

    for (size_t i = 0; i < shape->n_layers; i++) {
        (void)snprintf(block, sizeof block, "%sresblocks.%zu.", prefix, i);
        synthetic_add_norm(model, block, "ln_1", D);
        synthetic_add_matrix(model, block, "attn.in_proj_weight", 3 * D, D);
        synthetic_add_vector(model, block, "attn.in_proj_bias", 3 * D);
        synthetic_add_matrix(model, block, "attn.out_proj.weight", D, D);
        synthetic_add_vector(model, block, "attn.out_proj.bias", D);
        synthetic_add_norm(model, block, "ln_2", D);
        synthetic_add_matrix(model, block, "mlp.c_fc.weight", mlp, D);
        synthetic_add_vector(model, block, "mlp.c_fc.bias", mlp);
        synthetic_add_matrix(model, block, "mlp.c_proj.weight", D, mlp);
        synthetic_add_vector(model, block, "mlp.c_proj.bias", D);
    }
}

void synthetic_add_vision(struct synthetic_model *model, size_t image_size, size_t patch_size,
                          const struct transformer_shape *shape)
{
    size_t D = shape->width, grid = image_size / patch_size;

    synthetic_add_vector(model, "visual.", "class_embedding", D);
    synthetic_add(model, "visual.", "conv1.weight", 4, (size_t[]){D, 3, patch_size, patch_size});
    synthetic_add_matrix(model, "visual.", "positional_embedding", grid * grid + 1, D);
    synthetic_add_norm(model, "visual.", "ln_pre", D);
    synthetic_add_blocks(model, "visual.transformer.", shape);
}

float *synthetic_pixels(size_t S)
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
