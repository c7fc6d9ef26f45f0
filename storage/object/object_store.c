#include "storage/object/object_store.h"

#include <assert.h>

enum {
    SCHEME_MAX_BYTES = 16,
    HASH_CHUNK_BYTES = 1 << 20,
    REMOTE_CHUNK_BYTES = 32 << 20, /* read in pieces side by side */
};

static const struct object_store_ops *const kinds[] = {&object_store_file, &object_store_mem,
                                                       &object_store_s3, &object_store_http,
                                                       &object_store_https};

/* Length of "scheme" in "scheme:rest", or 0. A slash or dot before the colon makes it a path. */
static size_t scheme_len(const char *url)
{
    size_t n = 0;

    while ((url[n] >= 'a' && url[n] <= 'z') || (n > 0 && url[n] >= '0' && url[n] <= '9'))
        n++;
    return url[n] == ':' ? n : 0;
}

/* Checks one part of a key, [part, part + len). */
static const char *part_fault(const char *part, size_t len)
{
    if (len == 0)
        return "has an empty part";
    if ((len == 1 && part[0] == '.') || (len == 2 && part[0] == '.' && part[1] == '.'))
        return "has a \".\" or \"..\" part";
    if (len > OBJECT_KEY_PART_MAX)
        return "has a part of more than 255 bytes";
    if (len >= sizeof OBJECT_TEMPORARY_PREFIX - 1 &&
        memcmp(part, OBJECT_TEMPORARY_PREFIX, sizeof OBJECT_TEMPORARY_PREFIX - 1) == 0)
        return "has a part that begins like a temporary name (" OBJECT_TEMPORARY_PREFIX ")";
    return NULL;
}

enum status object_key_check(const char *key, struct error *err)
{
    const char *fault = NULL;

    if (key[0] == '\0')
        return error_set(err, ST_INVALID, "object key is empty");
    if (key[0] == '/')
        fault = "begins with \"/\"";
    else if (strlen(key) > OBJECT_KEY_MAX)
        fault = "is longer than 1024 bytes";
    for (const char *part = key; fault == NULL;) {
        size_t len = strcspn(part, "/");

        fault = part_fault(part, len);
        if (part[len] == '\0')
            break;
        part += len + 1;
    }
    if (fault != NULL)
        return error_set(err, ST_INVALID, "object key \"%.100s\" %s", key, fault);
    return ST_OK;
}

enum status object_too_large(const char *key, uint64_t bytes, size_t max_bytes, struct error *err)
{
    return error_set(err, ST_INVALID,
                     "object \"%.150s\" has %llu bytes, more than the %zu allowed here", key,
                     (unsigned long long)bytes, max_bytes);
}

/* A prefix is the beginning of a key: cut anywhere, also behind a slash. */
static enum status prefix_check(const char *prefix, struct error *err)
{
    size_t len = strlen(prefix);
    char key[OBJECT_KEY_MAX + 1];

    if (len == 0)
        return ST_OK;
    if (len > OBJECT_KEY_MAX - 1)
        return error_set(err, ST_INVALID, "object prefix \"%.100s\" is longer than %d bytes",
                         prefix, OBJECT_KEY_MAX - 1);
    memcpy(key, prefix, len + 1);
    if (key[len - 1] == '/' || key[len - 1] == '.') {
        key[len] = 'x';
        key[len + 1] = '\0';
    }
    return object_key_check(key, err);
}

enum status object_store_open(const char *url, struct object_store **out, struct error *err)
{
    return object_store_open_with(url, NULL, out, err);
}

enum status object_store_open_with(const char *url, const struct object_store_options *options,
                                   struct object_store **out, struct error *err)
{
    static const struct object_store_options defaults = {.endpoint = NULL};
    size_t len = scheme_len(url);
    const char *scheme = len > 0 ? url : "file";
    const char *rest = len > 0 ? url + len + 1 : url;

    *out = NULL;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        const struct object_store_ops *ops = kinds[i];
        enum status st;

        if (strlen(ops->scheme) != (len > 0 ? len : strlen(scheme)) ||
            memcmp(ops->scheme, scheme, strlen(ops->scheme)) != 0)
            continue;
        assert(ops->open != NULL && ops->head != NULL && ops->read_range != NULL &&
               ops->put != NULL && ops->join != NULL && ops->list != NULL && ops->remove != NULL &&
               ops->close != NULL);
        st = ops->open(rest, options != NULL ? options : &defaults, out, err);
        assert((st == ST_OK) == (*out != NULL));
        return st;
    }
    return error_set(err, ST_INVALID,
                     "\"%.*s\" in \"%.70s\" is not a kind of object store; known are file:, s3:, "
                     "http:, https: and mem: (for a folder with a colon in its name write "
                     "\"./%.40s\")",
                     (int)MIN(len, (size_t)SCHEME_MAX_BYTES), url, url, url);
}

bool object_store_is_remote(const struct object_store *s)
{
    return s->ops->remote;
}

enum status object_store_head(struct object_store *s, const char *key, struct object_info *info,
                              struct error *err)
{
    enum status st;

