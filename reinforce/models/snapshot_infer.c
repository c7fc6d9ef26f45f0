#include "reinforce/models/fastvit.h"
#include "reinforce/models/snapshot_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NAME = 128, POOLER_HEADS = 8 };

/* Where each naming keeps the tensors whose shapes tell the architecture. */
struct probes {
    enum naming naming;
    const char *conv, *position, *blocks, *fc;
    const char *text_token, *text_position, *text_blocks;
};

static const struct probes open_clip = {NAMING_OPEN_CLIP,
                                        "visual.conv1.weight",
                                        "visual.positional_embedding",
                                        "visual.transformer.resblocks.",
                                        "0.mlp.c_fc.weight",
                                        "token_embedding.weight",
                                        "positional_embedding",
                                        "transformer.resblocks."};
static const struct probes transformers = {NAMING_TRANSFORMERS,
                                           "vision_model.embeddings.patch_embedding.weight",
                                           "vision_model.embeddings.position_embedding.weight",
                                           "vision_model.encoder.layers.",
                                           "0.mlp.fc1.weight",
                                           "text_model.embeddings.token_embedding.weight",
                                           "text_model.embeddings.position_embedding.weight",
                                           "text_model.encoder.layers."};

/* Dimension `i` of tensor `prefix` + `name`, which must have `rank`. */
static enum status dimension(const struct weights *weights, const char *prefix, const char *name,
                             size_t rank, size_t i, size_t *out, struct error *err)
{
    const struct tensor *tensor;
    char full[MAX_NAME];

    (void)snprintf(full, sizeof full, "%s%s", prefix, name);
    tensor = weights_peek(weights, full);
    if (tensor == NULL)
        return error_set(err, ST_INVALID, "cannot infer the architecture: tensor \"%s\" is missing",
                         full);
    if (tensor->rank != rank || tensor->shape[i] == 0)
        return error_set(err, ST_INVALID,
                         "cannot infer the architecture: tensor \"%s\" has rank "
                         "%zu, expected %zu",
                         full, tensor->rank, rank);
    *out = tensor->shape[i];
    return ST_OK;
}

/* One more than the largest layer number behind `prefix`. */
static size_t count_layers(const struct weights *weights, const char *prefix)
{
    size_t n = 0, layers = 0, len = strlen(prefix);
    const struct tensor *tensors = weights_view(weights, &n);

    for (size_t i = 0; i < n; i++) {
        const char *digits = tensors[i].name + len;
        size_t number = 0;

        if (strncmp(tensors[i].name, prefix, len) != 0)
            continue;
        for (; *digits >= '0' && *digits <= '9' && number < 10000; digits++)
            number = 10 * number + (size_t)(*digits - '0');
        layers = MAX(layers, number + 1);
    }
    return layers;
}

enum status snapshot_infer_trunk(const struct weights *weights, struct vision_config *out,
                                 struct error *err)
{
    static const char trunk[] = "visual.trunk.";
    size_t patch = 0;
    enum status st =
        dimension(weights, trunk, "patch_embed.proj.weight", 4, 0, &out->shape.width, err);

    if (st == ST_OK)
        st = dimension(weights, trunk, "patch_embed.proj.weight", 4, 2, &patch, err);
    if (st == ST_OK)
        st = dimension(weights, trunk, "blocks.0.mlp.fc1.weight", 2, 0, &out->shape.mlp_width, err);
    if (st == ST_OK && patch > SNAPSHOT_MAX_SIDE)
        st = error_set(err, ST_INVALID, "a patch of %zu pixels is larger than any model's", patch);
    out->patch_size = (int)patch;
    out->shape.n_layers = count_layers(weights, "visual.trunk.blocks.");
    return st;
}

static size_t vision_head_width(size_t width)
{
    switch (width) {
    case 1280:
        return 80;
    case 1408:
        return 88;
    case 1664:
        return 104;
    default:
        return 64;
    }
}

static enum status infer_shape(const struct weights *weights, const char *prefix, const char *fc,
                               size_t width, size_t head_width, enum activation activation,
                               struct transformer_shape *shape, struct error *err)
{
    *shape = (struct transformer_shape){.n_layers = count_layers(weights, prefix),
                                        .width = width,
                                        .n_heads = width / head_width,
                                        .activation = activation,
                                        .eps = 1e-5f};
    if (shape->n_heads == 0 || width % head_width != 0)
        return error_set(err, ST_INVALID,
                         "cannot infer the heads of width %zu without a config (no multiple of "
                         "%zu)",
                         width, head_width);
    return dimension(weights, prefix, fc, 2, 0, &shape->mlp_width, err);
}

