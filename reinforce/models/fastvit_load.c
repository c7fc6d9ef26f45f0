/* Folds the published training form of FastViT into what fastvit.c runs. */
#include "reinforce/models/conv_fold.h"
#include "reinforce/models/fastvit.h"

#include <stdio.h>

#define ARENA_BYTES ((size_t)16 << 30) /* weights, not outside input, say how much is taken */

static const struct fastvit_shape shapes[] = {
    {"fastvit_mci0", 4, {2, 6, 10, 2}, 64, 3, true, false},
    {"fastvit_mci1", 4, {4, 12, 20, 4}, 64, 3, true, false},
    {"fastvit_mci2", 4, {4, 12, 24, 4}, 80, 3, true, false},
    {"fastvit_mci3", 5, {2, 12, 24, 4, 2}, 96, 4, false, true},
    {"fastvit_mci4", 5, {2, 12, 24, 4, 4}, 128, 4, false, true},
};

const struct fastvit_shape *fastvit_shape_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
        if (strcmp(shapes[i].name, name) == 0)
            return &shapes[i];
    return NULL;
}

static enum status load_depthwise(struct conv_fold *fold, const char *at, size_t C, size_t side,
                                  size_t stride, struct conv_depthwise *out)
{
    struct arena mark = fold->scratch;
    struct conv_kernel k;
    enum status st = conv_fold_begin(fold, &k, C, 1, side);

    if (st == ST_OK)
        st = conv_fold_add_mobile_one(fold, &k, at);
    if (st == ST_OK)
        st = conv_fold_to_depthwise(fold, &k, stride, out);
    arena_rewind(&fold->scratch, &mark);
    return st;
}

static enum status load_dense(struct conv_fold *fold, const char *at, size_t in, size_t out_width,
                              size_t side, struct linear *out)
{
    struct arena mark = fold->scratch;
    struct conv_kernel k;
    enum status st = conv_fold_begin(fold, &k, out_width, in, side);

    if (st == ST_OK)
        st = conv_fold_add_mobile_one(fold, &k, at);
    if (st == ST_OK)
        st = conv_fold_to_linear(fold, &k, out);
    arena_rewind(&fold->scratch, &mark);
    return st;
}

/* A 1 x 1 convolution, used where it is stored. */
static enum status load_plain(struct conv_fold *fold, const char *at, size_t in, size_t out_width,
                              struct linear *out)
{
    enum status st =
        conv_fold_get(fold, WEIGHTS_SHAPE(out_width, in, 1, 1), &out->w, "%sweight", at);

    out->in = in;
    out->out = out_width;
    return st == ST_OK ? conv_fold_get(fold, WEIGHTS_SHAPE(out_width), &out->b, "%sbias", at) : st;
}

static enum status load_squeeze(struct conv_fold *fold, const char *at, size_t C, size_t reduced,
                                struct squeeze_excite *out)
{
    char name[CONV_FOLD_MAX_NAME];
    enum status st;

    (void)snprintf(name, sizeof name, "%sse.fc1.", at);
    st = load_plain(fold, name, C, reduced, &out->reduce);
    (void)snprintf(name, sizeof name, "%sse.fc2.", at);
    return st == ST_OK ? load_plain(fold, name, reduced, C, &out->expand) : st;
}

/* identity + gamma * (mixer - norm) */
static enum status load_mixer(struct conv_fold *fold, const char *at, size_t C,
                              struct conv_depthwise *out)
{
    struct arena mark = fold->scratch;
    struct conv_kernel k;
    const float *gamma;
    char name[CONV_FOLD_MAX_NAME];
    enum status st = conv_fold_begin(fold, &k, C, 1, 3);

    (void)snprintf(name, sizeof name, "%sreparam_conv.", at);
    if (st == ST_OK && conv_fold_has(fold, "%sreparam_conv.weight", at)) {
        st = conv_fold_add_plain(fold, &k, name);
    } else if (st == ST_OK) {
        (void)snprintf(name, sizeof name, "%smixer.", at);
        st = conv_fold_add_mobile_one(fold, &k, name);
        (void)snprintf(name, sizeof name, "%snorm.identity.", at);
        if (st == ST_OK)
            st = conv_fold_add_identity(fold, &k, name, -1);
        if (st == ST_OK)
            st = conv_fold_get(fold, WEIGHTS_SHAPE(C, 1, 1), &gamma, "%slayer_scale.gamma", at);
        for (size_t c = 0; c < C && st == ST_OK; c++) {
            for (size_t t = 0; t < 9; t++)
                k.w[c * 9 + t] *= (double)gamma[c];
            k.w[c * 9 + 4] += 1;
            k.b[c] *= (double)gamma[c];
        }
    }
    if (st == ST_OK)
        st = conv_fold_to_depthwise(fold, &k, 1, out);
    arena_rewind(&fold->scratch, &mark);
    return st;
}

