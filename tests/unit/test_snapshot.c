/* What a folder's own configs say, in every published layout. */
#include "reinforce/base/file.h"
#include "reinforce/models/snapshot.h"
#include "reinforce/models/snapshot_config.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char folder[] = "/tmp/reinforce-snapshot-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/reinforce-snapshot-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    char command[64];

    (void)state;
    (void)snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static void add(const char *name, const char *text)
{
    char path[128];
    struct error err = {0};

    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_ok(file_write_atomic(path, bytes_of_string(text), &err));
}

/* No tensors: reading a snapshot looks at the configs only. */
static void add_weights(const char *name)
{
    char path[128];
    struct error err = {0};

    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_ok(file_write_atomic(path, bytes_view_of("\2\0\0\0\0\0\0\0{}", 10), &err));
}

static void read_folder(struct snapshot *s)
{
    struct error err = {0};

    assert_ok(snapshot_read(folder, NULL, s, &err));
}

struct architecture {
    const char *config;
    size_t embed_dim;
    int image, patch;
    size_t v_layers, v_width, v_heads, v_mlp;
    size_t t_layers, t_width, t_heads;
    enum activation activation;
};

static void check_architecture(const struct snapshot *s, const struct architecture *want,
                               const char *what)
{
    const struct transformer_shape *v = &s->vision.shape, *t = &s->text.shape;

    if (s->embed_dim != want->embed_dim || s->vision.image_size != want->image ||
        s->vision.patch_size != want->patch || v->n_layers != want->v_layers ||
        v->width != want->v_width || v->n_heads != want->v_heads || v->mlp_width != want->v_mlp ||
        t->n_layers != want->t_layers || t->width != want->t_width || t->n_heads != want->t_heads ||
        t->mlp_width != 4 * want->t_width || v->activation != want->activation ||
        t->activation != want->activation || s->text.context_length != 77 ||
        s->text.vocab_size != 49408 || s->preprocess.size != want->image || v->eps != 1e-5f)
        fail_msg("%s: %s", what, want->config);
}

/* CLIP 1: the table of published architectures, nested and flat. */
static void open_clip_configs_give_the_published_architectures(void **state)
{
    static const struct architecture cases[] = {
        {"{\"embed_dim\":512,\"vision_cfg\":{\"image_size\":224,\"layers\":12,\"width\":768,"
         "\"patch_size\":32},\"text_cfg\":{\"context_length\":77,\"vocab_size\":49408,\"width\":"
         "512,"
         "\"heads\":8,\"layers\":12}}",
         512, 224, 32, 12, 768, 12, 3072, 12, 512, 8, ACTIVATION_GELU},
        {"{\"embed_dim\":512,\"quick_gelu\":true,\"vision_cfg\":{\"patch_size\":32},\"text_cfg\":{}"
         "}",
         512, 224, 32, 12, 768, 12, 3072, 12, 512, 8, ACTIVATION_QUICK_GELU},
        {"{\"embed_dim\":512,\"vision_cfg\":{\"image_size\":256,\"layers\":12,\"width\":768,"
         "\"patch_size\":32},\"text_cfg\":{}}",
         512, 256, 32, 12, 768, 12, 3072, 12, 512, 8, ACTIVATION_GELU},
        {"{\"embed_dim\":512,\"vision_cfg\":{\"image_size\":224,\"patch_size\":16},\"text_cfg\":{}"
         "}",
         512, 224, 16, 12, 768, 12, 3072, 12, 512, 8, ACTIVATION_GELU},
        {"{\"embed_dim\":768,\"vision_cfg\":{\"image_size\":224,\"layers\":24,\"width\":1024,"
         "\"patch_size\":14},\"text_cfg\":{\"width\":768,\"heads\":12,\"layers\":12}}",
         768, 224, 14, 24, 1024, 16, 4096, 12, 768, 12, ACTIVATION_GELU},
        {"{\"embed_dim\":768,\"quick_gelu\":true,\"vision_cfg\":{\"image_size\":336,\"layers\":24,"
         "\"width\":1024,\"patch_size\":14},\"text_cfg\":{\"width\":768,\"heads\":12}}",
         768, 336, 14, 24, 1024, 16, 4096, 12, 768, 12, ACTIVATION_QUICK_GELU},
        {"{\"embed_dim\":1024,\"vision_cfg\":{\"image_size\":378,\"layers\":32,\"width\":1280,"
         "\"head_width\":80,\"patch_size\":14},\"text_cfg\":{\"width\":1024,\"heads\":16,"
         "\"layers\":24}}",
         1024, 378, 14, 32, 1280, 16, 5120, 24, 1024, 16, ACTIVATION_GELU},
        {"{\"embed_dim\":1024,\"vision_cfg\":{\"image_size\":224,\"layers\":40,\"width\":1408,"
         "\"head_width\":88,\"mlp_ratio\":4.3637,\"patch_size\":14},\"text_cfg\":{\"width\":1024,"
         "\"heads\":16,\"layers\":24}}",
         1024, 224, 14, 40, 1408, 16, 6144, 24, 1024, 16, ACTIVATION_GELU},
        {"{\"embed_dim\":1280,\"vision_cfg\":{\"image_size\":224,\"layers\":48,\"width\":1664,"
         "\"head_width\":104,\"mlp_ratio\":4.9231,\"patch_size\":14},\"text_cfg\":{\"width\":1280,"
         "\"heads\":20,\"layers\":32}}",
         1280, 224, 14, 48, 1664, 16, 8192, 32, 1280, 20, ACTIVATION_GELU},
    };
    char nested[1024];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct snapshot s;

        assert_int_equal(make_folder(NULL), 0);
        add_weights("open_clip_model.safetensors");
        add("open_clip_config.json", cases[i].config);
        read_folder(&s);
        check_architecture(&s, &cases[i], "flat");
        assert_int_equal(s.family, SNAPSHOT_CLIP);
        (void)snprintf(nested, sizeof nested, "{\"model_cfg\":%s,\"preprocess_cfg\":{}}",
                       cases[i].config);
        add("open_clip_config.json", nested);
        add("config.json", "{\"architecture\":\"vit_base\",\"pretrained_cfg\":{}}"); /* timm's */
        read_folder(&s);
        check_architecture(&s, &cases[i], "nested");
        assert_int_equal(remove_folder(NULL), 0);
    }
}