    memset(info, 0, sizeof *info);
    st = object_key_check(key, err);
    return st == ST_OK ? s->ops->head(s, key, info, err) : st;
}

enum status object_store_read_range(struct object_store *s, const char *key, uint64_t offset,
                                    size_t len, void *out, struct error *err)
{
    enum status st = object_key_check(key, err);

    return st == ST_OK ? s->ops->read_range(s, key, offset, len, out, err) : st;
}

enum status object_store_get(struct object_store *s, const char *key, size_t max_bytes,
                             struct arena *arena, struct bytes_view *body, struct error *err)
{
    struct object_info info;
    void *data;
    enum status st;

    memset(body, 0, sizeof *body);
    if (s->ops->get != NULL) {
        st = object_key_check(key, err);
        return st == ST_OK ? s->ops->get(s, key, max_bytes, arena, body, err) : st;
    }
    st = object_store_head(s, key, &info, err);
    if (st != ST_OK)
        return st;
    if (info.bytes > max_bytes)
        return object_too_large(key, info.bytes, max_bytes, err);
    st = arena_alloc(arena, (size_t)info.bytes, &data, err);
    if (st == ST_OK)
        st = s->ops->read_range(s, key, 0, (size_t)info.bytes, data, err);
    if (st == ST_OK)
        *body = bytes_view_of(data, (size_t)info.bytes);
    return st;
}

enum status object_store_put(struct object_store *s, const char *key, struct bytes_view body,
                             struct object_written *written, struct error *err)
{
    enum status st;

    memset(written, 0, sizeof *written);
    st = object_key_check(key, err);
    return st == ST_OK ? s->ops->put(s, key, body, false, written, err) : st;
}

enum status object_store_put_new(struct object_store *s, const char *key, struct bytes_view body,
                                 struct object_written *written, struct error *err)
{
    enum status st;

    memset(written, 0, sizeof *written);
    st = object_key_check(key, err);
    return st == ST_OK ? s->ops->put(s, key, body, true, written, err) : st;
}

enum status object_store_join(struct object_store *s, const char *const *part_keys, size_t n_parts,
                              struct bytes_view tail, const char *key,
                              struct object_written *written, struct error *err)
{
    enum status st;

    memset(written, 0, sizeof *written);
    st = object_key_check(key, err);
    for (size_t i = 0; st == ST_OK && i < n_parts; i++)
        st = object_key_check(part_keys[i], err);
    return st == ST_OK ? s->ops->join(s, part_keys, n_parts, tail, key, written, err) : st;
}

enum status object_store_list(struct object_store *s, const char *prefix, object_list_fn *each,
                              void *ctx, struct error *err)
{
    enum status st = prefix_check(prefix, err);

    return st == ST_OK ? s->ops->list(s, prefix, each, ctx, err) : st;
}

enum status object_store_remove(struct object_store *s, const char *key, struct error *err)
{
    enum status st = object_key_check(key, err);

    return st == ST_OK ? s->ops->remove(s, key, err) : st;
}

enum status object_store_sweep(struct object_store *s, const char *prefix, size_t *n_removed,
                               struct error *err)
{
    enum status st;

    *n_removed = 0;
    st = prefix_check(prefix, err);
    if (st != ST_OK || s->ops->sweep == NULL)
        return st;
    return s->ops->sweep(s, prefix, n_removed, err);
}

enum status object_store_hash(struct object_store *s, const char *key, struct object_written *found,
                              struct error *err)
{
    struct object_info before, after;
    struct sha256 *hash = NULL;
    uint8_t *chunk = NULL;
    size_t chunk_bytes = s->ops->remote ? REMOTE_CHUNK_BYTES : HASH_CHUNK_BYTES;
    enum status st;

    memset(found, 0, sizeof *found);
    st = object_store_head(s, key, &before, err);
    if (st != ST_OK)
        return st;
    st = sha256_create(&hash, err);
    if (st != ST_OK)
        goto out;
    chunk_bytes = (size_t)MIN((uint64_t)chunk_bytes, MAX(before.bytes, (uint64_t)1));
    chunk = malloc(chunk_bytes);
    if (chunk == NULL) {
        st = error_set(err, ST_NO_MEMORY, "could not allocate %zu bytes", chunk_bytes);
        goto out;
    }
    for (uint64_t at = 0; at < before.bytes;) {
        size_t len = (size_t)MIN(before.bytes - at, (uint64_t)chunk_bytes);

        st = s->ops->read_range(s, key, at, len, chunk, err);
        if (st != ST_OK)
            goto out;
        sha256_update(hash, chunk, len);
        at += len;
    }
    /* Chunks of two versions must not pass for one object. */
    st = object_store_head(s, key, &after, err);
    if (st != ST_OK)
        goto out;
    if (strcmp(before.etag, after.etag) != 0) {
        st = error_set(err, ST_CONFLICT, "object \"%s\" was replaced while it was read", key);
        goto out;
    }
    found->bytes = before.bytes;
    sha256_hex(hash, found->sha256);
out:
    free(chunk);
    sha256_destroy(&hash);
    return st;
}

void object_store_close(struct object_store **s)
{
    if (*s != NULL)
        (*s)->ops->close(*s);
    *s = NULL;
}
