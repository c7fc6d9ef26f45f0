#include "reinforce/models/vit.h"

#include "reinforce/nn/ops.h"

#include <stdio.h>
#include <string.h>

enum { MAX_PREFIX = 160, STEM_BYTES = 64 << 20 };

/* Where each naming keeps the same things; NULL where it has no such model. */
struct vit_names {
    const char *cls, *conv, *conv_bias, *position, *ln_pre, *blocks, *ln_post;
};

static const struct vit_names open_clip_names = {.cls = "visual.class_embedding",
                                                 .conv = "visual.conv1.weight",
                                                 .position = "visual.positional_embedding",
                                                 .ln_pre = "visual.ln_pre.",
                                                 .blocks = "visual.transformer."};
static const struct vit_names transformers_names = {
    .cls = "vision_model.embeddings.class_embedding",
    .conv = "vision_model.embeddings.patch_embedding.weight",
    .conv_bias = "vision_model.embeddings.patch_embedding.bias",
    .position = "vision_model.embeddings.position_embedding.weight",
    .ln_pre = "vision_model.pre_layrnorm.", /* spelt so */
    .blocks = "vision_model.encoder.",
    .ln_post = "vision_model.post_layernorm."};
static const struct vit_names timm_names = {.cls = "visual.trunk.cls_token",
                                            .conv = "visual.trunk.patch_embed.proj.weight",
                                            .conv_bias = "visual.trunk.patch_embed.proj.bias",
                                            .position = "visual.trunk.pos_embed",
                                            .ln_pre = "visual.trunk.norm_pre.",
                                            .blocks = "visual.trunk.",
                                            .ln_post = "visual.trunk.norm."};
static const struct vit_names apple_names = {
    .cls = "image_encoder.model.cls_token",
    .position = "image_encoder.model.pos_embed.pos_embed.pos_embed",
    .blocks = "image_encoder.model.",
    .ln_post = "image_encoder.model.post_transformer_norm."};

static const struct vit_names *names_of(enum naming naming)
{
    switch (naming) {
    case NAMING_OPEN_CLIP:
        return &open_clip_names;
    case NAMING_TIMM:
        return &timm_names;
    case NAMING_APPLE:
        return &apple_names;
    case NAMING_TRANSFORMERS:
        break;
    }
    return &transformers_names;
}

static enum status load_stem(struct weights *weights, enum naming naming, struct vit *vit,
                             struct error *err)
{
    enum status st;

    arena_init(&vit->arena, STEM_BYTES);
    st = mci_stem_load(weights, naming, vit->width, &vit->arena, &vit->stem, err);
    vit->conv = vit->stem.embed.w;
    vit->conv_bias = vit->stem.embed.b;
    if (st == ST_OK && (vit->patch_size != MCI_STEM_PATCH ||
                        vit->stem.embed.in != (size_t)3 * MCI_STEM_PATCH * MCI_STEM_PATCH))
        st = error_set(err, ST_INVALID, "a convolutional stem of width %zu is not known",
                       vit->width);
    return st;
}

/* transformers 5 may leave out the segment "vision_model." inside a larger model. */
static struct vit_names names_in(const struct weights *weights, const char *prefix,
                                 enum naming naming)
{
    struct vit_names names = *names_of(naming);
    static const char segment[] = "vision_model.";
    char full[MAX_PREFIX];

    if (naming != NAMING_TRANSFORMERS || prefix[0] == '\0')
        return names;
    (void)snprintf(full, sizeof full, "%s%s", prefix, names.conv);
    if (weights_peek(weights, full) == NULL) {
        names.conv += sizeof segment - 1;
        names.conv_bias += sizeof segment - 1;
        names.position += sizeof segment - 1;
        names.blocks += sizeof segment - 1;
        names.ln_post += sizeof segment - 1;
    }
    return names;
}

static enum status load_embeddings(struct weights *weights, const char *prefix, enum naming naming,
                                   const struct vit_names *names,
                                   const struct vision_config *config, struct vit *vit,
                                   struct error *err)
{
    size_t D = vit->width, p = vit->patch_size, rows = vit->n_tokens - vit->bare_cls;
    bool timm = naming == NAMING_TIMM, apple = naming == NAMING_APPLE;
    enum status st = weights_get(weights, prefix, names->position,
                                 timm    ? WEIGHTS_SHAPE(1, rows, D)
                                 : apple ? WEIGHTS_SHAPE(1, 1, rows, D)
                                         : WEIGHTS_SHAPE(rows, D),
                                 &vit->position, err);

    if (st == ST_OK && config->form != VIT_SIGLIP)
        st = weights_get(weights, prefix, names->cls,
                         timm || apple ? WEIGHTS_SHAPE(1, 1, D) : WEIGHTS_SHAPE(D), &vit->cls, err);
    if (st == ST_OK && config->form == VIT_MCI)
        return load_stem(weights, naming, vit, err);
    if (st == ST_OK)
        st = weights_get(weights, prefix, names->conv,
                         config->naflex_patches != 0 ? WEIGHTS_SHAPE(D, 3 * p * p)
                                                     : WEIGHTS_SHAPE(D, 3, p, p),
                         &vit->conv, err);
    if (st == ST_OK && config->form == VIT_SIGLIP)
        st = weights_get(weights, prefix, names->conv_bias, WEIGHTS_SHAPE(D), &vit->conv_bias, err);
    return st;
}

