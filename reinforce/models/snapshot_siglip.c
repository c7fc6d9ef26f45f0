#include "reinforce/models/snapshot_config.h"

#include <string.h>

/* Only what differs from these is written to config.json. Sources: transformers
 * configuration_siglip.py, configuration_siglip2.py. */
static const struct transformer_shape shape_default = {12,   768, 12, 3072, ACTIVATION_GELU_TANH,
                                                       1e-6f};
enum { CONTEXT_DEFAULT = 64, VOCAB_DEFAULT = 32000, NAFLEX_GRID_DEFAULT = 256 };

static void preprocess_default(struct preprocess *pre, int size, enum resample_filter filter)
{
    *pre = (struct preprocess){.size = size,
                               .mode = PREPROCESS_SQUASH,
                               .filter = filter,
                               .mean = {0.5f, 0.5f, 0.5f},
                               .std = {0.5f, 0.5f, 0.5f}};
}

static enum status read_text(const json_t *config, struct snapshot *s, struct error *err)
{
    json_t *text = NULL;
    enum status st = config_hf_tower(config, "text_config", "text_config_dict", &text, err);

    if (st == ST_OK)
        st = config_hf_shape(text, "text_config", &shape_default, &s->text.shape, err);
    if (st == ST_OK)
        st = config_size(text, "max_position_embeddings", CONTEXT_DEFAULT, &s->text.context_length,
                         err);
    if (st == ST_OK)
        st = config_size(text, "vocab_size", VOCAB_DEFAULT, &s->text.vocab_size, err);
    if (st == ST_OK)
        st = config_size(text, "projection_size", s->text.shape.width, &s->embed_dim, err);
    s->text.head = TEXT_HEAD_LINEAR;
    json_decref(text);
    return st;
}

/* Both towers meet in one space, and the image tower has no projection. */
static enum status check_dim(const struct snapshot *s, struct error *err)
{
    if (s->embed_dim == s->vision.shape.width)
        return ST_OK;
    return error_set(err, ST_INVALID,
                     "the text tower projects to %zu numbers, the image tower has %zu",
                     s->embed_dim, s->vision.shape.width);
}

/* `image_size` 0: the config does not say. */
static enum status read_vision(const json_t *vision, struct snapshot *s, struct error *err)
{
    enum status st =
        config_hf_shape(vision, "vision_config", &shape_default, &s->vision.shape, err);

    if (st == ST_OK)
        st = config_hf_image(vision, 224, 16, &s->vision, err);
    if (st == ST_OK && json_is_false(json_object_get(vision, "vision_use_head")))
        st = error_set(err, ST_INVALID,
                       "config key vision_config.vision_use_head = false: a tower without its "
                       "pooling head cannot be a teacher");
    s->vision.form = VIT_SIGLIP;
    return st == ST_OK ? check_dim(s, err) : st;
}

static enum status read_fixed(const json_t *config, const json_t *processor, struct snapshot *s,
                              struct error *err)
{
    json_t *vision = NULL;
    enum status st = read_text(config, s, err);

    if (st == ST_OK)
        st = config_hf_tower(config, "vision_config", "vision_config_dict", &vision, err);
    if (st == ST_OK)
        st = read_vision(vision, s, err);
    if (st == ST_OK) {
        preprocess_default(&s->preprocess, s->vision.image_size, RESAMPLE_BICUBIC);
        st = config_hf_preprocess(processor, &s->preprocess, err);
    }
    json_decref(vision);
    return st;
}

static size_t square_root(size_t n)
{
    size_t root = 0;

    while ((root + 1) * (root + 1) <= n)
        root++;
    return root;
}

/* The stored table is a square; the budget of an image is the processor's. */
static enum status read_naflex_sizes(const json_t *vision, const json_t *processor,
                                     struct snapshot *s, struct error *err)
{
    size_t positions = 0, patch = 0, grid, p = (size_t)s->vision.patch_size;
    enum status st = config_size(vision, "num_patches", NAFLEX_GRID_DEFAULT, &positions, err);

