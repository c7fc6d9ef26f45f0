#include "reinforce/models/coca.h"

#include "reinforce/nn/attention.h"
#include "reinforce/nn/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_PREFIX = 96 };

static enum status load_cross(struct weights *weights, size_t i, size_t D, size_t mlp,
                              struct coca_cross_block *c, struct error *err)
{
    char prefix[MAX_PREFIX], name[MAX_PREFIX + 32];
    const float *w, *b;
    enum status st;

    (void)snprintf(prefix, sizeof prefix, "text_decoder.cross_attn.%zu.", i);
    (void)snprintf(name, sizeof name, "%sln_1.", prefix);
    st = layer_norm_load(weights, name, D, &c->ln_1, err);
    (void)snprintf(name, sizeof name, "%sln_1_kv.", prefix);
    if (st == ST_OK)
        st = layer_norm_load(weights, name, D, &c->ln_1_kv, err);
    if (st == ST_OK)
        st = weights_get(weights, prefix, "attn.in_proj_weight", WEIGHTS_SHAPE(3 * D, D), &w, err);
    if (st == ST_OK)
        st = weights_get(weights, prefix, "attn.in_proj_bias", WEIGHTS_SHAPE(3 * D), &b, err);
    if (st != ST_OK)
        return st;
    c->q = (struct linear){.w = w, .b = b, .in = D, .out = D};
    c->kv = (struct linear){.w = w + D * D, .b = b + D, .in = D, .out = 2 * D};
    (void)snprintf(name, sizeof name, "%sattn.out_proj.", prefix);
    st = linear_load(weights, name, D, D, &c->attn_out, err);
    (void)snprintf(name, sizeof name, "%sln_2.", prefix);
    if (st == ST_OK)
        st = layer_norm_load(weights, name, D, &c->ln_2, err);
    (void)snprintf(name, sizeof name, "%smlp.c_fc.", prefix);
    if (st == ST_OK)
        st = linear_load(weights, name, D, mlp, &c->fc, err);
    (void)snprintf(name, sizeof name, "%smlp.c_proj.", prefix);
    return st == ST_OK ? linear_load(weights, name, mlp, D, &c->proj, err) : st;
}

/* The pooler's q, k and v are stored apart, unless width equals embed_dim: then torch fuses them.
 */
static enum status load_pooler_projections(struct weights *weights, size_t D, size_t width,
                                           struct linear *q, struct coca *c, struct error *err)
{
    static const char prefix[] = "visual.attn_pool.attn.";
    const float *fused, *bias;
    enum status st = weights_get(weights, prefix, "in_proj_bias", WEIGHTS_SHAPE(3 * D), &bias, err);

    if (st != ST_OK)
        return st;
    *q = (struct linear){.b = bias, .in = D, .out = D};
    c->pool_k = (struct linear){.b = bias + D, .in = width, .out = D};
    c->pool_v = (struct linear){.b = bias + 2 * D, .in = width, .out = D};
    if (weights_peek(weights, "visual.attn_pool.attn.in_proj_weight") != NULL) {
        st = weights_get(weights, prefix, "in_proj_weight", WEIGHTS_SHAPE(3 * D, D), &fused, err);
        if (st == ST_OK) {
            q->w = fused;
            c->pool_k.w = fused + D * D;
            c->pool_v.w = fused + 2 * D * D;
        }
        return st;
    }
    st = weights_get(weights, prefix, "q_proj_weight", WEIGHTS_SHAPE(D, D), &q->w, err);
    if (st == ST_OK)
        st = weights_get(weights, prefix, "k_proj_weight", WEIGHTS_SHAPE(D, width), &c->pool_k.w,
                         err);
    return st == ST_OK ? weights_get(weights, prefix, "v_proj_weight", WEIGHTS_SHAPE(D, width),
                                     &c->pool_v.w, err)
                       : st;
}

static enum status load_pooler(const struct snapshot *s, struct weights *weights, struct coca *c,
                               struct error *err)
{
    size_t D = s->embed_dim, width = s->vision.shape.width, n = s->vision.pooler_queries;
    const float *query;
    struct linear q;
    float *normed;
    enum status st =
        weights_get(weights, "", "visual.attn_pool.query", WEIGHTS_SHAPE(n, D), &query, err);

