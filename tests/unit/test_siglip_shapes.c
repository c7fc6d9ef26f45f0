/* The seventeen SigLIP 2 checkpoints by the shapes of their tensors, all of them views of one block
 * of zeros. SIGLIP 1, 2, 28 */
#include "reinforce/models/siglip.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TENSORS = 1200, NAME_SIZE = 96, VOCAB = 256000, CONTEXT = 64 };

struct size {
    size_t width, layers, heads, mlp;
};

static const struct size B = {768, 12, 12, 3072}, L = {1024, 24, 16, 4096},
                         SO = {1152, 27, 16, 4304}, G = {1536, 40, 16, 6144};

static const struct checkpoint {
    const char *name;
    const struct size *vision, *text;
    int image, patch;
    bool naflex;
    size_t n_tensors, n_parameters;
} checkpoints[] = {
    {"B/32-256", &B, &B, 256, 32, false, 408, 376856066},
    {"B/16-224", &B, &B, 224, 16, false, 408, 375187970},
    {"B/16-256", &B, &B, 256, 16, false, 408, 375234050},
    {"B/16-384", &B, &B, 384, 16, false, 408, 375479810},
    {"B/16-512", &B, &B, 512, 16, false, 408, 375823874},
    {"L/16-256", &L, &L, 256, 16, false, 792, 881526786},
    {"L/16-384", &L, &L, 384, 16, false, 792, 881854466},
    {"L/16-512", &L, &L, 512, 16, false, 792, 882313218},
    {"So400m/14-224", &SO, &SO, 224, 14, false, 888, 1135463602},
    {"So400m/14-384", &SO, &SO, 384, 14, false, 888, 1136008498},
    {"So400m/16-256", &SO, &SO, 256, 16, false, 888, 1135670962},
    {"So400m/16-384", &SO, &SO, 384, 16, false, 888, 1136039602},
    {"So400m/16-512", &SO, &SO, 512, 16, false, 888, 1136555698},
    {"g-opt/16-256", &G, &SO, 256, 16, false, 1096, 1871393906},
    {"g-opt/16-384", &G, &SO, 384, 16, false, 1096, 1871885426},
    {"B/16-naflex", &B, &B, 256, 16, true, 408, 375234050},
    {"So400m/16-naflex", &SO, &SO, 256, 16, true, 888, 1135670962},
};

struct model {
    struct tensor tensors[MAX_TENSORS];
    char names[MAX_TENSORS][NAME_SIZE];
    size_t n;
    const void *zeros;
};

static void add(struct model *m, const char *prefix, const char *name, size_t rank,
                const size_t *shape)
{
    struct tensor *tensor = &m->tensors[m->n];

    assert_true(m->n < MAX_TENSORS);
    (void)snprintf(m->names[m->n], NAME_SIZE, "%s%s", prefix, name);
    *tensor = (struct tensor){.name = m->names[m->n++], .dtype = TENSOR_F32, .rank = rank};
    for (size_t d = 0; d < rank; d++)
        tensor->shape[d] = shape[d];
    tensor->data = bytes_view_of(m->zeros, tensor_count(tensor) * sizeof(float));
}

#define ADD(m, prefix, name, rank, ...) add(m, prefix, name, rank, (const size_t[]){__VA_ARGS__})

static void add_linear(struct model *m, const char *prefix, const char *name, size_t out, size_t in)
{
    char full[NAME_SIZE];

    (void)snprintf(full, sizeof full, "%s.weight", name);
    if (in > 0)
        ADD(m, prefix, full, 2, out, in);
    else
        ADD(m, prefix, full, 1, out);
    (void)snprintf(full, sizeof full, "%s.bias", name);
    ADD(m, prefix, full, 1, out);
}

static void add_encoder(struct model *m, const char *tower, const struct size *s)
{
    static const char *const projections[] = {"self_attn.q_proj", "self_attn.k_proj",
                                              "self_attn.v_proj", "self_attn.out_proj"};
    char layer[NAME_SIZE];

    for (size_t i = 0; i < s->layers; i++) {
        (void)snprintf(layer, sizeof layer, "%sencoder.layers.%zu.", tower, i);
        add_linear(m, layer, "layer_norm1", s->width, 0);
        add_linear(m, layer, "layer_norm2", s->width, 0);
        for (size_t p = 0; p < ARRAY_LEN(projections); p++)
            add_linear(m, layer, projections[p], s->width, s->width);
        add_linear(m, layer, "mlp.fc1", s->mlp, s->width);
        add_linear(m, layer, "mlp.fc2", s->width, s->mlp);
    }
}

/* Section 9.1 of the specification. */
static void add_all(struct model *m, const struct checkpoint *c)
{
    static const char vision[] = "vision_model.", text[] = "text_model.";
    const struct size *v = c->vision, *t = c->text;
    size_t D = v->width, p = (size_t)c->patch, grid = (size_t)c->image / p;

    ADD(m, "", "logit_scale", 1, 1);
    ADD(m, "", "logit_bias", 1, 1);
    if (c->naflex)
        ADD(m, vision, "embeddings.patch_embedding.weight", 2, D, 3 * p * p);
    else
        ADD(m, vision, "embeddings.patch_embedding.weight", 4, D, 3, p, p);
    ADD(m, vision, "embeddings.patch_embedding.bias", 1, D);
    ADD(m, vision, "embeddings.position_embedding.weight", 2, grid * grid, D);
    add_encoder(m, vision, v);
    add_linear(m, vision, "post_layernorm", D, 0);
    ADD(m, vision, "head.probe", 3, 1, 1, D);
    ADD(m, vision, "head.attention.in_proj_weight", 2, 3 * D, D);
    ADD(m, vision, "head.attention.in_proj_bias", 1, 3 * D);
    add_linear(m, vision, "head.attention.out_proj", D, D);
    add_linear(m, vision, "head.layernorm", D, 0);
    add_linear(m, vision, "head.mlp.fc1", v->mlp, D);
    add_linear(m, vision, "head.mlp.fc2", D, v->mlp);
    ADD(m, text, "embeddings.token_embedding.weight", 2, VOCAB, t->width);
    ADD(m, text, "embeddings.position_embedding.weight", 2, CONTEXT, t->width);
    add_encoder(m, text, t);
    add_linear(m, text, "final_layer_norm", t->width, 0);
    add_linear(m, text, "head", D, t->width);
}

