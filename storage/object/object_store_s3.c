/*
 * A bucket, or a prefix of one, as an object store.
 *
 * An object appears when its upload is complete, never before, and is confirmed by length and
 * checksum. What a killed writer leaves are parts of an upload that nobody completes: they cost
 * money and are in no listing. sweep() aborts them.
 */
#include "reinforce/base/log.h"
#include "storage/object/object_store.h"
#include "storage/object/s3_join.h"
#include "storage/object/s3_multipart.h"
#include "storage/object/s3_read.h"

#include <stdio.h>
#include <stdlib.h>

enum { PAGE_BYTES = 64 << 20, ANSWER_BYTES = 16 << 20, FULL_KEY = 2 * OBJECT_KEY_MAX + 2 };

struct s3_store {
    struct object_store base;
    struct s3_client client;
};

static struct s3_client *client_of(struct object_store *s)
{
    return &((struct s3_store *)(void *)s)->client;
}

static enum status s3_open(const char *url, const struct object_store_options *options,
                           struct object_store **out, struct error *err)
{
    struct s3_store *store = calloc(1, sizeof *store);
    enum status st;

    if (store == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a store");
    store->base.ops = &object_store_s3;
    st = s3_client_open(url, options, &store->client, err);
    if (st != ST_OK)
        free(store);
    else
        *out = &store->base;
    return st;
}

/* `key` below the store's prefix, or any beginning of one. */
static enum status full_key(const struct s3_client *client, const char *key, char out[FULL_KEY],
                            struct error *err)
{
    int len = snprintf(out, FULL_KEY, "%s%s", client->config.prefix, key);

    if (len < 0 || len > OBJECT_KEY_MAX)
        return error_set(err, ST_INVALID,
                         "\"%.80s\" has more than %d bytes with the prefix \"%.60s\"", key,
                         OBJECT_KEY_MAX, client->config.prefix);
    return ST_OK;
}

static enum status s3_store_head(struct object_store *s, const char *key, struct object_info *info,
                                 struct error *err)
{
    char full[FULL_KEY];
    enum status st = full_key(client_of(s), key, full, err);

    return st == ST_OK ? s3_head(client_of(s), full, info, err) : st;
}

static enum status s3_read_range(struct object_store *s, const char *key, uint64_t offset,
                                 size_t len, void *out, struct error *err)
{
    char full[FULL_KEY];
    enum status st = full_key(client_of(s), key, full, err);

    return st == ST_OK ? s3_read(client_of(s), full, NULL, offset, len, out, err) : st;
}

static enum status s3_store_get(struct object_store *s, const char *key, size_t max_bytes,
                                struct arena *arena, struct bytes_view *body, struct error *err)
{
    char full[FULL_KEY];
    enum status st = full_key(client_of(s), key, full, err);

    return st == ST_OK ? s3_get(client_of(s), full, max_bytes, arena, body, err) : st;
}

static enum status s3_store_put(struct object_store *s, const char *key, struct bytes_view body,
                                bool only_new, struct object_written *written, struct error *err)
{
    char full[FULL_KEY];
    enum status st = full_key(client_of(s), key, full, err);

    if (st == ST_OK)
        st = s3_put(client_of(s), full, body, only_new, err);
    if (st == ST_OK) {
        written->bytes = body.len;
        sha256_of(body, written->sha256);
    }
    return st;
}

static enum status s3_store_join(struct object_store *s, const char *const *part_keys,
                                 size_t n_parts, struct bytes_view tail, const char *key,
                                 struct object_written *written, struct error *err)
{
    struct s3_client *client = client_of(s);
    char full[FULL_KEY], part[FULL_KEY], *copy;
    const char **keys;
    struct arena arena;
    enum status st = full_key(client, key, full, err);

