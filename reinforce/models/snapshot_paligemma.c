#include "reinforce/models/snapshot_config.h"

#include <math.h>
#include <string.h>

/* What transformers' classes mean by silence; published configs say little more than their sizes.
 * Sources: configuration_siglip.py, configuration_gemma.py, configuration_gemma2.py,
 * configuration_paligemma.py. */
static const struct transformer_shape tower_default = {12,   768, 12, 3072, ACTIVATION_GELU_TANH,
                                                       1e-6f};
static const struct gemma_config gemma_default = {.generation = 1,
                                                  .n_layers = 28,
                                                  .width = 3072,
                                                  .mlp_width = 24576,
                                                  .n_heads = 16,
                                                  .n_kv_heads = 16,
                                                  .head_dim = 256,
                                                  .context_length = 8192,
                                                  .eps = 1e-6f,
                                                  .rope_base = 10000,
                                                  .end_id = 1,
                                                  .other_end_id = -1};
static const struct gemma_config gemma2_default = {.generation = 2,
                                                   .n_layers = 26,
                                                   .width = 2304,
                                                   .mlp_width = 9216,
                                                   .n_heads = 8,
                                                   .n_kv_heads = 4,
                                                   .head_dim = 256,
                                                   .context_length = 8192,
                                                   .attention_cap = 50,
                                                   .final_cap = 30,
                                                   .window = 4096,
                                                   .eps = 1e-6f,
                                                   .rope_base = 10000,
                                                   .end_id = 1,
                                                   .other_end_id = -1};
enum { GEMMA2_QUERY_SCALAR = 256, IMAGE_ID_DEFAULT = 257152, IMAGE_SIZE_DEFAULT = 224 };

/* A finite number >= 0; null is 0, absent `otherwise`. */
static enum status get_number(const json_t *object, const char *key, double otherwise, double *out,
                              struct error *err)
{
    const json_t *value = json_object_get(object, key);

    *out = value == NULL ? otherwise : json_number_value(value);
    if (value != NULL && !json_is_null(value) &&
        (!json_is_number(value) || !isfinite(*out) || *out < 0))
        return error_set(err, ST_INVALID, "config key text_config.%s is not a number from 0", key);
    return ST_OK;
}

/* The gate is GELU by tanh, whichever of the two keys says so; "gelu" alone is what configs of the
 * first generation said and never meant. */
static enum status check_decoder_keys(const json_t *text, struct error *err)
{
    static const char *const unset[] = {"attention_bias", "rope_scaling"};
    const char *names[] = {json_string_value(json_object_get(text, "hidden_activation")),
                           json_string_value(json_object_get(text, "hidden_act"))};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (names[i] != NULL && strcmp(names[i], "gelu_pytorch_tanh") != 0 &&
            strcmp(names[i], "gelu") != 0)
            return error_set(err, ST_INVALID,
                             "config key text_config.hidden_activation = \"%.60s\" is not "
                             "gelu_pytorch_tanh",
                             names[i]);
    for (size_t i = 0; i < ARRAY_LEN(unset); i++) {
        const json_t *value = json_object_get(text, unset[i]);

        if (value != NULL && !json_is_null(value) && !json_is_false(value))
            return error_set(err, ST_INVALID,
                             "config key text_config.%s asks for a kind of model that is not "
                             "supported",
                             unset[i]);
    }
    return ST_OK;
}

static enum status read_sizes(const json_t *text, struct gemma_config *d, struct error *err)
{
    const struct {
        const char *key;
        size_t *to;
    } sizes[] = {{"num_hidden_layers", &d->n_layers},
                 {"hidden_size", &d->width},
                 {"intermediate_size", &d->mlp_width},
                 {"num_attention_heads", &d->n_heads},
                 {"num_key_value_heads", &d->n_kv_heads},
                 {"head_dim", &d->head_dim},
                 {"max_position_embeddings", &d->context_length}};
    enum status st = ST_OK;

    for (size_t i = 0; i < ARRAY_LEN(sizes) && st == ST_OK; i++)
        st = config_size(text, sizes[i].key, *sizes[i].to, sizes[i].to, err);
    if (st == ST_OK && d->generation == 2)
        st = config_size(text, "sliding_window", d->window, &d->window, err);
    if (json_is_null(json_object_get(text, "sliding_window")))
        d->window = 0;
    return st;
}

static enum status read_numbers(const json_t *text, struct gemma_config *d, struct error *err)
{
    double scalar = (double)d->head_dim, attention_cap, final_cap, eps;
    enum status st = get_number(text, "rms_norm_eps", (double)d->eps, &eps, err);