/* CLIP 1: CoCa, with a flat config under the name that Apple's snapshots use. */
static void coca_configs_are_detected(void **state)
{
    struct snapshot s;

    (void)state;
    assert_int_equal(make_folder(NULL), 0);
    add_weights("open_clip_pytorch_model.safetensors");
    add("config.json",
        "{\"embed_dim\":768,\"vision_cfg\":{\"image_size\":224,\"layers\":24,\"width\":1024,"
        "\"patch_size\":14,\"attentional_pool\":true,\"attn_pooler_heads\":8,\"output_tokens\":"
        "true},"
        "\"text_cfg\":{\"context_length\":76,\"vocab_size\":49408,\"width\":768,\"heads\":12,"
        "\"layers\":12,\"embed_cls\":true,\"output_tokens\":true},\"multimodal_cfg\":{"
        "\"context_length\":76,\"vocab_size\":49408,\"width\":768,\"heads\":12,\"layers\":12,"
        "\"attn_pooler_heads\":12},\"custom_text\":true}");
    read_folder(&s);
    assert_int_equal(s.family, SNAPSHOT_COCA);
    assert_int_equal(s.vision.pooler_heads, 8);
    assert_int_equal(s.vision.pooler_queries, 256);
    assert_int_equal(s.text.context_length, 76);
    assert_int_equal(s.multimodal.shape.n_layers, 12);
    assert_int_equal(s.multimodal.shape.n_heads, 12);
    assert_int_equal(s.multimodal.shape.activation, ACTIVATION_GELU);
    assert_string_equal(snapshot_family_name(s.family), "coca");
    assert_int_equal(remove_folder(NULL), 0);
}

/* CLIP 1: transformers' configs leave out what is the default. */
static void transformers_configs_fill_in_defaults(void **state)
{
    static const struct architecture cases[] = {
        {"{\"model_type\":\"clip\"}", 512, 224, 32, 12, 768, 12, 3072, 12, 512, 8,
         ACTIVATION_QUICK_GELU},
        {"{\"architectures\":[\"CLIPModel\"],\"projection_dim\":768,\"text_config\":{\"hidden_"
         "size\":"
         "768,\"intermediate_size\":3072,\"num_attention_heads\":12,\"hidden_act\":\"gelu\"},"
         "\"vision_config\":{\"hidden_size\":1024,\"intermediate_size\":4096,\"num_hidden_layers\":"
         "24,"
         "\"num_attention_heads\":16,\"patch_size\":14,\"hidden_act\":\"gelu\"}}",
         768, 224, 14, 24, 1024, 16, 4096, 12, 768, 12, ACTIVATION_GELU},
        {"{\"model_type\":\"clip\",\"text_config\":{\"hidden_act\":\"quick_gelu\",\"hidden_size\":"
         "1},"
         "\"text_config_dict\":{\"hidden_act\":\"gelu\",\"hidden_size\":512},\"vision_config_"
         "dict\":{"
         "\"hidden_act\":\"gelu\",\"image_size\":240,\"patch_size\":16}}",
         512, 240, 16, 12, 768, 12, 3072, 12, 512, 8, ACTIVATION_GELU},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct snapshot s;

        assert_int_equal(make_folder(NULL), 0);
        add_weights("model.safetensors");
        add("config.json", cases[i].config);
        read_folder(&s);
        check_architecture(&s, &cases[i], "transformers");
        assert_int_equal(s.naming, NAMING_TRANSFORMERS);
        assert_int_equal(s.preprocess.crop, PREPROCESS_CROP_FLOOR);
        assert_int_equal(s.text.eos_id, SNAPSHOT_EOS_LARGEST);
        /* where both dialects lie side by side, open_clip's counts */
        add("open_clip_config.json", "{\"embed_dim\":64,\"vision_cfg\":{},\"text_cfg\":{}}");
        read_folder(&s);
        assert_int_equal(s.embed_dim, 64);
        assert_int_equal(s.naming, NAMING_OPEN_CLIP);
        assert_int_equal(remove_folder(NULL), 0);
    }
}

