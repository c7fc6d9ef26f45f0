#include "reinforce/models/snapshot_config.h"

#include <math.h>
#include <string.h>

enum {
    MAX_SIDE = 8192, /* pixels */
    MAX_LAYERS = 4096,
    HF_LEGACY_EOS = 2, /* in configs of converted models, whose real end token is the largest id */
};

static const float clip_mean[3] = {0.48145466f, 0.4578275f, 0.40821073f};
static const float clip_std[3] = {0.26862954f, 0.26130258f, 0.27577711f};

/* What may stand under a config key. The reference refuses unknown keys too, so whatever is not in
 * a table is refused: a key that changes the model must never be passed over. */
enum key_rule {
    KEY_READ,  /* its reader checks it */
    KEY_INERT, /* changes nothing at inference */
    KEY_UNSET, /* only null, false, zero or {}: anything else is a model we do not have */
    KEY_TEXT,  /* only the string `text`, or null */
};

struct key {
    const char *name;
    enum key_rule rule;
    const char *text;
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
    if (st == ST_OK && side > MAX_SIDE)
        st = error_set(err, ST_INVALID, "config key %s is %zu, larger than any model we know", key,
                       side);
    *out = (int)side;
    return st;
}

static bool is_unset(const json_t *value)
{
    return json_is_null(value) || json_is_false(value) ||
           (json_is_number(value) && json_number_value(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

static enum status check_keys(const json_t *object, const char *where, const struct key *keys,
                              size_t n, struct error *err)
{
    union {
        const json_t *in;
        json_t *object;
    } cast = {.in = object}; /* jansson's iterator takes a non-const object but changes nothing */
    const char *name;
    json_t *value;

    json_object_foreach(cast.object, name, value)
    {
        const char *text = json_string_value(value);
        size_t i = 0;

        while (i < n && strcmp(keys[i].name, name) != 0)
            i++;
        if (i == n)
            return error_set(
                err, ST_INVALID,
                "config key %s.%.60s is unknown; it may change the model, so it is not "
                "passed over",
                where, name);
        if ((keys[i].rule == KEY_UNSET && !is_unset(value)) ||
            (keys[i].rule == KEY_TEXT && !json_is_null(value) &&
             (text == NULL || strcmp(text, keys[i].text) != 0)))
            return error_set(err, ST_INVALID,
                             "config key %s.%s%s%.60s%s asks for a kind of model that is not "
                             "supported",
                             where, name, text != NULL ? " = \"" : "", text != NULL ? text : "",
                             text != NULL ? "\"" : "");
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

        out[i] = (float)v;
        if (!json_is_number(json_array_get(value, i)) || !isfinite(out[i]))
            return error_set(err, ST_INVALID, "config key %s is not a list of 3 numbers", key);
    }
    return ST_OK;
}

void snapshot_preprocess_default(struct preprocess *pre, int size)
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
    const char *resize = json_string_value(json_object_get(cfg, "resize_mode"));
    const char *mode = json_string_value(json_object_get(cfg, "mode"));
    const json_t *fill = json_object_get(cfg, "fill_color");
    enum status st =
        read_floats(json_object_get(cfg, "mean"), "preprocess_cfg.mean", pre->mean, err);

    if (st == ST_OK)
        st = read_floats(json_object_get(cfg, "std"), "preprocess_cfg.std", pre->std, err);
    if (st != ST_OK)
        return st;
    for (size_t c = 0; c < 3; c++)
        if (pre->std[c] == 0)
            return error_set(err, ST_INVALID, "config key preprocess_cfg.std holds a 0");
    if (mode != NULL && strcmp(mode, "RGB") != 0)
        return error_set(err, ST_INVALID, "preprocess_cfg.mode \"%.60s\" is not supported", mode);
    if (fill != NULL && !json_is_null(fill)) {
        if (!json_is_integer(fill) || json_integer_value(fill) < 0 ||
            json_integer_value(fill) > UINT8_MAX)
            return error_set(err, ST_INVALID, "preprocess_cfg.fill_color is not 0..255");
        pre->fill = (uint8_t)json_integer_value(fill);
    }
    if (interpolation != NULL && strcmp(interpolation, "bilinear") == 0)
        pre->filter = RESAMPLE_BILINEAR;
    else if (interpolation != NULL && strcmp(interpolation, "bicubic") != 0 &&
             strcmp(interpolation, "random") != 0) /* bicubic at evaluation */
        return error_set(err, ST_INVALID, "preprocess_cfg.interpolation \"%.60s\" is not supported",
                         interpolation);
    if (resize != NULL && strcmp(resize, "longest") == 0)
        pre->mode = PREPROCESS_LONGEST;
    else if (resize != NULL && strcmp(resize, "squash") == 0)
        pre->mode = PREPROCESS_SQUASH;
    else if (resize != NULL && strcmp(resize, "shortest") != 0)
        return error_set(err, ST_INVALID, "preprocess_cfg.resize_mode \"%.60s\" is not supported",
                         resize);
    return ST_OK;
}

static enum status read_mlp(const json_t *cfg, struct transformer_shape *shape, struct error *err)
{
    const json_t *ratio = json_object_get(cfg, "mlp_ratio");
    double value = ratio == NULL ? 4 : json_number_value(ratio); /* 0 when not a number */

    shape->mlp_width = value > 0 && value < 64 ? (size_t)((double)shape->width * value) : 0;
    if (shape->mlp_width == 0)
        return error_set(err, ST_INVALID, "config key mlp_ratio is not a number above 0");
    return ST_OK;
}

static enum status check_heads(const struct transformer_shape *shape, const char *where,
                               struct error *err)
{
    if (shape->n_heads == 0 || shape->width % shape->n_heads != 0)
        return error_set(err, ST_INVALID, "config key %s: width %zu is not divisible by %zu heads",
                         where, shape->width, shape->n_heads);
    if (shape->n_layers > MAX_LAYERS)
        return error_set(err, ST_INVALID, "config key %s: %zu layers are more than any model has",
                         where, shape->n_layers);
    return ST_OK;
}

static enum status open_clip_vision(const json_t *cfg, struct snapshot *s, struct error *err)
{
    static const struct key keys[] = {
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
    enum status st = check_keys(cfg, "vision_cfg", keys, ARRAY_LEN(keys), err);

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
    if (st == ST_OK && json_is_true(pool)) {
        st = get_size(cfg, "attn_pooler_heads", 8, &v->pooler_heads, err);
        if (st == ST_OK)
            st = get_size(cfg, "attn_pooler_queries", 256, &v->pooler_queries, err);
    }
    if (st != ST_OK)
        return st;
    v->shape.n_heads = v->shape.width / head_width;
    v->shape.eps = 1e-5f;
    return check_heads(&v->shape, "vision_cfg", err);
}

static enum status open_clip_text(const json_t *cfg, const char *where, size_t context,
                                  struct text_config *t, struct error *err)
{
    static const struct key keys[] = {
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
    enum status st = check_keys(cfg, where, keys, ARRAY_LEN(keys), err);

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
    if (st != ST_OK)
        return st;
    t->shape.eps = 1e-5f;
    t->eos_id = SNAPSHOT_EOS_LARGEST;
    return check_heads(&t->shape, where, err);
}

/* The keys around the towers, and that the towers fit one family. */
static enum status open_clip_family(const json_t *model, struct snapshot *s, struct error *err)
{
    static const struct key keys[] = {
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

    if (json_object_get(model, "image_cfg") != NULL)
        return error_set(err, ST_INVALID,
                         "config key image_cfg is Apple's MobileCLIP v1 form, which is not "
                         "supported; use the repository's -OpenCLIP twin");
    st = check_keys(model, "model_cfg", keys, ARRAY_LEN(keys), err);
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

enum status snapshot_config_open_clip(const json_t *config, struct snapshot *s, struct error *err)
{
    const json_t *model = json_object_get(config, "model_cfg"), *quick_gelu;
    enum activation activation;
    enum status st;

    if (model == NULL)
        model = config;
    s->naming = NAMING_OPEN_CLIP;
    st = open_clip_family(model, s, err);
    if (st == ST_OK)
        st = get_size(model, "embed_dim", 0, &s->embed_dim, err);
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
    return open_clip_preprocess(json_object_get(config, "preprocess_cfg"), &s->preprocess, err);
}

static enum status hf_activation(const json_t *cfg, enum activation *out, struct error *err)
{
    const json_t *value = json_object_get(cfg, "hidden_act");
    const char *act = json_string_value(value);

    *out = ACTIVATION_QUICK_GELU;
    if (value == NULL || (act != NULL && strcmp(act, "quick_gelu") == 0))
        return ST_OK;
    if (act == NULL || strcmp(act, "gelu") != 0)
        return error_set(err, ST_INVALID,
                         "config key hidden_act = \"%.60s\" is neither gelu nor quick_gelu",
                         act != NULL ? act : "(not a string)");
    *out = ACTIVATION_GELU;
    return ST_OK;
}

static enum status hf_shape(const json_t *cfg, const char *where, size_t width, size_t mlp,
                            size_t heads, struct transformer_shape *shape, struct error *err)
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
    if (st != ST_OK)
        return st;
    shape->eps = eps != NULL ? (float)json_number_value(eps) : 1e-5f;
    if (!(shape->eps > 0 && shape->eps < 1))
        return error_set(err, ST_INVALID, "config key layer_norm_eps is not between 0 and 1");
    return check_heads(shape, where, err);
}

/* "size" and "crop_size": an integer, {"shortest_edge"} or {"height", "width"}; 0 when absent, -1
 * when not square. */
static int hf_side(const json_t *value, bool *squash)
{
    const json_t *height = json_object_get(value, "height"),
                 *width = json_object_get(value, "width");
    const json_t *side = json_is_object(value) ? json_object_get(value, "shortest_edge") : value;

    *squash = height != NULL;
    if (value == NULL || json_is_null(value))
        return 0;
    if (height != NULL) {
        if (json_integer_value(height) != json_integer_value(width))
            return -1;
        side = height;
    }
    return json_is_integer(side) && json_integer_value(side) > 0 &&
                   json_integer_value(side) <= MAX_SIDE
               ? (int)json_integer_value(side)
               : -1;
}

static enum status hf_steps(const json_t *p, struct error *err)
{
    static const char *const steps[] = {"do_resize", "do_rescale", "do_normalize"};
    const json_t *factor = json_object_get(p, "rescale_factor");

    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        if (json_is_false(json_object_get(p, steps[i])))
            return error_set(err, ST_INVALID,
                             "preprocessor_config.json: %s = false is not supported", steps[i]);
    if (factor != NULL && fabs(json_number_value(factor) - 1.0 / 255) > 1e-9)
        return error_set(err, ST_INVALID,
                         "preprocessor_config.json: rescale_factor %g is not supported",
                         json_number_value(factor));
    return ST_OK;
}

/* One square of the model's size must come out: anything else the image tower could not read. */
static enum status hf_preprocess(const json_t *p, struct preprocess *pre, struct error *err)
{
    const json_t *resample = json_object_get(p, "resample");
    bool squash = false, unused;
    int size = hf_side(json_object_get(p, "size"), &squash);
    int crop = hf_side(json_object_get(p, "crop_size"), &unused);
    enum status st;

    pre->crop = PREPROCESS_CROP_FLOOR;
    if (p == NULL)
        return ST_OK;
    st = hf_steps(p, err);
    if (st == ST_OK)
        st = read_floats(json_object_get(p, "image_mean"), "image_mean", pre->mean, err);
    if (st == ST_OK)
        st = read_floats(json_object_get(p, "image_std"), "image_std", pre->std, err);
    if (st != ST_OK)
        return st;
    for (size_t c = 0; c < 3; c++)
        if (pre->std[c] == 0)
            return error_set(err, ST_INVALID, "preprocessor_config.json: image_std holds a 0");
    if (json_is_false(json_object_get(p, "do_center_crop")) && !squash)
        return error_set(err, ST_INVALID,
                         "preprocessor_config.json: do_center_crop = false is not supported");
    if ((size != 0 && size != pre->size) || (crop != 0 && crop != pre->size))
        return error_set(err, ST_INVALID,
                         "preprocessor_config.json: size and crop_size must both be the model's "
                         "image_size, %d",
                         pre->size);
    if (squash)
        pre->mode = PREPROCESS_SQUASH;
    if (resample == NULL)
        return ST_OK;
    if (!json_is_integer(resample) || (json_integer_value(resample) != RESAMPLE_BILINEAR &&
                                       json_integer_value(resample) != RESAMPLE_BICUBIC))
        return error_set(err, ST_INVALID,
                         "preprocessor_config.json: resample is neither 2 (bilinear) nor 3 "
                         "(bicubic)");
    pre->filter = (enum resample_filter)json_integer_value(resample);
    return ST_OK;
}

static bool names_clip_model(const json_t *config)
{
    const char *type = json_string_value(json_object_get(config, "model_type"));
    const json_t *architectures = json_object_get(config, "architectures");

    for (size_t i = 0; i < json_array_size(architectures); i++) {
        const char *name = json_string_value(json_array_get(architectures, i));

        if (name != NULL)
            return strcmp(name, "CLIPModel") == 0;
    }
    return type != NULL && strcmp(type, "clip") == 0;
}

/* The legacy `*_config_dict` overrides `*_config`, key by key. */
static enum status hf_tower(const json_t *config, const char *name, const char *legacy,
                            json_t **out, struct error *err)
{
    const json_t *base = json_object_get(config, name), *over = json_object_get(config, legacy);
    union {
        const json_t *in;
        json_t *object;
    } from = {.in = base}, update = {.in = over};

    *out = json_is_object(base) ? json_copy(from.object) : json_object();
    if (*out == NULL || (json_is_object(over) && json_object_update(*out, update.object) != 0))
        return error_set(err, ST_NO_MEMORY, "could not copy config key %s", name);
    return ST_OK;
}

enum status snapshot_config_transformers(const json_t *config, const json_t *processor,
                                         struct snapshot *s, struct error *err)
{
    const char *type = json_string_value(json_object_get(config, "model_type"));
    json_t *text = NULL, *vision = NULL;
    const json_t *eos;
    enum status st;

    if (json_object_get(config, "image_cfg") != NULL)
        return error_set(err, ST_INVALID,
                         "config key image_cfg is Apple's MobileCLIP v1 form, which is not "
                         "supported; use the repository's -OpenCLIP twin");
    if (!names_clip_model(config))
        return error_set(err, ST_INVALID,
                         "config.json describes a \"%.60s\" model; of transformers' only CLIPModel "
                         "(model_type clip) is supported",
                         type != NULL ? type : "(model_type absent)");
    s->family = SNAPSHOT_CLIP;
    s->naming = NAMING_TRANSFORMERS;
    st = hf_tower(config, "text_config", "text_config_dict", &text, err);
    if (st == ST_OK)
        st = hf_tower(config, "vision_config", "vision_config_dict", &vision, err);
    if (st == ST_OK)
        st = get_size(config, "projection_dim", 512, &s->embed_dim, err);
    if (st == ST_OK)
        st = hf_shape(vision, "vision_config", 768, 3072, 12, &s->vision.shape, err);
    if (st == ST_OK)
        st = hf_shape(text, "text_config", 512, 2048, 8, &s->text.shape, err);
    if (st == ST_OK)
        st = get_side(vision, "image_size", 224, &s->vision.image_size, err);
    if (st == ST_OK)
        st = get_side(vision, "patch_size", 32, &s->vision.patch_size, err);
    if (st == ST_OK && json_object_get(vision, "num_channels") != NULL &&
        json_integer_value(json_object_get(vision, "num_channels")) != 3)
        st = error_set(err, ST_INVALID, "config key vision_config.num_channels is not 3");
    if (st == ST_OK)
        st = get_size(text, "max_position_embeddings", 77, &s->text.context_length, err);
    if (st == ST_OK)
        st = get_size(text, "vocab_size", 49408, &s->text.vocab_size, err);
    if (st == ST_OK) {
        eos = json_object_get(text, "eos_token_id");
        s->text.eos_id = SNAPSHOT_EOS_LARGEST;
        if (json_is_integer(eos) && json_integer_value(eos) > HF_LEGACY_EOS &&
            json_integer_value(eos) < INT32_MAX)
            s->text.eos_id = (int32_t)json_integer_value(eos);
        snapshot_preprocess_default(&s->preprocess, s->vision.image_size);
        st = hf_preprocess(processor, &s->preprocess, err);
    }
    json_decref(text);
    json_decref(vision);
    return st;
}
