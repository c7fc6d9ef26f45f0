#include "reinforce/record/record_json.h"
#include "reinforce/record/record_key.h"
#include "storage/format/base64.h"
#include "storage/format/dataset_embeddings.h"
#include "storage/format/jsonl.h"
#include "storage/format/numpy_pickle.h"

enum { SCRATCH_BYTES = 256 << 20 /* converted embeddings */ };

/* The line on its way out. */
struct writing {
    const struct record *record;
    const struct record_embedding *arrays;
    size_t n_arrays;
    struct byte_buf *out;
    struct error *err;
    bool has_first;
};

static enum status begin_field(struct writing *writing, const char *name)
{
    enum status st =
        byte_buf_append_string(writing->out, writing->has_first ? ", " : "{", writing->err);

    writing->has_first = true;
    if (st == ST_OK)
        st = json_write_string(bytes_of_string(name), writing->out, writing->err);
    return st == ST_OK ? byte_buf_append_string(writing->out, ": ", writing->err) : st;
}

static enum status text_field(struct writing *writing, const char *name, struct bytes_view text)
{
    enum status st = begin_field(writing, name);

    return st == ST_OK ? json_write_string(text, writing->out, writing->err) : st;
}

static enum status base64_value(struct writing *writing, struct bytes_view bytes)
{
    enum status st = byte_buf_append_string(writing->out, "\"", writing->err);

    if (st == ST_OK)
        st = base64_encode(bytes, writing->out, writing->err);
    return st == ST_OK ? byte_buf_append_string(writing->out, "\"", writing->err) : st;
}

static enum status write_texts(struct writing *writing)
{
    const struct record *record = writing->record;
    enum status st = text_field(writing, "uid", record->uid);

    if (st == ST_OK && record->n_captions == 1) {
        st = text_field(writing, "text", record->captions[0]);
    } else if (st == ST_OK && record->n_captions > 1) {
        st = begin_field(writing, "text");
        if (st == ST_OK)
            st = record_json_write_texts(record->captions, record->n_captions, writing->out,
                                         writing->err);
    }
    if (st == ST_OK && record->url.data != NULL)
        st = text_field(writing, "url", record->url);
    for (size_t i = 0; i < record->n_columns && st == ST_OK; i++) {
        st = begin_field(writing, record->columns[i].name);
        if (st == ST_OK)
            st = record_json_write_texts(record->columns[i].texts, record->columns[i].n_texts,
                                         writing->out, writing->err);
    }
    if (st == ST_OK && record->n_views > 0) {
        st = begin_field(writing, "param_aug");
        if (st == ST_OK)
            st = record_json_write_views(record, writing->out, writing->err);
    }
    return st;
}

static enum status write_embeddings(struct writing *writing)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < writing->n_arrays && st == ST_OK; i++) {
        st = begin_field(writing, writing->arrays[i].name);
        if (st == ST_OK)
            st = byte_buf_append_string(writing->out, "\"", writing->err);
        if (st == ST_OK)
            st = numpy_pickle_write_text(&writing->arrays[i], writing->out, writing->err);
        if (st == ST_OK)
            st = byte_buf_append_string(writing->out, "\"", writing->err);
    }
    return st;
}

/* True if the line has a field of that name already, or a reader would take it for another. */
static bool is_taken(const struct writing *writing, const char *name)
{
    const struct record *record = writing->record;

    if (strcmp(name, "uid") == 0)
        return true;
    if (strcmp(name, "text") == 0 && record->n_captions > 0)
        return true;
    if (strcmp(name, "url") == 0 && record->url.data != NULL)
        return true;
    if (strcmp(name, "image") == 0 && record->image.len > 0)
        return true;
    if (strcmp(name, "param_aug") == 0 && record->n_views > 0)
        return true;
    if (strcmp(name, "tar_members") == 0 && record->n_members > 0)
        return true;
    for (size_t i = 0; i < writing->n_arrays; i++)
        if (strcmp(name, writing->arrays[i].name) == 0)
            return true;
    return record_find_column(record, name) != NULL;
}

static enum status write_meta(struct writing *writing)
{
    const char *name;
    json_t *value, *taken = json_object();
    enum status st = ST_OK;

    if (taken == NULL)
        return error_set(writing->err, ST_NO_MEMORY, "could not allocate a JSON object");
    json_object_foreach(writing->record->meta, name, value)
    {
        if (st != ST_OK)
            break;
        if (!is_taken(writing, name)) {
            st = begin_field(writing, name);
            if (st == ST_OK)
                st = json_write(value, writing->out, writing->err);
        } else if (strcmp(name, "uid") == 0 && json_is_string(value) &&
                   bytes_equal(writing->record->uid, bytes_view_of(json_string_value(value),
                                                                   json_string_length(value)))) {
            continue; /* published sets repeat the key there */
        } else if (json_object_set(taken, name, value) != 0) {
            st = error_set(writing->err, ST_NO_MEMORY, "could not keep field %s", name);
        }
    }
    if (st == ST_OK && json_object_size(taken) > 0) {
        if (json_object_get(writing->record->meta, "tar_json") != NULL)
            st = error_set(writing->err, ST_INVALID,
                           "field %s is taken in a JSONL line, and so is tar_json, where it would "
                           "go",
                           json_object_iter_key(json_object_iter(taken)));
        if (st == ST_OK)
            st = begin_field(writing, "tar_json");
        if (st == ST_OK)
            st = json_write(taken, writing->out, writing->err);
    }
    json_decref(taken);
    return st;
}

static enum status write_members(struct writing *writing)
{
    const struct record *record = writing->record;
    enum status st = ST_OK;

    if (record->n_members == 0)
        return ST_OK;
    st = begin_field(writing, "tar_members");
    for (size_t i = 0; i < record->n_members && st == ST_OK; i++) {
        st = byte_buf_append_string(writing->out, i == 0 ? "{" : ", ", writing->err);
        if (st == ST_OK)
            st = json_write_string(bytes_of_string(record->members[i].ext), writing->out,
                                   writing->err);
        if (st == ST_OK)
            st = byte_buf_append_string(writing->out, ": ", writing->err);
        if (st == ST_OK)
            st = base64_value(writing, record->members[i].body);
    }
    return st == ST_OK ? byte_buf_append_string(writing->out, "}", writing->err) : st;
}

static enum status write_line(struct writing *writing)
{
    enum status st = write_texts(writing);

    if (st == ST_OK)
        st = write_embeddings(writing);
    if (st == ST_OK)
        st = write_meta(writing);
    if (st == ST_OK)
        st = write_members(writing);
    if (st == ST_OK && writing->record->image.len > 0) {
        st = begin_field(writing, "image");
        if (st == ST_OK)
            st = base64_value(writing, writing->record->image);
    }
    return st == ST_OK ? byte_buf_append_string(writing->out, "}\n", writing->err) : st;
}

enum status jsonl_write_line(const struct record *record,
                             const struct dataset_write_options *options, struct byte_buf *out,
                             struct error *err)
{
    struct writing writing = {.record = record, .out = out, .err = err};
    struct record_embedding *arrays = NULL;
    struct arena scratch;
    size_t before = out->len;
    enum status st = record_key_check(record->uid, err);

    arena_init(&scratch, SCRATCH_BYTES);
    if (st == ST_OK)
        st = dataset_embeddings_prepare(record, options, &scratch, &arrays, &writing.n_arrays, err);
    writing.arrays = arrays;
    if (st == ST_OK)
        st = write_line(&writing);
    arena_release(&scratch);
    if (st != ST_OK)
        out->len = before;
    return st;
}