/* CLIP 8 */
static void unsupported_config_keys_are_refused_by_name(void **state)
{
    static const struct {
        const char *vision, *text, *model, *named;
    } cases[] = {
        {"\"no_ln_pre\":true", "", "", "no_ln_pre"},
        {"\"pool_type\":\"avg\"", "", "", "pool_type"},
        {"\"pool_type\":\"none\"", "", "", "pool_type"},
        {"\"final_ln_after_pool\":true", "", "", "final_ln_after_pool"},
        {"\"pos_embed_type\":\"sin_cos_2d\"", "", "", "pos_embed_type"},
        {"\"ls_init_value\":0.1", "", "", "ls_init_value"},
        {"\"attentional_pool\":true", "", "", "attentional_pool"},
        {"\"attentional_pool\":\"parallel\"", "", "", "attentional_pool"},
        {"\"act_kwargs\":{\"approximate\":\"tanh\"}", "", "", "act_kwargs"},
        {"\"norm_kwargs\":{\"eps\":1e-6}", "", "", "norm_kwargs"},
        {"\"timm_model_name\":\"convnext_base\"", "", "", "timm_model_name = \"convnext_base\""},
        {"\"layers\":[3,4,6,3]", "", "", "vision_cfg.layers"},
        {"\"image_size\":[224,256]", "", "", "image_size"},
        {"\"image_size\":0", "", "", "image_size"},
        {"\"head_width\":7", "", "", "vision_cfg"},
        {"\"mlp_ratio\":\"4\"", "", "", "mlp_ratio"},
        {"\"something_new\":1", "", "", "something_new"},
        {"", "\"pool_type\":\"last\"", "", "text_cfg.pool_type"},
        {"", "\"no_causal_mask\":true", "", "no_causal_mask"},
        {"", "\"embed_cls\":true", "", "embed_cls"},
        {"", "\"hf_model_name\":\"roberta-base\"", "", "hf_model_name"},
        {"", "\"hf_tokenizer_name\":\"bert\"", "", "hf_tokenizer_name"},
        {"", "\"text_mask\":\"first\"", "", "text_mask"},
        {"", "\"proj_bias\":true", "", "proj_bias"},
        {"", "\"proj_type\":\"none\"", "", "proj_type"},
        {"", "\"act_kwargs\":{\"approximate\":\"tanh\"}", "", "act_kwargs"},
        {"", "\"norm_kwargs\":{\"eps\":1e-6}", "", "norm_kwargs"},
        {"", "\"heads\":7", "", "text_cfg"},
        {"", "", "\"init_logit_bias\":-10", "init_logit_bias"},
        {"", "", "\"quick_gelu\":\"yes\"", "quick_gelu"},
        {"", "", "\"image_cfg\":{\"model_name\":\"mci0\"}", "vision_cfg"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char config[1024];
        json_t *json = NULL;
        struct snapshot s = {0};
        struct error err = {0};
        enum status st;

        (void)snprintf(
            config, sizeof config,
            "{\"model_cfg\":{\"embed_dim\":512,\"vision_cfg\":{%s},\"text_cfg\":{%s}%s%s}}",
            cases[i].vision, cases[i].text, cases[i].model[0] != '\0' ? "," : "", cases[i].model);
        assert_ok(json_parse(bytes_of_string(config), &json, &err));
        st = snapshot_config_open_clip(json, &s, &err);
        if (st != ST_INVALID || strstr(err.message, cases[i].named) == NULL)
            fail_msg("%s: %s \"%s\"", config, status_name(st), err.message);
        json_decref(json);
    }
}

/* CLIP 8: the same keys, set to what they are by default, and keys without effect. */
static void default_values_of_unsupported_keys_are_accepted(void **state)
{
    static const char config[] =
        "{\"embed_dim\":512,\"init_logit_bias\":null,\"vision_cfg\":{\"no_ln_pre\":false,"
        "\"pool_type\":\"tok\",\"pos_embed_type\":\"learnable\",\"ls_init_value\":null,"
        "\"attentional_pool\":false,\"act_kwargs\":{},\"norm_kwargs\":null,\"timm_model_name\":"
        "null,"
        "\"patch_dropout\":0.5,\"output_tokens\":false,\"timm_drop\":0.0,\"timm_drop_path\":null,"
        "\"timm_model_pretrained\":false},\"text_cfg\":{\"pool_type\":\"argmax\","
        "\"no_causal_mask\":false,\"embed_cls\":false,\"hf_model_name\":null,"
        "\"hf_model_pretrained\":true,\"proj_bias\":false,\"pad_id\":0}}";
    json_t *json = NULL;
    struct snapshot s = {0};
    struct error err = {0};

    (void)state;
    assert_ok(json_parse(bytes_of_string(config), &json, &err));
    assert_ok(snapshot_config_open_clip(json, &s, &err));
    json_decref(json);
}

static void other_transformers_models_are_refused(void **state)
{
    static const struct {
        const char *config, *named;
    } cases[] = {
        {"{\"model_type\":\"dinov2\"}", "dinov2"},
        {"{\"model_type\":\"clip\",\"architectures\":[\"CLIPVisionModelWithProjection\"]}",
         "CLIPModel"},
        {"{}", "model_type absent"},
        {"{\"model_type\":\"clip\",\"vision_config\":{\"hidden_act\":\"gelu_new\"}}", "gelu_new"},
        {"{\"model_type\":\"clip\",\"vision_config\":{\"num_channels\":1}}", "num_channels"},
        {"{\"model_type\":\"clip\",\"vision_config\":{\"layer_norm_eps\":-1}}", "layer_norm_eps"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *json = NULL;
        struct snapshot s = {0};
        struct error err = {0};
        enum status st;

        assert_ok(json_parse(bytes_of_string(cases[i].config), &json, &err));
        st = snapshot_config_transformers(json, NULL, &s, &err);
        if (st != ST_INVALID || strstr(err.message, cases[i].named) == NULL)
            fail_msg("%s: %s \"%s\"", cases[i].config, status_name(st), err.message);
        json_decref(json);
    }
}

#define APPLE_TEXT                                                                                 \
    "\"context_length\":77,\"vocab_size\":49408,\"dim\":512,\"ffn_multiplier_per_layer\":4.0,"     \
    "\"n_heads_per_layer\":8,\"norm_layer\":\"layer_norm_fp32\""

/* MobileCLIP's first models: Apple's config.json, which no open_clip reads. */
static void apples_mobileclip_configs_are_read(void **state)
{
    static const struct {
        const char *config, *described;
        bool bidirectional, mixers;
    } cases[] = {
        {"{\"embed_dim\":512,\"image_cfg\":{\"image_size\":256,\"model_name\":\"mci0\"},"
         "\"text_cfg\":{" APPLE_TEXT ",\"n_transformer_layers\":4,\"causal_masking\":false,"
         "\"model_name\":\"mct\"}}",
         "fastvit_mci0, 256 px; text 4 x 512, 2 mixers", true, true},
        {"{\"embed_dim\":512,\"image_cfg\":{\"image_size\":256,\"model_name\":\"mci2\"},"
         "\"text_cfg\":{" APPLE_TEXT ",\"n_transformer_layers\":12,\"causal_masking\":false,"
         "\"model_name\":\"base\"}}",
         "fastvit_mci2, 256 px; text 12 x 512", true, false},
        {"{\"embed_dim\":512,\"image_cfg\":{\"model_name\":\"vit_b16\"},\"text_cfg\":{"
         "\"ffn_multiplier_per_layer\":[4,4],\"n_heads_per_layer\":[8,8],\"norm_layer\":"
         "\"layer_norm\",\"n_transformer_layers\":2,\"causal_masking\":true,\"model_name\":"
         "\"base\"}}",
         "vit 12 x 768, patch 16, 224 px; text 2 x 512", false, false},
    };
    struct snapshot s;
    char described[SNAPSHOT_DESCRIBE_LEN];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(make_folder(NULL), 0);
        add_weights("open_clip_model.safetensors");
        add("config.json", cases[i].config);
        read_folder(&s);
        assert_int_equal(s.family, SNAPSHOT_MOBILECLIP);
        assert_int_equal(s.naming, NAMING_APPLE);
        assert_string_equal(snapshot_describe(&s, described), cases[i].described);
        assert_int_equal(s.text.shape.mlp_width, 2048);
        assert_int_equal(s.text.bidirectional, cases[i].bidirectional);
        assert_int_equal(s.text.mixers, cases[i].mixers);
        assert_int_equal(remove_folder(NULL), 0);
    }
}

static void unsupported_keys_of_apples_configs_are_refused_by_name(void **state)
{
    static const struct {
        const char *image, *text, *model, *named;
    } cases[] = {
        {"\"model_name\":\"mci3\"", "\"model_name\":\"base\"", "", "mci3"},
        {"", "\"model_name\":\"base\"", "", "image_cfg.model_name"},
        {"\"model_name\":\"mci1\",\"image_size\":100", "\"model_name\":\"base\"", "", "100"},
        {"\"model_name\":\"mci1\",\"depth\":1", "\"model_name\":\"base\"", "", "image_cfg.depth"},
        {"\"model_name\":\"mci1\"", "\"model_name\":\"rnn\"", "", "rnn"},
        {"\"model_name\":\"mci1\"", "\"dim\":512", "", "text_cfg.model_name"},
        {"\"model_name\":\"mci1\"", "\"model_name\":\"mct\",\"causal_masking\":true", "",
         "causal_masking"},
        {"\"model_name\":\"mci1\"", "\"model_name\":\"base\",\"no_pos_embedding\":true", "",
         "no_pos_embedding"},
        {"\"model_name\":\"mci1\"", "\"model_name\":\"base\",\"pool\":1", "", "text_cfg.pool"},
        {"\"model_name\":\"mci1\"", "\"model_name\":\"base\"", "\"embed_dim\":0,", "embed_dim"},
        {"\"model_name\":\"mci1\"", "\"model_name\":\"base\"", "\"quick_gelu\":true,",
         "quick_gelu"},
    };
    static const struct {
        const char *text, *named;
    } texts[] = {
        {"\"ffn_multiplier_per_layer\":[4,3],\"n_heads_per_layer\":8", "ffn_multiplier_per_layer"},
        {"\"ffn_multiplier_per_layer\":4,\"n_heads_per_layer\":[]", "n_heads_per_layer"},
        {"\"ffn_multiplier_per_layer\":4,\"n_heads_per_layer\":8.5,\"norm_layer\":\"layer_norm\"",
         "n_heads_per_layer"},
        {"\"ffn_multiplier_per_layer\":4,\"n_heads_per_layer\":7,\"norm_layer\":\"layer_norm\"",
         "7 heads"},
        {"\"ffn_multiplier_per_layer\":4,\"n_heads_per_layer\":8,\"norm_layer\":\"rms_norm\"",
         "rms_norm"},
    };
    char config[1024];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases) + ARRAY_LEN(texts); i++) {
        const char *named;
        json_t *json = NULL;
        struct snapshot s = {0};
        struct error err = {0};
        enum status st;

        if (i < ARRAY_LEN(cases)) {
            named = cases[i].named;
            (void)snprintf(config, sizeof config,
                           "{%s%s\"image_cfg\":{%s},\"text_cfg\":{\"ffn_multiplier_per_layer\":4,"
                           "\"n_heads_per_layer\":8,\"norm_layer\":\"layer_norm\",%s}}",
                           cases[i].model,
                           strstr(cases[i].model, "embed_dim") != NULL ? "" : "\"embed_dim\":512,",
                           cases[i].image, cases[i].text);
        } else {
            named = texts[i - ARRAY_LEN(cases)].named;
            (void)snprintf(config, sizeof config,
                           "{\"embed_dim\":512,\"image_cfg\":{\"model_name\":\"mci1\"},"
                           "\"text_cfg\":{\"model_name\":\"base\",%s}}",
                           texts[i - ARRAY_LEN(cases)].text);
        }
        assert_ok(json_parse(bytes_of_string(config), &json, &err));
        st = snapshot_config_open_clip(json, &s, &err);
        if (st != ST_INVALID || strstr(err.message, named) == NULL)
            fail_msg("%s: %s \"%s\"", config, status_name(st), err.message);
        json_decref(json);
    }
}

