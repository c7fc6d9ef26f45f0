#include "reinforce/models/snapshot_config.h"

#include <math.h>
#include <string.h>

static const float clip_mean[3] = {0.48145466f, 0.4578275f, 0.40821073f};
static const float clip_std[3] = {0.26862954f, 0.26130258f, 0.27577711f};

/* A key whose other values mean a model we do not have. */
struct required_value {
    const char *key;
    const char *text; /* allowed string; NULL: only null, false or absence */
    bool allow_true;
};

static enum status get_size(const json_t *object, const char *key, size_t otherwise, size_t *out,
                            struct error *err)
{
    const json_t *value = json_object_get(object, key);

    *out = otherwise;
    if (value == NULL || json_is_null(value))
        return ST_OK;
    if (!json_is_integer(value) || json_integer_value(value) < 1 ||
        json_integer_value(value) > 1 << 24)
        return error_set(err, ST_INVALID, "config key %s is not a positive integer", key);
    *out = (size_t)json_integer_value(value);
    return ST_OK;
}

static enum status get_side(const json_t *object, const char *key, size_t otherwise, int *out,
                            struct error *err)
{
    size_t side = otherwise;
    const json_t *value = json_object_get(object, key);
    enum status st = ST_OK;

    if (json_is_array(value)) { /* [224, 224] */
        if (json_array_size(value) != 2 || json_integer_value(json_array_get(value, 0)) < 1 ||
            json_integer_value(json_array_get(value, 0)) !=
                json_integer_value(json_array_get(value, 1)))
            return error_set(err, ST_INVALID, "config key %s is not square", key);
        side = (size_t)json_integer_value(json_array_get(value, 0));
    } else {
        st = get_size(object, key, otherwise, &side, err);
    }
    if (st == ST_OK && side > 8192)
        st = error_set(err, ST_INVALID, "config key %s is %zu, larger than any model we know", key,
                       side);
    *out = (int)side;
    return st;
}

static enum status refuse(const json_t *object, const char *where,
                          const struct required_value *rules, size_t n, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_object_get(object, rules[i].key);
        const char *text = json_string_value(value);

        if (value == NULL || json_is_null(value) || json_is_false(value) ||
            (rules[i].allow_true && json_is_true(value)))
            continue;
        if (rules[i].text != NULL && text != NULL && strcmp(text, rules[i].text) == 0)
            continue;
        if (json_is_object(value) && json_object_size(value) == 0)
            continue;
        return error_set(err, ST_INVALID, "%s.%s asks for a kind of model that is not supported",
                         where, rules[i].key);
    }
    return ST_OK;
}

static enum status read_floats(const json_t *value, const char *key, float out[3],
                               struct error *err)
{
    if (value == NULL || json_is_null(value))
        return ST_OK;
    if (!json_is_array(value) || json_array_size(value) != 3)
        return error_set(err, ST_INVALID, "config key %s is not a list of 3 numbers", key);
    for (size_t i = 0; i < 3; i++) {
        double v = json_number_value(json_array_get(value, i));

        if (!json_is_number(json_array_get(value, i)) || !isfinite(v))
            return error_set(err, ST_INVALID, "config key %s is not a list of 3 numbers", key);
        out[i] = (float)v;
    }
    return ST_OK;
}

static void preprocess_default(struct preprocess *pre, int size)
{
    *pre =
        (struct preprocess){.size = size, .mode = PREPROCESS_SHORTEST, .filter = RESAMPLE_BICUBIC};
    memcpy(pre->mean, clip_mean, sizeof clip_mean);
    memcpy(pre->std, clip_std, sizeof clip_std);
}

static enum status open_clip_preprocess(const json_t *cfg, struct preprocess *pre,
                                        struct error *err)
{
    const char *interpolation = json_string_value(json_object_get(cfg, "interpolation"));
    const char *mode = json_string_value(json_object_get(cfg, "resize_mode"));
    enum status st =
        read_floats(json_object_get(cfg, "mean"), "preprocess_cfg.mean", pre->mean, err);

