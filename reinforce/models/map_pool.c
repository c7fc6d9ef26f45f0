#include "reinforce/models/map_pool.h"

#include "reinforce/nn/attention.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/nn/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pool_names {
    const char *probe, *out, *norm, *fc, *proj;
};

static const struct pool_names transformers_names = {"probe", "attention.out_proj.", "layernorm.",
                                                     "mlp.fc1.", "mlp.fc2."};
static const struct pool_names timm_names = {"latent", "proj.", "norm.", "mlp.fc1.", "mlp.fc2."};

enum { MAX_PREFIX = 160 };

static enum status load_linear(struct weights *weights, const char *prefix, const char *name,
                               size_t in, size_t out_width, struct linear *out, struct error *err)
{
    char full[MAX_PREFIX];

    (void)snprintf(full, sizeof full, "%s%s", prefix, name);
    return linear_load(weights, full, in, out_width, out, err);
}

/* Rows of a stacked projection. */
static struct linear rows_of(const struct linear *stack, size_t first, size_t n)
{
    return (struct linear){
        .w = stack->w + first * stack->in, .b = stack->b + first, .in = stack->in, .out = n};
}

static enum status load_attention(struct weights *weights, const char *prefix, enum naming naming,
                                  struct map_pool *pool, struct error *err)
{
    size_t D = pool->width;
    struct linear stack = {.in = D, .out = 3 * D};
    enum status st;

    if (naming == NAMING_TIMM) {
        st = load_linear(weights, prefix, "q.", D, D, &pool->q, err);
        if (st == ST_OK)
            st = load_linear(weights, prefix, "kv.", D, 2 * D, &stack, err);
        if (st != ST_OK)
            return st;
        pool->k = rows_of(&stack, 0, D);
        pool->v = rows_of(&stack, D, D);
        return ST_OK;
    }
    st = weights_get(weights, prefix, "attention.in_proj_weight", WEIGHTS_SHAPE(3 * D, D), &stack.w,
                     err);
    if (st == ST_OK)
        st = weights_get(weights, prefix, "attention.in_proj_bias", WEIGHTS_SHAPE(3 * D), &stack.b,
                         err);
    if (st != ST_OK)
        return st;
    pool->q = rows_of(&stack, 0, D);
    pool->k = rows_of(&stack, D, D);
    pool->v = rows_of(&stack, 2 * D, D);
    return ST_OK;
}

/* keys_h = Wk_h^T (Wq probe + bq)_h; the keys' bias adds the same to every token's score and
 * cancels in the softmax. */
static enum status prepare_keys(struct map_pool *pool, struct error *err)
{
    size_t D = pool->width, H = pool->n_heads, head = D / H;
    float *q = calloc(D, sizeof *q);

    pool->keys = calloc(H * D, sizeof *pool->keys);
    if (q == NULL || pool->keys == NULL) {
        free(q);
        return error_set(err, ST_NO_MEMORY, "could not allocate a pooling head");
    }
    ops_linear_rows(q, pool->probe, pool->q.w, pool->q.b, 1, D, D);
    for (size_t h = 0; h < H; h++)
        for (size_t d = 0; d < D; d++) {
            double sum = 0;

            for (size_t i = h * head; i < (h + 1) * head; i++)
                sum += (double)q[i] * (double)pool->k.w[i * D + d];
            pool->keys[h * D + d] = (float)sum;
        }
    free(q);
    return ST_OK;
}

enum status map_pool_load(struct weights *weights, const char *prefix, enum naming naming,
                          const struct transformer_shape *shape, struct map_pool *out,
                          struct error *err)
{
    const struct pool_names *names = naming == NAMING_TIMM ? &timm_names : &transformers_names;
    size_t D = shape->width, mlp = shape->mlp_width;
    char norm[MAX_PREFIX];
    enum status st;

    *out = (struct map_pool){
        .width = D, .n_heads = shape->n_heads, .activation = shape->activation, .eps = shape->eps};
    st = weights_get(weights, prefix, names->probe, WEIGHTS_SHAPE(1, 1, D), &out->probe, err);
    if (st == ST_OK)
        st = load_attention(weights, prefix, naming, out, err);
    if (st == ST_OK)
        st = load_linear(weights, prefix, names->out, D, D, &out->out, err);
    (void)snprintf(norm, sizeof norm, "%s%s", prefix, names->norm);
    if (st == ST_OK)
        st = layer_norm_load(weights, norm, D, &out->norm, err);
    if (st == ST_OK)
        st = load_linear(weights, prefix, names->fc, D, mlp, &out->fc, err);
    if (st == ST_OK)
        st = load_linear(weights, prefix, names->proj, mlp, D, &out->proj, err);
    if (st == ST_OK)
        st = prepare_keys(out, err);
    if (st != ST_OK)
        map_pool_release(out);
    return st;
}

