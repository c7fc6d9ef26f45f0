#include "reinforce/models/vit.h"

#include "reinforce/nn/ops.h"

#include <string.h>

struct vit_names {
    const char *cls, *conv, *position, *ln_pre, *blocks;
};

static const struct vit_names open_clip_names = {"visual.class_embedding", "visual.conv1.weight",
                                                 "visual.positional_embedding", "visual.ln_pre.",
                                                 "visual.transformer."};
static const struct vit_names transformers_names = {
    "vision_model.embeddings.class_embedding", "vision_model.embeddings.patch_embedding.weight",
    "vision_model.embeddings.position_embedding.weight",
    "vision_model.pre_layrnorm.", /* spelt so */
    "vision_model.encoder."};

enum status vit_load(struct weights *weights, enum naming naming,
                     const struct vision_config *config, struct vit *out, struct error *err)
{
    const struct vit_names *names =
        naming == NAMING_OPEN_CLIP ? &open_clip_names : &transformers_names;
    size_t S = (size_t)config->image_size, p = (size_t)config->patch_size;
    enum status st;

    *out = (struct vit){.image_size = S, .patch_size = p, .width = config->shape.width};
    if (p == 0 || S < p)
        return error_set(err, ST_INVALID, "image size %zu holds no patch of %zu pixels", S, p);
    out->n_tokens = (S / p) * (S / p) + 1; /* a remainder is cut off, as the convolution does */
    st = weights_get(weights, "", names->cls, WEIGHTS_SHAPE(out->width), &out->cls, err);
    if (st == ST_OK)
        st = weights_get(weights, "", names->conv, WEIGHTS_SHAPE(out->width, 3, p, p), &out->conv,
                         err);
    if (st == ST_OK)
        st = weights_get(weights, "", names->position, WEIGHTS_SHAPE(out->n_tokens, out->width),
                         &out->position, err);
    if (st == ST_OK)
        st = layer_norm_load(weights, names->ln_pre, out->width, &out->ln_pre, err);
    if (st == ST_OK)
        st = transformer_load(weights, names->blocks, naming, &config->shape, &out->blocks, err);
    return st;
}

void vit_release(struct vit *vit)
{
    transformer_release(&vit->blocks);
}

/* Cuts the image into rows of (channel, row, column), patch after patch: the convolution is one
 * product. */
static void cut_patches(const struct vit *vit, const float *pixels, float *patches)
{
    size_t S = vit->image_size, p = vit->patch_size, grid = S / p;

    for (size_t gy = 0; gy < grid; gy++)
        for (size_t gx = 0; gx < grid; gx++)
            for (size_t c = 0; c < 3; c++)
                for (size_t y = 0; y < p; y++, patches += p)
                    memcpy(patches, pixels + (c * S + gy * p + y) * S + gx * p,
                           p * sizeof *patches);
}

enum status vit_run(const struct vit *vit, const float *pixels, bool class_only,
                    struct arena *scratch, float *tokens, struct error *err)
{
    size_t D = vit->width, n = vit->n_tokens, K = 3 * vit->patch_size * vit->patch_size;
    struct arena mark = *scratch;
    float *patches;
    enum status st = arena_alloc(scratch, (n - 1) * K * sizeof *patches, &patches, err);

    if (st != ST_OK)
        return st;
    cut_patches(vit, pixels, patches);
    memcpy(tokens, vit->cls, D * sizeof *tokens);
    ops_linear(tokens + D, patches, K, vit->conv, NULL, n - 1, D, K);
    arena_rewind(scratch, &mark);
    ops_add(tokens, vit->position, n * D);
    ops_layer_norm(tokens, tokens, vit->ln_pre.w, vit->ln_pre.b, vit->blocks.eps, n, D);
    st = class_only ? transformer_run_pooled(&vit->blocks, tokens, n, 0, scratch, err)
                    : transformer_run(&vit->blocks, tokens, n, false, NULL, scratch, err);
    arena_rewind(scratch, &mark);
    return st;
}
