#include "reinforce/models/transformer.h"

#include "reinforce/nn/attention_step.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/nn/ops.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

/* Where each naming keeps the same things. */
struct block_names {
    const char *layer, *ln_1, *ln_2, *attn_out, *fc, *proj;
    const char *qkv_weight, *qkv_bias; /* one matrix; NULL: q, k and v apart */
};

static const struct block_names names_of[] = {
    [NAMING_OPEN_CLIP] = {"resblocks.", "ln_1.", "ln_2.", "attn.out_proj.", "mlp.c_fc.",
                          "mlp.c_proj.", "attn.in_proj_weight", "attn.in_proj_bias"},
    [NAMING_TRANSFORMERS] = {"layers.", "layer_norm1.", "layer_norm2.", "self_attn.out_proj.",
                             "mlp.fc1.", "mlp.fc2.", NULL, NULL},
    [NAMING_TIMM] = {"blocks.", "norm1.", "norm2.", "attn.proj.", "mlp.fc1.", "mlp.fc2.",
                     "attn.qkv.weight", "attn.qkv.bias"},
    [NAMING_APPLE] = {"transformer.", "pre_norm_mha.0.", "pre_norm_ffn.0.",
                      "pre_norm_mha.1.out_proj.", "pre_norm_ffn.1.", "pre_norm_ffn.4.",
                      "pre_norm_mha.1.qkv_proj.weight", "pre_norm_mha.1.qkv_proj.bias"},
};

enum { MAX_PREFIX = 160 };

static enum status join(char out[MAX_PREFIX], const char *prefix, const char *name,
                        struct error *err)
{
    if (snprintf(out, MAX_PREFIX, "%s%s", prefix, name) >= MAX_PREFIX)
        return error_set(err, ST_INVALID, "tensor name \"%s%s\" is too long", prefix, name);
    return ST_OK;
}

enum status layer_norm_load(struct weights *weights, const char *prefix, size_t width,
                            struct layer_norm *out, struct error *err)
{
    enum status st = weights_get(weights, prefix, "weight", WEIGHTS_SHAPE(width), &out->w, err);

    return st == ST_OK ? weights_get(weights, prefix, "bias", WEIGHTS_SHAPE(width), &out->b, err)
                       : st;
}

enum status linear_load(struct weights *weights, const char *prefix, size_t in, size_t out_width,
                        struct linear *out, struct error *err)
{
    enum status st =
        weights_get(weights, prefix, "weight", WEIGHTS_SHAPE(out_width, in), &out->w, err);

    out->in = in;
    out->out = out_width;
    return st == ST_OK
               ? weights_get(weights, prefix, "bias", WEIGHTS_SHAPE(out_width), &out->b, err)
               : st;
}

static enum status load_linear(struct weights *weights, const char *prefix, enum matrix_form form,
                               size_t in, size_t out_width, struct block_linear *out,
                               struct error *err)
{
    static const char *const w_name[] = {"weight"};
    enum status st =
        block_linear_load(weights, prefix, w_name, 1, form, in, out_width, NULL, out, err);

    return st == ST_OK
               ? weights_get(weights, prefix, "bias", WEIGHTS_SHAPE(out_width), &out->b, err)
               : st;
}

/* One fused tensor, or three as one. */
static enum status load_qkv(struct weights *weights, const char *prefix,
                            const struct block_names *names, enum matrix_form form, size_t D,
                            struct block_linear *out, struct error *err)
{
    static const char *const w_names[] = {"self_attn.q_proj.weight", "self_attn.k_proj.weight",
                                          "self_attn.v_proj.weight"};
    static const char *const b_names[] = {"self_attn.q_proj.bias", "self_attn.k_proj.bias",
                                          "self_attn.v_proj.bias"};
    enum status st;

    if (names->qkv_weight != NULL) {
        st = block_linear_load(weights, prefix, &names->qkv_weight, 1, form, D, 3 * D, NULL, out,
                               err);
        return st == ST_OK ? weights_get(weights, prefix, names->qkv_bias, WEIGHTS_SHAPE(3 * D),
                                         &out->b, err)
                           : st;
    }
    st = block_linear_load(weights, prefix, w_names, 3, form, D, D, NULL, out, err);
    return st == ST_OK
               ? weights_get_stacked(weights, prefix, b_names, 3, WEIGHTS_SHAPE(D), &out->b, err)
               : st;
}

