#include "reinforce/models/snapshot_config.h"

#include <string.h>

/* In configs of converted models, whose real end token is the largest id. */
enum { HF_LEGACY_EOS = 2 };

static enum status open_clip_vision(const json_t *cfg, struct snapshot *s, struct error *err)
{
    static const struct config_key keys[] = {
        {"image_size", KEY_READ, NULL},
        {"patch_size", KEY_READ, NULL},
        {"layers", KEY_READ, NULL},
        {"width", KEY_READ, NULL},
        {"head_width", KEY_READ, NULL},
        {"mlp_ratio", KEY_READ, NULL},
        {"attentional_pool", KEY_READ, NULL},
        {"attn_pooler_heads", KEY_READ, NULL},
        {"attn_pooler_queries", KEY_READ, NULL},
        {"timm_model_name", KEY_UNSET, NULL},
        {"ls_init_value", KEY_UNSET, NULL},
        {"no_ln_pre", KEY_UNSET, NULL},
        {"final_ln_after_pool", KEY_UNSET, NULL},
        {"act_kwargs", KEY_UNSET, NULL},
        {"norm_kwargs", KEY_UNSET, NULL},
        {"block_type", KEY_UNSET, NULL},
        {"qk_norm", KEY_UNSET, NULL},
        {"scaled_cosine_attn", KEY_UNSET, NULL},
        {"input_patchnorm", KEY_UNSET, NULL},
        {"global_average_pool", KEY_UNSET, NULL},
        {"pool_type", KEY_TEXT, "tok"},
        {"pos_embed_type", KEY_TEXT, "learnable"},
        {"patch_dropout", KEY_INERT, NULL},
        {"output_tokens", KEY_INERT, NULL},
        {"timm_model_pretrained", KEY_INERT, NULL},
        {"timm_pool", KEY_INERT, NULL}, /* the timm keys say nothing without timm_model_name */
        {"timm_proj", KEY_INERT, NULL},
        {"timm_proj_bias", KEY_INERT, NULL},
        {"timm_drop", KEY_INERT, NULL},
        {"timm_drop_path", KEY_INERT, NULL},
    };
    const json_t *pool = json_object_get(cfg, "attentional_pool");
    struct vision_config *v = &s->vision;
    size_t head_width = 0;
    enum status st = config_check_keys(cfg, "vision_cfg", keys, ARRAY_LEN(keys), err);

    if (st == ST_OK && json_is_array(json_object_get(cfg, "layers")))
        st = error_set(err, ST_INVALID,
                       "config key vision_cfg.layers is a list: ResNet towers are not supported");
    if (st == ST_OK && json_is_string(pool)) /* "parallel", "cascade" */
        st =
            error_set(err, ST_INVALID,
                      "config key vision_cfg.attentional_pool = \"%.60s\" asks for a kind of model "
                      "that is not supported",
                      json_string_value(pool));
    if (st == ST_OK)
        st = config_side(cfg, "image_size", 224, &v->image_size, err);
    if (st == ST_OK)
        st = config_side(cfg, "patch_size", 16, &v->patch_size, err);
    if (st == ST_OK)
        st = config_size(cfg, "layers", 12, &v->shape.n_layers, err);
    if (st == ST_OK)
        st = config_size(cfg, "width", 768, &v->shape.width, err);
    if (st == ST_OK)
        st = config_size(cfg, "head_width", 64, &head_width, err);
    if (st == ST_OK)
        st = config_mlp_ratio(cfg, &v->shape, err);
    if (st == ST_OK && json_is_true(pool)) {
        st = config_size(cfg, "attn_pooler_heads", 8, &v->pooler_heads, err);
        if (st == ST_OK)
            st = config_size(cfg, "attn_pooler_queries", 256, &v->pooler_queries, err);
    }
    if (st != ST_OK)
        return st;
    v->shape.n_heads = v->shape.width / head_width;
    v->shape.eps = 1e-5f;
    return config_check_heads(&v->shape, "vision_cfg", err);
}

