/* Folds the published training form of FastViT into what fastvit.c runs. */
#include "reinforce/models/conv_fold.h"
#include "reinforce/models/fastvit.h"
#include "reinforce/nn/ops.h"

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

/* Where each naming keeps the same things. */
struct fastvit_names {
    const char *prefix, *stem;
    const char *large, *large_folded; /* the 7 x 7 branch where a stage begins */
    const char *position;
    const char *final, *reduce, *expand; /* the last convolution; its squeeze-and-excite */
    const struct conv_fold_names *parts;
};

static const struct fastvit_names timm_names = {.prefix = "visual.trunk.",
                                                .stem = "stem",
                                                .large = "large_conv.",
                                                .large_folded = "reparam_conv.",
                                                .position = "pos_enc.",
                                                .final = "final_conv.",
                                                .reduce = "se.fc1.",
                                                .expand = "se.fc2.",
                                                .parts = &conv_fold_timm};
static const struct fastvit_names apple_names = {.prefix = "image_encoder.model.",
                                                 .stem = "patch_embed",
                                                 .large = "lkb_origin.",
                                                 .large_folded = "lkb_reparam.",
                                                 .position = "pe.",
                                                 .final = "conv_exp.",
                                                 .reduce = "se.reduce.",
                                                 .expand = "se.expand.",
                                                 .parts = &conv_fold_apple};

/* A stage's convolution to half the side, its positions and its blocks. */
struct stage_names {
    char down[48], position[48], blocks[48];
};

static void name_stage(const struct fastvit_names *names, size_t s, bool attention,
                       struct stage_names *out)
{
    if (names == &timm_names) {
        (void)snprintf(out->down, sizeof out->down, "stages.%zu.downsample.proj.", s);
        (void)snprintf(out->position, sizeof out->position, "stages.%zu.pos_emb.", s);
        (void)snprintf(out->blocks, sizeof out->blocks, "stages.%zu.blocks.", s);
    } else { /* all in one row; positions come before the blocks of the last stage */
        (void)snprintf(out->down, sizeof out->down, "network.%zu.proj.", 2 * s - 1);
        (void)snprintf(out->position, sizeof out->position, "network.%zu.", 2 * s);
        (void)snprintf(out->blocks, sizeof out->blocks, "network.%zu.", 2 * s + attention);
    }
}

static enum status load_depthwise(struct conv_fold *fold, const char *at, size_t C, size_t side,
                                  size_t stride, struct conv_depthwise *out)
{
    struct arena mark = fold->scratch;
    struct conv_kernel k;
    enum status st = conv_fold_begin(fold, &k, C, 1, side, side);

    if (st == ST_OK)
        st = conv_fold_add_mobile_one(fold, &k, at);
    if (st == ST_OK)
        st = conv_fold_to_depthwise(fold, &k, stride, out);
    arena_rewind(&fold->scratch, &mark);
    return st;
}

/* What is between the blocks, where int8 would cost a hundred times as much as in them. */
static enum status load_dense(struct conv_fold *fold, const char *at, size_t in, size_t out_width,
                              size_t side, struct block_linear *out)
{
    struct arena mark = fold->scratch;
    struct conv_kernel k;
    enum status st = conv_fold_begin(fold, &k, out_width, in, side, side);

    if (st == ST_OK)
        st = conv_fold_add_mobile_one(fold, &k, at);
    if (st == ST_OK)
        st = conv_fold_to_matrix(fold, &k, at, MATRIX_STRASSEN, out);
    arena_rewind(&fold->scratch, &mark);
    return st;
}

static enum status load_squeeze(struct conv_fold *fold, const char *at, const char *reduce,
                                const char *expand, size_t C, size_t reduced,
                                struct squeeze_excite *out)
{
    char name[CONV_FOLD_MAX_NAME];
    enum status st;

    (void)snprintf(name, sizeof name, "%s%s", at, reduce);
    st = conv_fold_get_pointwise(fold, name, C, reduced, &out->reduce);
    (void)snprintf(name, sizeof name, "%s%s", at, expand);
    return st == ST_OK ? conv_fold_get_pointwise(fold, name, reduced, C, &out->expand) : st;
}

/* qkv of a batch norm's output: the norm becomes part of the product. */
static enum status load_normed_qkv(struct conv_fold *fold, const char *at, size_t C,
                                   struct block_linear *qkv)
{
    struct arena mark = fold->scratch;
    struct conv_kernel k;
    double *scale, *shift;
    const float *w;
    char name[CONV_FOLD_MAX_NAME];
    enum status st =
        conv_fold_get(fold, WEIGHTS_SHAPE(3 * C, C), &w, "%stoken_mixer.qkv.weight", at);