/* qkv of a batch norm's output: the norm becomes part of the product. */
static enum status load_qkv(struct conv_fold *fold, const char *at, size_t C, bool layer_norm,
                            struct fastvit_block *block)
{
    struct arena mark = fold->scratch;
    struct conv_kernel k;
    double *scale, *shift;
    const float *w;
    char name[CONV_FOLD_MAX_NAME];
    enum status st =
        conv_fold_get(fold, WEIGHTS_SHAPE(3 * C, C), &w, "%stoken_mixer.qkv.weight", at);

    if (st != ST_OK)
        return st;
    if (layer_norm) {
        block->qkv = (struct linear){.w = w, .in = C, .out = 3 * C};
        (void)snprintf(name, sizeof name, "%s%snorm.", fold->prefix, at);
        return layer_norm_load(fold->weights, name, C, &block->norm, fold->err);
    }
    (void)snprintf(name, sizeof name, "%snorm.", at);
    st = conv_fold_begin(fold, &k, 3 * C, C, 1);
    if (st == ST_OK)
        st = conv_fold_norm(fold, name, C, &scale, &shift);
    for (size_t o = 0; o < 3 * C && st == ST_OK; o++)
        for (size_t i = 0; i < C; i++) {
            k.w[o * C + i] = (double)w[o * C + i] * scale[i];
            k.b[o] += (double)w[o * C + i] * shift[i];
        }
    if (st == ST_OK)
        st = conv_fold_to_linear(fold, &k, &block->qkv);
    arena_rewind(&fold->scratch, &mark);
    return st;
}

static enum status load_attention(struct conv_fold *fold, const char *at, size_t C, bool layer_norm,
                                  struct fastvit_block *block)
{
    enum status st = load_qkv(fold, at, C, layer_norm, block);

    block->attn_out = (struct linear){.in = C, .out = C};
    if (st == ST_OK)
        st = conv_fold_get(fold, WEIGHTS_SHAPE(C, 1, 1), &block->attn_scale,
                           "%slayer_scale_1.gamma", at);
    if (st == ST_OK)
        st = conv_fold_get(fold, WEIGHTS_SHAPE(C, C), &block->attn_out.w,
                           "%stoken_mixer.proj.weight", at);
    return st == ST_OK ? conv_fold_get(fold, WEIGHTS_SHAPE(C), &block->attn_out.b,
                                       "%stoken_mixer.proj.bias", at)
                       : st;
}

static enum status load_mlp(struct conv_fold *fold, const char *at, const char *scale, size_t C,
                            size_t hidden, struct fastvit_block *block)
{
    struct arena mark = fold->scratch;
    struct conv_kernel k;
    char name[CONV_FOLD_MAX_NAME];
    enum status st = conv_fold_begin(fold, &k, C, 1, 7);

    (void)snprintf(name, sizeof name, "%smlp.conv.", at);
    if (st == ST_OK)
        st = conv_fold_add_conv(fold, &k, 7, name);
    if (st == ST_OK)
        st = conv_fold_to_depthwise(fold, &k, 1, &block->mlp_conv);
    arena_rewind(&fold->scratch, &mark);
    if (st == ST_OK)
        st =
            conv_fold_get(fold, WEIGHTS_SHAPE(C, 1, 1), &block->mlp_scale, "%s%s.gamma", at, scale);
    (void)snprintf(name, sizeof name, "%smlp.fc1.", at);
    if (st == ST_OK)
        st = load_plain(fold, name, C, hidden, &block->fc);
    (void)snprintf(name, sizeof name, "%smlp.fc2.", at);
    return st == ST_OK ? load_plain(fold, name, hidden, C, &block->proj) : st;
}

static enum status load_downsample(struct conv_fold *fold, size_t s, bool squeeze,
                                   struct fastvit_stage *stage)
{
    struct arena mark = fold->scratch;
    size_t C = stage->width;
    struct conv_kernel k;
    char at[CONV_FOLD_MAX_NAME], name[CONV_FOLD_MAX_NAME];
    enum status st = conv_fold_begin(fold, &k, C, 1, 7);

    (void)snprintf(at, sizeof at, "stages.%zu.downsample.proj.0.", s);
    if (st == ST_OK && conv_fold_has(fold, "%sreparam_conv.weight", at)) {
        (void)snprintf(name, sizeof name, "%sreparam_conv.", at);
        st = conv_fold_add_plain(fold, &k, name);
    } else if (st == ST_OK) {
        (void)snprintf(name, sizeof name, "%slarge_conv.", at);
        st = conv_fold_add_conv(fold, &k, 7, name);
        (void)snprintf(name, sizeof name, "%ssmall_conv.", at);
        if (st == ST_OK)
            st = conv_fold_add_conv(fold, &k, 3, name);
    }
    if (st == ST_OK)
        st = conv_fold_to_depthwise(fold, &k, 2, &stage->down);
    arena_rewind(&fold->scratch, &mark);
    if (st == ST_OK && squeeze)
        st = load_squeeze(fold, at, C, C / 4, &stage->squeeze);
    (void)snprintf(at, sizeof at, "stages.%zu.downsample.proj.1.", s);
    return st == ST_OK ? load_dense(fold, at, C, C, 1, &stage->down_mix) : st;
}