/* CLIP 17, 18: each model is preprocessed by its own row; DFN5B squashes. */
static void preprocessing_comes_from_the_config(void **state)
{
    static const struct {
        const char *cfg;
        enum preprocess_mode mode;
        enum resample_filter filter;
        float mean, std;
        uint8_t fill;
    } cases[] = {
        {"{}", PREPROCESS_SHORTEST, RESAMPLE_BICUBIC, 0.48145466f, 0.26862954f, 0},
        {"{\"mean\":[0.5,0.5,0.5],\"std\":[0.5,0.5,0.5]}", PREPROCESS_SHORTEST, RESAMPLE_BICUBIC,
         0.5f, 0.5f, 0},
        {"{\"interpolation\":\"bicubic\",\"resize_mode\":\"squash\"}", PREPROCESS_SQUASH,
         RESAMPLE_BICUBIC, 0.48145466f, 0.26862954f, 0},
        {"{\"interpolation\":\"bilinear\",\"resize_mode\":\"shortest\",\"mean\":[0,0,0],"
         "\"std\":[1,1,1],\"size\":[3,3],\"mode\":\"RGB\"}",
         PREPROCESS_SHORTEST, RESAMPLE_BILINEAR, 0, 1, 0},
        {"{\"interpolation\":\"random\",\"resize_mode\":\"longest\",\"fill_color\":7}",
         PREPROCESS_LONGEST, RESAMPLE_BICUBIC, 0.48145466f, 0.26862954f, 7},
    };
    static const char *const refused[] = {
        "{\"interpolation\":\"lanczos\"}",
        "{\"resize_mode\":\"crop\"}",
        "{\"mean\":[1,2]}",
        "{\"std\":[0,1,1]}",
        "{\"std\":\"1\"}",
        "{\"mode\":\"L\"}",
        "{\"fill_color\":256}",
    };
    char config[512];
    json_t *json;
    struct snapshot s;
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases) + ARRAY_LEN(refused); i++) {
        bool good = i < ARRAY_LEN(cases);

        (void)snprintf(config, sizeof config,
                       "{\"model_cfg\":{\"embed_dim\":8,\"vision_cfg\":{},\"text_cfg\":{}},"
                       "\"preprocess_cfg\":%s}",
                       good ? cases[i].cfg : refused[i - ARRAY_LEN(cases)]);
        memset(&s, 0, sizeof s);
        assert_ok(json_parse(bytes_of_string(config), &json, &err));
        if (good) {
            assert_ok(snapshot_config_open_clip(json, &s, &err));
            assert_int_equal(s.preprocess.mode, cases[i].mode);
            assert_int_equal(s.preprocess.filter, cases[i].filter);
            assert_int_equal(s.preprocess.crop, PREPROCESS_CROP_HALF_EVEN);
            assert_int_equal(s.preprocess.size, 224);
            assert_int_equal(s.preprocess.fill, cases[i].fill);
            assert_true(s.preprocess.mean[0] == cases[i].mean &&
                        s.preprocess.std[0] == cases[i].std);
        } else {
            assert_status(snapshot_config_open_clip(json, &s, &err), ST_INVALID);
        }
        json_decref(json);
    }
}