    if (st == ST_OK)
        st = config_size(processor, "max_num_patches", NAFLEX_GRID_DEFAULT,
                         &s->vision.naflex_patches, err);
    if (st == ST_OK)
        st = config_size(processor, "patch_size", p, &patch, err);
    if (st != ST_OK)
        return st;
    grid = square_root(positions);
    if (grid * grid != positions || grid * p > SNAPSHOT_MAX_SIDE)
        return error_set(err, ST_INVALID,
                         "config key vision_config.num_patches = %zu is not the square of a grid "
                         "that we know",
                         positions);
    if (patch != p)
        return error_set(err, ST_INVALID,
                         "preprocessor_config.json: patch_size is %zu, the model's %zu", patch, p);
    if (square_root(s->vision.naflex_patches) * p > SNAPSHOT_MAX_SIDE)
        return error_set(err, ST_INVALID,
                         "preprocessor_config.json: max_num_patches = %zu is more than any model "
                         "reads",
                         s->vision.naflex_patches);
    s->vision.image_size = (int)(grid * p);
    return ST_OK;
}

static enum status read_naflex(const json_t *config, const json_t *processor, struct snapshot *s,
                               struct error *err)
{
    json_t *vision = NULL;
    enum status st = read_text(config, s, err);

    if (st == ST_OK)
        st = config_hf_tower(config, "vision_config", "vision_config_dict", &vision, err);
    if (st == ST_OK)
        st = read_vision(vision, s, err);
    if (st == ST_OK)
        st = read_naflex_sizes(vision, processor, s, err);
    if (st == ST_OK) {
        size_t side = square_root(s->vision.naflex_patches) * (size_t)s->vision.patch_size;

        preprocess_default(&s->preprocess, (int)side, RESAMPLE_BILINEAR);
        s->preprocess.mode = PREPROCESS_NAFLEX;
        s->preprocess.patch = s->vision.patch_size;
        s->preprocess.max_patches = (int)s->vision.naflex_patches;
        st = processor != NULL ? config_hf_values(processor, &s->preprocess, err) : ST_OK;
    }
    json_decref(vision);
    return st;
}

static const char *trunk_name(const json_t *model)
{
    const char *name =
        json_string_value(json_object_get(json_object_get(model, "vision_cfg"), "timm_model_name"));

    return name != NULL && strncmp(name, "vit_", 4) == 0 && strstr(name, "_siglip_") != NULL ? name
                                                                                             : NULL;
}

static bool claims_open_clip(const json_t *model)
{
    return trunk_name(model) != NULL;
}

/* What timm's registry says of a trunk and its tensors do not: heads are 64 wide unless there are
 * 16, and some have GELU by tanh. Source: timm 1.0 vision_transformer.py. */
static void describe_trunk(const char *name, struct vision_config *v)
{
    static const char *const sixteen_heads[] = {"vit_so400m_", "vit_giantopt_"};
    static const char *const by_tanh[] = {"vit_base_patch32_", "vit_large_patch16_siglip_512",
                                          "vit_so400m_patch16_", "vit_giantopt_"};

    v->form = VIT_SIGLIP;
    v->shape.n_heads = v->shape.width / 64;
    v->shape.activation = ACTIVATION_GELU;
    v->shape.eps = 1e-6f;
    for (size_t i = 0; i < ARRAY_LEN(sixteen_heads); i++)
        if (strncmp(name, sixteen_heads[i], strlen(sixteen_heads[i])) == 0)
            v->shape.n_heads = 16;
    for (size_t i = 0; i < ARRAY_LEN(by_tanh); i++)
        if (strncmp(name, by_tanh[i], strlen(by_tanh[i])) == 0)
            v->shape.activation = ACTIVATION_GELU_TANH;
}

