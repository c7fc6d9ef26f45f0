#include "reinforce/models/text_tower.h"

#include "reinforce/models/conv_fold.h"

#include <stdio.h>
#include <string.h>

struct tower_names {
    const char *token, *position, *blocks, *ln_final, *projection, *linear;
};

static const struct tower_names open_clip_names = {"token_embedding.weight", "positional_embedding",
                                                   "transformer.",           "ln_final.",
                                                   "text_projection",        "text_projection."};
static const struct tower_names transformers_names = {
    "text_model.embeddings.token_embedding.weight",
    "text_model.embeddings.position_embedding.weight",
    "text_model.encoder.",
    "text_model.final_layer_norm.",
    "text_projection.weight",
    "text_model.head."};

static const struct tower_names apple_names = {.token = "embedding_layer.weight",
                                               .position =
                                                   "positional_embedding.pos_embed.pos_embed",
                                               .blocks = "",
                                               .ln_final = "final_layer_norm.",
                                               .projection = "projection_layer"};

enum { MAX_PREFIX = 96 };
enum { MIXER_TAPS = 11, MIXER_RATIO = 4, MIXER_BYTES = 256 << 20 };

static const struct tower_names *names_of(enum naming naming)
{
    switch (naming) {
    case NAMING_OPEN_CLIP:
    case NAMING_TIMM: /* names image towers only */
        return &open_clip_names;
    case NAMING_APPLE:
        return &apple_names;
    case NAMING_TRANSFORMERS:
        break;
    }
    return &transformers_names;
}

const char *text_tower_prefix(const struct weights *weights)
{
    static const char *const prefixes[] = {"text.", "text_encoder."};
    static const char *const tokens[] = {"text.token_embedding.weight",
                                         "text_encoder.embedding_layer.weight"};

    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        if (weights_peek(weights, tokens[i]) != NULL)
            return prefixes[i];
    return "";
}

static enum status load_head(struct weights *weights, enum naming naming, const char *prefix,
                             enum text_head head, size_t embed_dim, struct text_tower *tower,
                             struct error *err)
{
    const struct tower_names *names = names_of(naming);
    size_t D = tower->width;
    char full[MAX_PREFIX];
    struct linear linear;
    enum status st;

    switch (head) {
    case TEXT_HEAD_NONE:
        return D == embed_dim ? ST_OK
                              : error_set(err, ST_INVALID,
                                          "the text tower is %zu wide and has no projection to %zu",
                                          D, embed_dim);
    case TEXT_HEAD_LINEAR:
        (void)snprintf(full, sizeof full, "%s%s", prefix, names->linear);
        st = linear_load(weights, full, D, embed_dim, &linear, err);
        tower->projection = linear.w;
        tower->projection_bias = linear.b;
        return st;
    case TEXT_HEAD_PROJECTION:
        break;
    }
    return naming != NAMING_TRANSFORMERS /* stored [in, out] */
               ? weights_get_transposed(weights, prefix, names->projection, D, embed_dim,
                                        &tower->projection, err)
               : weights_get(weights, prefix, names->projection, WEIGHTS_SHAPE(embed_dim, D),
                             &tower->projection, err);
}

static enum status load_mixer(struct conv_fold *fold, size_t number, size_t D,
                              struct rep_mixer_block *out)
{
    char at[MAX_PREFIX];
    enum status st;

    (void)snprintf(at, sizeof at, "transformer.%zu.", number);
    st = rep_mixer_load(fold, at, D, 1, MIXER_TAPS, &out->mixer);
    return st == ST_OK ? conv_mlp_load(fold, at, "layer_scale", D, MIXER_RATIO * D, 1, MIXER_TAPS,
                                       &out->mlp)
                       : st;
}

static enum status load_mixers(struct weights *weights, const char *prefix, size_t n_layers,
                               enum matrix_form form, struct text_tower *tower, struct error *err)
{
    struct conv_fold fold = {.weights = weights,
                             .names = &conv_fold_apple,
                             .prefix = prefix,
                             .form = form,
                             .arena = &tower->arena,
                             .err = err};
    enum status st;

    arena_init(&tower->arena, MIXER_BYTES);
    arena_init(&fold.scratch, MIXER_BYTES);
    st = load_mixer(&fold, 0, tower->width, &tower->before);
    if (st == ST_OK)
        st = load_mixer(&fold, n_layers + 1, tower->width, &tower->behind);
    arena_release(&fold.scratch);
    return st;
}

