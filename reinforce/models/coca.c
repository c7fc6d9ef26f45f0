#include "reinforce/models/coca.h"

#include "reinforce/nn/attention_step.h"
#include "reinforce/nn/ops.h"

#include <stdlib.h>

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
    float *normed, *kv, *codes;
    enum status st =
        arena_alloc(results, layers * n * D * sizeof *image->cross_k, &image->cross_k, err);

    if (st == ST_OK)
        st = arena_alloc(results, layers * n * D * sizeof *image->cross_v, &image->cross_v, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, n * D * sizeof *normed, &normed, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, n * 2 * D * sizeof *kv, &kv, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, int8_rows_floats(n, D) * sizeof *codes, &codes, err);
    for (size_t i = 0; i < layers && st == ST_OK; i++) {
        const struct coca_cross_block *b = &c->cross[i];

        ops_layer_norm(normed, image->tokens, b->ln_1_kv.w, b->ln_1_kv.b, c->decoder.eps, n, D);
        block_linear_run(&b->kv, kv, normed, (struct samples){1, n}, codes);
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
        st = vit_run(&c->vision, pixels, 1, false, scratch, tokens, err);
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
        st = transformer_run(&c->text, x, 1, T, true, hidden, scratch, err);
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
    const struct layer_norm *ln = &b->block.ln_1;
    size_t D = c->decoder.width, n = c->n_image_tokens;
    const struct transformer_work work = transformer_step_work(&c->decoder, M, scratch);

    ops_layer_norm(work.normed, x, ln->w, ln->b, c->decoder.eps, M, D);
    block_linear_run(&b->q, work.wide, work.normed, (struct samples){M, 1}, work.codes);
    for (size_t m = 0; m < M; m++) {
        const struct attention attention = {.q = work.wide + m * D,
                                            .k = image[m]->cross_k + layer * n * D,
                                            .v = image[m]->cross_v + layer * n * D,
                                            .kv_stride = D,
                                            .Tq = 1,
                                            .Tk = n,
                                            .n_heads = c->decoder.n_heads,
                                            .head_dim = D / c->decoder.n_heads};

        attention_step(&attention, work.mixed + m * D, work.scores);
    }
    transformer_finish_block(&c->decoder, &b->block, x, (struct samples){M, 1}, &work);
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
    const struct layer_norm *ln = &b->block.ln_1;
    struct transformer one = c->decoder;
    struct transformer_work work;
    size_t D = c->decoder.width, keys = c->n_image_tokens;
    struct attention attention = {.k = image->cross_k + layer * keys * D,
                                  .v = image->cross_v + layer * keys * D,
                                  .q_stride = D,
                                  .kv_stride = D,
                                  .Tq = n,
                                  .Tk = keys,
                                  .n_heads = c->decoder.n_heads,
                                  .head_dim = D / c->decoder.n_heads};
    float *floats;
    enum status st;

    one.n_layers = 1;
    one.blocks = &c->decoder.blocks[layer];
    st = transformer_run(&one, x, 1, n, true, NULL, scratch, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, transformer_step_scratch(&one, n, 0) * sizeof *floats, &floats,
                         err);
    if (st != ST_OK)
        return st;
    work = transformer_step_work(&one, n, floats);
    ops_layer_norm(work.normed, x, ln->w, ln->b, c->decoder.eps, n, D);
    block_linear_run(&b->q, work.wide, work.normed, (struct samples){1, n}, work.codes);
    attention.q = work.wide;
    st = attention_run(&attention, work.mixed, scratch, err);
    if (st == ST_OK)
        transformer_finish_block(&one, &b->block, x, (struct samples){1, n}, &work);
    return st;
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
        st = transformer_run(&c->text, x, 1, n, true, NULL, scratch, err);
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