    if (st == ST_OK)
        st = get_number(text, "rope_theta", d->rope_base, &d->rope_base, err);
    if (st == ST_OK && d->generation == 2)
        st = get_number(text, "query_pre_attn_scalar", GEMMA2_QUERY_SCALAR, &scalar, err);
    if (st == ST_OK)
        st = get_number(text, "attn_logit_softcapping", (double)d->attention_cap, &attention_cap,
                        err);
    if (st == ST_OK)
        st = get_number(text, "final_logit_softcapping", (double)d->final_cap, &final_cap, err);
    if (st != ST_OK)
        return st;
    if (!(scalar > 0))
        return error_set(err, ST_INVALID, "config key text_config.query_pre_attn_scalar is 0");
    d->eps = (float)eps;
    d->query_scale = (float)(1 / sqrt(scalar));
    d->attention_cap = d->generation == 2 ? (float)attention_cap : 0;
    d->final_cap = d->generation == 2 ? (float)final_cap : 0;
    return ST_OK;
}

/* An id, or a list of which the first two count. */
static void read_ends(const json_t *config, struct gemma_config *d)
{
    const json_t *value = json_object_get(json_object_get(config, "text_config"), "eos_token_id");

    if (value == NULL || json_is_null(value))
        value = json_object_get(config, "eos_token_id");
    if (json_is_integer(value))
        d->end_id = (int32_t)json_integer_value(value);
    if (json_array_size(value) > 0)
        d->end_id = (int32_t)json_integer_value(json_array_get(value, 0));
    if (json_array_size(value) > 1)
        d->other_end_id = (int32_t)json_integer_value(json_array_get(value, 1));
}

static enum status read_decoder(const json_t *config, struct gemma_config *d, struct error *err)
{
    const json_t *text = json_object_get(config, "text_config");
    const char *type = json_string_value(json_object_get(text, "model_type"));
    const char *image_key = json_object_get(config, "image_token_index") != NULL
                                ? "image_token_index"
                                : "image_token_id";
    enum status st;

    if (type == NULL || (strcmp(type, "gemma") != 0 && strcmp(type, "gemma2") != 0))
        return error_set(
            err, ST_INVALID,
            "config key text_config.model_type = \"%.60s\" is neither gemma nor gemma2",
            type != NULL ? type : "(absent)");
    *d = strcmp(type, "gemma") == 0 ? gemma_default : gemma2_default;
    st = check_decoder_keys(text, err);
    if (st == ST_OK)
        st = read_sizes(text, d, err);
    if (st == ST_OK)
        st = read_numbers(text, d, err);
    /* <image> is the first id that is not said */
    if (st == ST_OK)
        st = config_size(config, image_key, IMAGE_ID_DEFAULT, &d->vocab_size, err);
    if (st != ST_OK)
        return st;
    read_ends(config, d);
    if (d->end_id < 0 || (size_t)d->end_id >= d->vocab_size || d->other_end_id < -1 ||
        d->other_end_id >= (int32_t)d->vocab_size)
        return error_set(err, ST_INVALID, "config key eos_token_id is outside the vocabulary");
    return gemma_config_check(d, err);
}

/* The positional table decides the resolution; what the config says of it must agree. */
static enum status read_vision(const json_t *vision, struct vision_config *v, struct error *err)
{
    size_t n = 0, grid = 0;
    enum status st = config_hf_shape(vision, "vision_config", &tower_default, &v->shape, err);

    if (st == ST_OK)
        st = config_size(vision, "num_image_tokens", 1, &n, err);
    if (st == ST_OK)
        st = config_hf_image(vision, IMAGE_SIZE_DEFAULT, 16, v, err);
    if (st != ST_OK)
        return st;
    v->form = VIT_SIGLIP;
    grid = (size_t)(v->image_size / v->patch_size);
    if (json_object_get(vision, "num_image_tokens") != NULL && grid * grid != n)
        return error_set(err, ST_INVALID,
                         "config key vision_config.num_image_tokens is %zu, but an image of %d "
                         "pixels has %zu patches",
                         n, v->image_size, grid * grid);
    return ST_OK;
}

static enum status read_transformers(const json_t *config, const json_t *processor,
                                     struct snapshot *s, struct error *err)
{
    enum status st = read_decoder(config, &s->decoder, err);

    if (st == ST_OK)
        st = read_vision(json_object_get(config, "vision_config"), &s->vision, err);
    if (st != ST_OK)
        return st;
    s->embed_dim = s->decoder.width;
    s->text.context_length = s->decoder.context_length;
    s->text.vocab_size = s->decoder.vocab_size;
    s->preprocess = (struct preprocess){.size = s->vision.image_size,
                                        .mode = PREPROCESS_SQUASH,
                                        .filter = RESAMPLE_BICUBIC,
                                        .mean = {0.5f, 0.5f, 0.5f},
                                        .std = {0.5f, 0.5f, 0.5f}};
    return config_hf_preprocess(processor, &s->preprocess, err);
}

const struct snapshot_rules snapshot_rules_paligemma = {
    .name = "paligemma",
    .model_type = "paligemma",
    .architecture = "PaliGemmaForConditionalGeneration",
    .read_transformers = read_transformers,
};