enum status transformer_block_load(struct weights *weights, const char *prefix, enum naming naming,
                                   enum matrix_form form, const struct transformer *t,
                                   struct transformer_block *block, struct error *err)
{
    const struct block_names *names = &names_of[naming];
    char name[MAX_PREFIX];
    enum status st = join(name, prefix, names->ln_1, err);

    block->mlp.activation = t->activation;
    if (st == ST_OK)
        st = layer_norm_load(weights, name, t->width, &block->ln_1, err);
    if (st == ST_OK)
        st = load_qkv(weights, prefix, names, form, t->width, &block->qkv, err);
    if (st == ST_OK)
        st = join(name, prefix, names->attn_out, err);
    if (st == ST_OK)
        st = load_linear(weights, name, form, t->width, t->width, &block->attn_out, err);
    if (st == ST_OK)
        st = join(name, prefix, names->ln_2, err);
    if (st == ST_OK)
        st = layer_norm_load(weights, name, t->width, &block->ln_2, err);
    if (st == ST_OK)
        st = join(name, prefix, names->fc, err);
    if (st == ST_OK)
        st = load_linear(weights, name, form, t->width, t->mlp_width, &block->mlp.fc, err);
    if (st == ST_OK)
        st = join(name, prefix, names->proj, err);
    if (st == ST_OK)
        st = load_linear(weights, name, form, t->mlp_width, t->width, &block->mlp.proj, err);
    return st;
}

enum status transformer_load(struct weights *weights, const char *prefix, enum naming naming,
                             size_t first, const struct transformer_shape *shape,
                             enum matrix_form form, struct transformer *out, struct error *err)
{
    enum status st = ST_OK;

    *out = (struct transformer){.n_layers = shape->n_layers,
                                .width = shape->width,
                                .n_heads = shape->n_heads,
                                .mlp_width = shape->mlp_width,
                                .activation = shape->activation,
                                .eps = shape->eps};
    if (shape->n_heads == 0 || shape->width % shape->n_heads != 0)
        return error_set(err, ST_INVALID, "width %zu is not divisible by %zu heads", shape->width,
                         shape->n_heads);
    out->blocks = calloc(shape->n_layers + 1, sizeof *out->blocks);
    if (out->blocks == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate %zu layers", shape->n_layers);
    for (size_t i = 0; i < shape->n_layers && st == ST_OK; i++) {
        char layer[MAX_PREFIX];
        int n =
            snprintf(layer, sizeof layer, "%s%s%zu.", prefix, names_of[naming].layer, first + i);

        st = n < (int)sizeof layer
                 ? transformer_block_load(weights, layer, naming, form, out, &out->blocks[i], err)
                 : error_set(err, ST_INVALID, "tensor prefix \"%s\" is too long", prefix);
    }
    if (st != ST_OK)
        transformer_release(out);
    return st;
}

size_t transformer_added_bytes(const struct transformer_shape *shape)
{
    size_t D = shape->width, wide = shape->mlp_width;

    return shape->n_layers * (strassen_added_bytes(3 * D, D) + strassen_added_bytes(D, D) +
                              strassen_added_bytes(wide, D) + strassen_added_bytes(D, wide));
}

void transformer_release(struct transformer *t)
{
    free(t->blocks);
    memset(t, 0, sizeof *t);
}

static size_t codes_floats(const struct transformer *t, size_t T)
{
    return block_linear_codes_floats(&t->blocks[0].qkv, T);
}

static size_t wide_floats(const struct transformer *t, size_t T)
{
    return MAX(T * 3 * t->width, block_mlp_wide_floats(&t->blocks[0].mlp, T));
}

static enum status work_init(const struct transformer *t, size_t T, struct arena *scratch,
                             struct transformer_work *work, struct error *err)
{
    size_t D = t->width;
    enum status st = arena_alloc(scratch, T * D * sizeof(float), &work->normed, err);

    if (st == ST_OK)
        st = arena_alloc(scratch, wide_floats(t, T) * sizeof(float), &work->wide, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, T * D * sizeof(float), &work->mixed, err);
    work->codes = NULL;
    if (st == ST_OK && codes_floats(t, T) > 0)
        st = arena_alloc(scratch, codes_floats(t, T) * sizeof(float), &work->codes, err);
    return st;
}

/* Queries, keys and values of x, to work->wide. */
static void run_qkv(const struct transformer *t, const struct transformer_block *b, const float *x,
                    struct samples samples, const struct transformer_work *work)
{
    const struct prologue ln_1 = {b->ln_1.w, b->ln_1.b, t->eps, work->normed};