    (void)snprintf(name, sizeof name, "%snorm.", at);
    if (st == ST_OK)
        st = conv_fold_begin(fold, &k, 3 * C, C, 1, 1);
    if (st == ST_OK)
        st = conv_fold_norm(fold, name, C, &scale, &shift);
    for (size_t o = 0; o < 3 * C && st == ST_OK; o++)
        for (size_t i = 0; i < C; i++) {
            k.w[o * C + i] = (double)w[o * C + i] * scale[i];
            k.b[o] += (double)w[o * C + i] * shift[i];
        }
    (void)snprintf(name, sizeof name, "%stoken_mixer.qkv.", at);
    if (st == ST_OK)
        st = conv_fold_to_matrix(fold, &k, name, fold->form, qkv);
    arena_rewind(&fold->scratch, &mark);
    return st;
}

static enum status load_qkv(struct conv_fold *fold, const char *at, size_t C, bool layer_norm,
                            struct fastvit_block *block)
{
    static const char *const weight[] = {"token_mixer.qkv.weight"};
    char name[CONV_FOLD_MAX_NAME];
    enum status st;

    if (!layer_norm)
        return load_normed_qkv(fold, at, C, &block->qkv);
    (void)snprintf(name, sizeof name, "%s%s", fold->prefix, at);
    st = block_linear_load(fold->weights, name, weight, 1, fold->form, C, 3 * C, NULL, &block->qkv,
                           fold->err);
    (void)snprintf(name, sizeof name, "%s%snorm.", fold->prefix, at);
    return st == ST_OK ? layer_norm_load(fold->weights, name, C, &block->norm, fold->err) : st;
}

static enum status load_attention(struct conv_fold *fold, const char *at, size_t C, bool layer_norm,
                                  struct fastvit_block *block)
{
    const float *gamma;
    char name[CONV_FOLD_MAX_NAME];
    enum status st = load_qkv(fold, at, C, layer_norm, block);

    if (st == ST_OK)
        st = conv_fold_get(fold, WEIGHTS_SHAPE(C, 1, 1), &gamma, "%slayer_scale_1%s", at,
                           fold->names->gamma);
    (void)snprintf(name, sizeof name, "%stoken_mixer.proj.", at);
    return st == ST_OK ? conv_fold_load_matrix(fold, name, C, C, gamma, &block->attn_out) : st;
}

static enum status load_downsample(struct conv_fold *fold, const struct fastvit_names *names,
                                   const char *down, bool squeeze, struct fastvit_stage *stage)
{
    struct arena mark = fold->scratch;
    size_t C = stage->width;
    struct conv_kernel k;
    char at[CONV_FOLD_MAX_NAME], name[CONV_FOLD_MAX_NAME];
    enum status st = conv_fold_begin(fold, &k, C, 1, 7, 7);

    (void)snprintf(at, sizeof at, "%s0.", down);
    (void)snprintf(name, sizeof name, "%s%s", at, names->large_folded);
    if (st == ST_OK && conv_fold_has(fold, "%sweight", name)) {
        st = conv_fold_add_plain(fold, &k, name);
    } else if (st == ST_OK) {
        (void)snprintf(name, sizeof name, "%s%s", at, names->large);
        st = conv_fold_add_conv(fold, &k, 7, 7, name);
        (void)snprintf(name, sizeof name, "%ssmall_conv.", at);
        if (st == ST_OK)
            st = conv_fold_add_conv(fold, &k, 3, 3, name);
    }
    if (st == ST_OK)
        st = conv_fold_to_depthwise(fold, &k, 2, &stage->down);
    arena_rewind(&fold->scratch, &mark);
    if (st == ST_OK && squeeze)
        st = load_squeeze(fold, at, "se.fc1.", "se.fc2.", C, C / 4, &stage->squeeze);
    (void)snprintf(at, sizeof at, "%s1.", down);
    return st == ST_OK ? load_dense(fold, at, C, C, 1, &stage->down_mix) : st;
}

/* x + conv(x) + bias */
static enum status load_position(struct conv_fold *fold, const struct fastvit_names *names,
                                 const char *position, size_t C, struct conv_depthwise *out)
{
    struct arena mark = fold->scratch;
    struct conv_kernel k;
    char at[CONV_FOLD_MAX_NAME];
    bool folded = conv_fold_has(fold, "%sreparam_conv.weight", position);
    enum status st = conv_fold_begin(fold, &k, C, 1, 7, 7);

    (void)snprintf(at, sizeof at, "%s%s", position, folded ? "reparam_conv." : names->position);
    if (st == ST_OK)
        st = conv_fold_add_plain(fold, &k, at);
    for (size_t c = 0; c < C && st == ST_OK && !folded; c++)
        k.w[c * 49 + 24] += 1;
    if (st == ST_OK)
        st = conv_fold_to_depthwise(fold, &k, 1, out);
    arena_rewind(&fold->scratch, &mark);
    return st;
}

static enum status load_block(struct conv_fold *fold, const char *at, size_t C,
                              const struct fastvit_shape *shape, bool attention,
                              struct fastvit_block *block)
{
    enum status st = attention ? load_attention(fold, at, C, shape->layer_norm, block)
                               : rep_mixer_load(fold, at, C, 3, 3, &block->mix.mixer);

    return st == ST_OK ? conv_mlp_load(fold, at, attention ? "layer_scale_2" : "layer_scale", C,
                                       C * shape->mlp_ratio, 7, 7, &block->mix.mlp)
                       : st;
}

