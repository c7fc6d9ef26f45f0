#include "storage/format/dataset_embeddings.h"

static size_t dtype_bytes(enum record_dtype dtype)
{
    return dtype == RECORD_BF16 ? sizeof(uint16_t) : sizeof(float);
}

static struct record_embedding *find(struct record *record, const char *name)
{
    for (size_t i = 0; i < record->n_embeddings; i++)
        if (strcmp(record->embeddings[i].name, name) == 0)
            return &record->embeddings[i];
    return NULL;
}

static enum status name_of_column(const char *column, struct arena *arena, char **name,
                                  struct error *err)
{
    size_t len = strlen(column);
    enum status st = arena_alloc(arena, len + sizeof "_emb", name, err);

    if (st == ST_OK) {
        memcpy(*name, column, len);
        memcpy(*name + len, "_emb", sizeof "_emb");
    }
    return st;
}

enum status dataset_embeddings_normalize(struct record *record, struct arena *arena,
                                         struct error *err)
{
    struct record_embedding *odd = find(record, "image_emb{self.tag_suffix}");
    struct record_embedding *text = find(record, "text_emb");
    struct record_embedding column;
    size_t n_texts, n_real;
    char *name;
    enum status st;

    if (odd != NULL && find(record, "image_emb") == NULL)
        odd->name = "image_emb";
    if (text == NULL || record->n_columns != 1)
        return ST_OK;
    st = name_of_column(record->columns[0].name, arena, &name, err);
    if (st != ST_OK)
        return st;
    n_texts = record->columns[0].n_texts;
    if (find(record, name) != NULL || text->rows < n_texts)
        return ST_OK;
    n_real = text->rows - n_texts;
    if (record->n_captions > 0 ? n_real != record->n_captions : n_real == 0)
        return ST_OK; /* not the legacy layout; record_check() says what is wrong */
    column = *text;
    column.name = name;
    column.rows = n_texts;
    column.data = (const uint8_t *)text->data + n_real * text->dim * dtype_bytes(text->dtype);
    text->rows = n_real;
    return record_set_embedding(record, &column, arena, err);
}

/* Rows of `from` in `dtype`, at `to`. */
static void convert(const struct record_embedding *from, enum record_dtype dtype, void *to)
{
    size_t n = from->rows * from->dim;

    if (from->dtype == dtype)
        memcpy(to, from->data, n * dtype_bytes(dtype));
    else if (dtype == RECORD_BF16)
        record_bf16_from_f32(from->data, n, to);
    else
        record_f32_from_bf16(from->data, n, to);
}

static enum status convert_new(struct record_embedding *array, enum record_dtype dtype,
                               struct arena *arena, struct error *err)
{
    void *data;
    enum status st;

    if (array->dtype == dtype)
        return ST_OK;
    st = arena_calloc(arena, array->rows * array->dim, dtype_bytes(dtype), &data, err);
    if (st != ST_OK)
        return st;
    convert(array, dtype, data);
    array->dtype = dtype;
    array->data = data;
    return ST_OK;
}

/* text_emb and syn_text_emb in one array, real captions first. */
static enum status join_legacy(const struct record *record, enum record_dtype dtype,
                               struct arena *arena, struct record_embedding *joined,
                               struct error *err)
{
    const struct record_embedding *text = record_find_embedding(record, "text_emb");
    const struct record_embedding *column = record_find_embedding(record, "syn_text_emb");
    size_t text_bytes;
    uint8_t *data;
    enum status st;

    if (text == NULL || text->dim != column->dim)
        return error_set(err, ST_INVALID,
                         "the legacy layout needs text_emb of the width of syn_text_emb, %zu",
                         column->dim);
    st = arena_calloc(arena, (text->rows + column->rows) * text->dim, dtype_bytes(dtype), &data,
                      err);
    if (st != ST_OK)
        return st;
    text_bytes = text->rows * text->dim * dtype_bytes(dtype);
    convert(text, dtype, data);
    convert(column, dtype, data + text_bytes);
    *joined = (struct record_embedding){.name = "text_emb",
                                        .dtype = dtype,
                                        .rows = text->rows + column->rows,
                                        .dim = text->dim,
                                        .data = data};
    return ST_OK;
}

enum status dataset_embeddings_prepare(const struct record *record,
                                       const struct dataset_write_options *options,
                                       struct arena *arena, struct record_embedding **arrays,
                                       size_t *n, struct error *err)
{
    bool legacy = options->layout == DATASET_LAYOUT_LEGACY;
    bool joins = legacy && record_find_embedding(record, "syn_text_emb") != NULL;
    enum status st;

    *n = 0;
    if (legacy && (record->n_columns > 1 ||
                   (record->n_columns == 1 && strcmp(record->columns[0].name, "syn_text") != 0)))
        return error_set(err, ST_INVALID,
                         "the legacy layout holds one column named syn_text; the record has %zu, "
                         "the first is %s: write the current layout",
                         record->n_columns, record->columns[0].name);
    st = arena_calloc(arena, record->n_embeddings + 1, sizeof **arrays, arrays, err);
    for (size_t i = 0; i < record->n_embeddings && st == ST_OK; i++) {
        const struct record_embedding *from = &record->embeddings[i];
        struct record_embedding *to = &(*arrays)[*n];

        if (joins && strcmp(from->name, "syn_text_emb") == 0)
            continue;
        *to = *from;
        if (joins && strcmp(from->name, "text_emb") == 0)
            st = join_legacy(record, options->dtype, arena, to, err);
        else
            st = convert_new(to, options->dtype, arena, err);
        (*n)++;
    }
    if (st == ST_OK && joins && record_find_embedding(record, "text_emb") == NULL)
        st = error_set(err, ST_INVALID, "the legacy layout needs text_emb beside syn_text_emb");
    return st;
}