    block_linear_run_normed(&b->qkv, &ln_1, work->wide, x, samples, work->codes);
}

void transformer_finish_block(const struct transformer *t, const struct transformer_block *b,
                              float *x, struct samples samples, const struct transformer_work *work)
{
    const struct prologue ln_2 = {b->ln_2.w, b->ln_2.b, t->eps, work->normed};

    block_linear_apply(&b->attn_out, x, work->mixed, samples, work->codes,
                       (struct epilogue){.add = true});
    block_mlp_add_normed(&b->mlp, &ln_2, x, samples, work->codes, work->wide);
}

/* Each sample attends to itself. */
static enum status run_block(const struct transformer *t, const struct transformer_block *b,
                             float *x, struct samples samples, bool causal, const bool *hide_last,
                             const struct transformer_work *work, struct arena *scratch,
                             struct error *err)
{
    size_t D = t->width, T = samples.T;
    struct arena mark = *scratch; /* the tile of scores is given back */
    enum status st = ST_OK;

    run_qkv(t, b, x, samples, work);
    for (size_t i = 0; i < samples.n && st == ST_OK; i++) {
        struct attention attention = attention_of_qkv(work->wide + i * T * 3 * D, T, D, t->n_heads);

        attention.causal = causal;
        attention.hide_last = hide_last;
        st = b->qkv.form == MATRIX_INT8 && !causal
                 ? attention_run_int8(&attention, work->mixed + i * T * D, scratch, err)
                 : attention_run(&attention, work->mixed + i * T * D, scratch, err);
        arena_rewind(scratch, &mark);
    }
    if (st == ST_OK)
        transformer_finish_block(t, b, x, samples, work);
    return st;
}

/* Queries, keys and values of all rows, of which strips cannot be cut where keys begin; everything
 * else of one row of each sample, which becomes row i of x. */
static enum status run_block_for_row(const struct transformer *t, const struct transformer_block *b,
                                     float *x, struct samples samples, size_t row,
                                     const struct transformer_work *work, struct arena *scratch,
                                     struct error *err)
{
    size_t D = t->width, T = samples.T;
    struct arena mark = *scratch;
    enum status st = ST_OK;

    run_qkv(t, b, x, samples, work);
    for (size_t i = 0; i < samples.n && st == ST_OK; i++) {
        struct attention attention = attention_of_qkv(work->wide + i * T * 3 * D, T, D, t->n_heads);

        attention.q += row * 3 * D;
        attention.Tq = 1;
        st = attention_run(&attention, work->mixed + i * D, scratch, err);
        arena_rewind(scratch, &mark);
        memmove(x + i * D, x + (i * T + row) * D, D * sizeof *x);
    }
    if (st == ST_OK)
        transformer_finish_block(t, b, x, (struct samples){samples.n, 1}, work);
    return st;
}

/* Rows that are enough for a product to run at its best. */
enum { ROWS_AT_ONCE = 600 };

size_t transformer_samples_at_once(size_t T)
{
    return MAX(ROWS_AT_ONCE / MAX(T, (size_t)1), (size_t)1);
}

enum status transformer_run(const struct transformer *t, float *x, size_t n, size_t T, bool causal,
                            const bool *hide_last, struct arena *scratch, struct error *err)
{
    const struct samples samples = {n, T};
    struct transformer_work work;
    enum status st = work_init(t, n * T, scratch, &work, err);

    for (size_t layer = 0; layer < t->n_layers && st == ST_OK; layer++)
        st = run_block(t, &t->blocks[layer], x, samples, causal, hide_last, &work, scratch, err);
    return st;
}

enum status transformer_run_pooled(const struct transformer *t, float *x, size_t n, size_t T,
                                   size_t row, struct arena *scratch, struct error *err)
{
    const struct samples samples = {n, T};
    struct transformer_work work;
    enum status st = work_init(t, n * T, scratch, &work, err);

    for (size_t layer = 0; layer + 1 < t->n_layers && st == ST_OK; layer++)
        st = run_block(t, &t->blocks[layer], x, samples, false, NULL, &work, scratch, err);
    if (st == ST_OK && t->n_layers > 0)
        st =
            run_block_for_row(t, &t->blocks[t->n_layers - 1], x, samples, row, &work, scratch, err);
    return st;
}

/* Every sequence attends to itself. */
static enum status attend_apart(const struct transformer *t, const size_t *length, size_t n,
                                const struct transformer_work *work, struct arena *scratch,
                                struct error *err)
{
    size_t D = t->width, first = 0;
    struct arena mark = *scratch;
    enum status st = ST_OK;