enum status text_tower_load(struct weights *weights, enum naming naming, const char *prefix,
                            const struct text_config *config, size_t n_positions, size_t embed_dim,
                            struct text_tower *out, struct error *err)
{
    const struct tower_names *names = names_of(naming);
    size_t D = config->shape.width;
    char full[MAX_PREFIX];
    enum status st;

    *out = (struct text_tower){
        .n_positions = n_positions, .vocab_size = config->vocab_size, .width = D};
    st = weights_get(weights, prefix, names->token, WEIGHTS_SHAPE(config->vocab_size, D),
                     &out->token, err);
    if (st == ST_OK)
        st = weights_get(weights, prefix, names->position,
                         naming == NAMING_APPLE ? WEIGHTS_SHAPE(1, 1, n_positions, D)
                                                : WEIGHTS_SHAPE(n_positions, D),
                         &out->position, err);
    if (st == ST_OK && config->mixers)
        st = load_mixers(weights, prefix, config->shape.n_layers, config->matrices, out, err);
    if (st == ST_OK) {
        (void)snprintf(full, sizeof full, "%s%s", prefix, names->blocks);
        st = transformer_load(weights, full, naming, config->mixers ? 1 : 0, &config->shape,
                              config->matrices, &out->blocks, err);
    }
    if (st == ST_OK) {
        (void)snprintf(full, sizeof full, "%s%s", prefix, names->ln_final);
        st = layer_norm_load(weights, full, D, &out->ln_final, err);
    }
    if (st == ST_OK)
        st = load_head(weights, naming, prefix, config->head, embed_dim, out, err);
    if (st != ST_OK)
        text_tower_release(out);
    return st;
}

void text_tower_release(struct text_tower *tower)
{
    transformer_release(&tower->blocks);
    arena_release(&tower->arena);
}

enum status text_tower_embed(const struct text_tower *tower, const int32_t *ids, size_t n,
                             size_t first_position, float *x, struct error *err)
{
    size_t D = tower->width;

    if (n > tower->n_positions || first_position > tower->n_positions - n)
        return error_set(err, ST_INVALID, "%zu tokens are more than the model's %zu positions",
                         first_position + n, tower->n_positions);
    for (size_t i = 0; i < n; i++) {
        const float *position = tower->position + (first_position + i) * D, *token;

        if (ids[i] < 0 || (size_t)ids[i] >= tower->vocab_size)
            return error_set(err, ST_INVALID, "token id %ld is outside the vocabulary of %zu",
                             (long)ids[i], tower->vocab_size);
        token = tower->token + (size_t)ids[i] * D;
        for (size_t d = 0; d < D; d++)
            x[i * D + d] = token[d] + position[d];
    }
    return ST_OK;
}

/* One block over the tokens as a picture one row high. */
static enum status run_mixer(const struct rep_mixer_block *block, float *x, size_t T,
                             struct arena *scratch, struct error *err)
{
    const struct block_mlp *mlp = &block->mlp.mlp;
    size_t D = block->mixer.C, pixels = MIN(T, (size_t)CONV_MLP_PIXELS);
    struct arena mark = *scratch;
    float *mixed, *codes, *wide;
    enum status st = arena_alloc(scratch, T * D * sizeof *mixed, &mixed, err);

    if (st == ST_OK)
        st = arena_alloc(scratch, block_linear_codes_floats(&mlp->fc, pixels) * sizeof *codes,
                         &codes, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, block_mlp_wide_floats(mlp, pixels) * sizeof *wide, &wide, err);
    if (st == ST_OK) {
        conv_depthwise_run(&block->mixer, x, 1, T, mixed);
        conv_mlp_run(&block->mlp, mixed, 1, 1, T, x, codes, wide);
        memcpy(x, mixed, T * D * sizeof *x);
    }
    arena_rewind(scratch, &mark);
    return st;
}

enum status text_tower_run_whole(const struct text_tower *tower, float *x, size_t T, size_t row,
                                 struct arena *scratch, struct error *err)
{
    struct arena mark = *scratch;
    enum status st;

    if (tower->before.mixer.w == NULL) {
        st = transformer_run_pooled(&tower->blocks, x, 1, T, row, scratch, err);
    } else {
        st = run_mixer(&tower->before, x, T, scratch, err);
        if (st == ST_OK)
            st = transformer_run(&tower->blocks, x, 1, T, false, NULL, scratch, err);
        arena_rewind(scratch, &mark);
        if (st == ST_OK)
            st = run_mixer(&tower->behind, x, T, scratch, err);
        memmove(x, x + row * tower->width, tower->width * sizeof *x);
    }
    arena_rewind(scratch, &mark);
    return st;
}
