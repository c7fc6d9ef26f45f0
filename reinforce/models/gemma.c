#include "reinforce/models/gemma.h"

#include "reinforce/nn/attention_step.h"
#include "reinforce/nn/ops.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    ROW_TILE = 512, /* rows of the MLP at once: its inside is the widest of all buffers */
    MAX_PREFIX = 160,
};

enum status gemma_config_check(const struct gemma_config *c, struct error *err)
{
    if (c->generation != 1 && c->generation != 2)
        return error_set(err, ST_INVALID, "Gemma %d is not supported", c->generation);
    if (c->n_kv_heads == 0 || c->n_heads % c->n_kv_heads != 0)
        return error_set(err, ST_INVALID, "%zu heads cannot share %zu keys and values", c->n_heads,
                         c->n_kv_heads);
    if (c->head_dim == 0 || c->head_dim % 2 != 0)
        return error_set(err, ST_INVALID, "head_dim %zu is not even", c->head_dim);
    if (!(c->query_scale > 0) || !(c->eps > 0) || !(c->rope_base > 1) || c->attention_cap < 0 ||
        c->final_cap < 0)
        return error_set(err, ST_INVALID,
                         "query scale %g, eps %g, rope base %g, caps %g and %g: one cannot be",
                         (double)c->query_scale, (double)c->eps, c->rope_base,
                         (double)c->attention_cap, (double)c->final_cap);
    return ST_OK;
}

/* How a layer's vectors are called: the same name means another place in each generation. */
static enum status load_norms(struct weights *weights, const char *prefix,
                              const struct gemma_config *c, struct gemma_layer *layer,
                              struct error *err)
{
    const struct {
        const char *name;
        const float **to;
    } first[] = {{"input_layernorm.weight", &layer->norm_attention},
                 {"post_attention_layernorm.weight", &layer->norm_mlp}},
      second[] = {{"input_layernorm.weight", &layer->norm_attention},
                  {"post_attention_layernorm.weight", &layer->norm_attention_post},
                  {"pre_feedforward_layernorm.weight", &layer->norm_mlp},
                  {"post_feedforward_layernorm.weight", &layer->norm_mlp_post}},
      *names = c->generation == 1 ? first : second;
    size_t n = c->generation == 1 ? ARRAY_LEN(first) : ARRAY_LEN(second);
    enum status st = ST_OK;

    for (size_t i = 0; i < n && st == ST_OK; i++)
        st = weights_get(weights, prefix, names[i].name, WEIGHTS_SHAPE(c->width), names[i].to, err);
    return st;
}

static enum status load_layer(struct weights *weights, const char *prefix,
                              const struct gemma_config *c, struct gemma_layer *layer,
                              struct error *err)
{
    size_t D = c->width, q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim,
           f = c->mlp_width;
    const struct {
        const char *name;
        size_t out, in;
        struct matrix *to;
    } matrices[] = {
        {"self_attn.q_proj.weight", q, D, &layer->q},
        {"self_attn.k_proj.weight", kv, D, &layer->k},
        {"self_attn.v_proj.weight", kv, D, &layer->v},
        {"self_attn.o_proj.weight", D, q, &layer->o},
        {"mlp.gate_proj.weight", f, D, &layer->gate},
        {"mlp.up_proj.weight", f, D, &layer->up},
        {"mlp.down_proj.weight", D, f, &layer->down},
    };
    enum status st = load_norms(weights, prefix, c, layer, err);

    for (size_t i = 0; i < ARRAY_LEN(matrices) && st == ST_OK; i++)
        st = matrix_load(weights, prefix, matrices[i].name, matrices[i].out, matrices[i].in,
                         c->matrices, matrices[i].to, err);
    return st;
}

/* The table may hold more rows than may be said: <image>, and filling up to a multiple of 64. */
static enum status load_table(struct weights *weights, const char *prefix, struct gemma *g,
                              struct error *err)
{
    char name[MAX_PREFIX];
    const struct tensor *table;
    size_t rows = g->config.vocab_size;
    struct matrix all;
    enum status st;

    (void)snprintf(name, sizeof name, "%sembed_tokens.weight", prefix);
    table = weights_peek(weights, name);
    if (table != NULL && table->rank == 2)
        rows = MAX(rows, table->shape[0]);
    st = matrix_load(weights, prefix, "embed_tokens.weight", rows, g->config.width,
                     g->config.matrices, &all, err);
    g->embedding = matrix_first_rows(&all, g->config.vocab_size);
    return st;
}