static enum status read_trunk(const json_t *model, struct snapshot *s, struct error *err)
{
    static const struct config_key keys[] = {
        {"image_size", KEY_READ, NULL},
        {"timm_model_name", KEY_READ, NULL},
        {"timm_pool", KEY_TEXT, "map"},
        {"timm_proj", KEY_TEXT, "none"},
        {"timm_model_pretrained", KEY_INERT, NULL},
        {"timm_proj_bias", KEY_INERT, NULL}, /* without a projection */
        {"timm_drop", KEY_INERT, NULL},
        {"timm_drop_path", KEY_INERT, NULL},
        {"patch_dropout", KEY_INERT, NULL},
        {"output_tokens", KEY_INERT, NULL},
    };
    const json_t *cfg = json_object_get(model, "vision_cfg");
    struct weights *weights = NULL;
    enum status st = config_check_keys(cfg, "vision_cfg", keys, ARRAY_LEN(keys), err);

    if (st == ST_OK && (!json_is_string(json_object_get(cfg, "timm_pool")) ||
                        !json_is_string(json_object_get(cfg, "timm_proj"))))
        st = error_set(err, ST_INVALID,
                       "config keys vision_cfg.timm_pool and timm_proj are not \"map\" and "
                       "\"none\", as SigLIP's are");
    if (st == ST_OK)
        st = config_side(cfg, "image_size", 224, &s->vision.image_size, err);
    if (st == ST_OK)
        st = weights_open(s->weights_path, &weights, err);
    if (st == ST_OK)
        st = snapshot_infer_trunk(weights, &s->vision, err);
    weights_destroy(&weights);
    if (st != ST_OK)
        return st;
    describe_trunk(trunk_name(model), &s->vision);
    return config_check_heads(&s->vision.shape, "vision_cfg", err);
}

/* {"eps": 1e-6}, {"approximate": "tanh"}, {"clean": "canonicalize"}: these and no other. */
static enum status read_text_kwargs(const json_t *cfg, struct text_config *t, struct error *err)
{
    static const struct config_key act_keys[] = {{"approximate", KEY_TEXT, "tanh"}};
    static const struct config_key clean_keys[] = {{"clean", KEY_TEXT, "canonicalize"}};
    static const struct config_key norm_keys[] = {{"eps", KEY_READ, NULL}};
    const json_t *act = json_object_get(cfg, "act_kwargs"),
                 *norm = json_object_get(cfg, "norm_kwargs"),
                 *clean = json_object_get(cfg, "tokenizer_kwargs");
    const json_t *eps = json_object_get(norm, "eps");
    enum status st = config_check_keys(act, "act_kwargs", act_keys, ARRAY_LEN(act_keys), err);

    if (st == ST_OK)
        st = config_check_keys(norm, "norm_kwargs", norm_keys, ARRAY_LEN(norm_keys), err);
    if (st == ST_OK)
        st = config_check_keys(clean, "tokenizer_kwargs", clean_keys, ARRAY_LEN(clean_keys), err);
    if (st != ST_OK)
        return st;
    t->shape.activation = json_is_string(json_object_get(act, "approximate")) ? ACTIVATION_GELU_TANH
                                                                              : ACTIVATION_GELU;
    if (eps != NULL)
        t->shape.eps = (float)json_number_value(eps);
    if (!(t->shape.eps > 0 && t->shape.eps < 1))
        return error_set(err, ST_INVALID, "config key norm_kwargs.eps is not between 0 and 1");
    return ST_OK;
}

static enum status read_open_clip_text(const json_t *cfg, struct text_config *t, struct error *err)
{
    static const struct config_key keys[] = {
        {"context_length", KEY_READ, NULL},
        {"vocab_size", KEY_READ, NULL},
        {"width", KEY_READ, NULL},
        {"heads", KEY_READ, NULL},
        {"layers", KEY_READ, NULL},
        {"mlp_ratio", KEY_READ, NULL},
        {"no_causal_mask", KEY_READ, NULL},
        {"pool_type", KEY_READ, NULL},
        {"proj_type", KEY_READ, NULL},
        {"proj_bias", KEY_READ, NULL},
        {"act_kwargs", KEY_READ, NULL},
        {"norm_kwargs", KEY_READ, NULL},
        {"tokenizer_kwargs", KEY_READ, NULL},
        {"hf_tokenizer_name", KEY_INERT, NULL}, /* the snapshot brings its own */
        {"embed_cls", KEY_UNSET, NULL},
        {"hf_model_name", KEY_UNSET, NULL},
        {"text_mask", KEY_UNSET, NULL},
        {"final_ln_after_pool", KEY_UNSET, NULL},
        {"ls_init_value", KEY_UNSET, NULL},
        {"pad_id", KEY_INERT, NULL}, /* of embed_cls */
        {"output_tokens", KEY_INERT, NULL},
    };
    const char *pool = json_string_value(json_object_get(cfg, "pool_type"));
    const char *projection = json_string_value(json_object_get(cfg, "proj_type"));
    enum status st = config_check_keys(cfg, "text_cfg", keys, ARRAY_LEN(keys), err);

