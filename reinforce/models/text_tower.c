#include "reinforce/models/text_tower.h"

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

enum { MAX_PREFIX = 96 };

const char *text_tower_prefix(const struct weights *weights)
{
    return weights_peek(weights, "text.token_embedding.weight") != NULL ? "text." : "";
}

static enum status load_head(struct weights *weights, enum naming naming, const char *prefix,
                             enum text_head head, size_t embed_dim, struct text_tower *tower,
                             struct error *err)
{
    const struct tower_names *names =
        naming == NAMING_OPEN_CLIP ? &open_clip_names : &transformers_names;
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
    return naming == NAMING_OPEN_CLIP /* stored [in, out] */
               ? weights_get_transposed(weights, prefix, names->projection, D, embed_dim,
                                        &tower->projection, err)
               : weights_get(weights, prefix, names->projection, WEIGHTS_SHAPE(embed_dim, D),
                             &tower->projection, err);
}

enum status text_tower_load(struct weights *weights, enum naming naming, const char *prefix,
                            const struct text_config *config, size_t n_positions, size_t embed_dim,
                            struct text_tower *out, struct error *err)
{
    const struct tower_names *names =
        naming == NAMING_OPEN_CLIP ? &open_clip_names : &transformers_names;
    size_t D = config->shape.width;
    char full[MAX_PREFIX];
    enum status st;

    *out = (struct text_tower){
        .n_positions = n_positions, .vocab_size = config->vocab_size, .width = D};
    st = weights_get(weights, prefix, names->token, WEIGHTS_SHAPE(config->vocab_size, D),
                     &out->token, err);
    if (st == ST_OK)
        st = weights_get(weights, prefix, names->position, WEIGHTS_SHAPE(n_positions, D),
                         &out->position, err);
    if (st == ST_OK) {
        (void)snprintf(full, sizeof full, "%s%s", prefix, names->blocks);
        st = transformer_load(weights, full, naming, &config->shape, &out->blocks, err);
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