enum status gemma_load(struct weights *weights, const char *prefix,
                       const struct gemma_config *config, struct gemma *g, struct error *err)
{
    enum status st = gemma_config_check(config, err);

    *g = (struct gemma){.config = *config};
    if (st == ST_OK)
        st = load_table(weights, prefix, g, err);
    if (st == ST_OK)
        st = weights_get(weights, prefix, "norm.weight", WEIGHTS_SHAPE(config->width), &g->norm,
                         err);
    if (st == ST_OK)
        st = rope_init(&g->rope, config->context_length, config->head_dim, config->rope_base, err);
    g->layers = calloc(config->n_layers + 1, sizeof *g->layers);
    if (st == ST_OK && g->layers == NULL)
        st = error_set(err, ST_NO_MEMORY, "could not allocate %zu layers", config->n_layers);
    for (size_t i = 0; i < config->n_layers && st == ST_OK; i++) {
        char layer[MAX_PREFIX];

        (void)snprintf(layer, sizeof layer, "%slayers.%zu.", prefix, i);
        st = load_layer(weights, layer, config, &g->layers[i], err);
    }
    if (st != ST_OK)
        gemma_release(g);
    return st;
}

void gemma_release(struct gemma *g)
{
    rope_release(&g->rope);
    free(g->layers);
    *g = (struct gemma){0};
}

size_t gemma_n_parameters(const struct gemma_config *c, size_t table_rows)
{
    size_t D = c->width, q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    size_t layer = 2 * q * D + 2 * kv * D + 3 * c->mlp_width * D + (c->generation == 1 ? 2 : 4) * D;

    return table_rows * D + c->n_layers * layer + D;
}

enum status gemma_embed(const struct gemma *g, const int32_t *ids, size_t n, float *x,
                        struct error *err)
{
    size_t D = g->config.width;
    float scale = sqrtf((float)D);

    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= g->config.vocab_size)
            return error_set(err, ST_INVALID,
                             "token id %d is outside the model's vocabulary of %zu", (int)ids[i],
                             g->config.vocab_size);
        matrix_row(&g->embedding, (size_t)ids[i], x + i * D);
        for (size_t d = 0; d < D; d++)
            x[i * D + d] *= scale;
    }
    return ST_OK;
}

/* x += what a half of the layer made of it, normed in Gemma 2. */
static void add_half(const struct gemma_config *c, const float *norm_post, float *x, float *made,
                     size_t T)
{
    if (norm_post != NULL)
        ops_rms_norm(made, made, norm_post, c->eps, T, c->width);
    ops_add(x, made, T * c->width);
}

static struct attention attention_of(const struct gemma_config *c, size_t layer, const float *q)
{
    return (struct attention){.q = q,
                              .q_stride = c->n_heads * c->head_dim,
                              .kv_stride = c->n_kv_heads * c->head_dim,
                              .n_heads = c->n_heads,
                              .head_dim = c->head_dim,
                              .causal = true,
                              .n_kv_heads = c->n_kv_heads,
                              .window = layer % 2 == 0 ? c->window : 0,
                              .scale = c->query_scale,
                              .soft_cap = c->attention_cap};
}

/* Buffers of one prefill. */
struct work {
    float *normed; /* [T, D] */
    float *q;      /* [T, n_heads * head_dim] */
    float *mixed;  /* [T, n_heads * head_dim] */
    float *k, *v;  /* [T, n_kv_heads * head_dim]: exact ones, whatever the cache keeps */
    float *gate;   /* [ROW_TILE, f] */
    float *up;     /* [ROW_TILE, f] */
};

static enum status work_init(const struct gemma_config *c, size_t T, struct arena *scratch,
                             struct work *work, struct error *err)
{
    size_t q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim,
           tile = MIN(T, (size_t)ROW_TILE);
    const struct {
        float **to;
        size_t n;
    } parts[] = {{&work->normed, T * c->width},
                 {&work->q, T * q},
                 {&work->mixed, T * q},
                 {&work->k, T * kv},
                 {&work->v, T * kv},
                 {&work->gate, tile * c->mlp_width},
                 {&work->up, tile * c->mlp_width}};
    enum status st = ST_OK;

    for (size_t i = 0; i < ARRAY_LEN(parts) && st == ST_OK; i++)
        st = arena_alloc(scratch, parts[i].n * sizeof(float), parts[i].to, err);
    return st;
}

size_t gemma_prefill_bytes(const struct gemma_config *c, size_t T)
{
    size_t q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    size_t tile = MIN(T, (size_t)ROW_TILE), widest = MAX(c->width, q);
    size_t product = c->matrices == MATRIX_INT8
                         ? MAX(int8_rows_floats(T, widest), int8_rows_floats(tile, c->mlp_width))
                         : 0;

    return (T * (c->width + 2 * q + 2 * kv) + 2 * tile * c->mlp_width +
            MAX(product, ATTENTION_TILE * T)) *
           sizeof(float);
}