    if (st == ST_OK)
        st = read_floats(json_object_get(cfg, "std"), "preprocess_cfg.std", pre->std, err);
    if (st == ST_OK && interpolation != NULL) {
        if (strcmp(interpolation, "bilinear") == 0)
            pre->filter = RESAMPLE_BILINEAR;
        else if (strcmp(interpolation, "bicubic") != 0 && strcmp(interpolation, "random") != 0)
            st = error_set(err, ST_INVALID, "preprocess_cfg.interpolation \"%s\" is not supported",
                           interpolation);
    }
    if (st == ST_OK && mode != NULL) {
        if (strcmp(mode, "longest") == 0)
            pre->mode = PREPROCESS_LONGEST;
        else if (strcmp(mode, "squash") == 0)
            pre->mode = PREPROCESS_SQUASH;
        else if (strcmp(mode, "shortest") != 0)
            st = error_set(err, ST_INVALID, "preprocess_cfg.resize_mode \"%s\" is not supported",
                           mode);
    }
    return st;
}

static enum status read_mlp(const json_t *cfg, struct transformer_shape *shape, struct error *err)
{
    const json_t *ratio = json_object_get(cfg, "mlp_ratio");
    double value = json_is_number(ratio) ? json_number_value(ratio) : 4;

    if (!(value > 0 && value < 64))
        return error_set(err, ST_INVALID, "config key mlp_ratio is %g", value);
    shape->mlp_width = (size_t)((double)shape->width * value);
    return ST_OK;
}

static enum status open_clip_vision(const json_t *cfg, struct snapshot *s, struct error *err)
{
    static const struct required_value rules[] = {
        {"no_ln_pre", NULL, false},           {"pool_type", "tok", false},
        {"final_ln_after_pool", NULL, false}, {"pos_embed_type", "learnable", false},
        {"ls_init_value", NULL, false},       {"act_kwargs", NULL, false},
        {"norm_kwargs", NULL, false},         {"timm_model_name", NULL, false},
        {"input_patchnorm", NULL, false},     {"global_average_pool", NULL, false},
        {"attentional_pool", NULL, true},
    };
    struct vision_config *v = &s->vision;
    size_t head_width;
    enum status st = refuse(cfg, "vision_cfg", rules, ARRAY_LEN(rules), err);

    if (st == ST_OK && json_is_array(json_object_get(cfg, "layers")))
        st = error_set(err, ST_INVALID,
                       "vision_cfg.layers is a list: ResNet towers are not supported");
    if (st == ST_OK)
        st = get_side(cfg, "image_size", 224, &v->image_size, err);
    if (st == ST_OK)
        st = get_side(cfg, "patch_size", 16, &v->patch_size, err);
    if (st == ST_OK)
        st = get_size(cfg, "layers", 12, &v->shape.n_layers, err);
    if (st == ST_OK)
        st = get_size(cfg, "width", 768, &v->shape.width, err);
    if (st == ST_OK)
        st = get_size(cfg, "head_width", 64, &head_width, err);
    if (st == ST_OK)
        st = read_mlp(cfg, &v->shape, err);
    if (st == ST_OK && json_is_true(json_object_get(cfg, "attentional_pool"))) {
        st = get_size(cfg, "attn_pooler_heads", 8, &v->pooler_heads, err);
        if (st == ST_OK)
            st = get_size(cfg, "attn_pooler_queries", 256, &v->pooler_queries, err);
    }
    if (st == ST_OK)
        v->shape.n_heads = v->shape.width / head_width;
    v->shape.eps = 1e-5f;
    return st;
}

static enum status open_clip_text(const json_t *cfg, const char *where, size_t context,
                                  struct text_config *t, struct error *err)
{
    static const struct required_value rules[] = {
        {"hf_model_name", NULL, false},  {"hf_tokenizer_name", NULL, false},
        {"text_mask", NULL, false},      {"proj_bias", NULL, false},
        {"no_causal_mask", NULL, false}, {"pool_type", "argmax", false},
        {"act_kwargs", NULL, false},     {"norm_kwargs", NULL, false},
        {"ls_init_value", NULL, false},  {"proj_type", "linear", false},
        {"embed_cls", NULL, true},
    };
    enum status st = refuse(cfg, where, rules, ARRAY_LEN(rules), err);