/* x + conv(x) + bias */
static enum status load_position(struct conv_fold *fold, size_t s, size_t C,
                                 struct conv_depthwise *out)
{
    struct arena mark = fold->scratch;
    struct conv_kernel k;
    char at[CONV_FOLD_MAX_NAME];
    bool folded = conv_fold_has(fold, "stages.%zu.pos_emb.reparam_conv.weight", s);
    enum status st = conv_fold_begin(fold, &k, C, 1, 7);

    (void)snprintf(at, sizeof at, "stages.%zu.pos_emb.%s.", s, folded ? "reparam_conv" : "pos_enc");
    if (st == ST_OK)
        st = conv_fold_add_plain(fold, &k, at);
    for (size_t c = 0; c < C && st == ST_OK && !folded; c++)
        k.w[c * 49 + 24] += 1;
    if (st == ST_OK)
        st = conv_fold_to_depthwise(fold, &k, 1, out);
    arena_rewind(&fold->scratch, &mark);
    return st;
}

static enum status load_stage(struct conv_fold *fold, const struct fastvit_shape *shape, size_t s,
                              struct fastvit_stage *stage)
{
    bool attention = s >= 3; /* where 16 x 16 pixels are left */
    char at[CONV_FOLD_MAX_NAME], mixer[CONV_FOLD_MAX_NAME];
    enum status st = ST_OK;

    stage->width = shape->width << s;
    stage->n_blocks = shape->n_blocks[s];
    if (s > 0)
        st = load_downsample(fold, s, shape->squeeze && s >= 2, stage);
    if (st == ST_OK && attention)
        st = load_position(fold, s, stage->width, &stage->position);
    if (st == ST_OK)
        st = arena_calloc(fold->arena, stage->n_blocks, sizeof *stage->blocks, &stage->blocks,
                          fold->err);
    for (size_t i = 0; i < stage->n_blocks && st == ST_OK; i++) {
        (void)snprintf(at, sizeof at, "stages.%zu.blocks.%zu.", s, i);
        (void)snprintf(mixer, sizeof mixer, "%.100stoken_mixer.", at);
        st = attention
                 ? load_attention(fold, at, stage->width, shape->layer_norm, &stage->blocks[i])
                 : load_mixer(fold, mixer, stage->width, &stage->blocks[i].mixer);
        if (st == ST_OK)
            st = load_mlp(fold, at, attention ? "layer_scale_2" : "layer_scale", stage->width,
                          stage->width * shape->mlp_ratio, &stage->blocks[i]);
    }
    return st;
}

static enum status load_head(struct conv_fold *fold, size_t C, struct fastvit *f)
{
    enum status st = load_depthwise(fold, "final_conv.", 2 * C, 3, 1, &f->final_conv);

    if (st == ST_OK)
        st = load_squeeze(fold, "final_conv.", 2 * C, 2 * C / 16, &f->final_squeeze);
    f->head = (struct linear){.in = 2 * C, .out = f->dim};
    if (st == ST_OK)
        st = conv_fold_get(fold, WEIGHTS_SHAPE(f->dim, 2 * C), &f->head.w, "head.fc.weight");
    return st == ST_OK ? conv_fold_get(fold, WEIGHTS_SHAPE(f->dim), &f->head.b, "head.fc.bias")
                       : st;
}

enum status fastvit_load(struct weights *weights, const char *prefix,
                         const struct fastvit_shape *shape, size_t image_size, size_t dim,
                         struct fastvit *out, struct error *err)
{
    struct conv_fold fold = {
        .weights = weights, .prefix = prefix, .arena = &out->arena, .err = err};
    size_t C = shape->width;
    enum status st;

    *out = (struct fastvit){.image_size = image_size, .dim = dim, .n_stages = shape->n_stages};
    arena_init(&out->arena, ARENA_BYTES);
    arena_init(&fold.scratch, ARENA_BYTES);
    st = load_dense(&fold, "stem.0.", 3, C, 3, &out->stem);
    if (st == ST_OK)
        st = load_depthwise(&fold, "stem.1.", C, 3, 2, &out->stem_depthwise);
    if (st == ST_OK)
        st = load_dense(&fold, "stem.2.", C, C, 1, &out->stem_mix);
    for (size_t s = 0; s < shape->n_stages && st == ST_OK; s++)
        st = load_stage(&fold, shape, s, &out->stages[s]);
    if (st == ST_OK)
        st = load_head(&fold, C << (shape->n_stages - 1), out);
    arena_release(&fold.scratch);
    return st;
}