/* mlp(y) = W_down (gelu_tanh(W_gate y) * (W_up y)), tile by tile; y [T, D] in place. */
static enum status run_mlp(const struct gemma *g, const struct gemma_layer *layer, float *y,
                           size_t T, const struct work *work, struct arena *scratch,
                           struct error *err)
{
    size_t D = g->config.width, f = g->config.mlp_width;
    enum status st = ST_OK;

    for (size_t first = 0; first < T && st == ST_OK; first += ROW_TILE) {
        size_t n = MIN(T - first, (size_t)ROW_TILE);
        float *rows = y + first * D;

        st = matrix_product(&layer->gate, work->gate, rows, n, scratch, err);
        if (st == ST_OK)
            st = matrix_product(&layer->up, work->up, rows, n, scratch, err);
        if (st == ST_OK) {
            ops_gelu_tanh_gate(work->gate, work->up, n * f);
            st = matrix_product(&layer->down, rows, work->gate, n, scratch, err);
        }
    }
    return st;
}

/* The queries' side of a layer: attention over the keys that are made, and the MLP. */
static enum status finish_layer(const struct gemma *g, size_t i, float *x, size_t T,
                                size_t n_prefix, const struct work *work, struct arena *scratch,
                                struct error *err)
{
    const struct gemma_config *c = &g->config;
    const struct gemma_layer *layer = &g->layers[i];
    struct attention attention = attention_of(c, i, work->q);
    struct arena mark = *scratch;
    enum status st = matrix_product(&layer->q, work->q, work->normed, T, scratch, err);

    attention.k = work->k;
    attention.v = work->v;
    attention.Tq = attention.Tk = T;
    attention.n_prefix = n_prefix;
    for (size_t t = 0; t < T && st == ST_OK; t++)
        rope_turn(&g->rope, work->q + t * attention.q_stride, c->n_heads, t);
    if (st == ST_OK)
        st = attention_run(&attention, work->mixed, scratch, err);
    arena_rewind(scratch, &mark);
    if (st == ST_OK)
        st = matrix_product(&layer->o, work->normed, work->mixed, T, scratch, err);
    if (st != ST_OK)
        return st;
    add_half(c, layer->norm_attention_post, x, work->normed, T);
    ops_rms_norm(work->normed, x, layer->norm_mlp, c->eps, T, c->width);
    st = run_mlp(g, layer, work->normed, T, work, scratch, err);
    if (st == ST_OK)
        add_half(c, layer->norm_mlp_post, x, work->normed, T);
    return st;
}

enum status gemma_prefill(const struct gemma *g, float *x, size_t T, size_t n_prefix,
                          struct kv_cache *cache, size_t row, bool finish, struct arena *scratch,
                          struct error *err)
{
    const struct gemma_config *c = &g->config;
    struct arena mark = *scratch;
    struct work work;
    enum status st = T <= cache->shape.capacity
                         ? work_init(c, T, scratch, &work, err)
                         : error_set(err, ST_INVALID, "%zu tokens, the cache holds %zu", T,
                                     cache->shape.capacity);

    for (size_t i = 0; i < c->n_layers && st == ST_OK; i++) {
        ops_rms_norm(work.normed, x, g->layers[i].norm_attention, c->eps, T, c->width);
        st = matrix_product(&g->layers[i].k, work.k, work.normed, T, scratch, err);
        if (st == ST_OK)
            st = matrix_product(&g->layers[i].v, work.v, work.normed, T, scratch, err);
        for (size_t t = 0; t < T && st == ST_OK; t++)
            rope_turn(&g->rope, work.k + t * cache->width, c->n_kv_heads, t);
        if (st == ST_OK)
            kv_cache_put(cache, i, row, 0, T, work.k, work.v);
        if (st == ST_OK && (finish || i + 1 < c->n_layers))
            st = finish_layer(g, i, x, T, n_prefix, &work, scratch, err);
    }
    arena_rewind(scratch, &mark);
    return st;
}

size_t gemma_rows_floats(const struct gemma_config *c, size_t M)
{
    size_t widest = MAX(MAX(c->mlp_width, c->width), c->n_heads * c->head_dim);

    return c->matrices == MATRIX_INT8 ? int8_rows_floats(M, widest) : 0;
}

void gemma_head(const struct gemma *g, float *x, size_t M, float *logits, float *scratch)
{
    const struct gemma_config *c = &g->config;

    ops_rms_norm(x, x, g->norm, c->eps, M, c->width);
    matrix_product_rows(&g->embedding, logits, x, M, scratch);
    if (c->final_cap > 0)
        ops_soft_cap(logits, M * c->vocab_size, 1, c->final_cap);
}

