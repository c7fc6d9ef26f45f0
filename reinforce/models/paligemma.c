#include "reinforce/models/paligemma.h"

#include "reinforce/nn/attention.h"
#include "reinforce/nn/ops.h"

#include <stdio.h>
#include <string.h>

enum { MAX_NAME = 160 };

/* Three generations of names: as published and as transformers had them up to 4.51, as it has them
 * in memory since, and those of a model saved without its head. */
struct names {
    const char *table; /* tells which */
    const char *decoder, *vision, *projector;
};

static const struct names generations[] = {
    {"language_model.model.embed_tokens.weight", "language_model.model.", "vision_tower.",
     "multi_modal_projector.linear."},
    {"model.language_model.embed_tokens.weight", "model.language_model.", "model.vision_tower.",
     "model.multi_modal_projector.linear."},
    {"language_model.embed_tokens.weight", "language_model.", "vision_tower.",
     "multi_modal_projector.linear."},
};
static const char *const head_names[] = {"lm_head.weight", "language_model.lm_head.weight"};

/* The head is the table of embeddings. A file may hold it once more; then the ids that can be said
 * must agree (rows behind them are random in either). */
static enum status check_head(struct weights *weights, const struct names *names, size_t vocab_size,
                              struct error *err)
{
    const struct tensor *table = weights_peek(weights, names->table);

    for (size_t i = 0; i < ARRAY_LEN(head_names); i++) {
        const struct tensor *head = weights_peek(weights, head_names[i]);

        if (head == NULL)
            continue;
        weights_ignore_prefix(weights, head_names[i]);
        if (head->rank != 2 || head->dtype != table->dtype || head->shape[1] != table->shape[1] ||
            head->shape[0] < vocab_size ||
            memcmp(head->data.data, table->data.data,
                   vocab_size * (table->data.len / table->shape[0])) != 0)
            return error_set(err, ST_INVALID,
                             "tensor \"%s\" differs from the table of embeddings, which is the "
                             "head of every PaliGemma",
                             head_names[i]);
    }
    return ST_OK;
}

enum status paligemma_load(const struct snapshot *snapshot, struct weights *weights,
                           struct paligemma *p, struct error *err)
{
    const struct gemma_config *decoder = &snapshot->decoder;
    const struct names *names = &generations[0];
    enum status st;

    memset(p, 0, sizeof *p);
    for (size_t i = 0; i < ARRAY_LEN(generations); i++)
        if (weights_peek(weights, generations[i].table) != NULL)
            names = &generations[i];
    st = weights_check_finite(weights, err); /* reads all: before anything is allocated */
    if (st == ST_OK)
        st = vit_load(weights, names->vision, NAMING_TRANSFORMERS, &snapshot->vision, &p->vision,
                      err);
    if (st == ST_OK)
        st = linear_load(weights, names->projector, p->vision.width, decoder->width, &p->projector,
                         err);
    if (st == ST_OK)
        st = gemma_load(weights, names->decoder, decoder, &p->gemma, err);
    if (st == ST_OK)
        st = check_head(weights, names, decoder->vocab_size, err);
    if (st == ST_OK)
        st = weights_check_all_used(weights, err);
    if (decoder->matrices == MATRIX_INT8)
        weights_drop_pages(weights);
    p->n_image_tokens = p->vision.n_tokens;
    if (st != ST_OK)
        paligemma_release(p);
    return st;
}

void paligemma_release(struct paligemma *p)
{
    gemma_release(&p->gemma);
    vit_release(&p->vision);
    memset(p, 0, sizeof *p);
}

enum status paligemma_encode_image(const struct paligemma *p, const float *pixels,
                                   struct arena *scratch, float *tokens, struct error *err)
{
    const struct linear *projector = &p->projector;
    size_t n = p->n_image_tokens;
    struct arena mark = *scratch;
    float *patches;
    enum status st = arena_alloc(scratch, n * projector->in * sizeof *patches, &patches, err);

    if (st == ST_OK)
        st = vit_run(&p->vision, pixels, 1, false, scratch, patches, err);
    if (st == ST_OK) {
        ops_linear(tokens, patches, projector->in, projector->w, projector->b, n, projector->out,
                   projector->in);
        if (!ops_all_finite(tokens, n * projector->out))
            st = error_set(err, ST_CORRUPT, "the image tokens are not finite");
    }
    arena_rewind(scratch, &mark);
    return st;
}

enum status paligemma_prefix(const struct paligemma *p, const float *tokens, const int32_t *ids,
                             size_t n_ids, float *x, struct error *err)
{
    size_t n = p->n_image_tokens * p->gemma.config.width;

    memcpy(x, tokens, n * sizeof *x); /* not scaled as the text's embeddings are */
    return gemma_embed(&p->gemma, ids, n_ids, x + n, err);
}