static enum status open_clip_text(const json_t *cfg, const char *where, size_t context,
                                  struct text_config *t, struct error *err)
{
    static const struct config_key keys[] = {
        {"context_length", KEY_READ, NULL},
        {"vocab_size", KEY_READ, NULL},
        {"width", KEY_READ, NULL},
        {"heads", KEY_READ, NULL},
        {"layers", KEY_READ, NULL},
        {"mlp_ratio", KEY_READ, NULL},
        {"embed_cls", KEY_READ, NULL},
        {"pad_id", KEY_UNSET, NULL},
        {"hf_model_name", KEY_UNSET, NULL},
        {"hf_tokenizer_name", KEY_UNSET, NULL},
        {"tokenizer_kwargs", KEY_UNSET, NULL},
        {"text_mask", KEY_UNSET, NULL},
        {"proj_bias", KEY_UNSET, NULL},
        {"no_causal_mask", KEY_UNSET, NULL},
        {"final_ln_after_pool", KEY_UNSET, NULL},
        {"act_kwargs", KEY_UNSET, NULL},
        {"norm_kwargs", KEY_UNSET, NULL},
        {"ls_init_value", KEY_UNSET, NULL},
        {"block_type", KEY_UNSET, NULL},
        {"qk_norm", KEY_UNSET, NULL},
        {"scaled_cosine_attn", KEY_UNSET, NULL},
        {"pool_type", KEY_TEXT, "argmax"},
        {"proj_type", KEY_TEXT, "linear"},
        {"output_tokens", KEY_INERT, NULL},
        {"hf_model_pretrained", KEY_INERT, NULL},
        {"hf_proj_type", KEY_INERT, NULL}, /* say nothing without hf_model_name */
        {"hf_pooler_type", KEY_INERT, NULL},
        {"attn_pooler_heads", KEY_INERT, NULL}, /* in multimodal_cfg, without effect there */
        {"n_queries", KEY_INERT, NULL},
        {"dim_head", KEY_INERT, NULL},
    };
    enum status st = config_check_keys(cfg, where, keys, ARRAY_LEN(keys), err);

    t->eos_id = SNAPSHOT_EOS_LARGEST;
    return st == ST_OK ? config_open_clip_text(cfg, where, context, t, err) : st;
}

/* The keys around the towers, and that the towers fit one family. */
static enum status open_clip_family(const json_t *model, struct snapshot *s, struct error *err)
{
    static const struct config_key keys[] = {
        {"embed_dim", KEY_READ, NULL},
        {"vision_cfg", KEY_READ, NULL},
        {"text_cfg", KEY_READ, NULL},
        {"multimodal_cfg", KEY_READ, NULL},
        {"quick_gelu", KEY_READ, NULL},
        {"custom_text", KEY_INERT, NULL},           /* tensor names say the same */
        {"init_logit_bias", KEY_UNSET, NULL},       /* SigLIP */
        {"init_logit_scale", KEY_INERT, NULL},      /* the tensor replaces it */
        {"nonscalar_logit_scale", KEY_INERT, NULL}, /* shape () or (1) */
        {"cast_dtype", KEY_INERT, NULL},
        {"output_dict", KEY_INERT, NULL},
        {"preprocess_cfg", KEY_INERT, NULL},
    };
    bool coca = json_object_get(model, "multimodal_cfg") != NULL;
    bool pooled =
        json_is_true(json_object_get(json_object_get(model, "vision_cfg"), "attentional_pool"));
    enum status st;

    st = config_check_keys(model, "model_cfg", keys, ARRAY_LEN(keys), err);
    if (st != ST_OK)
        return st;
    if (!json_is_object(json_object_get(model, "vision_cfg")) ||
        !json_is_object(json_object_get(model, "text_cfg")))
        return error_set(err, ST_INVALID, "open_clip config has no vision_cfg or no text_cfg");
    if (coca != pooled)
        return error_set(err, ST_INVALID,
                         "config keys vision_cfg.attentional_pool and multimodal_cfg go together "
                         "(CoCa), but only one is set");
    if (!coca && json_is_true(json_object_get(json_object_get(model, "text_cfg"), "embed_cls")))
        return error_set(err, ST_INVALID,
                         "config key text_cfg.embed_cls asks for a kind of model that is not "
                         "supported");
    s->family = coca ? SNAPSHOT_COCA : SNAPSHOT_CLIP;
    return ST_OK;
}

