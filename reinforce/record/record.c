#include "reinforce/record/record.h"

#include "reinforce/base/utf8.h"
#include "reinforce/record/record_key.h"

#include <math.h>

void record_release(struct record *record)
{
    json_decref(record->meta);
    memset(record, 0, sizeof *record);
}

const struct record_column *record_find_column(const struct record *record, const char *name)
{
    for (size_t i = 0; i < record->n_columns; i++)
        if (strcmp(record->columns[i].name, name) == 0)
            return &record->columns[i];
    return NULL;
}

const struct record_embedding *record_find_embedding(const struct record *record, const char *name)
{
    for (size_t i = 0; i < record->n_embeddings; i++)
        if (strcmp(record->embeddings[i].name, name) == 0)
            return &record->embeddings[i];
    return NULL;
}

/* A copy of `n` items with room for one more; the old array stays in the arena until its reset. */
static enum status grow(struct arena *arena, const void *items, size_t n, size_t item_bytes,
                        void *out_ptr, struct error *err)
{
    enum status st = arena_calloc(arena, n + 1, item_bytes, out_ptr, err);
    void *copy;

    if (st != ST_OK || n == 0)
        return st;
    memcpy(&copy, out_ptr, sizeof copy);
    memcpy(copy, items, n * item_bytes);
    return ST_OK;
}

enum status record_set_column(struct record *record, const struct record_column *column,
                              struct arena *arena, struct error *err)
{
    struct record_column *columns;
    enum status st;

    for (size_t i = 0; i < record->n_columns; i++)
        if (strcmp(record->columns[i].name, column->name) == 0) {
            record->columns[i] = *column;
            return ST_OK;
        }
    st = grow(arena, record->columns, record->n_columns, sizeof *columns, &columns, err);
    if (st != ST_OK)
        return st;
    columns[record->n_columns] = *column;
    record->columns = columns;
    record->n_columns++;
    return ST_OK;
}

enum status record_set_embedding(struct record *record, const struct record_embedding *embedding,
                                 struct arena *arena, struct error *err)
{
    struct record_embedding *embeddings;
    enum status st;

    for (size_t i = 0; i < record->n_embeddings; i++)
        if (strcmp(record->embeddings[i].name, embedding->name) == 0) {
            record->embeddings[i] = *embedding;
            return ST_OK;
        }
    st =
        grow(arena, record->embeddings, record->n_embeddings, sizeof *embeddings, &embeddings, err);
    if (st != ST_OK)
        return st;
    embeddings[record->n_embeddings] = *embedding;
    record->embeddings = embeddings;
    record->n_embeddings++;
    return ST_OK;
}

/* Index of the first value that is infinite or no number, or the count. */
static size_t find_not_finite(const struct record_embedding *embedding)
{
    size_t n = embedding->rows * embedding->dim;
    const unsigned char *bytes = embedding->data;

    for (size_t i = 0; i < n; i++) {
        if (embedding->dtype == RECORD_BF16) {
            uint16_t bits;

            memcpy(&bits, bytes + i * sizeof bits, sizeof bits);
            if ((bits & 0x7f80u) == 0x7f80u)
                return i;
        } else {
            float value;

            memcpy(&value, bytes + i * sizeof value, sizeof value);
            if (!isfinite(value))
                return i;
        }
    }
    return n;
}

static enum status check_embedding(const struct record *record, const char *name, size_t rows,
                                   const char *rows_of, size_t dim, struct error *err)
{
    const struct record_embedding *embedding = record_find_embedding(record, name);
    size_t bad;

    if (embedding == NULL)
        return error_set(err, ST_INVALID, "record has %s but no %s", rows_of, name);
    if (embedding->rows != rows)
        return error_set(err, ST_INVALID, "%s has %zu rows for %zu %s", name, embedding->rows, rows,
                         rows_of);
    if (embedding->dim != dim || dim == 0)
        return error_set(err, ST_INVALID, "%s has width %zu, image_emb has %zu", name,
                         embedding->dim, dim);
    bad = find_not_finite(embedding);
    if (bad < rows * dim)
        return error_set(err, ST_INVALID,
                         "%s holds a value that is not finite in row %zu, column %zu", name,
                         bad / dim, bad % dim);
    return ST_OK;
}

static enum status check_embeddings(const struct record *record, struct error *err)
{
    const struct record_embedding *image = record_find_embedding(record, "image_emb");
    enum status st;
    char name[256];

    if (image == NULL) {
        if (record_find_embedding(record, "text_emb") != NULL)
            return error_set(err, ST_INVALID, "record has text_emb but no image_emb");
        return ST_OK; /* no teacher ran */
    }
    if (record->n_views == 0)
        return error_set(err, ST_INVALID, "record has image_emb but no augmentation parameters");
    st = check_embedding(record, "image_emb", record->n_views, "augmentation parameter sets",
                         image->dim, err);
    if (st == ST_OK && record->n_captions > 0)
        st = check_embedding(record, "text_emb", record->n_captions, "real captions", image->dim,
                             err);
    for (size_t i = 0; i < record->n_columns && st == ST_OK; i++) {
        const struct record_column *column = &record->columns[i];

        if (snprintf(name, sizeof name, "%s_emb", column->name) >= (int)sizeof name)
            return error_set(err, ST_INVALID, "column name \"%.40s...\" is too long", column->name);
        st = check_embedding(record, name, column->n_texts, column->name, image->dim, err);
    }
    return st;
}

/* What trainers, JSON and every database can hold. */
static enum status check_text(struct bytes_view text, size_t i, const char *column,
                              struct error *err)
{
    if (!utf8_is_valid(text))
        return error_set(err, ST_INVALID, "caption %zu of %s is not UTF-8", i, column);
    if (text.len > 0 && memchr(text.data, 0, text.len) != NULL)
        return error_set(err, ST_INVALID, "caption %zu of %s holds a NUL character", i, column);
    return ST_OK;
}

enum status record_check(const struct record *record, struct error *err)
{
    enum status st = record_key_check(record->uid, err);

    if (st != ST_OK)
        return st;
    if (record->image.len == 0)
        return error_set(err, ST_INVALID, "record has no image");
    if (record->image_ext == NULL)
        return error_set(err, ST_INVALID, "record has an image of no named kind");
    for (size_t i = 0; i < record->n_captions && st == ST_OK; i++)
        st = check_text(record->captions[i], i, "the real ones", err);
    for (size_t i = 0; i < record->n_columns; i++) {
        const struct record_column *column = &record->columns[i];

        if (column->n_texts == 0)
            return error_set(err, ST_INVALID, "column %s is empty, which stops a trainer",
                             column->name);
        for (size_t j = 0; j < column->n_texts && st == ST_OK; j++)
            st = check_text(column->texts[j], j, column->name, err);
    }
    return st == ST_OK ? check_embeddings(record, err) : st;
}

void record_bf16_from_f32(const float *in, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;

        memcpy(&bits, &in[i], sizeof bits);
        if ((bits & 0x7fffffffu) > 0x7f800000u)
            out[i] = (uint16_t)((bits >> 16) | 0x40u); /* rounding could make it infinite */
        else
            out[i] = (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    }
}

void record_f32_from_bf16(const uint16_t *in, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)in[i] << 16;

        memcpy(&out[i], &bits, sizeof bits);
    }
}
