#include "reinforce/nn/attention.h"
#include "reinforce/nn/int8.h"
#include "reinforce/nn/int8_kernels.h"
#include "reinforce/nn/int8_probabilities.h"
#include "reinforce/nn/int8_rows.h"

enum { LANES = 16 };

static const struct epilogue nothing;

/* A head's keys and values, and what a tile of its queries needs. */
struct head {
    size_t Tk, dim;
    size_t padded; /* Tk in whole chunks */
    size_t apart;  /* rows of scores: in whole lanes, and not all in one set of a cache */
    uint8_t *key_panels, *value_panels;
    float *key_scale, *value_scale;
    float *codes;  /* of a tile's queries, then of its probabilities */
    float *scores; /* [INT8_ROWS, apart] */
};

static size_t codes_floats(size_t Tk, size_t dim)
{
    return MAX(int8_rows_floats(INT8_ROWS, dim),
               int8_rows_floats(INT8_ROWS, 2 * int8_whole_chunks(Tk)));
}

static size_t scores_apart(size_t Tk)
{
    return (Tk + LANES - 1) / LANES * LANES + LANES;
}

size_t attention_int8_floats(size_t Tk, size_t head_dim)
{
    size_t matrices =
        int8_matrix_bytes(Tk, head_dim) + int8_matrix_bytes(head_dim, 2 * int8_whole_chunks(Tk));

    return (matrices + 4 * (size_t)ARENA_ALIGN) / sizeof(float) + codes_floats(Tk, head_dim) +
           INT8_ROWS * scores_apart(Tk);
}

static enum status alloc_matrix(struct arena *scratch, size_t out, size_t in, uint8_t **panels,
                                float **scale, struct error *err)
{
    enum status st = arena_alloc(scratch, int8_matrix_bytes(out, in), panels, err);

    if (st == ST_OK)
        *scale = (float *)(void *)(*panels + int8_panels(out) * int8_panel_bytes(in));
    return st;
}

static enum status head_init(struct head *head, const struct attention *a, struct arena *scratch,
                             struct error *err)
{
    enum status st;

    *head = (struct head){.Tk = a->Tk,
                          .dim = a->head_dim,
                          .padded = int8_whole_chunks(a->Tk),
                          .apart = scores_apart(a->Tk)};
    st = alloc_matrix(scratch, head->Tk, head->dim, &head->key_panels, &head->key_scale, err);
    if (st == ST_OK)
        st = alloc_matrix(scratch, head->dim, 2 * head->padded, &head->value_panels,
                          &head->value_scale, err);
    if (st == ST_OK)
        st = arena_alloc(scratch, codes_floats(head->Tk, head->dim) * sizeof(float), &head->codes,
                         err);
    if (st == ST_OK)
        st = arena_alloc(scratch, INT8_ROWS * head->apart * sizeof(float), &head->scores, err);
    return st;
}

/* Rows of a head are far apart, and a processor looks ahead within a page: asked for before their
 * turn, keys and values so many rows, queries a tile of them. */
enum { ROWS_AHEAD = 8 };

static ALWAYS_INLINE void ask_for_row(const float *row, size_t columns)
{
    enum { LINE = 64 / sizeof *row };

    for (size_t i = 0; i < columns; i += LINE)
        __builtin_prefetch(row + i);
}

/* Keys, rows of a matrix, each with its own scale. */
static void pack_keys(const struct head *head, const float *k, size_t stride)
{
    size_t filled = int8_panels(head->Tk) * INT8_COLUMNS - head->Tk;

    for (size_t j = 0; j < head->Tk; j++) {
        ask_for_row(k + (j + ROWS_AHEAD) * stride, head->dim);
        head->key_scale[j] =
            int8_pack_row(k + j * stride, head->dim, int8_quads_at(head->key_panels, head->dim, j));
    }
    memset(head->key_scale + head->Tk, 0, filled * sizeof *head->key_scale);
}

/* 32 of a value's columns; those behind `columns` are zeros, and so are keys behind the last. */
static ALWAYS_INLINE const float *value_row(const struct head *head, const float *v, size_t stride,
                                            size_t j, size_t columns, float filled[INT8_COLUMNS])
{
    if (j >= head->Tk)
        return memset(filled, 0, INT8_COLUMNS * sizeof *filled);
    if (columns == INT8_COLUMNS)
        return v + j * stride;
    memset(filled + columns, 0, (INT8_COLUMNS - columns) * sizeof *filled);
    return memcpy(filled, v + j * stride, columns * sizeof *filled);
}

