#include "reinforce/record/record_json.h"

enum status record_json_parse(struct bytes_view text, json_t **out, struct error *err)
{
    size_t n_values = 1;
    bool in_string = false;
    enum status st;

    *out = NULL;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];

        if (in_string)
            if (c == '\\')
                i++;
            else
                in_string = c != '"';
        else if (c == '"')
            in_string = true;
        else
            n_values += c == ',' || c == '[' || c == '{';
    }
    if (n_values > RECORD_MAX_JSON_VALUES)
        return error_set(err, ST_CORRUPT, "JSON of %zu values; at most %d are read", n_values,
                         (int)RECORD_MAX_JSON_VALUES);
    st = json_parse(text, out, err);
    if (st == ST_OK && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        return error_set(err, ST_CORRUPT, "JSON is not an object");
    }
    return st;
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);

    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

bool record_json_is_column(const char *name)
{
    return (strncmp(name, "syn_text", 8) == 0 || strstr(name, "_captions") != NULL) &&
           !ends_with(name, "emb") && !ends_with(name, "embedding");
}

enum status record_json_text(const json_t *value, const char *name, struct arena *arena,
                             struct bytes_view *text, struct error *err)
{
    enum status st;
    char *copy;

    if (!json_is_string(value))
        return error_set(err, ST_CORRUPT, "%s is not a string", name);
    st = arena_strndup(arena, json_string_value(value), json_string_length(value), &copy, err);
    if (st == ST_OK)
        *text = bytes_view_of(copy, json_string_length(value));
    return st;
}

/* The texts share one allocation: an empty one costs no cache line of its own. */
static enum status read_column(const char *name, const json_t *value, struct arena *arena,
                               struct record_column *column, struct error *err)
{
    size_t n = json_array_size(value), bytes = 0;
    struct bytes_view *texts;
    uint8_t *to;
    char *copy;
    enum status st;

    if (!json_is_array(value))
        return error_set(err, ST_CORRUPT, "%s is not a list of strings", name);
    for (size_t i = 0; i < n; i++) {
        const json_t *text = json_array_get(value, i);

        if (!json_is_string(text))
            return error_set(err, ST_CORRUPT, "%s[%zu] is not a string", name, i);
        bytes += json_string_length(text);
    }
    st = arena_strndup(arena, name, strlen(name), &copy, err);
    if (st == ST_OK)
        st = arena_calloc(arena, n, sizeof *texts, &texts, err);
    if (st == ST_OK)
        st = arena_alloc(arena, bytes, &to, err);
    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < n; i++) {
        const json_t *text = json_array_get(value, i);
        size_t len = json_string_length(text);

        memcpy(to, json_string_value(text), len);
        texts[i] = bytes_view_of(to, len);
        to += len;
    }
    *column = (struct record_column){.name = copy, .n_texts = n, .texts = texts};
    return ST_OK;
}

enum status record_json_take_columns(struct record *record, json_t *object, struct arena *arena,
                                     struct error *err)
{
    size_t n_texts = 0, n_columns = 0;
    const char *name;
    json_t *value;
    void *next;

    json_object_foreach_safe(object, next, name, value)
    {
        struct record_column column;
        enum status st;

        if (!record_json_is_column(name))
            continue;
        n_texts += json_array_size(value);
        if (++n_columns > RECORD_MAX_COLUMNS || n_texts > RECORD_MAX_TEXTS)
            return error_set(err, ST_CORRUPT,
                             "%zu captions in %zu columns; at most %d in %d are read", n_texts,
                             n_columns, (int)RECORD_MAX_TEXTS, (int)RECORD_MAX_COLUMNS);
        st = read_column(name, value, arena, &column, err);
        if (st == ST_OK && record_find_column(record, column.name) != NULL)
            st = error_set(err, ST_CORRUPT, "column %s is there twice", column.name);
        if (st == ST_OK)
            st = record_set_column(record, &column, arena, err);
        if (st != ST_OK)
            return st;
        (void)json_object_del(object, column.name); /* `name` dies with its entry */
    }
    return ST_OK;
}

static enum status read_views(struct record *record, const json_t *value, struct arena *arena,
                              struct error *err)
{
    size_t n = json_array_size(value);
    struct augment_params *views;
    enum status st;

    if (!json_is_array(value))
        return error_set(err, ST_CORRUPT, "param_aug is neither an array nor a string of one");
    if (n > RECORD_MAX_VIEWS)
        return error_set(err, ST_CORRUPT, "param_aug has %zu entries; at most %d are read", n,
                         (int)RECORD_MAX_VIEWS);
    st = arena_calloc(arena, n, sizeof *views, &views, err);
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        st = augment_params_from_json(json_array_get(value, i), &views[i], err);
        if (st != ST_OK)
            error_add_context(err, "param_aug[%zu]", i);
    }
    if (st != ST_OK)
        return st;
    record->views = views;
    record->n_views = n;
    return ST_OK;
}

enum status record_json_take_views(struct record *record, json_t *object, struct arena *arena,
                                   struct error *err)
{
    json_t *value = json_object_get(object, "param_aug"), *parsed = NULL;
    enum status st = ST_OK;

    if (value != NULL && record->views != NULL)
        return error_set(err, ST_CORRUPT, "param_aug is there twice");
    if (json_is_string(value)) {
        struct bytes_view text = bytes_view_of(json_string_value(value), json_string_length(value));

        st = json_parse(text, &parsed, err);
        if (st != ST_OK)
            error_add_context(err, "param_aug as a string");
        else
            st = read_views(record, parsed, arena, err);
    } else if (value != NULL && !json_is_null(value)) {
        st = read_views(record, value, arena, err);
    }
    json_decref(parsed);
    if (st == ST_OK)
        (void)json_object_del(object, "param_aug");
    return st;
}

enum status record_json_take_rest(struct record *record, json_t *object, struct error *err)
{
    const char *name;
    json_t *value;

    if (record->meta == NULL)
        record->meta = json_object();
    if (record->meta == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a JSON object");
    json_object_foreach(object, name, value)
    {
        json_t *there = json_object_get(record->meta, name);

        if (there != NULL && !json_equal(there, value))
            return error_set(err, ST_CORRUPT, "field %s is there twice with different values",
                             name);
        if (there == NULL && json_object_set(record->meta, name, value) != 0)
            return error_set(err, ST_NO_MEMORY, "could not keep field %s", name);
    }
    (void)json_object_clear(object);
    return ST_OK;
}

enum status record_json_write_texts(const struct bytes_view *texts, size_t n, struct byte_buf *out,
                                    struct error *err)
{
    enum status st = byte_buf_append_string(out, "[", err);

    for (size_t i = 0; i < n && st == ST_OK; i++) {
        if (i > 0)
            st = byte_buf_append_string(out, ", ", err);
        if (st == ST_OK)
            st = json_write_string(texts[i], out, err);
    }
    return st == ST_OK ? byte_buf_append_string(out, "]", err) : st;
}

enum status record_json_write_views(const struct record *record, struct byte_buf *out,
                                    struct error *err)
{
    enum status st = byte_buf_append_string(out, "[", err);

    for (size_t i = 0; i < record->n_views && st == ST_OK; i++) {
        json_t *value = augment_params_to_json(&record->views[i]);

        if (value == NULL)
            return error_set(err, ST_NO_MEMORY, "could not allocate augmentation parameters");
        if (i > 0)
            st = byte_buf_append_string(out, ", ", err);
        if (st == ST_OK)
            st = json_write(value, out, err);
        json_decref(value);
    }
    return st == ST_OK ? byte_buf_append_string(out, "]", err) : st;
}