static void preprocessor_config_of_transformers_is_read(void **state)
{
    static const struct {
        const char *processor;
        bool good;
        enum preprocess_mode mode;
        enum resample_filter filter;
    } cases[] = {
        {"{\"size\":224,\"crop_size\":224,\"resample\":3,\"do_center_crop\":true}", true,
         PREPROCESS_SHORTEST, RESAMPLE_BICUBIC},
        {"{\"size\":{\"shortest_edge\":224},\"crop_size\":{\"height\":224,\"width\":224},"
         "\"resample\":2,\"rescale_factor\":0.00392156862745098}",
         true, PREPROCESS_SHORTEST, RESAMPLE_BILINEAR},
        {"{\"size\":{\"height\":224,\"width\":224},\"do_center_crop\":false}", true,
         PREPROCESS_SQUASH, RESAMPLE_BICUBIC},
        {"{\"size\":256,\"crop_size\":224}", false, 0, 0},
        {"{\"size\":{\"height\":224,\"width\":200}}", false, 0, 0},
        {"{\"resample\":1}", false, 0, 0},
        {"{\"do_normalize\":false}", false, 0, 0},
        {"{\"do_resize\":false}", false, 0, 0},
        {"{\"do_center_crop\":false}", false, 0, 0},
        {"{\"rescale_factor\":1}", false, 0, 0},
        {"{\"image_std\":[0,0,0]}", false, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *config = NULL, *processor = NULL;
        struct snapshot s = {0};
        struct error err = {0};
        enum status st;

        assert_ok(json_parse(bytes_of_string("{\"model_type\":\"clip\"}"), &config, &err));
        assert_ok(json_parse(bytes_of_string(cases[i].processor), &processor, &err));
        st = snapshot_config_transformers(config, processor, &s, &err);
        if ((st == ST_OK) != cases[i].good)
            fail_msg("%s: %s \"%s\"", cases[i].processor, status_name(st), err.message);
        if (st == ST_OK) {
            assert_int_equal(s.preprocess.mode, cases[i].mode);
            assert_int_equal(s.preprocess.filter, cases[i].filter);
        }
        json_decref(config);
        json_decref(processor);
    }
}

/* The published sizes: SigLIP writes only what differs from the defaults. */
static void siglip_configs_fill_in_defaults(void **state)
{
    static const struct {
        const char *config, *processor;
        size_t dim, v_width, v_heads, v_mlp, v_layers, t_width, t_heads, context, vocab, patches;
        int image, patch, size;
        enum resample_filter filter;
    } cases[] = {
        {"{\"model_type\":\"siglip\"}", "null", 768, 768, 12, 3072, 12, 768, 12, 64, 32000, 0, 224,
         16, 224, RESAMPLE_BICUBIC},
        {"{\"model_type\":\"siglip\",\"architectures\":[\"SiglipModel\"],\"text_config\":{"
         "\"vocab_size\":256000,\"hidden_size\":1152,\"intermediate_size\":4304,"
         "\"num_attention_heads\":16,\"num_hidden_layers\":27,\"projection_size\":1536},"
         "\"vision_config\":{\"hidden_size\":1536,\"intermediate_size\":6144,"
         "\"num_attention_heads\":16,\"num_hidden_layers\":40,\"image_size\":384}}",
         "{\"size\":{\"height\":384,\"width\":384},\"resample\":2,\"do_convert_rgb\":null}", 1536,
         1536, 16, 6144, 40, 1152, 16, 64, 256000, 0, 384, 16, 384, RESAMPLE_BILINEAR},
        {"{\"model_type\":\"siglip2\",\"text_config\":{\"vocab_size\":256000}}",
         "{\"max_num_patches\":784,\"patch_size\":16,\"resample\":2}", 768, 768, 12, 3072, 12, 768,
         12, 64, 256000, 784, 256, 16, 448, RESAMPLE_BILINEAR},
        {"{\"model_type\":\"siglip2\",\"vision_config\":{\"num_patches\":64,\"patch_size\":8}}",
         "null", 768, 768, 12, 3072, 12, 768, 12, 64, 32000, 256, 64, 8, 128, RESAMPLE_BILINEAR},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *config = NULL, *processor = NULL;
        struct snapshot s = {0};
        struct error err = {0};

        assert_ok(json_parse(bytes_of_string(cases[i].config), &config, &err));
        if (strcmp(cases[i].processor, "null") != 0)
            assert_ok(json_parse(bytes_of_string(cases[i].processor), &processor, &err));
        assert_ok(snapshot_config_transformers(config, processor, &s, &err));
        if (s.embed_dim != cases[i].dim || s.vision.shape.width != cases[i].v_width ||
            s.vision.shape.n_heads != cases[i].v_heads ||
            s.vision.shape.mlp_width != cases[i].v_mlp ||
            s.vision.shape.n_layers != cases[i].v_layers ||
            s.text.shape.width != cases[i].t_width || s.text.shape.n_heads != cases[i].t_heads ||
            s.text.context_length != cases[i].context || s.text.vocab_size != cases[i].vocab ||
            s.vision.naflex_patches != cases[i].patches || s.vision.image_size != cases[i].image ||
            s.vision.patch_size != cases[i].patch || s.preprocess.size != cases[i].size ||
            s.preprocess.filter != cases[i].filter)
            fail_msg("%s", cases[i].config);
        assert_int_equal(s.text.shape.activation, ACTIVATION_GELU_TANH);
        assert_true(s.vision.shape.eps == 1e-6f && s.preprocess.mean[0] == 0.5f);
        json_decref(config);
        json_decref(processor);
    }
}

static void siglips_that_we_lack_are_refused_by_name(void **state)
{
    static const char open_clip[] =
        "{\"embed_dim\":64,\"vision_cfg\":{\"timm_model_name\":\"vit_base_patch16_siglip_224\"%s},"
        "\"text_cfg\":{%s}}";
    static const struct {
        const char *config, *processor, *vision, *text, *named;
    } cases[] = {
        {"{\"model_type\":\"siglip\",\"architectures\":[\"SiglipVisionModel\"]}", NULL, NULL, NULL,
         "SiglipModel"},
        {"{\"model_type\":\"siglip\",\"vision_config\":{\"vision_use_head\":false}}", NULL, NULL,
         NULL, "vision_use_head"},
        {"{\"model_type\":\"siglip\",\"vision_config\":{\"hidden_size\":1152,"
         "\"num_attention_heads\":16}}",
         NULL, NULL, NULL, "1152"},
        {"{\"model_type\":\"siglip\"}", "{\"size\":{\"height\":256,\"width\":256}}", NULL, NULL,
         "image_size"},
        {"{\"model_type\":\"siglip2\",\"vision_config\":{\"num_patches\":200}}", NULL, NULL, NULL,
         "num_patches"},
        {"{\"model_type\":\"siglip2\"}", "{\"patch_size\":14}", NULL, NULL, "patch_size"},
        {"{\"model_type\":\"siglip2\"}", "{\"max_num_patches\":16000000}", NULL, NULL,
         "max_num_patches"},
        {NULL, NULL, "", "\"pool_type\":\"last\"", "no_causal_mask"},
        {NULL, NULL, "", "\"no_causal_mask\":true", "pool_type"},
        {NULL, NULL, "", "\"no_causal_mask\":true,\"pool_type\":\"last\"", "proj_bias"},
        {NULL, NULL, "", "\"act_kwargs\":{\"approximate\":\"none\"}", "approximate"},
        {NULL, NULL, "", "\"tokenizer_kwargs\":{\"clean\":\"lower\"}", "clean"},
        {NULL, NULL, "", "\"norm_kwargs\":{\"eps\":0}", "norm_kwargs"},
        {NULL, NULL, "", "\"something_new\":1", "something_new"},
        {NULL, NULL, ",\"timm_pool\":\"avg\"",
         "\"no_causal_mask\":true,\"pool_type\":\"last\",\"proj_bias\":true", "timm_pool"},
        {NULL, NULL, ",\"timm_pool\":\"map\"",
         "\"no_causal_mask\":true,\"pool_type\":\"last\",\"proj_bias\":true", "timm_proj"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        json_t *config = NULL, *processor = NULL;
        char text[512];
        struct snapshot s = {0};
        struct error err = {0};
        enum status st;

        (void)snprintf(text, sizeof text, open_clip, cases[i].vision != NULL ? cases[i].vision : "",
                       cases[i].text != NULL ? cases[i].text : "");
        assert_ok(json_parse(bytes_of_string(cases[i].config != NULL ? cases[i].config : text),
                             &config, &err));
        if (cases[i].processor != NULL)
            assert_ok(json_parse(bytes_of_string(cases[i].processor), &processor, &err));
        st = cases[i].config != NULL ? snapshot_config_transformers(config, processor, &s, &err)
                                     : snapshot_config_open_clip(config, &s, &err);
        if (st != ST_INVALID || strstr(err.message, cases[i].named) == NULL)
            fail_msg("case %zu: %s \"%s\"", i, status_name(st), err.message);
        json_decref(config);
        json_decref(processor);
    }
}

static void folders_without_what_we_need_say_so(void **state)
{
    struct snapshot s;
    struct error err = {0};

    (void)state;
    assert_status(snapshot_read("/nonexistent/model", NULL, &s, &err), ST_NOT_FOUND);
    assert_int_equal(make_folder(NULL), 0);
    assert_status(snapshot_read(folder, NULL, &s, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.message, "holds no weights"));
    add("a.pt", "PK");
    add("b.pt", "PK");
    assert_status(snapshot_read(folder, NULL, &s, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "several checkpoints"));
    add_weights("open_clip_model.safetensors");
    /* CLIP 2: without a config the activation must be given */
    assert_status(snapshot_read(folder, NULL, &s, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "set activation to gelu or quick_gelu"));
    assert_status(snapshot_read(folder, "relu", &s, &err), ST_INVALID);
    assert_status(snapshot_read(folder, "gelu", &s, &err), ST_INVALID); /* no tensors either */
    assert_non_null(strstr(err.message, "is missing"));
    add("open_clip_config.json", "{\"embed_dim\":8");
    assert_status(snapshot_read(folder, NULL, &s, &err), ST_CORRUPT);
    add("open_clip_config.json", "[]");
    assert_status(snapshot_read(folder, NULL, &s, &err), ST_CORRUPT);
    assert_int_equal(remove_folder(NULL), 0);
}

static void weights_and_tokenizer_are_found_in_order(void **state)
{
    static const char *const names[] = {"mobileclip2_s0.pt", "open_clip_pytorch_model.bin",
                                        "model.safetensors", "open_clip_pytorch_model.safetensors",
                                        "open_clip_model.safetensors"};
    struct snapshot s;

    (void)state;
    assert_int_equal(make_folder(NULL), 0);
    add("open_clip_config.json", "{\"embed_dim\":8,\"vision_cfg\":{},\"text_cfg\":{}}");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        add_weights(names[i]); /* each goes before those already there */
        read_folder(&s);
        assert_string_equal(strrchr(s.weights_path, '/') + 1, names[i]);
    }
    assert_string_equal(s.tokenizer_path, "");
    add("vocab.json", "{}");
    read_folder(&s);
    assert_string_equal(s.vocab_path, "");
    add("merges.txt", "");
    read_folder(&s);
    assert_string_equal(strrchr(s.vocab_path, '/'), "/vocab.json");
    assert_string_equal(strrchr(s.merges_path, '/'), "/merges.txt");
    add("tokenizer.json", "{}");
    read_folder(&s);
    assert_string_equal(strrchr(s.tokenizer_path, '/'), "/tokenizer.json");
    assert_string_equal(s.vocab_path, "");
    assert_int_equal(remove_folder(NULL), 0);
}

static void digest_covers_config_tokenizer_and_weights(void **state)
{
    static const struct {
        const char *name, *text;
    } changes[] = {
        {"open_clip_config.json", "{\"embed_dim\":8,\"vision_cfg\":{},\"text_cfg\":{} }"},
        {"preprocessor_config.json", "{}"},
        {"tokenizer.json", "{}"},
        {"open_clip_model.safetensors", "\3"},
    };
    char first[SHA256_HEX_LEN + 1], digest[SHA256_HEX_LEN + 1], path[128];
    struct weights *weights = NULL;
    struct snapshot s;
    struct error err = {0};

    (void)state;
    assert_int_equal(make_folder(NULL), 0);
    add("open_clip_config.json", "{\"embed_dim\":8,\"vision_cfg\":{},\"text_cfg\":{}}");
    add_weights("open_clip_model.safetensors");
    read_folder(&s);
    assert_ok(snapshot_open_weights(&s, &weights, first, &err));
    weights_destroy(&weights);
    add("README.md", "words do not count");
    assert_ok(snapshot_open_weights(&s, &weights, digest, &err));
    assert_string_equal(first, digest);
    weights_destroy(&weights);
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        if (changes[i].text[0] == '\3') {
            (void)snprintf(path, sizeof path, "%s/%s", folder, changes[i].name);
            assert_ok(file_write_atomic(path, bytes_view_of("\3\0\0\0\0\0\0\0{} ", 11), &err));
        } else {
            add(changes[i].name, changes[i].text);
        }
        read_folder(&s);
        assert_ok(snapshot_open_weights(&s, &weights, digest, &err));
        weights_destroy(&weights);
        if (strcmp(first, digest) == 0)
            fail_msg("%s does not change the digest", changes[i].name);
        memcpy(first, digest, sizeof first);
    }
    assert_int_equal(remove_folder(NULL), 0);
}