void map_pool_release(struct map_pool *pool)
{
    free(pool->keys);
    memset(pool, 0, sizeof *pool);
}

/* z + MLP(norm(z)), where z = Wo mixed + bo: neither is the probe added nor z normalised. */
static enum status finish(const struct map_pool *pool, const float *mixed, struct arena *scratch,
                          float *out, struct error *err)
{
    size_t D = pool->width, mlp = pool->fc.out;
    float *normed, *wide;
    enum status st = arena_alloc(scratch, D * sizeof *normed, &normed, err);

    if (st == ST_OK)
        st = arena_alloc(scratch, mlp * sizeof *wide, &wide, err);
    if (st != ST_OK)
        return st;
    ops_linear_rows(out, mixed, pool->out.w, pool->out.b, 1, D, D);
    ops_layer_norm(normed, out, pool->norm.w, pool->norm.b, pool->eps, 1, D);
    ops_linear_rows(wide, normed, pool->fc.w, pool->fc.b, 1, mlp, D);
    activation_apply(pool->activation, wide, mlp);
    ops_linear_rows(normed, wide, pool->proj.w, pool->proj.b, 1, D, mlp);
    ops_add(out, normed, D);
    return ST_OK;
}

enum status map_pool_run(const struct map_pool *pool, const float *tokens, size_t T,
                         struct arena *scratch, float *out, struct error *err)
{
    size_t D = pool->width, H = pool->n_heads, head = D / H;
    float scale = 1.0f / sqrtf((float)head), *scores, *pooled, *mixed;
    struct arena mark = *scratch;
    enum status st = arena_alloc(scratch, H * T * sizeof *scores, &scores, err);

    if (st == ST_OK)
        st = arena_alloc(scratch, H * D * sizeof *pooled, &pooled, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, D * sizeof *mixed, &mixed, err);
    if (st == ST_OK) {
        gemm_run(&(struct gemm){.M = H,
                                .N = T,
                                .K = D,
                                .a = pool->keys,
                                .lda = D,
                                .b = tokens,
                                .ldb = D,
                                .c = scores,
                                .ldc = T});
        for (size_t h = 0; h < H; h++)
            ops_softmax(scores + h * T, T, scale);
        gemm_run(&(struct gemm){.M = H,
                                .N = D,
                                .K = T,
                                .a = scores,
                                .lda = T,
                                .b = tokens,
                                .ldb = D,
                                .layout = GEMM_COLUMNS,
                                .c = pooled,
                                .ldc = D});
        for (size_t h = 0; h < H; h++)
            ops_linear_rows(mixed + h * head, pooled + h * D, pool->v.w + h * head * D,
                            pool->v.b + h * head, 1, head, D);
        st = finish(pool, mixed, scratch, out, err);
    }
    arena_rewind(scratch, &mark);
    return st;
}

enum status map_pool_run_ref(const struct map_pool *pool, const float *tokens, size_t T,
                             struct arena *scratch, float *out, struct error *err)
{
    size_t D = pool->width;
    struct arena mark = *scratch;
    float *q, *k, *v, *mixed;
    enum status st = arena_alloc(scratch, D * sizeof *q, &q, err);

    if (st == ST_OK)
        st = arena_alloc(scratch, T * D * sizeof *k, &k, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, T * D * sizeof *v, &v, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, D * sizeof *mixed, &mixed, err);
    if (st == ST_OK) {
        const struct attention attention = {.q = q,
                                            .k = k,
                                            .v = v,
                                            .q_stride = D,
                                            .kv_stride = D,
                                            .Tq = 1,
                                            .Tk = T,
                                            .n_heads = pool->n_heads,
                                            .head_dim = D / pool->n_heads};

        ops_linear_rows_ref(q, pool->probe, pool->q.w, pool->q.b, 1, D, D);
        ops_linear_rows_ref(k, tokens, pool->k.w, pool->k.b, T, D, D);
        ops_linear_rows_ref(v, tokens, pool->v.w, pool->v.b, T, D, D);
        attention_ref(&attention, mixed);
        st = finish(pool, mixed, scratch, out, err);
    }
    arena_rewind(scratch, &mark);
    return st;
}