    arena_init(&arena, PAGE_BYTES);
    if (st == ST_OK)
        st = arena_calloc(&arena, n_parts + 1, sizeof *keys, &keys, err);
    for (size_t i = 0; i < n_parts && st == ST_OK; i++) {
        st = full_key(client, part_keys[i], part, err);
        if (st == ST_OK)
            st = arena_strndup(&arena, part, strlen(part), &copy, err);
        if (st == ST_OK)
            keys[i] = copy;
    }
    if (st == ST_OK)
        st = s3_join(client, keys, n_parts, tail, full, written, err);
    arena_release(&arena);
    return st;
}

/* A listing as it goes on. */
struct listing {
    struct s3_client *client;
    char prefix[FULL_KEY];
    object_list_fn *each;
    void *ctx;
    size_t n_skipped; /* names that are no keys of ours, such as "folder/" */
    char first_skipped[OBJECT_KEY_PART_MAX + 1];
};

static enum status ask_page(struct s3_client *client, const struct http_header *query, size_t n,
                            struct http_response *response, struct error *err)
{
    const struct s3_request request = {.method = "GET", .query = query, .n_query = n};

    return s3_call(client, &request, ANSWER_BYTES, NULL, NULL, response, err);
}

static enum status list_page(struct listing *listing, struct arena *arena, const char *token,
                             struct s3_list_page *page, struct error *err)
{
    char n_keys[16];
    const struct http_header query[] = {{"list-type", "2"},
                                        {"encoding-type", "url"},
                                        {"max-keys", n_keys},
                                        {"prefix", listing->prefix},
                                        {"continuation-token", token}};
    struct http_response response;
    enum status st;

    (void)snprintf(n_keys, sizeof n_keys, "%d", listing->client->list_keys);
    st = ask_page(listing->client, query, ARRAY_LEN(query) - (token == NULL), &response, err);
    if (st == ST_OK) {
        st = s3_answer_list(byte_buf_view(&response.body), arena, page, err);
        if (st != ST_OK)
            error_add_context(err, "listing s3://%s/%.80s", listing->client->config.bucket,
                              listing->prefix);
    }
    http_response_release(&response);
    return st;
}

static enum status give_page(struct listing *listing, const struct s3_list_page *page,
                             struct error *err)
{
    size_t prefix_len = strlen(listing->client->config.prefix);
    enum status st = ST_OK;

    for (size_t i = 0; i < page->n_entries && st == ST_OK; i++) {
        const struct s3_entry *entry = &page->entries[i];
        struct object_info info = {.bytes = entry->bytes};
        struct error why;

        if (strncmp(entry->key, listing->prefix, strlen(listing->prefix)) != 0)
            return error_set(err, ST_CORRUPT, "s3://%s: a listing of \"%.60s\" names \"%.60s\"",
                             listing->client->config.bucket, listing->prefix, entry->key);
        info.key = entry->key + prefix_len;
        (void)snprintf(info.etag, sizeof info.etag, "%s", entry->etag);
        if (object_key_check(info.key, &why) == ST_OK)
            st = listing->each(listing->ctx, &info, err);
        else if (listing->n_skipped++ == 0)
            (void)snprintf(listing->first_skipped, sizeof listing->first_skipped, "%s", info.key);
    }
    return st;
}

static enum status s3_list(struct object_store *s, const char *prefix, object_list_fn *each,
                           void *ctx, struct error *err)
{
    struct listing listing = {.client = client_of(s), .each = each, .ctx = ctx};
    struct arena arenas[2]; /* of a page, and of the one before it, whose token is still needed */
    struct s3_list_page page = {.truncated = true};
    enum status st = full_key(listing.client, prefix, listing.prefix, err);

    for (size_t i = 0; i < ARRAY_LEN(arenas); i++)
        arena_init(&arenas[i], PAGE_BYTES);
    for (size_t n = 0; st == ST_OK && page.truncated; n++) {
        const char *token = page.token;

        arena_reset(&arenas[n % 2]);
        st = list_page(&listing, &arenas[n % 2], token, &page, err);
        if (st == ST_OK)
            st = give_page(&listing, &page, err);
    }
    for (size_t i = 0; i < ARRAY_LEN(arenas); i++)
        arena_release(&arenas[i]);
    if (listing.n_skipped > 0)
        log_at(LOG_WARN, "objects_skipped",
               "bucket=%s count=%zu first=\"%s\" cause=\"folder marks and names with empty or dot "
               "parts are no objects here\"",
               listing.client->config.bucket, listing.n_skipped, listing.first_skipped);
    return st;
}

static enum status s3_remove(struct object_store *s, const char *key, struct error *err)
{
    char full[FULL_KEY];
    const struct s3_request request = {.method = "DELETE", .key = full};
    enum status st = full_key(client_of(s), key, full, err);