static bool has_attention(size_t stage)
{
    return stage >= 3; /* where 16 x 16 pixels are left */
}

size_t fastvit_added_bytes(const struct fastvit_shape *shape)
{
    size_t bytes = 0;

    for (size_t s = 0; s < shape->n_stages; s++) {
        size_t C = shape->width << s, wide = C * shape->mlp_ratio;
        size_t block = strassen_added_bytes(wide, C) + strassen_added_bytes(C, wide);

        if (has_attention(s))
            block += strassen_added_bytes(3 * C, C) + strassen_added_bytes(C, C);
        bytes += shape->n_blocks[s] * block;
    }
    return bytes;
}

static enum status load_stage(struct conv_fold *fold, const struct fastvit_names *names,
                              const struct fastvit_shape *shape, size_t s,
                              struct fastvit_stage *stage)
{
    bool attention = has_attention(s);
    struct stage_names at;
    char block[CONV_FOLD_MAX_NAME];
    enum status st = ST_OK;

    name_stage(names, s, attention, &at);
    stage->width = shape->width << s;
    stage->n_blocks = shape->n_blocks[s];
    if (s > 0)
        st = load_downsample(fold, names, at.down, shape->squeeze && s >= 2, stage);
    if (st == ST_OK && attention)
        st = load_position(fold, names, at.position, stage->width, &stage->position);
    if (st == ST_OK)
        st = arena_calloc(fold->arena, stage->n_blocks, sizeof *stage->blocks, &stage->blocks,
                          fold->err);
    for (size_t i = 0; i < stage->n_blocks && st == ST_OK; i++) {
        (void)snprintf(block, sizeof block, "%s%zu.", at.blocks, i);
        st = load_block(fold, block, stage->width, shape, attention, &stage->blocks[i]);
    }
    return st;
}

static enum status load_head(struct conv_fold *fold, const struct fastvit_names *names, size_t C,
                             struct fastvit *f)
{
    enum status st = load_depthwise(fold, names->final, 2 * C, 3, 1, &f->final_conv);

    if (st == ST_OK)
        st = load_squeeze(fold, names->final, names->reduce, names->expand, 2 * C, 2 * C / 16,
                          &f->final_squeeze);
    f->head = (struct linear){.in = 2 * C, .out = f->dim};
    if (st == ST_OK && names == &apple_names) /* stored [in, out], without bias */
        return weights_get_transposed(fold->weights, fold->prefix, "head.proj", 2 * C, f->dim,
                                      &f->head.w, fold->err);
    if (st == ST_OK)
        st = conv_fold_get(fold, WEIGHTS_SHAPE(f->dim, 2 * C), &f->head.w, "head.fc.weight");
    return st == ST_OK ? conv_fold_get(fold, WEIGHTS_SHAPE(f->dim), &f->head.b, "head.fc.bias")
                       : st;
}

static enum status load_stem(struct conv_fold *fold, const struct fastvit_names *names, size_t C,
                             struct fastvit *f)
{
    char at[3][48];
    enum status st;

    for (size_t i = 0; i < ARRAY_LEN(at); i++)
        (void)snprintf(at[i], sizeof at[i], "%s.%zu.", names->stem, i);
    st = load_dense(fold, at[0], 3, C, 3, &f->stem);
    if (st == ST_OK)
        st = load_depthwise(fold, at[1], C, 3, 2, &f->stem_depthwise);
    return st == ST_OK ? load_dense(fold, at[2], C, C, 1, &f->stem_mix) : st;
}

/* Pixels along a side of stage s. */
static size_t side_of(size_t image_size, size_t s)
{
    return image_size / 4 >> s;
}

enum status fastvit_load(struct weights *weights, enum naming naming,
                         const struct fastvit_shape *shape, size_t image_size, size_t dim,
                         enum matrix_form form, struct fastvit *out, struct error *err)
{
    const struct fastvit_names *names = naming == NAMING_APPLE ? &apple_names : &timm_names;
    struct conv_fold fold = {.weights = weights,
                             .names = names->parts,
                             .prefix = names->prefix,
                             .form = block_linear_form_of_samples(form),
                             .arena = &out->arena,
                             .err = err};
    enum status st;

    *out = (struct fastvit){.image_size = image_size,
                            .dim = dim,
                            .n_stages = shape->n_stages,
                            .gelu = form == MATRIX_INT8 ? ops_gelu_coarse : ops_gelu};
    arena_init(&out->arena, ARENA_BYTES);
    arena_init(&fold.scratch, ARENA_BYTES);
    while (out->n_alone < shape->n_stages &&
           side_of(image_size, out->n_alone) >= FASTVIT_ALONE_SIDE)
        out->n_alone++;
    st = load_stem(&fold, names, shape->width, out);
    for (size_t s = 0; s < shape->n_stages && st == ST_OK; s++)
        st = load_stage(&fold, names, shape, s, &out->stages[s]);
    if (st == ST_OK)
        st = load_head(&fold, names, shape->width << (shape->n_stages - 1), out);
    arena_release(&fold.scratch);
    return st;
}