/* CLIP 2: sizes come from shapes; the data are never looked at. */
static void architecture_is_inferred_from_shapes(void **state)
{
    static const struct tensor h14[] = {
        {"visual.conv1.weight", TENSOR_F16, 4, {1280, 3, 14, 14}, {0}},
        {"visual.positional_embedding", TENSOR_F16, 2, {730, 1280}, {0}},
        {"visual.transformer.resblocks.0.mlp.c_fc.weight", TENSOR_F16, 2, {5120, 1280}, {0}},
        {"visual.transformer.resblocks.31.ln_1.weight", TENSOR_F16, 1, {1280}, {0}},
        {"visual.proj", TENSOR_F16, 2, {1280, 1024}, {0}},
        {"token_embedding.weight", TENSOR_F16, 2, {49408, 1024}, {0}},
        {"positional_embedding", TENSOR_F16, 2, {77, 1024}, {0}},
        {"transformer.resblocks.0.mlp.c_fc.weight", TENSOR_F16, 2, {4096, 1024}, {0}},
        {"transformer.resblocks.23.ln_1.weight", TENSOR_F16, 1, {1024}, {0}},
    };
    static const struct tensor b32[] = {
        {"vision_model.embeddings.patch_embedding.weight", TENSOR_F32, 4, {768, 3, 32, 32}, {0}},
        {"vision_model.embeddings.position_embedding.weight", TENSOR_F32, 2, {50, 768}, {0}},
        {"vision_model.encoder.layers.0.mlp.fc1.weight", TENSOR_F32, 2, {3072, 768}, {0}},
        {"vision_model.encoder.layers.11.layer_norm1.bias", TENSOR_F32, 1, {768}, {0}},
        {"visual_projection.weight", TENSOR_F32, 2, {512, 768}, {0}},
        {"text_model.embeddings.token_embedding.weight", TENSOR_F32, 2, {49408, 512}, {0}},
        {"text_model.embeddings.position_embedding.weight", TENSOR_F32, 2, {77, 512}, {0}},
        {"text_model.encoder.layers.0.mlp.fc1.weight", TENSOR_F32, 2, {2048, 512}, {0}},
        {"text_model.encoder.layers.11.layer_norm1.bias", TENSOR_F32, 1, {512}, {0}},
    };
    static const struct tensor coca[] = {
        {"visual.conv1.weight", TENSOR_F32, 4, {768, 3, 32, 32}, {0}},
        {"visual.positional_embedding", TENSOR_F32, 2, {50, 768}, {0}},
        {"visual.transformer.resblocks.0.mlp.c_fc.weight", TENSOR_F32, 2, {3072, 768}, {0}},
        {"visual.transformer.resblocks.11.ln_1.weight", TENSOR_F32, 1, {768}, {0}},
        {"visual.attn_pool.query", TENSOR_F32, 2, {256, 512}, {0}},
        {"visual.proj", TENSOR_F32, 2, {512, 512}, {0}},
        {"text.token_embedding.weight", TENSOR_F32, 2, {49408, 512}, {0}},
        {"text.positional_embedding", TENSOR_F32, 2, {77, 512}, {0}},
        {"text.transformer.resblocks.0.mlp.c_fc.weight", TENSOR_F32, 2, {2048, 512}, {0}},
        {"text.transformer.resblocks.11.ln_1.weight", TENSOR_F32, 1, {512}, {0}},
        {"text_decoder.resblocks.0.ln_1.weight", TENSOR_F32, 1, {512}, {0}},
        {"text_decoder.resblocks.0.mlp.c_fc.weight", TENSOR_F32, 2, {2048, 512}, {0}},
        {"text_decoder.resblocks.11.ln_1.weight", TENSOR_F32, 1, {512}, {0}},
    };
    static const struct architecture want_h14 = {
        "H-14", 1024, 378, 14, 32, 1280, 16, 5120, 24, 1024, 16, ACTIVATION_QUICK_GELU};
    static const struct architecture want_b32 = {"B-32", 512,  224, 32,  12, 768,
                                                 12,     3072, 12,  512, 8,  ACTIVATION_GELU};
    const enum activation gelu = ACTIVATION_GELU, quick_gelu = ACTIVATION_QUICK_GELU;
    struct weights *weights = NULL;
    struct snapshot s = {0};
    struct error err = {0};

    (void)state;
    assert_ok(weights_create(h14, ARRAY_LEN(h14), &weights, &err));
    assert_ok(snapshot_infer(weights, &quick_gelu, &s, &err));
    check_architecture(&s, &want_h14, "inferred");
    assert_int_equal(s.naming, NAMING_OPEN_CLIP);
    weights_destroy(&weights);
    assert_ok(weights_create(b32, ARRAY_LEN(b32), &weights, &err));
    assert_ok(snapshot_infer(weights, &gelu, &s, &err));
    check_architecture(&s, &want_b32, "inferred");
    assert_int_equal(s.naming, NAMING_TRANSFORMERS);
    weights_destroy(&weights);
    assert_ok(weights_create(coca, ARRAY_LEN(coca), &weights, &err));
    assert_ok(snapshot_infer(weights, &gelu, &s, &err));
    assert_int_equal(s.family, SNAPSHOT_COCA);
    assert_int_equal(s.text.context_length, 76);
    assert_int_equal(s.vision.pooler_queries, 256);
    assert_int_equal(s.multimodal.shape.n_layers, 12);
    weights_destroy(&weights);
    assert_ok(weights_create(coca, 6, &weights, &err));
    assert_status(snapshot_infer(weights, &gelu, &s, &err), ST_INVALID);
    weights_destroy(&weights);
}