/* Of one block, or of all but the blocks. */
static size_t block_parameters(const struct transformer_shape *s)
{
    return 4 * (s->width * s->width + s->width) + 2 * s->width * s->mlp_width + s->mlp_width +
           s->width + 4 * s->width;
}

static size_t n_patches(const struct vision_config *v)
{
    size_t grid = (size_t)(v->image_size / v->patch_size);

    return grid * grid;
}

static size_t vision_parameters(const struct vision_config *v)
{
    size_t D = v->shape.width, K = 3 * (size_t)v->patch_size * (size_t)v->patch_size;

    return D * K + D + n_patches(v) * D + v->shape.n_layers * block_parameters(&v->shape) + 2 * D;
}

static size_t projector_parameters(const struct snapshot *s)
{
    return s->decoder.width * (s->vision.shape.width + 1);
}

size_t paligemma_n_parameters(const struct snapshot *s)
{
    return vision_parameters(&s->vision) + projector_parameters(s) +
           gemma_n_parameters(&s->decoder, s->decoder.vocab_size);
}

/* What loading adds to what the files hold: whatever is not float32 outside the decoder's matrices.
 * The tower's float32 ones are packed, and their pages given back. */
static size_t copied_bytes(const struct snapshot *s, const struct weights *weights)
{
    bool bf16 = weights_stored_bytes(weights, TENSOR_BF16) > 0;
    bool f16 = weights_stored_bytes(weights, TENSOR_F16) > 0;
    size_t floats = f16    ? paligemma_n_parameters(s)
                    : bf16 ? vision_parameters(&s->vision) + projector_parameters(s)
                           : 0;

    return floats * sizeof(float);
}

/* Matrices of the tower's blocks, of the decoder and its head; the rest of the parameters are
 * floats. What the files hold is not kept in memory. */
static size_t int8_bytes(const struct snapshot *s)
{
    const struct transformer_shape *tower = &s->vision.shape;
    const struct gemma_config *c = &s->decoder;
    size_t V = tower->width, D = c->width, f = c->mlp_width;
    size_t q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    size_t block = int8_matrix_bytes(3 * V, V) + int8_matrix_bytes(V, V) +
                   int8_matrix_bytes(tower->mlp_width, V) + int8_matrix_bytes(V, tower->mlp_width);
    size_t layer = int8_matrix_bytes(q, D) + 2 * int8_matrix_bytes(kv, D) +
                   int8_matrix_bytes(D, q) + 2 * int8_matrix_bytes(f, D) + int8_matrix_bytes(D, f);
    size_t quantized = tower->n_layers * (4 * V * V + 2 * V * tower->mlp_width) +
                       c->n_layers * (2 * q * D + 2 * kv * D + 3 * f * D) + c->vocab_size * D;

    return tower->n_layers * block + c->n_layers * layer + int8_matrix_bytes(c->vocab_size, D) +
           (paligemma_n_parameters(s) - quantized) * sizeof(float);
}

static size_t weights_bytes(const struct snapshot *s, const struct weights *weights)
{
    size_t added =
        s->vision.matrices == MATRIX_FLOAT32 ? transformer_added_bytes(&s->vision.shape) : 0;

    return s->decoder.matrices == MATRIX_INT8
               ? int8_bytes(s)
               : weights_stored_bytes(weights, TENSOR_F32) +
                     weights_stored_bytes(weights, TENSOR_BF16) +
                     weights_stored_bytes(weights, TENSOR_F16) + copied_bytes(s, weights) + added;
}

void paligemma_memory(const struct snapshot *s, const struct weights *weights, size_t rows,
                      size_t capacity, struct paligemma_memory *out)
{
    const struct transformer_shape *tower = &s->vision.shape;
    size_t n = n_patches(&s->vision), side = (size_t)s->vision.image_size;
    size_t product = s->vision.matrices == MATRIX_INT8
                         ? int8_rows_floats(n, MAX(tower->width, tower->mlp_width))
                         : 0;
    size_t encode = n * (3 * tower->width + MAX(3 * tower->width, tower->mlp_width)) +
                    ATTENTION_TILE * n + product + 3 * side * side;

    *out = (struct paligemma_memory){
        .weights = weights_bytes(s, weights),
        .cache = gemma_decoder_bytes(&s->decoder, rows, capacity) +
                 rows * s->decoder.vocab_size * sizeof(float),
        .activations = 2 * capacity * s->decoder.width * sizeof(float) +
                       MAX(gemma_prefill_bytes(&s->decoder, capacity), encode * sizeof(float)),
    };
}
