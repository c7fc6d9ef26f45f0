#include "storage/object/s3_read.h"

#include "storage/object/parallel.h"
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
