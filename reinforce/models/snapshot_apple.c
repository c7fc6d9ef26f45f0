/* The config of apple/ml-mobileclip, as the first MobileCLIPs are published beside their .pt. */
#include "reinforce/models/fastvit.h"
#include "reinforce/models/mci_stem.h"
#include "reinforce/models/snapshot_config.h"

#include <math.h>
#include <string.h>

enum { FFN_MULTIPLE = 16 };

bool snapshot_is_apple_config(const json_t *config)
{
    return json_object_get(config, "image_cfg") != NULL;
}

static enum status read_image(const json_t *cfg, struct vision_config *out, struct error *err)
{
    static const struct config_key keys[] = {{"model_name", KEY_READ, NULL},
                                             {"image_size", KEY_READ, NULL}};
    static const struct {
        const char *name, *fastvit;
    } trunks[] = {{"mci0", "fastvit_mci0"}, {"mci1", "fastvit_mci1"}, {"mci2", "fastvit_mci2"}};
    static const struct vision_config vit_b16 = {
        .patch_size = MCI_STEM_PATCH,
        .shape = {12, 768, 12, 3072, ACTIVATION_GELU, 1e-5f},
        .form = VIT_MCI};
    const char *name = json_string_value(json_object_get(cfg, "model_name"));
    bool is_vit = name != NULL && strcmp(name, "vit_b16") == 0;
    enum status st = config_check_keys(cfg, "image_cfg", keys, ARRAY_LEN(keys), err);

    if (st != ST_OK)
        return st;
    *out = is_vit ? vit_b16 : (struct vision_config){.shape.activation = ACTIVATION_GELU};
    for (size_t i = 0; i < ARRAY_LEN(trunks) && name != NULL && !is_vit; i++)
        if (strcmp(name, trunks[i].name) == 0)
            out->fastvit = fastvit_shape_find(trunks[i].fastvit);
    if (!is_vit && out->fastvit == NULL)
        return error_set(err, ST_INVALID,
                         "config key image_cfg.model_name = \"%.30s\" is none of mci0, mci1, mci2 "
                         "and vit_b16",
                         name != NULL ? name : "(not a string)");
    st = config_side(cfg, "image_size", is_vit ? 224 : 256, &out->image_size, err);
    if (st == ST_OK && out->image_size % 32 != 0)
        st = error_set(err, ST_INVALID, "config key image_cfg.image_size = %d is no multiple of 32",
                       out->image_size);
    return st;
}

/* A number for all layers, or a list with one for each, which must be the same. */
static enum status per_layer(const json_t *cfg, const char *key, double *out, struct error *err)
{
    const json_t *value = json_object_get(cfg, key), *first = value;

    if (json_is_array(value))
        first = json_array_get(value, 0);
    *out = json_number_value(first);
    for (size_t i = 0; i < json_array_size(value); i++)
        if (json_number_value(json_array_get(value, i)) != *out)
            return error_set(err, ST_INVALID, "config key text_cfg.%s differs between layers", key);
    if (!(*out > 0 && *out < 1024))
        return error_set(err, ST_INVALID, "config key text_cfg.%s is not a number above 0", key);
    return ST_OK;
}

static enum status check_norm(const json_t *cfg, struct error *err)
{
    const char *norm = json_string_value(json_object_get(cfg, "norm_layer"));

    if (norm != NULL && (strcmp(norm, "layer_norm_fp32") == 0 || strcmp(norm, "layer_norm") == 0))
        return ST_OK;
    return error_set(err, ST_INVALID,
                     "config key text_cfg.norm_layer = \"%.30s\" is neither layer_norm nor "
                     "layer_norm_fp32",
                     norm != NULL ? norm : "(not a string)");
}

/* "base": a transformer; "mct": one between two convolutional blocks. */
static enum status read_variant(const json_t *cfg, struct text_config *text, struct error *err)
{
    const char *variant = json_string_value(json_object_get(cfg, "model_name"));
    bool causal = json_is_true(json_object_get(cfg, "causal_masking"));