static enum status infer_vision(const struct weights *weights, const struct probes *probes,
                                enum activation activation, struct vision_config *v,
                                struct error *err)
{
    size_t width = 0, patch = 0, rows = 0, grid = 1;
    enum status st = dimension(weights, "", probes->conv, 4, 0, &width, err);

    if (st == ST_OK)
        st = dimension(weights, "", probes->conv, 4, 2, &patch, err);
    if (st == ST_OK)
        st = dimension(weights, "", probes->position, 2, 0, &rows, err);
    if (st != ST_OK)
        return st;
    while ((grid + 1) * (grid + 1) <= rows - 1)
        grid++;
    if (grid * grid + 1 != rows || patch > SNAPSHOT_MAX_SIDE || grid * patch > SNAPSHOT_MAX_SIDE)
        return error_set(err, ST_INVALID,
                         "cannot infer the image size without a config: the positional table has "
                         "%zu rows, not a square and one more",
                         rows);
    v->patch_size = (int)patch;
    v->image_size = (int)(grid * patch);
    return infer_shape(weights, probes->blocks, probes->fc, width, vision_head_width(width),
                       activation, &v->shape, err);
}

static enum status infer_text(const struct weights *weights, const struct probes *probes,
                              const char *prefix, enum activation activation, struct text_config *t,
                              struct error *err)
{
    char blocks[MAX_NAME];
    size_t width = 0;
    enum status st = dimension(weights, prefix, probes->text_token, 2, 0, &t->vocab_size, err);

    if (st == ST_OK)
        st = dimension(weights, prefix, probes->text_token, 2, 1, &width, err);
    if (st == ST_OK)
        st = dimension(weights, prefix, probes->text_position, 2, 0, &t->context_length, err);
    if (st != ST_OK)
        return st;
    t->eos_id = SNAPSHOT_EOS_LARGEST;
    (void)snprintf(blocks, sizeof blocks, "%s%s", prefix, probes->text_blocks);
    return infer_shape(weights, blocks, probes->fc, width, 64, activation, &t->shape, err);
}

static enum status infer_coca(const struct weights *weights, enum activation activation,
                              struct snapshot *s, struct error *err)
{
    size_t width = 0;
    enum status st =
        dimension(weights, "visual.attn_pool.", "query", 2, 0, &s->vision.pooler_queries, err);

    s->family = SNAPSHOT_COCA;
    s->vision.pooler_heads = POOLER_HEADS;
    s->text.context_length--; /* the table's last row is for the class token */
    s->multimodal.context_length = s->text.context_length;
    s->multimodal.vocab_size = s->text.vocab_size;
    s->multimodal.eos_id = SNAPSHOT_EOS_LARGEST;
    if (st == ST_OK)
        st = dimension(weights, "", "text_decoder.resblocks.0.ln_1.weight", 1, 0, &width, err);
    return st == ST_OK ? infer_shape(weights, "text_decoder.resblocks.", open_clip.fc, width, 64,
                                     activation, &s->multimodal.shape, err)
                       : st;
}

static enum status infer_clip(const struct weights *weights, enum activation activation,
                              struct snapshot *s, struct error *err)
{
    bool native = weights_peek(weights, open_clip.conv) != NULL;
    const struct probes *probes = native ? &open_clip : &transformers;
    const char *prefix =
        native && weights_peek(weights, "text.token_embedding.weight") != NULL ? "text." : "";
    enum status st = infer_vision(weights, probes, activation, &s->vision, err);

    s->family = SNAPSHOT_CLIP;
    s->naming = probes->naming;
    if (st == ST_OK)
        st = infer_text(weights, probes, prefix, activation, &s->text, err);
    if (st == ST_OK)
        st = native ? dimension(weights, "visual.", "proj", 2, 1, &s->embed_dim, err)
                    : dimension(weights, "", "visual_projection.weight", 2, 0, &s->embed_dim, err);
    if (st == ST_OK && weights_peek(weights, "visual.attn_pool.query") != NULL)
        st = infer_coca(weights, activation, s, err);
    if (st == ST_OK)
        snapshot_preprocess_default(&s->preprocess, s->vision.image_size);
    return st;
}

