#include "storage/object/s3_multipart.h"

#include "reinforce/base/log.h"
#include "reinforce/base/parallel.h"
#include "storage/object/s3_read.h"
#include "storage/object/sigv4.h"

#include <assert.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    ARENA_BYTES = 8 << 20,
    MAX_ANSWER = 1 << 20,
    MD5_BASE64 = 25, /* with NUL */
    MD5_HEX = 33,
    MAX_SAID_FAILED = 5, /* times a store may say "200, but it failed" */
};

static enum status md5_of(struct bytes_view data, uint8_t md5[S3_MD5_BYTES], struct error *err)
{
    return EVP_Digest(data.data, data.len, md5, NULL, EVP_md5(), NULL) == 1
               ? ST_OK
               : error_set(err, ST_INTERNAL, "libcrypto could not hash");
}

static void md5_hex(const uint8_t md5[S3_MD5_BYTES], char hex[MD5_HEX])
{
    for (size_t i = 0; i < S3_MD5_BYTES; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", md5[i]);
}

/* Whether the store's ETags are MD5: not where it encrypts with keys of its own. */
static bool is_opaque(const struct http_response *response, const char *etag)
{
    struct bytes_view value;
    bool encrypted =
        (http_response_header(response, "x-amz-server-side-encryption", &value) &&
         !bytes_equal(value, bytes_of_string("AES256"))) ||
        http_response_header(response, "x-amz-server-side-encryption-customer-algorithm", &value);

    return encrypted || strspn(etag, "0123456789abcdef") != 2 * S3_MD5_BYTES ||
           (etag[MD5_HEX - 1] != '\0' && etag[MD5_HEX - 1] != '-');
}

static enum status wrong_etag(const struct s3_client *client, const char *key, const char *etag,
                              const char *want, struct error *err)
{
    return error_set(err, ST_CORRUPT,
                     "s3://%s/%.80s: the store has other bytes than were sent: ETag %.40s, "
                     "expected %s",
                     client->config.bucket, key, etag, want);
}

/* Whether `key` was written by an earlier try of ours, whose answer was lost. */
static bool is_ours(struct s3_client *client, const char *key, const char *etag)
{
    struct object_info found = {.bytes = 0};
    struct error why;

    return s3_head(client, key, &found, &why) == ST_OK && strcmp(found.etag, etag) == 0;
}

/* One PUT of `body`, of an object or a part of one. */
static enum status put_body(struct s3_client *client, const char *key,
                            const struct http_header *query, size_t n_query, struct bytes_view body,
                            bool only_new, struct s3_part *part, bool *opaque, struct error *err)
{
    char base64[MD5_BASE64], hex[MD5_HEX];
    const struct http_header headers[] = {{"Content-MD5", base64}, {"If-None-Match", "*"}};
    const struct s3_request request = {.method = "PUT",
                                       .key = key,
                                       .query = query,
                                       .n_query = n_query,
                                       .headers = headers,
                                       .n_headers = only_new ? 2 : 1,
                                       .body = body};
    struct http_response response;
    enum status st = md5_of(body, part->md5, err);

    if (st != ST_OK)
        return st;
    part->bytes = body.len;
    (void)EVP_EncodeBlock((unsigned char *)base64, part->md5, S3_MD5_BYTES);
    md5_hex(part->md5, hex);
    st = s3_call(client, &request, MAX_ANSWER, NULL, NULL, &response, err);
    if (st == ST_OK) {
        (void)snprintf(part->etag, sizeof part->etag, "%.79s", response.etag);
        *opaque = is_opaque(&response, part->etag);
        if (!*opaque && strcmp(part->etag, hex) != 0)
            st = wrong_etag(client, key, part->etag, hex, err);
    } else if (only_new && response.status == 501) {
        atomic_store(&client->no_condition, true);
    } else if (only_new && st == ST_CONFLICT && response.tries > 1 && is_ours(client, key, hex)) {
        st = ST_OK;
    }
    http_response_release(&response);
    return st;
}

/* Confirms that `key` is there with this length and, unless it is NULL, this ETag. What is there
 * may be another writer's by now, so nothing is removed. */
static enum status confirm(struct s3_client *client, const char *key, uint64_t bytes,
                           const char *etag, struct error *err)
{
    const struct s3_request head = {.method = "HEAD", .key = key};
    struct http_response response;
    enum status st = s3_call(client, &head, 0, NULL, NULL, &response, err);

    if (st == ST_OK && (!response.has_length || response.content_length != bytes))
        st = error_set(err, ST_CORRUPT,
                       "s3://%s/%.80s has %" PRIu64 " bytes after %" PRIu64 " were written",
                       client->config.bucket, key, response.content_length, bytes);
    if (st == ST_OK && etag != NULL && !is_opaque(&response, response.etag) &&
        strcmp(response.etag, etag) != 0)
        st = wrong_etag(client, key, response.etag, etag, err);
    http_response_release(&response);
    return st;
}

enum status s3_multipart_begin(struct s3_client *client, const char *key, size_t max_parts,
                               struct s3_multipart *out, struct error *err)
{
    static const struct http_header query[] = {{"uploads", ""}};
    const struct s3_request request = {
        .method = "POST", .key = key, .query = query, .n_query = ARRAY_LEN(query)};
    struct http_response response;
    enum status st;

    *out = (struct s3_multipart){.client = client, .key = key, .max_parts = max_parts};
    if (max_parts > S3_MAX_PARTS)
        return error_set(err, ST_INVALID, "s3://%s/%.80s would have more than %d parts",
                         client->config.bucket, key, (int)S3_MAX_PARTS);
    arena_init(&out->arena, ARENA_BYTES);
    st = arena_calloc(&out->arena, max_parts, sizeof *out->parts, &out->parts, err);
    if (st == ST_OK) {
        st = s3_call(client, &request, MAX_ANSWER, NULL, NULL, &response, err);
        if (st == ST_OK)
            st = s3_answer_upload_id(byte_buf_view(&response.body), &out->arena, &out->id, err);
        http_response_release(&response);
    }
    if (st != ST_OK)
        arena_release(&out->arena);
    return st;
}

enum status s3_multipart_put(struct s3_multipart *upload, size_t i, struct bytes_view body,
                             struct error *err)
{
    char number[16];
    const struct http_header query[] = {{"partNumber", number}, {"uploadId", upload->id}};
    bool opaque = false;
    enum status st;

    assert(i < upload->max_parts);
    (void)snprintf(number, sizeof number, "%zu", i + 1);
    st = put_body(upload->client, upload->key, query, ARRAY_LEN(query), body, false,
                  &upload->parts[i], &opaque, err);
    if (opaque)
        atomic_store(&upload->opaque, true);
    return st;
}

static enum status copy_once(struct s3_multipart *upload, const struct s3_request *request,
                             struct s3_part *part, bool *opaque, struct error *err)
{
    struct http_response response;
    enum status st = s3_call(upload->client, request, MAX_ANSWER, NULL, NULL, &response, err);

    if (st == ST_OK) {
        st = s3_answer_etag(byte_buf_view(&response.body), part->etag, err);
        *opaque = is_opaque(&response, part->etag);
    } else if (response.status == 501 || response.status == 405) {
        atomic_store(&upload->client->no_copy, true);
    }
    http_response_release(&response);
    return st;
}

enum status s3_multipart_copy(struct s3_multipart *upload, size_t i, const struct s3_copy *copy,
                              struct error *err)
{
    struct s3_client *client = upload->client;
    struct s3_part *part = &upload->parts[i];
    char number[16], range[64], condition[96], hex[MD5_HEX];
    const struct http_header query[] = {{"partNumber", number}, {"uploadId", upload->id}};
    struct http_header headers[] = {{"x-amz-copy-source", NULL},
                                    {"x-amz-copy-source-if-match", condition},
                                    {"x-amz-copy-source-range", range}};
    struct s3_request request = {.method = "PUT",
                                 .key = upload->key,
                                 .query = query,
                                 .n_query = ARRAY_LEN(query),
                                 .headers = headers,
                                 .n_headers = ARRAY_LEN(headers) - (copy->whole ? 1 : 0)};
    struct byte_buf source;
    bool opaque = false;
    enum status st;

    assert(i < upload->max_parts);
    (void)snprintf(number, sizeof number, "%zu", i + 1);
    (void)snprintf(condition, sizeof condition, "\"%s\"", copy->etag);
    (void)snprintf(range, sizeof range, "bytes=%" PRIu64 "-%" PRIu64, copy->offset,
                   copy->offset + copy->bytes - 1);
    md5_hex(copy->md5, hex);
    memcpy(part->md5, copy->md5, sizeof part->md5);
    part->bytes = copy->bytes;
    byte_buf_init(&source, 8 << 10);
    st = byte_buf_printf(&source, err, "/%s/", client->config.bucket);
    if (st == ST_OK)
        st = sigv4_encode(copy->key, true, &source, err);
    if (st == ST_OK)
        st = byte_buf_c_str(&source, &headers[0].value, err);
    for (int tries = 1; st == ST_OK; tries++) {
        st = copy_once(upload, &request, part, &opaque, err);
        if (st != ST_UNAVAILABLE || tries == MAX_SAID_FAILED)
            break;
        http_back_off(client->http, tries);
        st = ST_OK;
    }
    byte_buf_release(&source);
    if (opaque)
        atomic_store(&upload->opaque, true);
    else if (st == ST_OK && strcmp(part->etag, hex) != 0)
        st = wrong_etag(client, upload->key, part->etag, hex, err);
    return st;
}

/* The MD5 of the parts' MD5s and how many they are: what the ETag of such an object is. */
static enum status expected_etag(const struct s3_multipart *upload, size_t n, char etag[80],
                                 struct error *err)
{
    uint8_t *all = malloc(MAX(n, (size_t)1) * S3_MD5_BYTES), md5[S3_MD5_BYTES];
    char hex[MD5_HEX];
    enum status st;

    if (all == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate %zu digests", n);
    for (size_t i = 0; i < n; i++)
        memcpy(all + i * S3_MD5_BYTES, upload->parts[i].md5, S3_MD5_BYTES);
    st = md5_of(bytes_view_of(all, n * S3_MD5_BYTES), md5, err);
    free(all);
    md5_hex(md5, hex);
    (void)snprintf(etag, 80, "%s-%zu", hex, n);
    return st;
}

/* *etag: as the store says it, "" where it does not (Ceph) or where it says nothing of the bytes.
 */
static enum status complete_once(struct s3_multipart *upload, struct bytes_view list, char etag[80],
                                 struct error *err)
{
    const struct http_header query[] = {{"uploadId", upload->id}};
    const struct s3_request request = {.method = "POST",
                                       .key = upload->key,
                                       .query = query,
                                       .n_query = ARRAY_LEN(query),
                                       .body = list};
    struct http_response response;
    enum status st = s3_call(upload->client, &request, MAX_ANSWER, NULL, NULL, &response, err);

    if (st == ST_OK)
        st = s3_answer_etag(byte_buf_view(&response.body), etag, err);
    if (st == ST_OK && is_opaque(&response, etag))
        etag[0] = '\0';
    http_response_release(&response);
    return st;
}

static enum status complete(struct s3_multipart *upload, size_t n, struct error *err)
{
    struct s3_client *client = upload->client;
    struct byte_buf list;
    char etag[80] = "", want[80];
    uint64_t bytes = 0;
    bool opaque = atomic_load(&upload->opaque);
    enum status st;

    byte_buf_init(&list, ARENA_BYTES);
    st = byte_buf_append_string(
        &list, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">", err);
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        st = byte_buf_printf(&list, err,
                             "<Part><PartNumber>%zu</PartNumber><ETag>\"%s\"</ETag></Part>", i + 1,
                             upload->parts[i].etag);
        bytes += upload->parts[i].bytes;
    }
    if (st == ST_OK)
        st = byte_buf_append_string(&list, "</CompleteMultipartUpload>", err);
    if (st == ST_OK)
        st = expected_etag(upload, n, want, err);
    for (int tries = 1; st == ST_OK; tries++) {
        st = complete_once(upload, byte_buf_view(&list), etag, err);
        if (st != ST_UNAVAILABLE || tries == MAX_SAID_FAILED)
            break;
        http_back_off(client->http, tries);
        st = ST_OK;
    }
    byte_buf_release(&list);
    if (st == ST_NOT_FOUND) { /* an answer was lost, and this was the second time we asked? */
        struct object_info found = {.bytes = 0};
        struct error why;

        return s3_head(client, upload->key, &found, &why) == ST_OK && found.bytes == bytes &&
                       strcmp(found.etag, want) == 0
                   ? ST_OK
                   : error_set(err, ST_UNAVAILABLE,
                               "s3://%s/%.80s: the upload was thrown away by somebody else",
                               client->config.bucket, upload->key);
    }
    if (st == ST_OK && etag[0] != '\0' && !opaque && strcmp(etag, want) != 0)
        st = wrong_etag(client, upload->key, etag, want, err);
    if (st != ST_OK)
        return st;
    return confirm(client, upload->key, bytes, opaque || etag[0] != '\0' ? NULL : want, err);
}

enum status s3_multipart_abort(struct s3_client *client, const char *key, const char *id,
                               struct error *err)
{
    const struct http_header query[] = {{"uploadId", id}};
    const struct s3_request request = {
        .method = "DELETE", .key = key, .query = query, .n_query = ARRAY_LEN(query)};
    enum status st = s3_tell(client, &request, err);

    return st == ST_NOT_FOUND ? ST_OK : st;
}

enum status s3_multipart_end(struct s3_multipart *upload, size_t n, enum status st,
                             struct error *err)
{
    struct error why;

    if (st == ST_OK)
        st = complete(upload, n, err);
    if (st != ST_OK && s3_multipart_abort(upload->client, upload->key, upload->id, &why) != ST_OK)
        log_at(LOG_WARN, "upload_left", "key=%s cause=\"%s\"", upload->key, why.message);
    arena_release(&upload->arena);
    return st;
}

/* A long body in pieces. */
struct pieces {
    struct s3_multipart upload;
    struct bytes_view body;
    size_t piece_bytes;
};

static enum status put_piece(void *ctx, size_t i, struct error *err)
{
    struct pieces *p = ctx;
    size_t at = i * p->piece_bytes;

    return s3_multipart_put(&p->upload, i,
                            bytes_view_of(p->body.data + at, MIN(p->piece_bytes, p->body.len - at)),
                            err);
}

static enum status refuse_present(struct s3_client *client, const char *key, struct error *err)
{
    struct object_info info = {.bytes = 0};
    enum status st = s3_head(client, key, &info, err);

    if (st == ST_OK)
        return error_set(err, ST_CONFLICT, "s3://%s/%.150s is there already", client->config.bucket,
                         key);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

enum status s3_put(struct s3_client *client, const char *key, struct bytes_view body, bool only_new,
                   struct error *err)
{
    struct pieces pieces = {.body = body};
    struct s3_part part = {.bytes = 0};
    bool opaque = false;
    size_t n;
    enum status st = only_new ? refuse_present(client, key, err) : ST_OK;

    if (st != ST_OK)
        return st;
    if (body.len <= client->part_bytes) {
        only_new = only_new && !atomic_load(&client->no_condition);
        st = put_body(client, key, NULL, 0, body, only_new, &part, &opaque, err);
        if (st != ST_OK && only_new && atomic_load(&client->no_condition))
            st = put_body(client, key, NULL, 0, body, false, &part, &opaque, err);
        if (st == ST_CORRUPT) { /* what stands there is nobody's */
            const struct s3_request remove = {.method = "DELETE", .key = key};
            struct error why;

            if (s3_tell(client, &remove, &why) != ST_OK)
                log_at(LOG_WARN, "object_left", "key=%s cause=\"%s\"", key, why.message);
        }
        return st == ST_OK && opaque ? confirm(client, key, body.len, NULL, err) : st;
    }
    pieces.piece_bytes = MAX(client->part_bytes, body.len / S3_MAX_PARTS + 1);
    n = (body.len + pieces.piece_bytes - 1) / pieces.piece_bytes;
    st = s3_multipart_begin(client, key, n, &pieces.upload, err);
    if (st != ST_OK)
        return st;
    st = parallel_run(n, client->connections, put_piece, &pieces, err);
    return s3_multipart_end(&pieces.upload, n, st, err);
}