/* A tower of Apple's that is not published, or half of one; test_mobileclip.c has those that are.
 */
static void tensors_of_no_published_mobileclip_are_refused(void **state)
{
    static const struct tensor tower[] = {
        {"text_encoder.embedding_layer.weight", TENSOR_F32, 2, {49408, 512}, {0}},
        {"image_encoder.model.head.proj", TENSOR_F32, 2, {1024, 512}, {0}},
        {"image_encoder.model.network.4.11.layer_scale", TENSOR_F32, 3, {256, 1, 1}, {0}},
    };
    static const struct {
        size_t n;
        const char *named;
    } cases[] = {{1, "head.proj"}, {2, "0 blocks"}, {3, "12 blocks"}};
    struct weights *weights = NULL;
    struct snapshot s = {0};
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_ok(weights_create(tower, cases[i].n, &weights, &err));
        assert_status(snapshot_infer(weights, NULL, &s, &err), ST_INVALID);
        assert_non_null(strstr(err.message, cases[i].named));
        weights_destroy(&weights);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_clip_configs_give_the_published_architectures),
        cmocka_unit_test(coca_configs_are_detected),
        cmocka_unit_test(transformers_configs_fill_in_defaults),
        cmocka_unit_test(unsupported_config_keys_are_refused_by_name),
        cmocka_unit_test(default_values_of_unsupported_keys_are_accepted),
        cmocka_unit_test(other_transformers_models_are_refused),
        cmocka_unit_test(apples_mobileclip_configs_are_read),
        cmocka_unit_test(unsupported_keys_of_apples_configs_are_refused_by_name),
        cmocka_unit_test(preprocessing_comes_from_the_config),
        cmocka_unit_test(preprocessor_config_of_transformers_is_read),
        cmocka_unit_test(siglip_configs_fill_in_defaults),
        cmocka_unit_test(siglips_that_we_lack_are_refused_by_name),
        cmocka_unit_test(folders_without_what_we_need_say_so),
        cmocka_unit_test(weights_and_tokenizer_are_found_in_order),
        cmocka_unit_test(digest_covers_config_tokenizer_and_weights),
        cmocka_unit_test(architecture_is_inferred_from_shapes),
        cmocka_unit_test(tensors_of_no_published_mobileclip_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
