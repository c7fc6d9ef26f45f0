#include "storage/format/folder.h"

#include "reinforce/record/record_key.h"
#include "storage/format/dataset_reject.h"
#include "storage/format/folder_captions.h"

#include <assert.h>

/* "stem." begins all keys that can belong to the stem; they are neighbours in byte order. */
struct stem {
    char *path; /* relative, without the extension */
    size_t len;
    char **exts; /* of its images, as they came: in byte order */
    size_t n_exts;
    bool has_txt, has_json;
    char text_ext[8], json_ext[8]; /* as written: "TXT" */
};

struct listing {
    struct object_store *store;
    const char *prefix;
    folder_line_fn *each;
    void *ctx;
    struct folder_captions captions;
    struct stem *stems; /* each one's path and "." begins the next one's */
    size_t n, capacity;
    struct byte_buf line;
    char first_image[OBJECT_KEY_MAX + 1];
};

bool folder_is_image(const char *key)
{
    const char *slash = strrchr(key, '/');
    const char *dot = strrchr(slash != NULL ? slash : key, '.');

    return dot != NULL && dataset_is_image_ext(dot + 1);
}

bool folder_is_captions_file(const char *key)
{
    return strcmp(key, "captions.tsv") == 0 || strcmp(key, "captions.jsonl") == 0;
}

static void stem_release(struct stem *stem)
{
    for (size_t i = 0; i < stem->n_exts; i++)
        free(stem->exts[i]);
    free(stem->exts);
    free(stem->path);
    memset(stem, 0, sizeof *stem);
}

static char *copy_text(const char *text, size_t len)
{
    char *copy = malloc(len + 1);

    if (copy != NULL) {
        memcpy(copy, text, len);
        copy[len] = '\0';
    }
    return copy;
}

static enum status push_stem(struct listing *listing, const char *path, size_t len,
                             struct error *err)
{
    if (listing->n == listing->capacity) {
        size_t capacity = MAX(listing->capacity * 2, (size_t)8);
        struct stem *stems = realloc(listing->stems, capacity * sizeof *stems);

        if (stems == NULL)
            return error_set(err, ST_NO_MEMORY, "could not allocate %zu stems", capacity);
        listing->stems = stems;
        listing->capacity = capacity;
    }
    listing->stems[listing->n] = (struct stem){.path = copy_text(path, len), .len = len};
    if (listing->stems[listing->n].path == NULL)
        return error_set(err, ST_NO_MEMORY, "could not copy \"%s\"", path);
    listing->n++;
    return ST_OK;
}

static enum status push_ext(struct stem *stem, const char *ext, struct error *err)
{
    char **exts = realloc(stem->exts, (stem->n_exts + 1) * sizeof *exts);

    if (exts != NULL) {
        stem->exts = exts;
        exts[stem->n_exts] = copy_text(ext, strlen(ext));
    }
    if (exts == NULL || exts[stem->n_exts] == NULL)
        return error_set(err, ST_NO_MEMORY, "could not copy \"%s\"", ext);
    stem->n_exts++;
    return ST_OK;
}

/* The first image of a stem has the stem's key; "+png" cannot be part of another key, because keys
 * of files have their "+" escaped. A key too long for that is one of the whole path; no path ends
 * in "/". */
static void make_uid(const struct stem *stem, size_t i, char uid[RECORD_KEY_MAX + 1])
{
    size_t len = record_key_make(bytes_view_of(stem->path, stem->len), RECORD_KEY_OF_FILE, uid);
    char whole[OBJECT_KEY_MAX + 8];

    if (i == 0)
        return;
    if (len + 1 + strlen(stem->exts[i]) <= RECORD_KEY_MAX) {
        (void)snprintf(uid + len, RECORD_KEY_MAX + 1 - len, "+%s", stem->exts[i]);
        return;
    }
    (void)snprintf(whole, sizeof whole, "%s.%s/", stem->path, stem->exts[i]);
    (void)record_key_make(bytes_of_string(whole), RECORD_KEY_OF_FILE, uid);
}

static enum status add_text(struct byte_buf *line, const char *name, const char *prefix,
                            const char *path, const char *ext, struct error *err)
{
    char key[2 * OBJECT_KEY_MAX + 16];
    enum status st = byte_buf_printf(line, err, ", \"%s\": ", name);

    (void)snprintf(key, sizeof key, "%s%s.%s", prefix, path, ext);
    return st == ST_OK ? json_write_string(bytes_of_string(key), line, err) : st;
}

/* Fields of the captions file, less those that are ours to say. */
static enum status add_fields(struct byte_buf *line, json_t *fields, struct error *err)
{
    static const char *const ours[] = {"file_name", "uid",      "id",      "image",
                                       "image_key", "text_key", "json_key"};
    const char *name;
    json_t *value;
    enum status st = ST_OK;

    for (size_t i = 0; i < ARRAY_LEN(ours); i++)
        (void)json_object_del(fields, ours[i]);
    json_object_foreach(fields, name, value)
    {
        if (st == ST_OK)
            st = byte_buf_append_string(line, ", ", err);
        if (st == ST_OK)
            st = json_write_string(bytes_of_string(name), line, err);
        if (st == ST_OK)
            st = byte_buf_append_string(line, ": ", err);
        if (st == ST_OK)
            st = json_write(value, line, err);
    }
    return st;
}