static struct transformer_shape shape_of(const struct size *s)
{
    return (struct transformer_shape){.n_layers = s->layers,
                                      .width = s->width,
                                      .n_heads = s->heads,
                                      .mlp_width = s->mlp,
                                      .activation = ACTIVATION_GELU_TANH,
                                      .eps = 1e-6f};
}

static void describe(const struct checkpoint *c, struct snapshot *s)
{
    *s = (struct snapshot){
        .family = c->naflex ? SNAPSHOT_SIGLIP2 : SNAPSHOT_SIGLIP,
        .naming = NAMING_TRANSFORMERS,
        .embed_dim = c->vision->width,
        .vision = {.image_size = c->image,
                   .patch_size = c->patch,
                   .shape = shape_of(c->vision),
                   .form = VIT_SIGLIP,
                   .naflex_patches = c->naflex ? 256 : 0},
        .text = {.context_length = CONTEXT,
                 .vocab_size = VOCAB,
                 .shape = shape_of(c->text),
                 .head = TEXT_HEAD_LINEAR},
    };
}

struct fixture {
    struct model model;
    struct snapshot snapshot;
};

static struct fixture *make(const struct checkpoint *c)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    f->model.zeros = calloc((size_t)VOCAB * 1152, sizeof(float)); /* pages of the kernel's zeros */
    assert_non_null(f->model.zeros);
    add_all(&f->model, c);
    describe(c, &f->snapshot);
    return f;
}

static void release(struct fixture *f)
{
    union {
        const void *in;
        void *out;
    } cast = {.in = f->model.zeros};

    free(cast.out);
    free(f);
}

static enum status load(struct fixture *f, struct siglip **siglip, size_t *n_parameters,
                        struct error *err)
{
    struct weights *weights = NULL;

    assert_int_equal(weights_create(f->model.tensors, f->model.n, &weights, err), ST_OK);
    *n_parameters = weights_n_parameters(weights);
    return siglip_create(&f->snapshot, &weights, siglip, err);
}

static void every_checkpoint_has_the_published_tensors(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(checkpoints); i++) {
        const struct checkpoint *c = &checkpoints[i];
        struct fixture *f = make(c);
        struct siglip *siglip = NULL;
        struct error err = {0};
        size_t n = 0;

        if (load(f, &siglip, &n, &err) != ST_OK)
            fail_msg("%s: %s", c->name, err.message);
        if (f->model.n != c->n_tensors || n != c->n_parameters)
            fail_msg("%s: %zu tensors, %zu parameters", c->name, f->model.n, n);
        assert_int_equal(siglip->dim, c->vision->width);
        assert_int_equal(siglip->text.width, c->text->width);
        siglip_destroy(&siglip);
        release(f);
    }
}

static void refuse(struct fixture *f, enum status want, const char *named)
{
    struct siglip *siglip = NULL;
    struct error err = {0};
    size_t n;
    enum status st = load(f, &siglip, &n, &err);

    if (st != want || strstr(err.message, named) == NULL)
        fail_msg("%s: %s \"%s\"", named, status_name(st), err.message);
    assert_null(siglip);
}

/* Each tensor in turn of another shape, of another type, or not there. */
static void a_wrong_tensor_is_named(void **state)
{
    static const struct size tiny = {8, 1, 1, 16};
    static const struct checkpoint small[] = {{"fixed", &tiny, &tiny, 64, 16, false, 0, 0},
                                              {"naflex", &tiny, &tiny, 64, 16, true, 0, 0}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(small); i++) {
        struct fixture *f = make(&small[i]);

        for (size_t t = 0; t < f->model.n; t++) {
            struct tensor *tensor = &f->model.tensors[t], kept = *tensor;
            char name[NAME_SIZE];

            (void)snprintf(name, sizeof name, "\"%s\"", tensor->name);
            tensor->shape[tensor->rank - 1]++;
            tensor->data.len = tensor_count(tensor) * sizeof(float);
            refuse(f, ST_INVALID, name);
            *tensor = kept;
            tensor->dtype = TENSOR_I64;
            refuse(f, ST_INVALID, name);
            *tensor = kept;
            *tensor = f->model.tensors[--f->model.n];
            refuse(f, ST_NOT_FOUND, name);
            f->model.n++;
            *tensor = kept;
        }
        ADD(&f->model, "vision_model.", "encoder.layers.1.layer_norm1.weight", 1, 8);
        refuse(f, ST_INVALID, "\"vision_model.encoder.layers.1.layer_norm1.weight\"");
        release(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_checkpoint_has_the_published_tensors),
        cmocka_unit_test(a_wrong_tensor_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
