#include "storage/format/folder_captions.h"

#include "reinforce/base/utf8.h"
#include "reinforce/record/record_json.h"

#include <assert.h>

enum { MAX_FILE_BYTES = 256 << 20 };

struct folder_caption {
    struct bytes_view name; /* in captions->names */
    struct bytes_view line; /* in captions->text: what follows the tab, or the JSON object */
    size_t number;          /* of the line */
};

static const char *const files[] = {"captions.tsv", "captions.jsonl"};

static bool is_tsv(const struct folder_captions *captions)
{
    return captions->file == files[0];
}

static int compare_names(struct bytes_view a, struct bytes_view b)
{
    int by_bytes = memcmp(a.data, b.data, MIN(a.len, b.len));

    return by_bytes != 0 ? by_bytes : (a.len > b.len) - (a.len < b.len);
}

static int by_name(const void *a, const void *b)
{
    const struct folder_caption *left = a, *right = b;
    int by_bytes = compare_names(left->name, right->name);

    return by_bytes != 0 ? by_bytes
                         : (left->number > right->number) - (left->number < right->number);
}

static enum status read_file(struct object_store *store, const char *prefix,
                             struct folder_captions *captions, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        struct object_info info;
        char key[OBJECT_KEY_MAX + 16];
        uint8_t *to;
        enum status st;

        (void)snprintf(key, sizeof key, "%s%s", prefix, files[i]);
        st = object_store_head(store, key, &info, err);
        if (st == ST_NOT_FOUND)
            continue;
        if (st != ST_OK)
            return st;
        if (info.bytes > MAX_FILE_BYTES)
            return error_set(err, ST_INVALID,
                             "%s has %llu bytes; at most %d are read: make a JSONL input with "
                             "uid, image_key and text instead",
                             key, (unsigned long long)info.bytes, (int)MAX_FILE_BYTES);
        captions->file = files[i];
        st = byte_buf_extend(&captions->text, (size_t)info.bytes, &to, err);
        return st == ST_OK && info.bytes > 0
                   ? object_store_read_range(store, key, 0, (size_t)info.bytes, to, err)
                   : st;
    }
    return ST_OK;
}

/* The name in front of the tab. */
static enum status split_tsv(struct folder_caption *entry, struct bytes_view *name,
                             struct error *err)
{
    const uint8_t *tab = memchr(entry->line.data, '\t', entry->line.len);

    if (tab == NULL || tab == entry->line.data)
        return error_set(err, ST_INVALID, "there is no \"path<TAB>caption\"");
    *name = bytes_view_of(entry->line.data, (size_t)(tab - entry->line.data));
    entry->line = bytes_view_of(tab + 1, entry->line.len - name->len - 1);
    return utf8_is_valid(entry->line) ? ST_OK
                                      : error_set(err, ST_INVALID, "the caption is not UTF-8");
}

/* Adds a name to captions->names, which has room for all the text. */
static enum status add_name(struct folder_captions *captions, struct folder_caption *entry,
                            struct error *err)
{
    struct bytes_view name;
    json_t *object = NULL;
    const json_t *value;
    enum status st;

    if (is_tsv(captions)) {
        st = split_tsv(entry, &name, err);
    } else {
        st = record_json_parse(entry->line, &object, err);
        value = json_object_get(object, "file_name");
        if (st == ST_OK && !json_is_string(value))
            st = error_set(err, ST_INVALID, "there is no field file_name that names an image");
        else if (st == ST_OK)
            name = bytes_view_of(json_string_value(value), json_string_length(value));
    }
    if (st == ST_OK) {
        entry->name = bytes_view_of(captions->names.data + captions->names.len, name.len);
        st = byte_buf_append(&captions->names, name.data, name.len, err);
    }
    json_decref(object);
    return st == ST_CORRUPT ? (err->code = ST_INVALID) : st;
}

static enum status index_lines(struct folder_captions *captions, struct error *err)
{
    struct bytes_view text = byte_buf_view(&captions->text);
    size_t n_lines = 1, number = 0;
    uint8_t *names;
    enum status st;

    for (size_t i = 0; i < text.len; i++)
        n_lines += text.data[i] == '\n';
    captions->entries = calloc(n_lines, sizeof *captions->entries);
    if (captions->entries == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate %zu captions", n_lines);
    st = byte_buf_extend(&captions->names, text.len, &names, err);
    captions->names.len = 0; /* room for every name: what points there stays right */
    for (size_t at = 0; at < text.len && st == ST_OK;) {
        const uint8_t *end = memchr(text.data + at, '\n', text.len - at);
        size_t len = end != NULL ? (size_t)(end - (text.data + at)) : text.len - at;
        struct folder_caption *entry = &captions->entries[captions->n];

        *entry =
            (struct folder_caption){.line = bytes_view_of(text.data + at, len), .number = ++number};
        at += len + 1;
        if (entry->line.len > 0 && entry->line.data[entry->line.len - 1] == '\r')
            entry->line.len--;
        if (entry->line.len == 0)
            continue;
        st = add_name(captions, entry, err);
        captions->n += st == ST_OK;
    }
    if (st != ST_OK)
        error_add_context(err, "%s: line %zu", captions->file, number);
    else
        qsort(captions->entries, captions->n, sizeof *captions->entries, by_name);
    return st;
}

enum status folder_captions_read(struct object_store *store, const char *prefix,
                                 struct folder_captions *captions, struct error *err)
{
    enum status st;

    memset(captions, 0, sizeof *captions);
    byte_buf_init(&captions->text, MAX_FILE_BYTES);
    byte_buf_init(&captions->names, MAX_FILE_BYTES);
    st = read_file(store, prefix, captions, err);
    if (st == ST_OK && captions->file != NULL)
        st = index_lines(captions, err);
    if (st != ST_OK)
        folder_captions_release(captions);
    return st;
}

enum status folder_captions_find(struct folder_captions *captions, const char *path,
                                 json_t **fields, struct error *err)
{
    struct bytes_view name = bytes_of_string(path);
    size_t low = 0, high = captions->n;
    const struct folder_caption *entry;
    json_t *text;

    *fields = NULL;
    while (low < high) { /* the first of that name */
        size_t middle = low + (high - low) / 2;

        if (compare_names(captions->entries[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == captions->n || !bytes_equal(captions->entries[low].name, name))
        return ST_OK;
    entry = &captions->entries[low];
    captions->n_found++;
    if (!is_tsv(captions))
        return record_json_parse(entry->line, fields, err);
    text = json_stringn((const char *)entry->line.data, entry->line.len);
    *fields = json_object();
    if (*fields == NULL || json_object_set_new(*fields, "text", text) != 0) {
        json_decref(*fields);
        *fields = NULL;
        return error_set(err, ST_NO_MEMORY, "could not allocate a caption");
    }
    return ST_OK;
}

void folder_captions_release(struct folder_captions *captions)
{
    byte_buf_release(&captions->text);
    byte_buf_release(&captions->names);
    free(captions->entries);
    memset(captions, 0, sizeof *captions);
}
