/* A CoCa from its tensors; the forward functions are in coca.c. */
#include "reinforce/models/coca.h"
#include "reinforce/nn/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_PREFIX = 96 };

static enum status load_cross(struct weights *weights, size_t i, enum matrix_form form,
                              const struct transformer *decoder, struct coca_cross_block *c,
                              struct error *err)
{
    char prefix[MAX_PREFIX], name[MAX_PREFIX + 32];
    size_t D = decoder->width;
    enum status st;

    (void)snprintf(prefix, sizeof prefix, "text_decoder.cross_attn.%zu.", i);
    (void)snprintf(name, sizeof name, "%sln_1_kv.", prefix);
    st = layer_norm_load(weights, name, D, &c->ln_1_kv, err);
    if (st == ST_OK)
        st = transformer_block_load(weights, prefix, NAMING_OPEN_CLIP, form, decoder, &c->block,
                                    err);
    if (st != ST_OK)
        return st;
    c->q = block_linear_rows(&c->block.qkv, 0, D);
    c->kv = block_linear_rows(&c->block.qkv, D, 2 * D);
    return ST_OK;
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
                              s->text.matrices, &c->text, err);
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
    if (width % INT8_COLUMNS != 0) /* keys begin where queries end, in a panel of their own */
        return error_set(err, ST_INVALID, "multimodal_cfg.width %zu is not a multiple of %d", width,
                         INT8_COLUMNS);
    st = transformer_load(weights, "text_decoder.", NAMING_OPEN_CLIP, 0, &s->multimodal.shape,
                          s->multimodal.matrices, &c->decoder, err);
    if (st != ST_OK)
        return st;
    c->cross = calloc(c->decoder.n_layers + 1, sizeof *c->cross);
    if (c->cross == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate the decoder");
    for (size_t i = 0; i < c->decoder.n_layers && st == ST_OK; i++)
        st = load_cross(weights, i, s->multimodal.matrices, &c->decoder, &c->cross[i], err);
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