    if (st == ST_OK)
        st = layer_norm_load(weights, "visual.attn_pool.ln_q.", D, &c->ln_q, err);
    if (st == ST_OK)
        st = layer_norm_load(weights, "visual.attn_pool.ln_k.", width, &c->ln_k, err);
    if (st == ST_OK)
        st = load_pooler_projections(weights, D, width, &q, c, err);
    if (st == ST_OK)
        st = linear_load(weights, "visual.attn_pool.attn.out_proj.", D, D, &c->pool_out, err);
    if (st == ST_OK)
        st = layer_norm_load(weights, "visual.ln_post.", D, &c->ln_post, err);
    if (st == ST_OK)
        st = weights_get_transposed(weights, "", "visual.proj", D, D, &c->visual_proj, err);
    if (st != ST_OK)
        return st;
    if (D % s->vision.pooler_heads != 0)
        return error_set(err, ST_INVALID, "embed_dim %zu is not divisible by %zu pooler heads", D,
                         s->vision.pooler_heads);
    c->pool_heads = s->vision.pooler_heads;
    c->n_image_tokens = n - 1;
    /* The query side is the same for every image. */
    c->pool_query_memory = malloc(2 * n * D * sizeof *c->pool_query_memory);
    if (c->pool_query_memory == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate the pooler's queries");
    normed = c->pool_query_memory + n * D;
    ops_layer_norm(normed, query, c->ln_q.w, c->ln_q.b, 1e-5f, n, D);
    ops_linear(c->pool_query_memory, normed, D, q.w, q.b, n, D, D);
    c->pool_query = c->pool_query_memory;
    return ST_OK;
}

static enum status load_text(const struct snapshot *s, struct weights *weights, struct coca *c,
                             struct error *err)
{
    const struct tensor *table = weights_peek(weights, "text.positional_embedding");
    size_t width = s->text.shape.width, rows = s->text.context_length + 1;
    enum status st;

    /* Files disagree about whether their context counts the class token: the table itself knows. */
    if (table != NULL && table->rank == 2 && table->shape[0] >= 2)
        rows = table->shape[0];
    c->context_length = rows - 1;
    c->vocab_size = s->text.vocab_size;
    st = weights_get(weights, "text.", "token_embedding.weight",
                     WEIGHTS_SHAPE(c->vocab_size, width), &c->token_embedding, err);
    if (st == ST_OK)
        st = weights_get(weights, "text.", "positional_embedding", WEIGHTS_SHAPE(rows, width),
                         &c->positions, err);
    if (st == ST_OK)
        st = weights_get(weights, "text.", "cls_emb", WEIGHTS_SHAPE(width), &c->cls_embedding, err);
    if (st == ST_OK)
        st = transformer_load(weights, "text.transformer.", NAMING_OPEN_CLIP, 0, &s->text.shape,
                              MATRIX_STORED, &c->text, err);
    if (st == ST_OK)
        st = layer_norm_load(weights, "text.ln_final.", width, &c->ln_final, err);
    if (st == ST_OK)
        st = weights_get_transposed(weights, "text.", "text_projection", width, c->embed_dim,
                                    &c->text_proj, err);
    return st;
}

static enum status load_decoder(const struct snapshot *s, struct weights *weights, struct coca *c,
                                struct error *err)
{
    size_t width = s->multimodal.shape.width;
    enum status st;

    if (width != s->text.shape.width || width != c->embed_dim)
        return error_set(err, ST_INVALID,
                         "multimodal_cfg.width %zu must equal text_cfg.width %zu and embed_dim %zu",
                         width, s->text.shape.width, c->embed_dim);
    st = transformer_load(weights, "text_decoder.", NAMING_OPEN_CLIP, 0, &s->multimodal.shape,
                          MATRIX_STORED, &c->decoder, err);
    if (st != ST_OK)
        return st;
    c->cross = calloc(c->decoder.n_layers + 1, sizeof *c->cross);
    if (c->cross == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate the decoder");
    for (size_t i = 0; i < c->decoder.n_layers && st == ST_OK; i++)
        st = load_cross(weights, i, width, c->decoder.mlp_width, &c->cross[i], err);
    if (st == ST_OK)
        st = layer_norm_load(weights, "text_decoder.ln_final.", width, &c->decoder_ln_final, err);
    if (st == ST_OK)
        st = weights_get_transposed(weights, "text_decoder.", "text_projection", width,
                                    c->vocab_size, &c->decoder_proj, err);
    return st;
}

enum status coca_load(const struct snapshot *s, struct weights *weights, struct coca *out,
                      struct error *err)
{
    const float *scale;
    enum status st;