    text->bidirectional = !causal;
    text->mixers = variant != NULL && strcmp(variant, "mct") == 0;
    if (!text->mixers && (variant == NULL || strcmp(variant, "base") != 0))
        return error_set(err, ST_INVALID,
                         "config key text_cfg.model_name = \"%.30s\" is neither base nor mct",
                         variant != NULL ? variant : "(not a string)");
    if (text->mixers && causal)
        return error_set(err, ST_INVALID,
                         "config key text_cfg.causal_masking asks for a kind of model that is not "
                         "supported: convolutions over tokens see both sides");
    return ST_OK;
}

static enum status read_text(const json_t *cfg, struct text_config *text, struct error *err)
{
    static const struct config_key keys[] = {
        {"context_length", KEY_READ, NULL},
        {"vocab_size", KEY_READ, NULL},
        {"dim", KEY_READ, NULL},
        {"ffn_multiplier_per_layer", KEY_READ, NULL},
        {"n_heads_per_layer", KEY_READ, NULL},
        {"n_transformer_layers", KEY_READ, NULL},
        {"norm_layer", KEY_READ, NULL},
        {"causal_masking", KEY_READ, NULL},
        {"model_name", KEY_READ, NULL},
        {"no_pos_embedding", KEY_UNSET, NULL},
        {"no_scale_embedding", KEY_INERT, NULL}, /* the scale is computed and not used */
        {"embed_dropout", KEY_INERT, NULL},
    };
    struct transformer_shape *shape = &text->shape;
    double multiplier = 0, heads = 0;
    enum status st = config_check_keys(cfg, "text_cfg", keys, ARRAY_LEN(keys), err);

    *shape = (struct transformer_shape){.activation = ACTIVATION_GELU, .eps = 1e-5f};
    text->eos_id = SNAPSHOT_EOS_LARGEST;
    if (st == ST_OK)
        st = config_size(cfg, "context_length", 77, &text->context_length, err);
    if (st == ST_OK)
        st = config_size(cfg, "vocab_size", 49408, &text->vocab_size, err);
    if (st == ST_OK)
        st = config_size(cfg, "dim", 512, &shape->width, err);
    if (st == ST_OK)
        st = config_size(cfg, "n_transformer_layers", 12, &shape->n_layers, err);
    if (st == ST_OK)
        st = per_layer(cfg, "ffn_multiplier_per_layer", &multiplier, err);
    if (st == ST_OK)
        st = per_layer(cfg, "n_heads_per_layer", &heads, err);
    if (st == ST_OK)
        st = check_norm(cfg, err);
    if (st == ST_OK)
        st = read_variant(cfg, text, err);
    if (st != ST_OK)
        return st;
    if (heads != floor(heads))
        return error_set(err, ST_INVALID,
                         "config key text_cfg.n_heads_per_layer = %g is no integer", heads);
    shape->n_heads = (size_t)heads;
    shape->mlp_width =
        (size_t)ceil((double)shape->width * multiplier / FFN_MULTIPLE) * FFN_MULTIPLE;
    return config_check_heads(shape, "text_cfg", err);
}

enum status snapshot_config_apple(const json_t *config, struct snapshot *s, struct error *err)
{
    static const struct config_key keys[] = {
        {"embed_dim", KEY_READ, NULL}, {"image_cfg", KEY_READ, NULL}, {"text_cfg", KEY_READ, NULL}};
    enum status st = config_check_keys(config, "config", keys, ARRAY_LEN(keys), err);

    s->naming = NAMING_APPLE;
    if (st == ST_OK)
        st = config_size(config, "embed_dim", 0, &s->embed_dim, err);
    if (st == ST_OK && s->embed_dim == 0)
        st = error_set(err, ST_INVALID, "config.json has no embed_dim");
    if (st == ST_OK && !json_is_object(json_object_get(config, "text_cfg")))
        st = error_set(err, ST_INVALID, "config.json has no text_cfg");
    if (st == ST_OK)
        st = read_image(json_object_get(config, "image_cfg"), &s->vision, err);
    if (st == ST_OK)
        st = read_text(json_object_get(config, "text_cfg"), &s->text, err);
    if (st == ST_OK)
        snapshot_preprocess_plain(&s->preprocess, s->vision.image_size);
    return st;
}