static enum status emit_image(struct listing *listing, const struct stem *stem, size_t i,
                              struct error *err)
{
    struct byte_buf *line = &listing->line;
    char uid[RECORD_KEY_MAX + 1], path[OBJECT_KEY_MAX + 8];
    json_t *fields = NULL;
    enum status st;

    make_uid(stem, i, uid);
    (void)snprintf(path, sizeof path, "%s.%s", stem->path, stem->exts[i]);
    if (listing->first_image[0] == '\0')
        (void)snprintf(listing->first_image, sizeof listing->first_image, "%s", path);
    byte_buf_reset(line);
    st = byte_buf_append_string(line, "{\"uid\": ", err);
    if (st == ST_OK)
        st = json_write_string(bytes_of_string(uid), line, err);
    if (st == ST_OK)
        st = add_text(line, "image_key", listing->prefix, stem->path, stem->exts[i], err);
    if (st == ST_OK && stem->has_txt)
        st = add_text(line, "text_key", listing->prefix, stem->path, stem->text_ext, err);
    if (st == ST_OK && stem->has_json)
        st = add_text(line, "json_key", listing->prefix, stem->path, stem->json_ext, err);
    if (st == ST_OK)
        st = folder_captions_find(&listing->captions, path, &fields, err);
    if (st == ST_OK)
        st = add_fields(line, fields, err);
    json_decref(fields);
    if (st == ST_OK)
        st = byte_buf_append_string(line, "}\n", err);
    return st == ST_OK ? listing->each(listing->ctx, byte_buf_view(line), err) : st;
}

static enum status pop_stem(struct listing *listing, struct error *err)
{
    struct stem *stem = &listing->stems[listing->n - 1];
    enum status st = ST_OK;

    for (size_t i = 0; i < stem->n_exts && st == ST_OK; i++)
        st = emit_image(listing, stem, i, err);
    stem_release(stem);
    listing->n--;
    return st;
}

static bool is_hidden(const char *path)
{
    if (strncmp(path, "_reinforce/", 11) == 0)
        return true;
    for (const char *part = path; part != NULL; part = strchr(part, '/')) {
        part += *part == '/';
        if (*part == '.')
            return true;
    }
    return false;
}

/* The extension of a sidecar, if `ext` is `want` in any case. */
static bool is_sidecar(const char *ext, const char *want, char kept[8])
{
    char lower[8];

    dataset_lower(ext, lower, sizeof lower);
    if (strlen(ext) >= sizeof lower || strcmp(lower, want) != 0 || kept[0] != '\0')
        return false;
    (void)snprintf(kept, 8, "%s", ext);
    return true;
}

static bool may_be_sidecar(const char *ext)
{
    char kept[8] = "";

    return is_sidecar(ext, "txt", kept) || is_sidecar(ext, "json", kept);
}

static enum status take_key(void *ctx, const struct object_info *info, struct error *err)
{
    struct listing *listing = ctx;
    const char *path = info->key + strlen(listing->prefix), *slash, *dot;
    struct stem *stem;
    size_t len;
    enum status st = ST_OK;

    while (listing->n > 0 && st == ST_OK) {
        stem = &listing->stems[listing->n - 1];
        if (strncmp(path, stem->path, stem->len) == 0 && path[stem->len] == '.')
            break;
        st = pop_stem(listing, err);
    }
    slash = strrchr(path, '/');
    dot = strrchr(slash != NULL ? slash : path, '.');
    if (st != ST_OK || dot == NULL || is_hidden(path) ||
        (!folder_is_image(path) && !may_be_sidecar(dot + 1)))
        return st;
    len = (size_t)(dot - path);
    /* those left on the stack begin the path and end before a dot: the last may be its own stem */
    if (listing->n == 0 || listing->stems[listing->n - 1].len != len)
        st = push_stem(listing, path, len, err);
    if (st != ST_OK)
        return st;
    stem = &listing->stems[listing->n - 1];
    if (folder_is_image(path))
        return push_ext(stem, dot + 1, err);
    stem->has_txt |= is_sidecar(dot + 1, "txt", stem->text_ext);
    stem->has_json |= is_sidecar(dot + 1, "json", stem->json_ext);
    return ST_OK;
}

enum status folder_list(struct object_store *store, const char *prefix, folder_line_fn *each,
                        void *ctx, struct error *err)
{
    struct listing listing = {.store = store, .prefix = prefix, .each = each, .ctx = ctx};
    enum status st = folder_captions_read(store, prefix, &listing.captions, err);

    byte_buf_init(&listing.line, 64 << 20);
    if (st == ST_OK)
        st = object_store_list(store, prefix, take_key, &listing, err);
    while (listing.n > 0 && st == ST_OK)
        st = pop_stem(&listing, err);
    if (st == ST_OK && listing.captions.n > 0 && listing.captions.n_found == 0 &&
        listing.first_image[0] != '\0')
        st = error_set(err, ST_INVALID,
                       "%s names no image that is there; paths are relative to the folder, such "
                       "as \"%s\"",
                       listing.captions.file, listing.first_image);
    while (listing.n > 0)
        stem_release(&listing.stems[--listing.n]);
    free(listing.stems);
    byte_buf_release(&listing.line);
    folder_captions_release(&listing.captions);
    return st;
}
