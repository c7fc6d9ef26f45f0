#include "reinforce/models/fastvit.h"
#include "reinforce/models/mci_stem.h"
#include "reinforce/models/snapshot_config.h"

#include <string.h>

/* The image towers that are no FastViT. Only the name says what they are. Source: timm
 * vision_transformer.py, vision_transformer_hybrid.py. */
static const struct {
    const char *name;
    struct vision_config config;
} transformers[] = {
    {"vit_base_mci_224",
     {.patch_size = MCI_STEM_PATCH,
      .shape = {12, 768, 12, 3072, ACTIVATION_GELU, 1e-6f},
      .form = VIT_MCI}},
    {"vit_large_patch14_clip_224",
     {.patch_size = 14, .shape = {24, 1024, 16, 4096, ACTIVATION_GELU, 1e-5f}, .form = VIT_CLIP}},
};

static const char *trunk_of(const json_t *model)
{
    return json_string_value(
        json_object_get(json_object_get(model, "vision_cfg"), "timm_model_name"));
}

static bool find_trunk(const char *name, struct vision_config *out)
{
    *out = (struct vision_config){.fastvit = fastvit_shape_find(name),
                                  .shape.activation = ACTIVATION_GELU};
    for (size_t i = 0; i < ARRAY_LEN(transformers) && out->fastvit == NULL; i++)
        if (strcmp(transformers[i].name, name) == 0) {
            *out = transformers[i].config;
            return true;
        }
    return out->fastvit != NULL;
}

static bool claims(const json_t *model)
{
    struct vision_config ignored;
    const char *trunk = trunk_of(model);

    return snapshot_is_apple_config(model) || (trunk != NULL && find_trunk(trunk, &ignored));
}

static enum status read_vision(const json_t *cfg, struct snapshot *s, struct error *err)
{
    static const struct config_key keys[] = {
        {"timm_model_name", KEY_READ, NULL}, {"image_size", KEY_READ, NULL},
        {"timm_pool", KEY_READ, NULL},       {"timm_proj", KEY_UNSET, NULL},
        {"timm_proj_bias", KEY_UNSET, NULL}, {"timm_model_pretrained", KEY_INERT, NULL},
        {"timm_drop", KEY_INERT, NULL},      {"timm_drop_path", KEY_INERT, NULL},
        {"patch_dropout", KEY_INERT, NULL},
    };
    const char *pool = json_string_value(json_object_get(cfg, "timm_pool"));
    enum status st = config_check_keys(cfg, "vision_cfg", keys, ARRAY_LEN(keys), err);
    int side;

    if (st != ST_OK)
        return st;
    (void)find_trunk(json_string_value(json_object_get(cfg, "timm_model_name")), &s->vision);
    side = s->vision.fastvit != NULL ? 256 : 224;
    st = config_side(cfg, "image_size", (size_t)side, &s->vision.image_size, err);
    if (st == ST_OK && s->vision.image_size % 32 != 0)
        st =
            error_set(err, ST_INVALID, "config key vision_cfg.image_size = %d is no multiple of 32",
                      s->vision.image_size);
    if (st == ST_OK && pool != NULL &&
        strcmp(pool, s->vision.fastvit != NULL ? "avg" : "token") != 0)
        st = error_set(err, ST_INVALID,
                       "config key vision_cfg.timm_pool = \"%.30s\" is not supported here", pool);
    return st;
}

static enum status read_text(const json_t *cfg, struct text_config *text, struct error *err)
{
    static const struct config_key keys[] = {
        {"context_length", KEY_READ, NULL}, {"vocab_size", KEY_READ, NULL},
        {"width", KEY_READ, NULL},          {"heads", KEY_READ, NULL},
        {"layers", KEY_READ, NULL},         {"mlp_ratio", KEY_READ, NULL},
        {"no_causal_mask", KEY_READ, NULL}, {"embed_cls", KEY_UNSET, NULL},
        {"pad_id", KEY_UNSET, NULL},        {"hf_model_name", KEY_UNSET, NULL},
        {"proj_bias", KEY_UNSET, NULL},     {"norm_kwargs", KEY_UNSET, NULL},
        {"act_kwargs", KEY_UNSET, NULL},    {"pool_type", KEY_TEXT, "argmax"},
        {"proj_type", KEY_TEXT, "linear"},  {"output_tokens", KEY_INERT, NULL},
    };
    enum status st = config_check_keys(cfg, "text_cfg", keys, ARRAY_LEN(keys), err);

    text->eos_id = SNAPSHOT_EOS_LARGEST;
    text->bidirectional = json_is_true(json_object_get(cfg, "no_causal_mask"));
    text->shape.activation = ACTIVATION_GELU;
    return st == ST_OK ? config_open_clip_text(cfg, "text_cfg", 77, text, err) : st;
}

/* What open_clip's registry says of these models; a snapshot's preprocess_cfg goes before it. */
static void read_preprocess(const char *trunk, int size, struct preprocess *out)
{
    static const struct {
        const char *trunk;
        enum resample_filter filter;
    } with_clip_mean[] = {
        /* the others are plain */
        {"fastvit_mci3", RESAMPLE_BILINEAR},
        {"fastvit_mci4", RESAMPLE_BILINEAR},
        {"vit_large_patch14_clip_224", RESAMPLE_BICUBIC},
    };

    snapshot_preprocess_plain(out, size);
    for (size_t i = 0; i < ARRAY_LEN(with_clip_mean); i++)
        if (strcmp(with_clip_mean[i].trunk, trunk) == 0) {
            snapshot_preprocess_default(out, size);
            out->filter = with_clip_mean[i].filter;
        }
}

static enum status read_open_clip(const json_t *config, const json_t *model, struct snapshot *s,
                                  struct error *err)
{
    static const struct config_key keys[] = {
        {"embed_dim", KEY_READ, NULL},        {"vision_cfg", KEY_READ, NULL},
        {"text_cfg", KEY_READ, NULL},         {"quick_gelu", KEY_UNSET, NULL},
        {"multimodal_cfg", KEY_UNSET, NULL},  {"custom_text", KEY_INERT, NULL},
        {"init_logit_bias", KEY_UNSET, NULL}, {"init_logit_scale", KEY_INERT, NULL},
        {"cast_dtype", KEY_INERT, NULL},      {"output_dict", KEY_INERT, NULL},
        {"preprocess_cfg", KEY_INERT, NULL},
    };
    enum status st;

    if (snapshot_is_apple_config(model))
        return snapshot_config_apple(model, s, err);
    st = config_check_keys(model, "model_cfg", keys, ARRAY_LEN(keys), err);
    if (st == ST_OK)
        st = config_size(model, "embed_dim", 0, &s->embed_dim, err);
    if (st == ST_OK && s->embed_dim == 0)
        st = error_set(err, ST_INVALID, "open_clip config has no embed_dim");
    if (st == ST_OK && !json_is_object(json_object_get(model, "text_cfg")))
        st = error_set(err, ST_INVALID, "open_clip config has no text_cfg");
    if (st == ST_OK)
        st = read_vision(json_object_get(model, "vision_cfg"), s, err);
    if (st == ST_OK)
        st = read_text(json_object_get(model, "text_cfg"), &s->text, err);
    if (st != ST_OK)
        return st;
    read_preprocess(trunk_of(model), s->vision.image_size, &s->preprocess);
    return config_open_clip_preprocess(json_object_get(config, "preprocess_cfg"), &s->preprocess,
                                       err);
}

const struct snapshot_rules snapshot_rules_mobileclip = {
    .name = "mobileclip",
    .claims_open_clip = claims,
    .read_open_clip = read_open_clip,
};
