#include "reinforce/models/snapshot_config.h"

#include <math.h>
#include <string.h>

enum {
    MAX_SIDE = SNAPSHOT_MAX_SIDE,
    MAX_LAYERS = 4096,
};

static const float clip_mean[3] = {0.48145466f, 0.4578275f, 0.40821073f};
static const float clip_std[3] = {0.26862954f, 0.26130258f, 0.27577711f};

enum status config_size(const json_t *object, const char *key, size_t otherwise, size_t *out,
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

enum status config_side(const json_t *object, const char *key, size_t otherwise, int *out,
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
        st = config_size(object, key, otherwise, &side, err);
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

enum status config_check_keys(const json_t *object, const char *where,
                              const struct config_key *keys, size_t n, struct error *err)
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

enum status config_floats(const json_t *value, const char *key, float out[3], struct error *err)
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

void snapshot_preprocess_plain(struct preprocess *pre, int size)
{
    *pre = (struct preprocess){
        .size = size, .mode = PREPROCESS_SHORTEST, .filter = RESAMPLE_BILINEAR, .std = {1, 1, 1}};
}

enum status config_open_clip_preprocess(const json_t *cfg, struct preprocess *pre,
                                        struct error *err)
{
    const char *interpolation = json_string_value(json_object_get(cfg, "interpolation"));
    const char *resize = json_string_value(json_object_get(cfg, "resize_mode"));
    const char *mode = json_string_value(json_object_get(cfg, "mode"));
    const json_t *fill = json_object_get(cfg, "fill_color");
    enum status st =
        config_floats(json_object_get(cfg, "mean"), "preprocess_cfg.mean", pre->mean, err);

    if (st == ST_OK)
        st = config_floats(json_object_get(cfg, "std"), "preprocess_cfg.std", pre->std, err);
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

enum status config_mlp_ratio(const json_t *cfg, struct transformer_shape *shape, struct error *err)
{
    const json_t *ratio = json_object_get(cfg, "mlp_ratio");
    double value = ratio == NULL ? 4 : json_number_value(ratio); /* 0 when not a number */

    shape->mlp_width = value > 0 && value < 64 ? (size_t)((double)shape->width * value) : 0;
    if (shape->mlp_width == 0)
        return error_set(err, ST_INVALID, "config key mlp_ratio is not a number above 0");
    return ST_OK;
}

enum status config_check_heads(const struct transformer_shape *shape, const char *where,
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

enum status config_open_clip_text(const json_t *cfg, const char *where, size_t context,
                                  struct text_config *t, struct error *err)
{
    enum status st = config_size(cfg, "context_length", context, &t->context_length, err);

    if (st == ST_OK)
        st = config_size(cfg, "vocab_size", 49408, &t->vocab_size, err);
    if (st == ST_OK)
        st = config_size(cfg, "layers", 12, &t->shape.n_layers, err);
    if (st == ST_OK)
        st = config_size(cfg, "width", 512, &t->shape.width, err);
    if (st == ST_OK)
        st = config_size(cfg, "heads", 8, &t->shape.n_heads, err);
    if (st == ST_OK)
        st = config_mlp_ratio(cfg, &t->shape, err);
    if (st != ST_OK)
        return st;
    t->shape.eps = 1e-5f;
    return config_check_heads(&t->shape, where, err);
}

static enum status hf_activation(const json_t *cfg, enum activation *out, struct error *err)
{
    static const struct {
        const char *name;
        enum activation activation;
    } known[] = {{"gelu", ACTIVATION_GELU},
                 {"quick_gelu", ACTIVATION_QUICK_GELU},
                 {"gelu_pytorch_tanh", ACTIVATION_GELU_TANH}};
    const json_t *value = json_object_get(cfg, "hidden_act");
    const char *act = json_string_value(value);

    if (value == NULL)
        return ST_OK;
    for (size_t i = 0; i < ARRAY_LEN(known) && act != NULL; i++)
        if (strcmp(act, known[i].name) == 0) {
            *out = known[i].activation;
            return ST_OK;
        }
    return error_set(err, ST_INVALID,
                     "config key hidden_act = \"%.60s\" is none of gelu, quick_gelu and "
                     "gelu_pytorch_tanh",
                     act != NULL ? act : "(not a string)");
}

enum status config_hf_shape(const json_t *cfg, const char *where,
                            const struct transformer_shape *otherwise,
                            struct transformer_shape *shape, struct error *err)
{
    const json_t *eps = json_object_get(cfg, "layer_norm_eps");
    enum status st;

    *shape = *otherwise;
    st = config_size(cfg, "hidden_size", otherwise->width, &shape->width, err);
    if (st == ST_OK)
        st = config_size(cfg, "intermediate_size", otherwise->mlp_width, &shape->mlp_width, err);
    if (st == ST_OK)
        st = config_size(cfg, "num_hidden_layers", otherwise->n_layers, &shape->n_layers, err);
    if (st == ST_OK)
        st = config_size(cfg, "num_attention_heads", otherwise->n_heads, &shape->n_heads, err);
    if (st == ST_OK)
        st = hf_activation(cfg, &shape->activation, err);
    if (st != ST_OK)
        return st;
    if (eps != NULL)
        shape->eps = (float)json_number_value(eps);
    if (!(shape->eps > 0 && shape->eps < 1))
        return error_set(err, ST_INVALID, "config key layer_norm_eps is not between 0 and 1");
    return config_check_heads(shape, where, err);
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

enum status config_hf_values(const json_t *p, struct preprocess *pre, struct error *err)
{
    const json_t *resample = json_object_get(p, "resample");
    enum status st = hf_steps(p, err);

    if (st == ST_OK)
        st = config_floats(json_object_get(p, "image_mean"), "image_mean", pre->mean, err);
    if (st == ST_OK)
        st = config_floats(json_object_get(p, "image_std"), "image_std", pre->std, err);
    if (st != ST_OK)
        return st;
    for (size_t c = 0; c < 3; c++)
        if (pre->std[c] == 0)
            return error_set(err, ST_INVALID, "preprocessor_config.json: image_std holds a 0");
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

enum status config_hf_preprocess(const json_t *p, struct preprocess *pre, struct error *err)
{
    bool squash = false, unused;
    int size = hf_side(json_object_get(p, "size"), &squash);
    int crop = hf_side(json_object_get(p, "crop_size"), &unused);
    enum status st;

    pre->crop = PREPROCESS_CROP_FLOOR;
    if (p == NULL)
        return ST_OK;
    st = config_hf_values(p, pre, err);
    if (st != ST_OK)
        return st;
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
    return ST_OK;
}

enum status config_hf_image(const json_t *vision, int image_size, int patch_size,
                            struct vision_config *out, struct error *err)
{
    const json_t *channels = json_object_get(vision, "num_channels");
    enum status st = config_side(vision, "image_size", (size_t)image_size, &out->image_size, err);

    if (st == ST_OK)
        st = config_side(vision, "patch_size", (size_t)patch_size, &out->patch_size, err);
    if (st == ST_OK && channels != NULL && json_integer_value(channels) != 3)
        st = error_set(err, ST_INVALID, "config key vision_config.num_channels is not 3");
    return st;
}

enum status config_hf_tower(const json_t *config, const char *name, const char *legacy,
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