    for (size_t i = 0; i < n && st == ST_OK; first += length[i], i++) {
        struct attention attention =
            attention_of_qkv(work->wide + first * 3 * D, length[i], D, t->n_heads);

        attention.causal = true;
        st = attention_run(&attention, work->mixed + first * D, scratch, err);
        arena_rewind(scratch, &mark);
    }
    return st;
}

/* Row i becomes sequence i's last; ends ascend, so that none is overwritten before it is moved. */
static void gather_last_rows(float *x, const size_t *length, size_t n, size_t D)
{
    size_t end = 0;

    for (size_t i = 0; i < n; i++) {
        end += length[i];
        memmove(x + i * D, x + (end - 1) * D, D * sizeof *x);
    }
}

enum status transformer_run_last_rows(const struct transformer *t, float *x, const size_t *length,
                                      size_t n, struct arena *scratch, struct error *err)
{
    size_t D = t->width, T = 0, rows;
    struct transformer_work work;
    enum status st;

    for (size_t i = 0; i < n; i++)
        T += length[i];
    rows = T;
    st = work_init(t, T, scratch, &work, err);
    for (size_t layer = 0; layer < t->n_layers && st == ST_OK; layer++) {
        const struct transformer_block *b = &t->blocks[layer];

        run_qkv(t, b, x, (struct samples){1, T}, &work);
        st = attend_apart(t, length, n, &work, scratch, err);
        if (layer + 1 == t->n_layers) { /* what follows is row by row */
            gather_last_rows(work.mixed, length, n, D);
            gather_last_rows(x, length, n, D);
            rows = n;
        }
        if (st == ST_OK)
            transformer_finish_block(t, b, x, (struct samples){1, rows}, &work);
    }
    return st;
}

size_t transformer_step_scratch(const struct transformer *t, size_t M, size_t capacity)
{
    return 2 * M * t->width + wide_floats(t, M) + t->n_heads * capacity + codes_floats(t, M);
}

struct transformer_work transformer_step_work(const struct transformer *t, size_t M, float *scratch)
{
    size_t D = t->width;
    float *codes = scratch + 2 * M * D + wide_floats(t, M);

    return (struct transformer_work){.normed = scratch,
                                     .mixed = scratch + M * D,
                                     .wide = scratch + 2 * M * D,
                                     .codes = codes,
                                     .scores = codes + codes_floats(t, M)};
}

void transformer_step(const struct transformer *t, size_t layer, float *x, size_t M,
                      const size_t *row, const size_t *position, struct kv_cache *cache,
                      float *scratch)
{
    const struct transformer_block *b = &t->blocks[layer];
    size_t D = t->width;
    const struct transformer_work work = transformer_step_work(t, M, scratch);

    run_qkv(t, b, x, (struct samples){M, 1}, &work);
    for (size_t m = 0; m < M; m++) {
        const float *qkv = work.wide + m * 3 * D;
        struct attention attention = {.q = qkv,
                                      .Tq = 1,
                                      .Tk = position[m] + 1,
                                      .n_heads = t->n_heads,
                                      .head_dim = D / t->n_heads};

        kv_cache_put(cache, layer, row[m], position[m], 1, qkv + D, qkv + 2 * D);
        kv_cache_attend(cache, layer, row[m], &attention);
        attention_step(&attention, work.mixed + m * D, work.scores);
    }
    transformer_finish_block(t, b, x, (struct samples){M, 1}, &work);
}

size_t transformer_scratch_floats(const struct transformer *t, size_t T)
{
    size_t D = t->width, attention = MIN(T, (size_t)ATTENTION_TILE) * T;

    if (t->blocks[0].qkv.form == MATRIX_INT8)
        attention = MAX(attention, attention_int8_floats(T, D / t->n_heads));
    return 2 * T * D + wide_floats(t, T) + attention + codes_floats(t, T);
}