    if (st == ST_OK)
        st = get_size(cfg, "context_length", context, &t->context_length, err);
    if (st == ST_OK)
        st = get_size(cfg, "vocab_size", 49408, &t->vocab_size, err);
    if (st == ST_OK)
        st = get_size(cfg, "layers", 12, &t->shape.n_layers, err);
    if (st == ST_OK)
        st = get_size(cfg, "width", 512, &t->shape.width, err);
    if (st == ST_OK)
        st = get_size(cfg, "heads", 8, &t->shape.n_heads, err);
    if (st == ST_OK)
        st = read_mlp(cfg, &t->shape, err);
    t->shape.eps = 1e-5f;
    t->eos_id = 2;
    return st;
}

enum status snapshot_config_open_clip(const json_t *config, struct snapshot *s, struct error *err)
{
    const json_t *model = json_object_get(config, "model_cfg");
    const json_t *text, *multimodal;
    enum activation activation;
    enum status st;

    if (model == NULL)
        model = config;
    text = json_object_get(model, "text_cfg");
    multimodal = json_object_get(model, "multimodal_cfg");
    activation = json_is_true(json_object_get(model, "quick_gelu")) ? ACTIVATION_QUICK_GELU
                                                                    : ACTIVATION_GELU;
    s->naming = NAMING_OPEN_CLIP;
    s->family = multimodal != NULL ? SNAPSHOT_COCA : SNAPSHOT_CLIP;
    if (!json_is_object(json_object_get(model, "vision_cfg")) || !json_is_object(text))
        return error_set(err, ST_INVALID, "open_clip config has no vision_cfg or text_cfg");
    if (json_is_true(json_object_get(model, "init_logit_bias")) ||
        json_is_number(json_object_get(model, "init_logit_bias")))
        return error_set(err, ST_INVALID,
                         "model_cfg.init_logit_bias: SigLIP models are not supported yet");
    st = get_size(model, "embed_dim", 0, &s->embed_dim, err);
    if (st == ST_OK && s->embed_dim == 0)
        st = error_set(err, ST_INVALID, "open_clip config has no embed_dim");
    if (st == ST_OK)
        st = open_clip_vision(json_object_get(model, "vision_cfg"), s, err);
    if (st == ST_OK)
        st = open_clip_text(text, "text_cfg", 77, &s->text, err);
    if (st == ST_OK && multimodal != NULL)
        st = open_clip_text(multimodal, "multimodal_cfg", 76, &s->multimodal, err);
    if (st == ST_OK && s->family == SNAPSHOT_CLIP &&
        json_is_true(json_object_get(text, "embed_cls")))
        st = error_set(err, ST_INVALID,
                       "text_cfg.embed_cls asks for a kind of model that is not supported");
    if (st == ST_OK && (s->vision.pooler_heads > 0) != (s->family == SNAPSHOT_COCA))
        st =
            error_set(err, ST_INVALID,
                      "vision_cfg.attentional_pool asks for a kind of model that is not supported");
    if (st != ST_OK)
        return st;
    s->vision.shape.activation = s->text.shape.activation = s->multimodal.shape.activation =
        activation;
    if (s->family == SNAPSHOT_COCA || json_is_true(json_object_get(model, "custom_text")))
        memcpy(s->text_prefix, "text.", sizeof "text.");
    preprocess_default(&s->preprocess, s->vision.image_size);
    return open_clip_preprocess(json_object_get(config, "preprocess_cfg"), &s->preprocess, err);
}

static enum status hf_activation(const json_t *cfg, enum activation *out, struct error *err)
{
    const char *act = json_string_value(json_object_get(cfg, "hidden_act"));

    *out = ACTIVATION_QUICK_GELU;
    if (act == NULL || strcmp(act, "quick_gelu") == 0)
        return ST_OK;
    if (strcmp(act, "gelu") != 0)
        return error_set(err, ST_INVALID, "hidden_act \"%s\" is not supported", act);
    *out = ACTIVATION_GELU;
    return ST_OK;
}