    memset(out, 0, sizeof *out);
    out->embed_dim = s->embed_dim;
    st = vit_load(weights, "", NAMING_OPEN_CLIP, &s->vision, &out->vision, err);
    if (st == ST_OK)
        st = load_pooler(s, weights, out, err);
    if (st == ST_OK)
        st = load_text(s, weights, out, err);
    if (st == ST_OK)
        st = load_decoder(s, weights, out, err);
    if (st == ST_OK)
        st = weights_get(weights, "", "logit_scale", WEIGHTS_SCALAR, &scale, err);
    if (st == ST_OK)
        out->logit_scale = (float)exp((double)*scale);
    if (st == ST_OK)
        st = weights_check_all_used(weights, err);
    if (st != ST_OK)
        coca_release(out);
    return st;
}

void coca_release(struct coca *c)
{
    free(c->cross);
    free(c->pool_query_memory);
    transformer_release(&c->decoder);
    transformer_release(&c->text);
    vit_release(&c->vision);
    memset(c, 0, sizeof *c);
}

/* pooled [n_image_tokens + 1, D]: ln_post(attention of the fixed queries over the image's tokens).
 */
static enum status pool(const struct coca *c, const float *tokens, struct arena *scratch,
                        float *pooled, struct error *err)
{
    size_t T = c->vision.n_tokens, width = c->vision.blocks.width, D = c->embed_dim,
           n = c->n_image_tokens + 1;
    float *normed, *k, *v, *mixed;
    struct attention attention = {.q = c->pool_query,
                                  .q_stride = D,
                                  .kv_stride = D,
                                  .Tq = n,
                                  .Tk = T,
                                  .n_heads = c->pool_heads,
                                  .head_dim = D / c->pool_heads};
    enum status st = arena_alloc(scratch, T * width * sizeof *normed, &normed, err);

    if (st == ST_OK)
        st = arena_alloc(scratch, T * D * sizeof *k, &k, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, T * D * sizeof *v, &v, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, n * D * sizeof *mixed, &mixed, err);
    if (st != ST_OK)
        return st;
    ops_layer_norm(normed, tokens, c->ln_k.w, c->ln_k.b, 1e-5f, T, width);
    ops_linear(k, normed, width, c->pool_k.w, c->pool_k.b, T, D, width);
    ops_linear(v, normed, width, c->pool_v.w, c->pool_v.b, T, D, width);
    attention.k = k;
    attention.v = v;
    st = attention_run(&attention, mixed, scratch, err);
    if (st != ST_OK)
        return st;
    ops_linear(pooled, mixed, D, c->pool_out.w, c->pool_out.b, n, D, D);
    ops_layer_norm(pooled, pooled, c->ln_post.w, c->ln_post.b, 1e-5f, n, D);
    return ST_OK;
}

/* Keys and values of every cross block: the image's part of decoding, computed once. */
static enum status project_cross(const struct coca *c, struct coca_image *image,
                                 struct arena *results, struct arena *scratch, struct error *err)
{
    size_t n = c->n_image_tokens, D = c->decoder.width, layers = c->decoder.n_layers;
    float *normed, *kv;
    enum status st =
        arena_alloc(results, layers * n * D * sizeof *image->cross_k, &image->cross_k, err);

