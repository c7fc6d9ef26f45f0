#include "tests/support/random_paligemma.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PLACES = 1 << 12, PLACE = 509 }; /* a tensor begins at one of so many places of its pool */

static size_t fan_in_of(const struct tensor *t)
{
    size_t fan_in = 1;

    for (size_t i = 1; i < t->rank; i++)
        fan_in *= t->shape[i];
    return t->rank == 1 ? 0 : fan_in;
}

static size_t pool_of(struct random_paligemma *m, size_t fan_in)
{
    size_t i = 0;

    while (i < m->n_pools && m->pools[i].fan_in != fan_in)
        i++;
    if (i == m->n_pools && i < RANDOM_PALIGEMMA_POOLS)
        m->pools[m->n_pools++].fan_in = fan_in;
    return i;
}

static void add(struct random_paligemma *m, const char *prefix, const char *name, size_t rank,
                size_t rows, size_t columns, size_t height)
{
    struct tensor *t = &m->tensors[m->n];
    size_t pool;

    if (m->n == RANDOM_PALIGEMMA_TENSORS)
        abort();
    (void)snprintf(m->names[m->n], RANDOM_PALIGEMMA_NAME, "%s%s", prefix, name);
    *t = (struct tensor){.name = m->names[m->n++], .dtype = TENSOR_BF16, .rank = rank};
    t->shape[0] = rows;
    t->shape[1] = columns;
    t->shape[2] = t->shape[3] = height;
    m->parameters += tensor_count(t);
    pool = pool_of(m, fan_in_of(t));
    if (pool == RANDOM_PALIGEMMA_POOLS)
        abort();
    m->pools[pool].count = MAX(m->pools[pool].count, tensor_count(t));
}

static void add_vector(struct random_paligemma *m, const char *prefix, const char *name, size_t n)
{
    add(m, prefix, name, 1, n, 1, 1);
}

static void add_linear(struct random_paligemma *m, const char *prefix, const char *name, size_t out,
                       size_t in)
{
    char full[RANDOM_PALIGEMMA_NAME];

    (void)snprintf(full, sizeof full, "%s.weight", name);
    add(m, prefix, full, 2, out, in, 1);
    (void)snprintf(full, sizeof full, "%s.bias", name);
    add_vector(m, prefix, full, out);
}

static void add_vision(struct random_paligemma *m, const struct vision_config *v)
{
    static const char *const projections[] = {"q_proj", "k_proj", "v_proj", "out_proj"};
    static const char tower[] = "vision_tower.vision_model.";
    size_t D = v->shape.width, p = (size_t)v->patch_size, grid = (size_t)v->image_size / p;
    char prefix[RANDOM_PALIGEMMA_NAME], name[RANDOM_PALIGEMMA_NAME];

    add(m, tower, "embeddings.patch_embedding.weight", 4, D, 3, p);
    add_vector(m, tower, "embeddings.patch_embedding.bias", D);
    add(m, tower, "embeddings.position_embedding.weight", 2, grid * grid, D, 1);
    add_vector(m, tower, "post_layernorm.weight", D);
    add_vector(m, tower, "post_layernorm.bias", D);
    for (size_t i = 0; i < v->shape.n_layers; i++) {
        (void)snprintf(prefix, sizeof prefix, "%sencoder.layers.%zu.", tower, i);
        for (size_t j = 0; j < ARRAY_LEN(projections); j++) {
            (void)snprintf(name, sizeof name, "self_attn.%s", projections[j]);
            add_linear(m, prefix, name, D, D);
        }
        add_linear(m, prefix, "mlp.fc1", v->shape.mlp_width, D);
        add_linear(m, prefix, "mlp.fc2", D, v->shape.mlp_width);
        add_vector(m, prefix, "layer_norm1.weight", D);
        add_vector(m, prefix, "layer_norm1.bias", D);
        add_vector(m, prefix, "layer_norm2.weight", D);
        add_vector(m, prefix, "layer_norm2.bias", D);
    }
}