static enum status hf_shape(const json_t *cfg, size_t width, size_t mlp, size_t heads,
                            struct transformer_shape *shape, struct error *err)
{
    const json_t *eps = json_object_get(cfg, "layer_norm_eps");
    enum status st = get_size(cfg, "hidden_size", width, &shape->width, err);

    if (st == ST_OK)
        st = get_size(cfg, "intermediate_size", mlp, &shape->mlp_width, err);
    if (st == ST_OK)
        st = get_size(cfg, "num_hidden_layers", 12, &shape->n_layers, err);
    if (st == ST_OK)
        st = get_size(cfg, "num_attention_heads", heads, &shape->n_heads, err);
    if (st == ST_OK)
        st = hf_activation(cfg, &shape->activation, err);
    shape->eps = json_is_number(eps) ? (float)json_number_value(eps) : 1e-5f;
    return st;
}

/* `size` and `crop_size`: an integer, {"shortest_edge"} or {"height", "width"}. */
static enum status hf_preprocess(const json_t *p, struct preprocess *pre, struct error *err)
{
    const json_t *size = json_object_get(p, "size"), *resample = json_object_get(p, "resample");
    enum status st = read_floats(json_object_get(p, "image_mean"), "image_mean", pre->mean, err);

    pre->crop = PREPROCESS_CROP_FLOOR;
    if (st == ST_OK)
        st = read_floats(json_object_get(p, "image_std"), "image_std", pre->std, err);
    if (st != ST_OK || p == NULL)
        return st;
    if (json_is_object(size) && json_object_get(size, "height") != NULL)
        pre->mode = PREPROCESS_SQUASH;
    if (json_is_integer(resample)) {
        json_int_t value = json_integer_value(resample);

        if (value != RESAMPLE_BILINEAR && value != RESAMPLE_BICUBIC)
            return error_set(err, ST_INVALID,
                             "preprocessor_config.json: resample %lld is not supported",
                             (long long)value);
        pre->filter = (enum resample_filter)value;
    }
    return ST_OK;
}

enum status snapshot_config_transformers(const json_t *config, const json_t *processor,
                                         struct snapshot *s, struct error *err)
{
    const char *type = json_string_value(json_object_get(config, "model_type"));
    const json_t *text = json_object_get(config, "text_config_dict"),
                 *vision = json_object_get(config, "vision_config_dict");
    const json_t *eos;
    enum status st;

    if (type == NULL || strcmp(type, "clip") != 0)
        return error_set(err, ST_INVALID, "model_type \"%s\" is not supported; clip is",
                         type != NULL ? type : "(absent)");
    if (!json_is_object(text)) /* the legacy keys override */
        text = json_object_get(config, "text_config");
    if (!json_is_object(vision))
        vision = json_object_get(config, "vision_config");
    s->family = SNAPSHOT_CLIP;
    s->naming = NAMING_TRANSFORMERS;
    st = get_size(config, "projection_dim", 512, &s->embed_dim, err);
    if (st == ST_OK)
        st = hf_shape(vision, 768, 3072, 12, &s->vision.shape, err);
    if (st == ST_OK)
        st = hf_shape(text, 512, 2048, 8, &s->text.shape, err);
    if (st == ST_OK)
        st = get_side(vision, "image_size", 224, &s->vision.image_size, err);
    if (st == ST_OK)
        st = get_side(vision, "patch_size", 32, &s->vision.patch_size, err);
    if (st == ST_OK)
        st = get_size(text, "max_position_embeddings", 77, &s->text.context_length, err);
    if (st == ST_OK)
        st = get_size(text, "vocab_size", 49408, &s->text.vocab_size, err);
    if (st != ST_OK)
        return st;
    eos = json_object_get(text, "eos_token_id");
    s->text.eos_id = json_is_integer(eos) ? (int32_t)json_integer_value(eos) : 2;
    preprocess_default(&s->preprocess, s->vision.image_size);
    return hf_preprocess(processor, &s->preprocess, err);
}
