/*
 * A web server as a store that is read alone: objects whose names are known, from the addresses of
 * the world and no others, so that a URL in somebody's dataset cannot reach into the network where
 * the job runs.
 */
#include "storage/http/http.h"
#include "storage/object/object_store.h"
#include "storage/object/range_read.h"
#include "storage/object/sigv4.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_URL = 8 << 10, DEFAULT_CONNECTIONS = 16 };

struct http_store {
    struct object_store base;
    struct http *http;
    char url[]; /* without a slash at the end */
};

static struct http_store *self(struct object_store *s)
{
    return (struct http_store *)(void *)s;
}

static enum status open_web(const struct object_store_ops *ops, const char *url,
                            const struct object_store_options *options, struct object_store **out,
                            struct error *err)
{
    size_t bytes = strlen(ops->scheme) + 1 + strlen(url) + 1, len;
    struct http_options http;
    struct http_store *store;
    enum status st;

    if (strncmp(url, "//", 2) != 0 || url[2] == '\0' || url[2] == '/' ||
        url[strcspn(url, "@?# ")] != '\0')
        return error_set(
            err, ST_INVALID,
            "\"%s:%.100s\" is no address of a folder on the web; write %s://HOST/PATH, "
            "without user, query or fragment",
            ops->scheme, url, ops->scheme);
    store = calloc(1, sizeof *store + bytes);
    if (store == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a store");
    store->base.ops = ops;
    (void)snprintf(store->url, bytes, "%s:%s", ops->scheme, url);
    for (len = strlen(store->url); store->url[len - 1] == '/'; len--)
        store->url[len - 1] = '\0';
    http_options_default(&http);
    http.timeout_ms = 0; /* as long as bytes come */
    http.max_connections = options->connections > 0 ? options->connections : DEFAULT_CONNECTIONS;
    http.max_tries = options->max_tries > 0 ? options->max_tries : http.max_tries;
    http.public_only = !options->allow_private;
    http.stop = options->stop;
    st = http_open(&http, &store->http, err);
    if (st != ST_OK)
        free(store);
    else
        *out = &store->base;
    return st;
}

static enum status open_http(const char *url, const struct object_store_options *options,
                             struct object_store **out, struct error *err)
{
    return open_web(&object_store_http, url, options, out, err);
}

static enum status open_https(const char *url, const struct object_store_options *options,
                              struct object_store **out, struct error *err)
{
    return open_web(&object_store_https, url, options, out, err);
}

/* One object, to range_read(). */
struct page {
    struct http_store *store;
    struct byte_buf url;
    const char *text;
};

static enum status page_init(struct page *page, struct object_store *s, const char *key,
                             struct error *err)
{
    enum status st;

    *page = (struct page){.store = self(s)};
    byte_buf_init(&page->url, MAX_URL);
    st = byte_buf_printf(&page->url, err, "%s/", page->store->url);
    if (st == ST_OK)
        st = sigv4_encode(key, true, &page->url, err);
    if (st == ST_OK)
        st = byte_buf_c_str(&page->url, &page->text, err);
    return st;
}

static enum status ask(void *ctx, uint64_t begin, uint64_t len, http_body_fn *each, void *each_ctx,
                       struct http_response *response, struct error *err)
{
    const struct page *page = ctx;
    const struct http_request request = {.method = "GET",
                                         .url = page->text,
                                         .range_begin = begin,
                                         .range_len = len,
                                         .follow_redirects = true};

    return http_run(page->store->http, &request, 0, each, each_ctx, response, err);
}

/* Says what the guard's refusal means to the user of a store. */
static enum status advised(enum status st, struct error *err)
{
    if (st == ST_INVALID && strstr(err->message, " is private") != NULL)
        error_add_context(err, "(storage.allow_private: true lets it through)");
    return st;
}

static enum status head_page(const struct page *page, struct object_info *info, struct error *err)
{
    const struct http_request request = {
        .method = "HEAD", .url = page->text, .follow_redirects = true};
    struct http_response response;
    struct bytes_view modified;
    enum status st = http_run(page->store->http, &request, 0, NULL, NULL, &response, err);

    if (st == ST_OK && !response.has_length)
        st = error_set(err, ST_INVALID, "%.150s: the server does not say how long it is",
                       page->text);
    info->bytes = response.content_length;
    if (response.etag[0] != '\0')
        (void)snprintf(info->etag, sizeof info->etag, "%.79s", response.etag);
    else if (http_response_header(&response, "last-modified", &modified))
        (void)snprintf(info->etag, sizeof info->etag, "%.*s", (int)MIN(modified.len, (size_t)79),
                       (const char *)modified.data);
    http_response_release(&response);
    return st;
}

static enum status web_head(struct object_store *s, const char *key, struct object_info *info,
                            struct error *err)
{
    struct page page;
    enum status st = page_init(&page, s, key, err);

    if (st == ST_OK)
        st = head_page(&page, info, err);
    byte_buf_release(&page.url);
    return advised(st, err);
}

static enum status web_read_range(struct object_store *s, const char *key, uint64_t offset,
                                  size_t len, void *out, struct error *err)
{
    struct page page;
    struct object_info info;
    struct range_source source = {.ask = ask, .ctx = &page};
    enum status st = page_init(&page, s, key, err);

    source.name = page.text;
    if (st == ST_OK && offset > UINT64_MAX - len)
        st = range_too_short(page.text, offset, len, err);
    if (st == ST_OK && len == 0) { /* nothing to ask for but whether it is there */
        st = head_page(&page, &info, err);
        if (st == ST_OK && offset > info.bytes)
            st = range_too_short(page.text, offset, len, err);
    } else if (st == ST_OK) {
        st = range_read(&source, offset, len, out, err);
    }
    byte_buf_release(&page.url);
    return advised(st, err);
}

static enum status read_only(struct object_store *s, struct error *err)
{
    return error_set(err, ST_INVALID,
                     "\"%.100s\" can be read and not written to; write to a "
                     "folder or to s3://",
                     self(s)->url);
}

static enum status web_put(struct object_store *s, const char *key, struct bytes_view body,
                           bool only_new, struct object_written *written, struct error *err)
{
    (void)key, (void)body, (void)only_new, (void)written;
    return read_only(s, err);
}

static enum status web_join(struct object_store *s, const char *const *part_keys, size_t n_parts,
                            struct bytes_view tail, const char *key, struct object_written *written,
                            struct error *err)
{
    (void)part_keys, (void)n_parts, (void)tail, (void)key, (void)written;
    return read_only(s, err);
}

static enum status web_list(struct object_store *s, const char *prefix, object_list_fn *each,
                            void *ctx, struct error *err)
{
    (void)prefix, (void)each, (void)ctx;
    return error_set(err, ST_INVALID,
                     "\"%.100s\" cannot be listed; name the objects: one URL, a pattern such as "
                     "{000..123}.tar, or a manifest.jsonl",
                     self(s)->url);
}

static enum status web_remove(struct object_store *s, const char *key, struct error *err)
{
    (void)key;
    return read_only(s, err);
}

static void web_close(struct object_store *s)
{
    http_close(&self(s)->http);
    free(s);
}

#define WEB_SLOTS                                                                                  \
    .remote = true, .head = web_head, .read_range = web_read_range, .put = web_put,                \
    .join = web_join, .list = web_list, .remove = web_remove, .close = web_close

const struct object_store_ops object_store_http = {.scheme = "http", .open = open_http, WEB_SLOTS};
const struct object_store_ops object_store_https = {
    .scheme = "https", .open = open_https, WEB_SLOTS};