    if (st == ST_OK)
        st = arena_alloc(results, layers * n * D * sizeof *image->cross_v, &image->cross_v, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, n * D * sizeof *normed, &normed, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, n * 2 * D * sizeof *kv, &kv, err);
    for (size_t i = 0; i < layers && st == ST_OK; i++) {
        const struct coca_cross_block *b = &c->cross[i];

        ops_layer_norm(normed, image->tokens, b->ln_1_kv.w, b->ln_1_kv.b, c->decoder.eps, n, D);
        ops_linear(kv, normed, D, b->kv.w, b->kv.b, n, 2 * D, D);
        for (size_t t = 0; t < n; t++) {
            memcpy(image->cross_k + (i * n + t) * D, kv + t * 2 * D, D * sizeof *kv);
            memcpy(image->cross_v + (i * n + t) * D, kv + t * 2 * D + D, D * sizeof *kv);
        }
    }
    return st;
}

enum status coca_encode_image(const struct coca *c, const float *pixels, bool for_decoding,
                              struct arena *results, struct arena *scratch, float *latent,
                              struct coca_image *image, struct error *err)
{
    size_t D = c->embed_dim, n = c->n_image_tokens + 1;
    struct arena mark = *scratch;
    float *tokens, *pooled;
    enum status st;

    memset(image, 0, sizeof *image);
    st = arena_alloc(results, n * D * sizeof *pooled, &pooled, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, c->vision.n_tokens * c->vision.width * sizeof *tokens, &tokens,
                         err);
    if (st == ST_OK)
        st = vit_run(&c->vision, pixels, false, scratch, tokens, err);
    if (st == ST_OK)
        st = pool(c, tokens, scratch, pooled, err);
    if (st == ST_OK && !ops_all_finite(pooled, n * D))
        st = error_set(err, ST_CORRUPT, "the image tokens are not finite");
    if (st == ST_OK) {
        image->tokens = pooled + D;
        if (latent != NULL) {
            ops_linear_rows(latent, pooled, c->visual_proj, NULL, 1, D, D);
            (void)ops_l2_normalize(latent, D);
        }
        if (for_decoding)
            st = project_cross(c, image, results, scratch, err);
    }
    arena_rewind(scratch, &mark);
    return st;
}

static enum status check_ids(const struct coca *c, const int32_t *ids, size_t n, struct error *err)
{
    if (n == 0 || n > c->context_length)
        return error_set(err, ST_INVALID, "text has %zu tokens, the model takes 1..%zu", n,
                         c->context_length);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= c->vocab_size)
            return error_set(err, ST_INVALID,
                             "token id %d is outside the model's vocabulary of %zu", (int)ids[i],
                             c->vocab_size);
    return ST_OK;
}

static void embed_tokens(const struct coca *c, const int32_t *ids, size_t n, float *x)
{
    size_t D = c->text.width;

    for (size_t i = 0; i < n; i++)
        memcpy(x + i * D, c->token_embedding + (size_t)ids[i] * D, D * sizeof *x);
    ops_add(x, c->positions, n * D);
}

/*
 * Token rows and, behind them, the class token's; returns how many. A key that nobody sees is a row
 * that matters to nobody: under COCA_PAD_MASK_ALL such rows are left out, and the others keep their
 * positions. The class token's own row stays, as it is the result.
 */
static size_t embed_with_class(const struct coca *c, const int32_t *ids, size_t n, int32_t pad,
                               enum coca_pad_mask mask, float *x, bool *hidden)
{
    size_t D = c->text.width, T = 0;

    for (size_t i = 0; i <= n; i++) {
        const float *token = i < n ? c->token_embedding + (size_t)ids[i] * D : c->cls_embedding;
        bool hide = i > 0 && ids[i - 1] == pad;

        if (hide && i < n && mask == COCA_PAD_MASK_ALL)
            continue;
        for (size_t d = 0; d < D; d++)
            x[T * D + d] = token[d] + c->positions[i * D + d];
        hidden[T++] = hide;
    }
    return T;
}

enum status coca_embed_text(const struct coca *c, const int32_t *ids, size_t n, int32_t pad,
                            enum coca_pad_mask mask, struct arena *scratch, float *latent,
                            struct error *err)
{
    size_t D = c->text.width, T = 0;
    struct arena mark = *scratch;
    float *x, *last;
    bool *hidden;
    enum status st = check_ids(c, ids, n, err);