static enum status load_norm(struct weights *weights, const char *prefix, const char *name,
                             size_t D, struct layer_norm *out, struct error *err)
{
    char full[MAX_PREFIX];

    (void)snprintf(full, sizeof full, "%s%s", prefix, name);
    return layer_norm_load(weights, full, D, out, err);
}

enum status vit_load(struct weights *weights, const char *prefix, enum naming naming,
                     const struct vision_config *config, struct vit *out, struct error *err)
{
    const struct vit_names found = names_in(weights, prefix, naming), *names = &found;
    size_t S = (size_t)config->image_size, p = (size_t)config->patch_size;
    char blocks[MAX_PREFIX];
    enum status st;

    *out = (struct vit){.image_size = S, .patch_size = p, .width = config->shape.width};
    if (p == 0 || S < p)
        return error_set(err, ST_INVALID, "image size %zu holds no patch of %zu pixels", S, p);
    out->grid = S / p; /* a remainder is cut off, as the convolution does */
    out->n_tokens = out->grid * out->grid + (config->form != VIT_SIGLIP ? 1 : 0);
    out->bare_cls = config->form == VIT_MCI;
    st = load_embeddings(weights, prefix, naming, names, config, out, err);
    if (st == ST_OK)
        st = config->form == VIT_CLIP
                 ? load_norm(weights, prefix, names->ln_pre, out->width, &out->ln_pre, err)
                 : load_norm(weights, prefix, names->ln_post, out->width, &out->ln_post, err);
    if (st != ST_OK)
        return st;
    (void)snprintf(blocks, sizeof blocks, "%s%s", prefix, names->blocks);
    return transformer_load(weights, blocks, naming, 0, &config->shape,
                            block_linear_form_of_samples(config->matrices), &out->blocks, err);
}

void vit_release(struct vit *vit)
{
    transformer_release(&vit->blocks);
    arena_release(&vit->arena);
}

/* Cuts the image into rows of (channel, row, column), patch after patch: the convolution is one
 * product. */
static void cut_patches(const struct vit *vit, const float *pixels, float *patches)
{
    size_t S = vit->image_size, p = vit->patch_size, grid = vit->grid;

    for (size_t gy = 0; gy < grid; gy++)
        for (size_t gx = 0; gx < grid; gx++)
            for (size_t c = 0; c < 3; c++)
                for (size_t y = 0; y < p; y++, patches += p)
                    memcpy(patches, pixels + (c * S + gy * p + y) * S + gx * p,
                           p * sizeof *patches);
}

enum status vit_run_patches(const struct vit *vit, const float *patches, size_t n, size_t P,
                            const float *position, bool class_only, struct arena *scratch,
                            float *tokens, struct error *err)
{
    size_t D = vit->width, K = 3 * vit->patch_size * vit->patch_size;
    size_t behind = vit->cls != NULL ? 1 : 0, T = P + behind;
    const struct layer_norm *pre = &vit->ln_pre, *post = &vit->ln_post;
    float eps = vit->blocks.eps;
    struct arena mark = *scratch;
    enum status st;

    for (size_t i = 0; i < n; i++) {
        float *image = tokens + i * T * D;

        if (vit->cls != NULL)
            memcpy(image, vit->cls, D * sizeof *image);
        ops_linear(image + behind * D, patches + i * P * K, K, vit->conv, vit->conv_bias, P, D, K);
        ops_add(image + vit->bare_cls * D, position, (T - vit->bare_cls) * D);
    }
    if (pre->w != NULL)
        ops_layer_norm(tokens, tokens, pre->w, pre->b, eps, n * T, D);
    st = class_only ? transformer_run_pooled(&vit->blocks, tokens, n, T, 0, scratch, err)
                    : transformer_run(&vit->blocks, tokens, n, T, false, NULL, scratch, err);
    if (st == ST_OK && post->w != NULL)
        ops_layer_norm(tokens, tokens, post->w, post->b, eps, class_only ? n : n * T, D);
    arena_rewind(scratch, &mark);
    return st;
}

enum status vit_run(const struct vit *vit, const float *pixels, size_t n, bool class_only,
                    struct arena *scratch, float *tokens, struct error *err)
{
    size_t P = vit->grid * vit->grid, K = 3 * vit->patch_size * vit->patch_size;
    size_t n_pixels = 3 * vit->image_size * vit->image_size;
    struct arena mark = *scratch;
    float *patches;
    enum status st = arena_alloc(scratch, n * P * K * sizeof *patches, &patches, err);

    for (size_t i = 0; i < n && st == ST_OK; i++)
        if (vit->stem.first.w != NULL)
            st = mci_stem_run(&vit->stem, pixels + i * n_pixels, vit->image_size, scratch,
                              patches + i * P * K, err);
        else
            cut_patches(vit, pixels + i * n_pixels, patches + i * P * K);
    if (st == ST_OK)
        st = vit_run_patches(vit, patches, n, P, vit->position, class_only, scratch, tokens, err);
    arena_rewind(scratch, &mark);
    return st;
}