    if (st != ST_OK)
        return st;
    st = s3_tell(client_of(s), &request, err);
    return st == ST_NOT_FOUND && strstr(err->message, "NoSuchBucket") == NULL ? ST_OK : st;
}

/* When something last came to an upload, by the server's clock. */
static enum status last_sign(struct s3_client *client, const struct s3_upload *upload,
                             int64_t *when_ms, struct error *err)
{
    const struct http_header query[] = {{"uploadId", upload->id}};
    const struct s3_request request = {
        .method = "GET", .key = upload->key, .query = query, .n_query = ARRAY_LEN(query)};
    struct http_response response;
    enum status st = s3_call(client, &request, ANSWER_BYTES, NULL, NULL, &response, err);

    *when_ms = upload->initiated_ms;
    if (st == ST_OK)
        st = s3_answer_parts(byte_buf_view(&response.body), when_ms, err);
    http_response_release(&response);
    return st == ST_NOT_FOUND ? ST_OK : st; /* gone meanwhile */
}

static enum status sweep_one(struct s3_client *client, const struct s3_upload *upload,
                             int64_t now_ms, size_t *n_removed, struct error *err)
{
    int64_t when_ms;
    enum status st = ST_OK;

    if (!client->sole_writer) {
        if (now_ms - upload->initiated_ms <= client->stale_ms)
            return ST_OK;
        st = last_sign(client, upload, &when_ms, err);
        if (st != ST_OK || now_ms - when_ms <= client->stale_ms)
            return st;
    }
    st = s3_multipart_abort(client, upload->key, upload->id, err);
    *n_removed += st == ST_OK;
    return st;
}

static enum status s3_sweep(struct object_store *s, const char *prefix, size_t *n_removed,
                            struct error *err)
{
    struct s3_client *client = client_of(s);
    struct s3_uploads_page page = {.truncated = true};
    struct arena arenas[2];
    char full[FULL_KEY];
    enum status st = full_key(client, prefix, full, err);

    for (size_t i = 0; i < ARRAY_LEN(arenas); i++)
        arena_init(&arenas[i], PAGE_BYTES);
    for (size_t n = 0; st == ST_OK && page.truncated; n++) {
        const struct http_header query[] = {{"uploads", ""},
                                            {"encoding-type", "url"},
                                            {"prefix", full},
                                            {"key-marker", page.next_key},
                                            {"upload-id-marker", page.next_id}};
        size_t n_query = page.next_key == NULL ? 3 : page.next_id == NULL ? 4 : 5;
        struct http_response response;
        int64_t now_ms = 0;

        arena_reset(&arenas[n % 2]);
        st = ask_page(client, query, n_query, &response, err);
        if (st == ST_OK) {
            now_ms = http_response_date_ms(&response);
            st = s3_answer_uploads(byte_buf_view(&response.body), &arenas[n % 2], &page, err);
        }
        http_response_release(&response);
        for (size_t i = 0; i < page.n_uploads && st == ST_OK; i++)
            st = sweep_one(client, &page.uploads[i], now_ms, n_removed, err);
    }
    for (size_t i = 0; i < ARRAY_LEN(arenas); i++)
        arena_release(&arenas[i]);
    return st;
}

static void s3_close(struct object_store *s)
{
    s3_client_close(client_of(s));
    free(s);
}

const struct object_store_ops object_store_s3 = {
    .scheme = "s3",
    .remote = true,
    .open = s3_open,
    .head = s3_store_head,
    .read_range = s3_read_range,
    .get = s3_store_get,
    .put = s3_store_put,
    .join = s3_store_join,
    .list = s3_list,
    .remove = s3_remove,
    .sweep = s3_sweep,
    .close = s3_close,
};