    if (st == ST_OK)
        st = arena_alloc(scratch, (n + 1) * D * sizeof *x, &x, err);
    if (st == ST_OK)
        st = arena_calloc(scratch, n + 1, sizeof *hidden, &hidden, err);
    if (st == ST_OK) {
        T = embed_with_class(c, ids, n, pad, mask, x, hidden);
        st = transformer_run(&c->text, x, T, true, hidden, scratch, err);
    }
    if (st == ST_OK) {
        last = x + (T - 1) * D;
        ops_layer_norm(last, last, c->ln_final.w, c->ln_final.b, c->text.eps, 1, D);
        ops_linear_rows(latent, last, c->text_proj, NULL, 1, c->embed_dim, D);
        (void)ops_l2_normalize(latent, c->embed_dim);
        if (!ops_all_finite(latent, c->embed_dim))
            st = error_set(err, ST_CORRUPT, "the embedding is not finite");
    }
    arena_rewind(scratch, &mark);
    return st;
}

static enum status init_cache(struct kv_cache *cache, const struct transformer *t, size_t max_rows,
                              size_t capacity, struct arena *arena, struct error *err)
{
    const struct kv_shape shape = {.n_layers = t->n_layers,
                                   .n_heads = t->n_heads,
                                   .head_dim = t->width / t->n_heads,
                                   .n_rows = max_rows,
                                   .capacity = capacity};

    return kv_cache_init(cache, &shape, arena, err);
}

enum status coca_decoder_init(struct coca_decoder *d, const struct coca *coca, size_t max_rows,
                              size_t capacity, struct arena *arena, struct error *err)
{
    size_t D = coca->decoder.width, keys = MAX(capacity, coca->n_image_tokens);
    size_t step = MAX(transformer_step_scratch(&coca->text, max_rows, keys),
                      transformer_step_scratch(&coca->decoder, max_rows, keys));
    enum status st;

    if (capacity > coca->context_length)
        return error_set(err, ST_INVALID, "rows of %zu tokens, the model takes up to %zu", capacity,
                         coca->context_length);
    st = init_cache(&d->text, &coca->text, max_rows, capacity, arena, err);
    if (st == ST_OK)
        st = init_cache(&d->decoder, &coca->decoder, max_rows, capacity, arena, err);
    if (st == ST_OK)
        st = arena_alloc(arena, (step + max_rows * D) * sizeof *d->scratch, &d->scratch, err);
    d->coca = coca;
    d->max_rows = max_rows;
    return st;
}

void coca_decoder_copy_row(struct coca_decoder *d, size_t from, size_t to, size_t n)
{
    kv_cache_copy_row(&d->text, from, to, 0, n);
    kv_cache_copy_row(&d->decoder, from, to, 0, n);
}

/* One cross block for M rows, each over its own image. */
static void cross_step(const struct coca *c, size_t layer, float *x, size_t M,
                       const struct coca_image *const *image, float *scratch)
{
    const struct coca_cross_block *b = &c->cross[layer];
    size_t D = c->decoder.width, mlp = c->decoder.mlp_width, n = c->n_image_tokens;
    float *normed = scratch, *mixed = normed + M * D, *wide = mixed + M * D,
          *scores = wide + M * MAX(3 * D, mlp);

    ops_layer_norm(normed, x, b->ln_1.w, b->ln_1.b, c->decoder.eps, M, D);
    ops_linear_rows(wide, normed, b->q.w, b->q.b, M, D, D);
    for (size_t m = 0; m < M; m++) {
        const struct attention attention = {.q = wide + m * D,
                                            .k = image[m]->cross_k + layer * n * D,
                                            .v = image[m]->cross_v + layer * n * D,
                                            .kv_stride = D,
                                            .Tq = 1,
                                            .Tk = n,
                                            .n_heads = c->decoder.n_heads,
                                            .head_dim = D / c->decoder.n_heads};

        attention_cached(&attention, mixed + m * D, scores);
    }
    ops_linear_rows(normed, mixed, b->attn_out.w, b->attn_out.b, M, D, D);
    ops_add(x, normed, M * D);
    ops_layer_norm(normed, x, b->ln_2.w, b->ln_2.b, c->decoder.eps, M, D);
    ops_linear_rows(wide, normed, b->fc.w, b->fc.b, M, mlp, D);
    activation_apply(c->decoder.activation, wide, M * mlp);
    ops_linear_rows(normed, wide, b->proj.w, b->proj.b, M, D, mlp);
    ops_add(x, normed, M * D);
}

void coca_decoder_step(struct coca_decoder *d, size_t M, const size_t *row, const size_t *position,
                       const int32_t *token, const struct coca_image *const *image, float *logits)
{
    const struct coca *c = d->coca;
    size_t D = c->decoder.width;
    float *x = d->scratch, *scratch = x + d->max_rows * D;

    for (size_t m = 0; m < M; m++)
        for (size_t i = 0; i < D; i++)
            x[m * D + i] =
                c->token_embedding[(size_t)token[m] * D + i] + c->positions[position[m] * D + i];
    for (size_t layer = 0; layer < c->text.n_layers; layer++)
        transformer_step(&c->text, layer, x, M, row, position, &d->text, scratch);
    for (size_t layer = 0; layer < c->decoder.n_layers; layer++) {
        transformer_step(&c->decoder, layer, x, M, row, position, &d->decoder, scratch);
        cross_step(c, layer, x, M, image, scratch);
    }
    ops_layer_norm(scratch, x, c->decoder_ln_final.w, c->decoder_ln_final.b, c->decoder.eps, M, D);
    ops_linear_rows(logits, scratch, c->decoder_proj, NULL, M, c->vocab_size, D);
}

/* One decoder layer over a whole row: the self half through transformer_run, then the cross half.
 */
static enum status run_layer(const struct coca *c, size_t layer, const struct coca_image *image,
                             float *x, size_t n, struct arena *scratch, struct error *err)
{
    const struct coca_cross_block *b = &c->cross[layer];
    struct transformer one = c->decoder;
    size_t D = c->decoder.width, mlp = c->decoder.mlp_width, keys = c->n_image_tokens;
    float *normed, *mixed, *wide;
    struct attention attention = {.k = image->cross_k + layer * keys * D,
                                  .v = image->cross_v + layer * keys * D,
                                  .q_stride = D,
                                  .kv_stride = D,
                                  .Tq = n,
                                  .Tk = keys,
                                  .n_heads = c->decoder.n_heads,
                                  .head_dim = D / c->decoder.n_heads};
    enum status st;

    one.n_layers = 1;
    one.blocks = &c->decoder.blocks[layer];
    st = transformer_run(&one, x, n, true, NULL, scratch, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, n * D * sizeof *normed, &normed, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, n * D * sizeof *mixed, &mixed, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, n * MAX(D, mlp) * sizeof *wide, &wide, err);
    if (st != ST_OK)
        return st;
    ops_layer_norm(normed, x, b->ln_1.w, b->ln_1.b, c->decoder.eps, n, D);
    ops_linear(wide, normed, D, b->q.w, b->q.b, n, D, D);
    attention.q = wide;
    st = attention_run(&attention, mixed, scratch, err);
    if (st != ST_OK)
        return st;
    ops_linear(normed, mixed, D, b->attn_out.w, b->attn_out.b, n, D, D);
    ops_add(x, normed, n * D);
    ops_layer_norm(normed, x, b->ln_2.w, b->ln_2.b, c->decoder.eps, n, D);
    ops_linear(wide, normed, D, b->fc.w, b->fc.b, n, mlp, D);
    activation_apply(c->decoder.activation, wide, n * mlp);
    ops_linear(normed, wide, mlp, b->proj.w, b->proj.b, n, D, mlp);
    ops_add(x, normed, n * D);
    return ST_OK;
}

enum status coca_logits(const struct coca *c, const struct coca_image *image, const int32_t *ids,
                        size_t n, struct arena *scratch, float *logits, struct error *err)
{
    size_t D = c->decoder.width;
    struct arena mark = *scratch;
    float *x;
    enum status st = check_ids(c, ids, n, err);

    if (st == ST_OK)
        st = arena_alloc(scratch, n * D * sizeof *x, &x, err);
    if (st == ST_OK) {
        embed_tokens(c, ids, n, x);
        st = transformer_run(&c->text, x, n, true, NULL, scratch, err);
    }
    for (size_t layer = 0; layer < c->decoder.n_layers && st == ST_OK; layer++)
        st = run_layer(c, layer, image, x, n, scratch, err);
    if (st == ST_OK) {
        ops_layer_norm(x, x, c->decoder_ln_final.w, c->decoder_ln_final.b, c->decoder.eps, n, D);
        ops_linear(logits, x, D, c->decoder_proj, NULL, n, c->vocab_size, D);
    }
    arena_rewind(scratch, &mark);
    return st;
}
