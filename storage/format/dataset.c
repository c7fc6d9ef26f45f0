#include "storage/format/dataset.h"

#include <assert.h>

/* In the order their first bytes are tried. */
static const struct dataset_format *const formats[] = {
    &dataset_webdataset,
    &dataset_jsonl_gz,
    &dataset_jsonl_zst,
    &dataset_jsonl,
};

const struct dataset_format *dataset_format_by_name(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        if (strcmp(formats[i]->name, name) == 0)
            return formats[i];
    return NULL;
}

const struct dataset_format *dataset_format_detect(const char *key, struct bytes_view head)
{
    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        if (formats[i]->matches(key, head))
            return formats[i];
    return NULL;
}

enum status dataset_reader_open(const struct dataset_format *format, struct object_store *store,
                                const char *key, const struct dataset_read_options *options,
                                const struct dataset_position *from, struct dataset_reader **out,
                                struct error *err)
{
    enum status st;

    *out = NULL;
    if (from->offset < options->begin_offset && from->offset != 0)
        return error_set(err, ST_INVALID, "position %llu is before the slice, which begins at %llu",
                         (unsigned long long)from->offset,
                         (unsigned long long)options->begin_offset);
    st = format->open(store, key, options, from, out, err);
    assert((st == ST_OK) == (*out != NULL));
    if (st != ST_OK)
        error_add_context(err, "%s", key);
    return st;
}

enum status dataset_reader_next(struct dataset_reader *reader, struct arena *arena,
                                struct record *record, struct dataset_reject *reject,
                                struct error *err)
{
    enum status st;

    memset(record, 0, sizeof *record);
    memset(reject, 0, sizeof *reject);
    st = reader->ops->next(reader, arena, record, reject, err);
    if (st != ST_OK)
        record_release(record);
    assert(st != ST_CORRUPT || reject->reason[0] != '\0');
    return st;
}

enum status dataset_reader_skip(struct dataset_reader *reader, struct error *err)
{
    return reader->ops->skip(reader, err);
}

uint64_t dataset_reader_end(const struct dataset_reader *reader)
{
    return reader->ops->end(reader);
}

void dataset_reader_tell(const struct dataset_reader *reader, struct dataset_position *position)
{
    reader->ops->tell(reader, position);
}

void dataset_reader_close(struct dataset_reader **reader)
{
    if (*reader != NULL)
        (*reader)->ops->close(*reader);
    *reader = NULL;
}

enum status dataset_append(const struct dataset_format *format, const struct record *record,
                           const struct dataset_write_options *options, struct byte_buf *out,
                           struct error *err)
{
    size_t before = out->len;
    enum status st = format->append(record, options, out, err);

    if (st != ST_OK)
        out->len = before;
    return st;
}

enum status dataset_tail(const struct dataset_format *format, uint64_t body_bytes,
                         struct byte_buf *out, struct error *err)
{
    size_t before = out->len;
    enum status st = format->tail(body_bytes, out, err);

    if (st != ST_OK)
        out->len = before;
    return st;
}