/* ml-mobileclip's name of an image tower: each has a width or a number of blocks of its own. */
static enum status apple_trunk(const struct weights *weights, const char **name, struct error *err)
{
    static const struct {
        const char *name, *shape;
    } known[] = {{"mci0", "fastvit_mci0"}, {"mci1", "fastvit_mci1"}, {"mci2", "fastvit_mci2"}};
    size_t width = 0, n_blocks = count_layers(weights, "image_encoder.model.network.4.");
    enum status st;

    *name = "vit_b16";
    if (weights_peek(weights, "image_encoder.model.cls_token") != NULL)
        return ST_OK;
    st = dimension(weights, "image_encoder.model.", "head.proj", 2, 0, &width, err);
    for (size_t i = 0; i < ARRAY_LEN(known) && st == ST_OK; i++) {
        const struct fastvit_shape *shape = fastvit_shape_find(known[i].shape);

        *name = known[i].name;
        if (width == shape->width << shape->n_stages && n_blocks == shape->n_blocks[2])
            return ST_OK;
    }
    return st != ST_OK ? st
                       : error_set(err, ST_INVALID,
                                   "cannot infer the architecture: an image tower with %zu blocks "
                                   "in its third stage, %zu wide at its end, is none of Apple's",
                                   n_blocks, width);
}

/* What ml-mobileclip's config of these tensors would be. No tensor tells heads, which are 64 wide,
 * nor the causal mask, which is B's alone. */
static enum status infer_apple(const struct weights *weights, struct snapshot *s, struct error *err)
{
    static const char text[] = "text_encoder.";
    bool mixers = weights_peek(weights, "text_encoder.transformer.0.layer_scale") != NULL;
    size_t layers = count_layers(weights, "text_encoder.transformer.") - (mixers ? 2 : 0);
    size_t vocab = 0, width = 0, context = 0, mlp = 0, dim = 0;
    const char *trunk;
    json_t *config;
    enum status st = apple_trunk(weights, &trunk, err);

    if (st == ST_OK)
        st = dimension(weights, text, "embedding_layer.weight", 2, 0, &vocab, err);
    if (st == ST_OK)
        st = dimension(weights, text, "embedding_layer.weight", 2, 1, &width, err);
    if (st == ST_OK)
        st = dimension(weights, text, "positional_embedding.pos_embed.pos_embed", 4, 2, &context,
                       err);
    if (st == ST_OK)
        st = dimension(weights, text, "transformer.1.pre_norm_ffn.1.weight", 2, 0, &mlp, err);
    if (st == ST_OK)
        st = dimension(weights, text, "projection_layer", 2, 1, &dim, err);
    if (st != ST_OK)
        return st;
    config =
        json_pack("{s:I, s:{s:s}, s:{s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:s, s:b}}", "embed_dim",
                  (json_int_t)dim, "image_cfg", "model_name", trunk, "text_cfg", "model_name",
                  mixers ? "mct" : "base", "context_length", (json_int_t)context, "vocab_size",
                  (json_int_t)vocab, "dim", (json_int_t)width, "n_heads_per_layer",
                  (json_int_t)(width / 64), "n_transformer_layers", (json_int_t)layers,
                  "ffn_multiplier_per_layer", (double)mlp / (double)width, "norm_layer",
                  "layer_norm_fp32", "causal_masking", strcmp(trunk, "vit_b16") == 0);
    st = config != NULL ? snapshot_config_open_clip(config, s, err)
                        : error_set(err, ST_NO_MEMORY, "could not allocate a config");
    json_decref(config);
    return st;
}

enum status snapshot_infer(const struct weights *weights, const enum activation *activation,
                           struct snapshot *s, struct error *err)
{
    if (weights_peek(weights, "text_encoder.embedding_layer.weight") != NULL)
        return infer_apple(weights, s, err);
    if (activation == NULL)
        return error_set(err, ST_INVALID,
                         "the folder has neither open_clip_config.json nor config.json, and the "
                         "tensors do not tell the activation: set activation to gelu or "
                         "quick_gelu, or add the published config");
    return infer_clip(weights, *activation, s, err);
}