/* Floats of one step: x, normed [M, D]; q, mixed [M, h c]; k, v [M, kv c]; gate, up [M, f]; scores;
 * what products need. */
static size_t step_floats(const struct gemma_config *c, size_t M, size_t capacity)
{
    return M * (2 * c->width + 2 * (c->n_heads + c->n_kv_heads) * c->head_dim + 2 * c->mlp_width) +
           c->n_heads * capacity + gemma_rows_floats(c, M);
}

static struct kv_shape cache_shape(const struct gemma_config *c, size_t n_rows, size_t capacity)
{
    return (struct kv_shape){.type = c->kv_type,
                             .n_layers = c->n_layers,
                             .n_heads = c->n_kv_heads,
                             .head_dim = c->head_dim,
                             .n_rows = n_rows,
                             .capacity = capacity};
}

size_t gemma_decoder_bytes(const struct gemma_config *c, size_t max_rows, size_t capacity)
{
    const struct kv_shape shape = cache_shape(c, max_rows, capacity);

    return kv_cache_bytes(&shape) + step_floats(c, max_rows, capacity) * sizeof(float);
}

enum status gemma_decoder_init(struct gemma_decoder *d, const struct gemma *g, size_t max_rows,
                               size_t capacity, struct arena *arena, struct error *err)
{
    const struct gemma_config *c = &g->config;
    const struct kv_shape shape = cache_shape(c, max_rows, capacity);
    enum status st;

    *d = (struct gemma_decoder){.gemma = g, .max_rows = max_rows};
    if (capacity > c->context_length)
        return error_set(err, ST_INVALID, "sequences of %zu tokens, the model takes up to %zu",
                         capacity, c->context_length);
    st = kv_cache_init(&d->cache, &shape, arena, err);
    return st == ST_OK ? arena_alloc(arena, step_floats(c, max_rows, capacity) * sizeof(float),
                                     &d->scratch, err)
                       : st;
}

/* One layer for one token in each of M rows. */
static void step_layer(struct gemma_decoder *d, size_t i, float *x, size_t M, const size_t *row,
                       const size_t *position, float *scratch)
{
    const struct gemma *g = d->gemma;
    const struct gemma_config *c = &g->config;
    const struct gemma_layer *layer = &g->layers[i];
    size_t wide = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    float *normed = scratch, *q = normed + M * c->width, *mixed = q + M * wide,
          *k = mixed + M * wide, *v = k + M * kv, *gate = v + M * kv, *up = gate + M * c->mlp_width,
          *scores = up + M * c->mlp_width, *more = scores + c->n_heads * d->cache.shape.capacity;

    ops_rms_norm(normed, x, layer->norm_attention, c->eps, M, c->width);
    matrix_product_rows(&layer->q, q, normed, M, more);
    matrix_product_rows(&layer->k, k, normed, M, more);
    matrix_product_rows(&layer->v, v, normed, M, more);
    for (size_t m = 0; m < M; m++) {
        struct attention attention = attention_of(c, i, q + m * wide);

        rope_turn(&g->rope, q + m * wide, c->n_heads, position[m]);
        rope_turn(&g->rope, k + m * kv, c->n_kv_heads, position[m]);
        kv_cache_put(&d->cache, i, row[m], position[m], 1, k + m * kv, v + m * kv);
        kv_cache_attend(&d->cache, i, row[m], &attention);
        attention.Tq = 1;
        attention.Tk = position[m] + 1;
        attention_step(&attention, mixed + m * wide, scores);
    }
    matrix_product_rows(&layer->o, normed, mixed, M, more);
    add_half(c, layer->norm_attention_post, x, normed, M);
    ops_rms_norm(normed, x, layer->norm_mlp, c->eps, M, c->width);
    matrix_product_rows(&layer->gate, gate, normed, M, more);
    matrix_product_rows(&layer->up, up, normed, M, more);
    ops_gelu_tanh_gate(gate, up, M * c->mlp_width);
    matrix_product_rows(&layer->down, normed, gate, M, more);
    add_half(c, layer->norm_mlp_post, x, normed, M);
}

void gemma_decoder_step(struct gemma_decoder *d, size_t M, const size_t *row,
                        const size_t *position, const int32_t *token, float *logits)
{
    const struct gemma *g = d->gemma;
    size_t D = g->config.width;
    float *x = d->scratch;
    struct error err;

    for (size_t m = 0; m < M; m++) {
        enum status st = gemma_embed(g, &token[m], 1, x + m * D, &err);

        assert(st == ST_OK); /* the logits have no other ids */
    }
    for (size_t i = 0; i < g->config.n_layers; i++)
        step_layer(d, i, x, M, row, position, x + M * D);
    gemma_head(g, x, M, logits, x + M * D);
}