static enum status read_open_clip(const json_t *config, const json_t *model, struct snapshot *s,
                                  struct error *err)
{
    const json_t *quick_gelu;
    enum activation activation;
    enum status st = open_clip_family(model, s, err);

    if (st == ST_OK)
        st = config_size(model, "embed_dim", 0, &s->embed_dim, err);
    if (st == ST_OK && s->embed_dim == 0)
        st = error_set(err, ST_INVALID, "open_clip config has no embed_dim");
    if (st == ST_OK)
        st = open_clip_vision(json_object_get(model, "vision_cfg"), s, err);
    if (st == ST_OK)
        st = open_clip_text(json_object_get(model, "text_cfg"), "text_cfg", 77, &s->text, err);
    if (st == ST_OK && s->family == SNAPSHOT_COCA)
        st = open_clip_text(json_object_get(model, "multimodal_cfg"), "multimodal_cfg", 77,
                            &s->multimodal, err);
    if (st != ST_OK)
        return st;
    quick_gelu = json_object_get(model, "quick_gelu");
    if (quick_gelu != NULL && !json_is_boolean(quick_gelu))
        return error_set(err, ST_INVALID, "config key model_cfg.quick_gelu is not true or false");
    activation = json_is_true(quick_gelu) ? ACTIVATION_QUICK_GELU : ACTIVATION_GELU;
    s->vision.shape.activation = s->text.shape.activation = s->multimodal.shape.activation =
        activation;
    snapshot_preprocess_default(&s->preprocess, s->vision.image_size);
    return config_open_clip_preprocess(json_object_get(config, "preprocess_cfg"), &s->preprocess,
                                       err);
}

static enum status read_transformers(const json_t *config, const json_t *processor,
                                     struct snapshot *s, struct error *err)
{
    static const struct transformer_shape vision_default = {
        12, 768, 12, 3072, ACTIVATION_QUICK_GELU, 1e-5f};
    static const struct transformer_shape text_default = {12,   512, 8, 2048, ACTIVATION_QUICK_GELU,
                                                          1e-5f};
    json_t *text = NULL, *vision = NULL;
    const json_t *eos;
    enum status st = config_hf_tower(config, "text_config", "text_config_dict", &text, err);

    if (st == ST_OK)
        st = config_hf_tower(config, "vision_config", "vision_config_dict", &vision, err);
    if (st == ST_OK)
        st = config_size(config, "projection_dim", 512, &s->embed_dim, err);
    if (st == ST_OK)
        st = config_hf_shape(vision, "vision_config", &vision_default, &s->vision.shape, err);
    if (st == ST_OK)
        st = config_hf_shape(text, "text_config", &text_default, &s->text.shape, err);
    if (st == ST_OK)
        st = config_hf_image(vision, 224, 32, &s->vision, err);
    if (st == ST_OK)
        st = config_size(text, "max_position_embeddings", 77, &s->text.context_length, err);
    if (st == ST_OK)
        st = config_size(text, "vocab_size", 49408, &s->text.vocab_size, err);
    if (st == ST_OK) {
        eos = json_object_get(text, "eos_token_id");
        s->text.eos_id = SNAPSHOT_EOS_LARGEST;
        if (json_is_integer(eos) && json_integer_value(eos) > HF_LEGACY_EOS &&
            json_integer_value(eos) < INT32_MAX)
            s->text.eos_id = (int32_t)json_integer_value(eos);
        snapshot_preprocess_default(&s->preprocess, s->vision.image_size);
        st = config_hf_preprocess(processor, &s->preprocess, err);
    }
    json_decref(text);
    json_decref(vision);
    return st;
}

const struct snapshot_rules snapshot_rules_clip = {
    .name = "clip",
    .model_type = "clip",
    .architecture = "CLIPModel",
    .read_transformers = read_transformers,
    .read_open_clip = read_open_clip,
};

/* Read with CLIP's rules, which tell it by its multimodal_cfg. */
const struct snapshot_rules snapshot_rules_coca = {.name = "coca"};