/* Values, columns of a matrix, each with its own scale. */
BYTE_KERNEL_CLONES static void pack_value_panel(const struct head *head, const float *v,
                                                size_t stride, size_t columns, uint8_t *panel,
                                                float *scale)
{
    float filled[INT8_QUAD][INT8_COLUMNS], inverse[INT8_COLUMNS];
    uint32_t largest[INT8_COLUMNS] = {0};

    for (size_t j = 0; j < head->Tk; j++) {
        const float *row = value_row(head, v, stride, j, columns, filled[0]);

        ask_for_row(v + (j + ROWS_AHEAD) * stride, columns);
        for (size_t c = 0; c < INT8_COLUMNS; c++)
            largest[c] = MAX(largest[c], int8_magnitude_bits(row[c]));
    }
    for (size_t c = 0; c < INT8_COLUMNS; c++)
        scale[c] = int8_scale_from(largest[c], &inverse[c]);
    for (size_t j = 0; j < head->padded; j += INT8_QUAD, panel += INT8_QUAD * INT8_COLUMNS) {
        const float *row[INT8_QUAD];
        uint32_t quads[INT8_COLUMNS];

        for (size_t i = 0; i < INT8_QUAD; i++)
            row[i] = value_row(head, v, stride, j + i, columns, filled[i]);
        for (size_t c = 0; c < INT8_COLUMNS; c++)
            quads[c] = int8_quad(
                int8_nearest(row[0][c] * inverse[c]), int8_nearest(row[1][c] * inverse[c]),
                int8_nearest(row[2][c] * inverse[c]), int8_nearest(row[3][c] * inverse[c]));
        memcpy(panel, quads, sizeof quads);
    }
}

/* Twice, one below the other: for the high and the low halves of probabilities. */
static void pack_values(const struct head *head, const float *v, size_t stride)
{
    size_t half = int8_panel_bytes(head->padded);

    for (size_t d = 0; d < head->dim; d += INT8_COLUMNS) {
        uint8_t *panel = head->value_panels + d / INT8_COLUMNS * 2 * half;

        pack_value_panel(head, v + d, stride, MIN(head->dim - d, (size_t)INT8_COLUMNS), panel,
                         head->value_scale + d);
        memcpy(panel + half, panel, half);
    }
}

/* `rows` queries, and where their results go. */
static void attend(const struct head *head, const struct attention *a, const float *q, size_t rows,
                   float *out)
{
    const struct int8_matrix keys = {head->Tk, head->dim, head->key_panels, head->key_scale};
    const struct int8_matrix values = {head->dim, 2 * head->padded, head->value_panels,
                                       head->value_scale};
    int8_t *tile = int8_aligned(head->codes);
    const struct int8_rows queries =
        int8_quantize(q, a->q_stride, rows, head->dim, int8_whole_chunks(head->dim), head->codes);
    const struct int8_rows probabilities = {rows, 2 * head->padded, head->padded, tile};

    int8_product(&keys, head->Tk, head->scores, head->apart, &queries, &nothing);
    for (size_t r = 0; r < rows; r++)
        ask_for_row(q + (r + INT8_ROWS) * a->q_stride, head->dim);
    int8_put_probabilities(head->scores, head->apart, rows, head->Tk, attention_scale(a), tile);
    int8_product(&values, head->dim, out, a->n_heads * head->dim, &probabilities, &nothing);
}

enum status attention_run_int8(const struct attention *a, float *out, struct arena *scratch,
                               struct error *err)
{
    struct head head;
    enum status st = head_init(&head, a, scratch, err);

    for (size_t h = 0; h < a->n_heads && st == ST_OK; h++) {
        size_t at = h * a->head_dim;

        pack_keys(&head, (const float *)a->k + at, a->kv_stride);
        pack_values(&head, (const float *)a->v + at, a->kv_stride);
        for (size_t t = 0; t < a->Tq; t += INT8_ROWS)
            attend(&head, a, a->q + t * a->q_stride + at, MIN(a->Tq - t, (size_t)INT8_ROWS),
                   out + t * a->n_heads * a->head_dim + at);
    }
    return st;
}
