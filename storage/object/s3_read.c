#include "storage/object/s3_read.h"

#include "reinforce/base/parallel.h"
#include "reinforce/base/parse.h"
#include "storage/object/range_read.h"

#include <stdio.h>

enum { SHOWN_NAME = 128 };

enum status s3_head(struct s3_client *client, const char *key, struct object_info *info,
                    struct error *err)
{
    const struct s3_request request = {.method = "HEAD", .key = key};
    struct http_response response;
    enum status st = s3_call(client, &request, 0, NULL, NULL, &response, err);

    if (st == ST_OK && !response.has_length)
        st = error_set(err, ST_CORRUPT, "s3://%s/%.80s: the store does not say how long it is",
                       client->config.bucket, key);
    info->bytes = response.content_length;
    (void)snprintf(info->etag, sizeof info->etag, "%.79s", response.etag);
    http_response_release(&response);
    return st;
}

/* One object, to range_read(). */
struct object {
    struct s3_client *client;
    const char *key;
};

static enum status ask(void *ctx, uint64_t begin, uint64_t len, http_body_fn *each, void *each_ctx,
                       struct http_response *response, struct error *err)
{
    const struct object *object = ctx;
    const struct s3_request request = {
        .method = "GET", .key = object->key, .range_begin = begin, .range_len = len};

    return s3_call(object->client, &request, 0, each, each_ctx, response, err);
}

static void name_of(const struct s3_client *client, const char *key, char name[SHOWN_NAME])
{
    (void)snprintf(name, SHOWN_NAME, "s3://%s/%s", client->config.bucket, key);
}

static enum status read_stretch(struct s3_client *client, const char *key, const char *etag,
                                uint64_t offset, size_t len, void *out, struct error *err)
{
    struct object object = {client, key};
    char name[SHOWN_NAME];
    const struct range_source source = {.ask = ask, .ctx = &object, .name = name, .etag = etag};

    name_of(client, key, name);
    return range_read(&source, offset, len, out, err);
}

/* A long range in stretches. */
struct stretches {
    struct s3_client *client;
    const char *key, *etag;
    uint64_t offset;
    size_t len;
    uint8_t *out;
};

static enum status read_one(void *ctx, size_t i, struct error *err)
{
    const struct stretches *s = ctx;
    size_t at = i * s->client->part_bytes;

    return read_stretch(s->client, s->key, s->etag, s->offset + at,
                        MIN(s->client->part_bytes, s->len - at), s->out + at, err);
}

enum status s3_read(struct s3_client *client, const char *key, const char *etag, uint64_t offset,
                    size_t len, void *out, struct error *err)
{
    struct stretches stretches = {client, key, etag, offset, len, out};
    struct object_info info = {.bytes = 0};
    char name[SHOWN_NAME];
    enum status st = ST_OK;

    name_of(client, key, name);
    if (offset > UINT64_MAX - len)
        return range_too_short(name, offset, len, err);
    if (len > 0 && (len <= client->part_bytes))
        return read_stretch(client, key, etag, offset, len, out, err);
    if (len == 0 || etag == NULL)
        st = s3_head(client, key, &info, err);
    if (st == ST_OK && (len == 0 || etag == NULL) && offset + len > info.bytes)
        st = range_too_short(name, offset, len, err);
    if (st != ST_OK || len == 0)
        return st;
    if (etag == NULL)
        stretches.etag = info.etag;
    return parallel_run((len + client->part_bytes - 1) / client->part_bytes, client->connections,
                        read_one, &stretches, err);
}

/* How long the object is that an answer holds the beginning of. */
static uint64_t total_bytes(const struct http_response *response)
{
    uint64_t said = response->has_length ? response->content_length : response->body.len;
    struct bytes_view value; /* "bytes 0-99/1234" */
    const uint8_t *slash = NULL;
    char text[24];
    int64_t total;
    struct error ignored;

    if (response->status == 416)
        return 0;
    if (response->status == 206 && http_response_header(response, "content-range", &value))
        slash = memchr(value.data, '/', value.len);
    if (slash == NULL)
        return said;
    (void)snprintf(text, sizeof text, "%.*s", (int)(value.data + value.len - slash - 1),
                   (const char *)slash + 1);
    return parse_i64(text, 0, INT64_MAX, &total, &ignored) == ST_OK ? (uint64_t)total : said;
}

enum status s3_get(struct s3_client *client, const char *key, size_t max_bytes, struct arena *arena,
                   struct bytes_view *body, struct error *err)
{
    size_t first = MAX(MIN(client->part_bytes, max_bytes), (size_t)1), got;
    const struct s3_request request = {.method = "GET", .key = key, .range_len = first};
    struct http_response response;
    struct object_info info;
    uint64_t total;
    uint8_t *data = NULL;
    enum status st = s3_call(client, &request, first, NULL, NULL, &response, err);

    if (response.status == 416) { /* nothing has no range */
        st = s3_head(client, key, &info, err);
        if (st == ST_OK && info.bytes != 0)
            st = error_set(err, ST_CONFLICT, "s3://%s/%.80s was replaced while it was read",
                           client->config.bucket, key);
    }
    got = response.body.len;
    total = total_bytes(&response);
    if (st == ST_OK && total > max_bytes)
        st = object_too_large(key, total, max_bytes, err);
    if (st == ST_OK)
        st = arena_alloc(arena, (size_t)total, &data, err);
    if (st == ST_OK && got > 0)
        memcpy(data, response.body.data, got);
    if (st == ST_OK && total > got)
        st = s3_read(client, key, response.etag[0] != '\0' ? response.etag : NULL, got,
                     (size_t)total - got, data + got, err);
    http_response_release(&response);
    if (st == ST_OK)
        *body = bytes_view_of(data, (size_t)total);
    return st;
}