    if (st == ST_OK)
        st = config_open_clip_text(cfg, "text_cfg", CONTEXT_DEFAULT, t, err);
    if (st == ST_OK)
        st = read_text_kwargs(cfg, t, err);
    if (st != ST_OK)
        return st;
    if (!json_is_true(json_object_get(cfg, "no_causal_mask")) || pool == NULL ||
        strcmp(pool, "last") != 0)
        return error_set(err, ST_INVALID,
                         "config keys text_cfg.no_causal_mask and pool_type are not true and "
                         "\"last\", as SigLIP's are");
    if (projection != NULL && strcmp(projection, "none") == 0)
        t->head = TEXT_HEAD_NONE;
    else if (json_is_true(json_object_get(cfg, "proj_bias")) &&
             (projection == NULL || strcmp(projection, "linear") == 0))
        t->head = TEXT_HEAD_LINEAR;
    else
        return error_set(err, ST_INVALID,
                         "config keys text_cfg.proj_type and proj_bias ask for a kind of model "
                         "that is not supported");
    return ST_OK;
}

static enum status read_open_clip(const json_t *config, const json_t *model, struct snapshot *s,
                                  struct error *err)
{
    static const struct config_key keys[] = {
        {"embed_dim", KEY_READ, NULL},         {"vision_cfg", KEY_READ, NULL},
        {"text_cfg", KEY_READ, NULL},          {"multimodal_cfg", KEY_UNSET, NULL},
        {"quick_gelu", KEY_UNSET, NULL},       {"custom_text", KEY_INERT, NULL},
        {"init_logit_bias", KEY_INERT, NULL}, /* the tensors replace both */
        {"init_logit_scale", KEY_INERT, NULL}, {"nonscalar_logit_scale", KEY_INERT, NULL},
        {"cast_dtype", KEY_INERT, NULL},       {"output_dict", KEY_INERT, NULL},
        {"preprocess_cfg", KEY_INERT, NULL},
    };
    enum status st = config_check_keys(model, "model_cfg", keys, ARRAY_LEN(keys), err);

    if (st == ST_OK)
        st = config_size(model, "embed_dim", 0, &s->embed_dim, err);
    if (st == ST_OK)
        st = read_open_clip_text(json_object_get(model, "text_cfg"), &s->text, err);
    if (st == ST_OK)
        st = read_trunk(model, s, err);
    if (st == ST_OK)
        st = check_dim(s, err);
    if (st != ST_OK)
        return st;
    preprocess_default(&s->preprocess, s->vision.image_size, RESAMPLE_BICUBIC);
    return config_open_clip_preprocess(json_object_get(config, "preprocess_cfg"), &s->preprocess,
                                       err);
}

/* SigLIP 1, and SigLIP 2 of fixed resolution: one architecture (SIGLIP 3). */
const struct snapshot_rules snapshot_rules_siglip = {
    .name = "siglip",
    .model_type = "siglip",
    .architecture = "SiglipModel",
    .read_transformers = read_fixed,
    .claims_open_clip = claims_open_clip,
    .read_open_clip = read_open_clip,
};

/* NaFlex. */
const struct snapshot_rules snapshot_rules_siglip2 = {
    .name = "siglip2",
    .model_type = "siglip2",
    .architecture = "Siglip2Model",
    .read_transformers = read_naflex,
};