static void add_decoder(struct random_paligemma *m, const struct gemma_config *c)
{
    static const char *const norms[] = {"input_layernorm.weight", "post_attention_layernorm.weight",
                                        "pre_feedforward_layernorm.weight",
                                        "post_feedforward_layernorm.weight"};
    size_t D = c->width, q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    char prefix[RANDOM_PALIGEMMA_NAME];

    add(m, "language_model.model.", "embed_tokens.weight", 2,
        c->vocab_size + RANDOM_PALIGEMMA_EXTRA_ROWS, D, 1);
    add_vector(m, "language_model.model.", "norm.weight", D);
    for (size_t i = 0; i < c->n_layers; i++) {
        (void)snprintf(prefix, sizeof prefix, "language_model.model.layers.%zu.", i);
        add(m, prefix, "self_attn.q_proj.weight", 2, q, D, 1);
        add(m, prefix, "self_attn.k_proj.weight", 2, kv, D, 1);
        add(m, prefix, "self_attn.v_proj.weight", 2, kv, D, 1);
        add(m, prefix, "self_attn.o_proj.weight", 2, D, q, 1);
        add(m, prefix, "mlp.gate_proj.weight", 2, c->mlp_width, D, 1);
        add(m, prefix, "mlp.up_proj.weight", 2, c->mlp_width, D, 1);
        add(m, prefix, "mlp.down_proj.weight", 2, D, c->mlp_width, 1);
        for (size_t j = 0; j < (c->generation == 1 ? 2 : ARRAY_LEN(norms)); j++)
            add_vector(m, prefix, norms[j], D);
    }
}

/* Uniform, in pieces of one table, as drawing billions takes longer than the test. */
static void fill(uint16_t *data, size_t count, float scale, uint32_t seed)
{
    enum { TABLE = 1000003 };

    for (size_t i = 0; i < MIN(count, (size_t)TABLE); i++) {
        float value;
        uint32_t bits;

        seed = 1664525u * seed + 1013904223u;
        value = scale * ((float)(seed >> 8) * 0x1p-23f - 1);
        memcpy(&bits, &value, sizeof bits);
        data[i] = (uint16_t)(bits >> 16);
    }
    for (size_t i = TABLE; i < count; i += TABLE)
        memcpy(data + i, data, MIN(count - i, (size_t)TABLE) * sizeof *data);
}

bool random_paligemma_init(struct random_paligemma *m, const struct snapshot *snapshot)
{
    memset(m, 0, sizeof *m);
    add_vision(m, &snapshot->vision);
    add_decoder(m, &snapshot->decoder);
    add_linear(m, "", "multi_modal_projector.linear", snapshot->decoder.width,
               snapshot->vision.shape.width);
    for (size_t i = 0; i < m->n_pools; i++) {
        size_t fan_in = m->pools[i].fan_in;

        m->pools[i].count += PLACES * PLACE;
        m->pools[i].data = malloc(m->pools[i].count * sizeof(uint16_t));
        if (m->pools[i].data == NULL)
            return false;
        fill(m->pools[i].data, m->pools[i].count, fan_in == 0 ? 0.1f : sqrtf(3.0f / (float)fan_in),
             (uint32_t)(7 + i));
    }
    for (size_t i = 0; i < m->n; i++) {
        struct tensor *t = &m->tensors[i];
        uint16_t *pool = m->pools[pool_of(m, fan_in_of(t))].data;

        t->data =
            bytes_view_of(pool + i * 2654435761u % PLACES * PLACE, tensor_count(t) * sizeof *pool);
    }
    return true;
}

void random_paligemma_release(struct random_paligemma *m)
{
    for (size_t i = 0; i < m->n_pools; i++)
        free(m->pools[i].data);
    memset(m, 0, sizeof *m);
}

size_t random_paligemma_stored_bytes(const struct random_paligemma *m)
{
    return m->parameters * sizeof(uint16_t);
}

size_t random_paligemma_pool_bytes(const struct random_paligemma *m)
{
    size_t count = 0;

    for (size_t i = 0; i < m->n_pools; i++)
        count += m->pools[i].count;
    return count * sizeof(uint16_t);
}

void paligemma2_3b_snapshot(struct snapshot *snapshot)
{
    *snapshot =
        (struct snapshot){.family = SNAPSHOT_PALIGEMMA,
                          .vision = {.image_size = 224,
                                     .patch_size = 14,
                                     .shape = {27, 1152, 16, 4304, ACTIVATION_GELU_TANH, 1e-6f},
                                     .form = VIT_SIGLIP},
                          .decoder = {.generation = 2,
                                      .n_layers = 26,
                                      .width = 2304,
                                      .mlp_width = 9216,
                                      .n_heads = 8,
                                      .n_kv_heads = 4,
                                      .head_dim = 256,
                                      .vocab_size = 257152,
                                      .context_length = 8192,
                                      .query_scale = 1.0f / 16,
                                      .attention_cap = 50,
                                      .eps = 1e-6f,
                                      .rope_base = 10000,
                                      .end_id = 1,
                                      .other_end_id = -1}};
}
