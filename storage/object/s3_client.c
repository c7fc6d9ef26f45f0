#include "storage/object/s3_client.h"

#include "reinforce/base/clock.h"
#include "storage/object/sigv4.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    CONFIG_BYTES = 1 << 20,
    DEFAULT_PART_BYTES = 8 << 20,
    DEFAULT_CONNECTIONS = 16,
    DEFAULT_TRIES = 8,
    MAX_KEYS = 1000,
    ANSWER_MS = 10 * 60 * 1000, /* for one part on a slow line */
    STALL_MS = 60 * 1000,       /* a copy inside the store takes a while without a byte */
    MAX_URL = 16 << 10,
    MAX_OWN_HEADERS = 6,
    SHOWN_KEY = 70,
};

static const int64_t default_stale_ms = 60 * 60 * 1000;

static const char empty_sha256[] =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/* What S3 calls a failure, what that is to us, and what to do. Codes not named here are judged by
 * the status. */
static const struct {
    const char *code;
    enum status st;
    const char *advice;
} meanings[] = {
    {"NoSuchBucket", ST_NOT_FOUND, "create the bucket, or correct its name, region or endpoint"},
    {"NoSuchKey", ST_NOT_FOUND, ""},
    {"NoSuchUpload", ST_NOT_FOUND, ""},
    {"AccessDenied", ST_INVALID,
     "give this key the right to list, get, put, delete and abort uploads there"},
    {"InvalidAccessKeyId", ST_INVALID, "check AWS_ACCESS_KEY_ID or the profile, and the endpoint"},
    {"SignatureDoesNotMatch", ST_INVALID,
     "check AWS_SECRET_ACCESS_KEY or the profile, and the region"},
    {"ExpiredToken", ST_INVALID, "renew the session token"},
    {"InvalidToken", ST_INVALID, "renew the session token"},
    {"RequestTimeTooSkewed", ST_INVALID, "set this machine's clock"},
    {"PermanentRedirect", ST_INVALID, "set storage.region or AWS_REGION"},
    {"AuthorizationHeaderMalformed", ST_INVALID, "set storage.region or AWS_REGION"},
    {"IllegalLocationConstraintException", ST_INVALID, "set storage.region or AWS_REGION"},
    {"InvalidObjectName", ST_INVALID, "names must be UTF-8 here"},
    {"KeyTooLongError", ST_INVALID, "shorten the prefix in the URL"},
    {"PreconditionFailed", ST_CONFLICT, ""},
    {"OperationAborted", ST_UNAVAILABLE, ""},
    {"RequestTimeout", ST_UNAVAILABLE, ""},
    {"NotImplemented", ST_INVALID, "this store lacks it"},
    {"QuotaExceeded", ST_FULL, "free space in the store or raise its quota"},
    {"InsufficientCapacity", ST_FULL, "free space in the store"},
    {"XMinioStorageFull", ST_FULL, "free space in the store"},
};

enum status s3_client_open(const char *url, const struct object_store_options *options,
                           struct s3_client *out, struct error *err)
{
    struct http_options http;
    enum status st;

    memset(out, 0, sizeof *out);
    arena_init(&out->arena, CONFIG_BYTES);
    out->part_bytes = options->part_bytes > 0 ? options->part_bytes : DEFAULT_PART_BYTES;
    out->connections =
        options->connections > 0 ? (size_t)options->connections : DEFAULT_CONNECTIONS;
    out->max_tries = options->max_tries > 0 ? options->max_tries : DEFAULT_TRIES;
    out->list_keys = options->list_keys > 0 ? MIN(options->list_keys, (int)MAX_KEYS) : MAX_KEYS;
    out->sole_writer = options->sole_writer;
    out->stale_ms = options->stale_ms > 0 ? options->stale_ms : default_stale_ms;
    st = s3_config_resolve(url, options, &out->arena, &out->config, err);
    if (st == ST_OK) {
        http_options_default(&http);
        http.timeout_ms = ANSWER_MS;
        http.stall_ms = STALL_MS;
        http.max_tries = out->max_tries;
        http.max_connections = (int)out->connections;
        http.ca_file = out->config.ca_file;
        http.stop = options->stop;
        st = http_open(&http, &out->http, err);
    }
    if (st == ST_OK && !options->anonymous)
        st = aws_credentials_create(&out->config.profile, out->config.profile_first,
                                    out->config.region, options->stop, &out->credentials, err);
    if (st != ST_OK)
        s3_client_close(out);
    return st;
}

void s3_client_close(struct s3_client *client)
{
    aws_credentials_destroy(&client->credentials);
    http_close(&client->http);
    arena_release(&client->arena);
}

/* A request on its way: what is signed is what is sent. */
struct message {
    struct aws_key key;
    char date[SIGV4_DATE_LEN + 1], sha256[SHA256_HEX_LEN + 1];
    struct byte_buf path, url, authorization;
    struct http_header headers[SIGV4_MAX_PAIRS];
    size_t n_headers;
};

static void message_release(struct message *m)
{
    byte_buf_release(&m->path);
    byte_buf_release(&m->url);
    byte_buf_release(&m->authorization);
}

static void add_header(struct message *m, const char *name, const char *value)
{
    m->headers[m->n_headers++] = (struct http_header){name, value};
}

static enum status address(const struct s3_client *client, const struct s3_request *request,
                           struct message *m, const char **path, const char **url,
                           struct error *err)
{
    const struct s3_config *config = &client->config;
    enum status st = byte_buf_printf(&m->path, err, "%s/%s", config->path,
                                     request->key != NULL ? request->key : "");

    if (st == ST_OK && request->key == NULL && m->path.len > 1)
        m->path.len--; /* "/bucket" */
    if (st == ST_OK)
        st = byte_buf_c_str(&m->path, path, err);
    if (st == ST_OK)
        st = byte_buf_append_string(&m->url, config->origin, err);
    if (st == ST_OK)
        st = sigv4_encode(*path, true, &m->url, err);
    if (st == ST_OK && request->n_query > 0)
        st = byte_buf_append_string(&m->url, "?", err);
    if (st == ST_OK)
        st = sigv4_query(request->query, request->n_query, &m->url, err);
    return st == ST_OK ? byte_buf_c_str(&m->url, url, err) : st;
}

static enum status sign(struct s3_client *client, const struct s3_request *request,
                        const char *path, struct message *m, struct error *err)
{
    const struct sigv4_scope scope = {m->key.access_key, m->key.secret_key, client->config.region,
                                      "s3"};
    const struct sigv4_request to_sign = {.method = request->method,
                                          .path = path,
                                          .query = request->query,
                                          .n_query = request->n_query,
                                          .headers = m->headers,
                                          .n_headers = m->n_headers,
                                          .body_sha256 = m->sha256,
                                          .date = m->date};
    const char *authorization;
    enum status st = sigv4_sign(&scope, &to_sign, &m->authorization, err);

    if (st == ST_OK)
        st = byte_buf_c_str(&m->authorization, &authorization, err);
    if (st == ST_OK)
        add_header(m, "Authorization", authorization);
    return st;
}

static enum status send(struct s3_client *client, const struct s3_request *request, size_t max_body,
                        http_body_fn *each, void *ctx, struct aws_key *key,
                        struct http_response *response, struct error *err)
{
    struct message *m = calloc(1, sizeof *m);
    bool has_body = strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0;
    const char *path, *url;
    enum status st;

    assert(request->n_headers + MAX_OWN_HEADERS <= SIGV4_MAX_PAIRS);
    memset(response, 0, sizeof *response);
    if (m == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a request");
    byte_buf_init(&m->path, MAX_URL);
    byte_buf_init(&m->url, MAX_URL);
    byte_buf_init(&m->authorization, MAX_URL);
    if (request->body_sha256 != NULL)
        (void)snprintf(m->sha256, sizeof m->sha256, "%s", request->body_sha256);
    else if (request->body.len == 0)
        (void)snprintf(m->sha256, sizeof m->sha256, "%s", empty_sha256);
    else
        sha256_of(request->body, m->sha256);
    sigv4_date(clock_wall_ms() + atomic_load(&client->skew_ms), m->date);
    add_header(m, "Host", client->config.host);
    add_header(m, "x-amz-date", m->date);
    add_header(m, "x-amz-content-sha256", m->sha256);
    if (has_body)
        add_header(m, "Content-Type", "application/octet-stream");
    for (size_t i = 0; i < request->n_headers; i++)
        add_header(m, request->headers[i].name, request->headers[i].value);
    st = address(client, request, m, &path, &url, err);
    if (st == ST_OK && client->credentials != NULL) {
        st = aws_credentials_get(client->credentials, &m->key, err);
        if (st == ST_OK && m->key.token[0] != '\0')
            add_header(m, "x-amz-security-token", m->key.token);
        if (st == ST_OK)
            st = sign(client, request, path, m, err);
        *key = m->key;
    }
    if (st == ST_OK) {
        const struct http_request sent = {.method = request->method,
                                          .url = url,
                                          .headers = m->headers,
                                          .n_headers = m->n_headers,
                                          .body = request->body,
                                          .range_begin = request->range_begin,
                                          .range_len = request->range_len};

        st = http_run(client->http, &sent, max_body, each, ctx, response, err);
    }
    message_release(m);
    free(m);
    return st;
}

/* Puts what S3 said in the place of what HTTP said. */
static enum status explain(const struct s3_client *client, const struct s3_request *request,
                           struct http_response *response, struct s3_error *said, enum status st,
                           struct error *err)
{
    const char *key = request->key != NULL ? request->key : "", *advice = "", *region;
    struct bytes_view home = {0};
    char elsewhere[96] = "";

    memset(said, 0, sizeof *said);
    if (response->status == 0 || (response->status >= 200 && response->status <= 299)) {
        error_add_context(err, "s3://%s/%.*s at %s", client->config.bucket, SHOWN_KEY, key,
                          client->config.origin);
        return st;
    }
    s3_answer_error(byte_buf_view(&response->refusal), said);
    if (response->status == 404 && said->code[0] == '\0') /* HEAD: no body */
        (void)snprintf(said->code, sizeof said->code, "%s", "NoSuchKey");
    for (size_t i = 0; i < ARRAY_LEN(meanings); i++)
        if (strcmp(meanings[i].code, said->code) == 0) {
            st = meanings[i].st;
            advice = meanings[i].advice;
        }
    if (said->code[0] == '\0' && response->status == 403)
        advice = "check the key and its rights";
    region = said->region;
    if (region[0] == '\0' && http_response_header(response, "x-amz-bucket-region", &home))
        (void)snprintf(said->region, sizeof said->region, "%.*s", (int)home.len,
                       (const char *)home.data);
    if (region[0] != '\0' && strcmp(region, client->config.region) != 0) {
        (void)snprintf(elsewhere, sizeof elsewhere, "the bucket is in %s: set storage.region",
                       region);
        advice = elsewhere;
    }
    return error_set(err, st, "s3://%s/%.*s: %s answered %d%s%s%s%s%s%s%s", client->config.bucket,
                     SHOWN_KEY, key, request->method, response->status, said->code[0] ? " " : "",
                     said->code, said->message[0] ? " (" : "", said->message,
                     said->message[0] ? ")" : "", advice[0] ? "; " : "", advice);
}

/* Whether what kept the request from being accepted could be mended. */
static bool mended(struct s3_client *client, const struct s3_error *said, const struct aws_key *key,
                   const struct http_response *response)
{
    int64_t theirs = http_response_date_ms(response);

    if (strcmp(said->code, "RequestTimeTooSkewed") == 0 && theirs > 0) {
        atomic_store(&client->skew_ms, theirs - clock_wall_ms());
        return true;
    }
    if (client->credentials != NULL &&
        (strcmp(said->code, "ExpiredToken") == 0 || strcmp(said->code, "InvalidToken") == 0)) {
        aws_credentials_forget(client->credentials, key);
        return true;
    }
    return false;
}

/* A refused HEAD has no body that says why; a GET of one byte has. ST_OK: it was let through, so
 * the HEAD may be tried again. */
static enum status ask_why(struct s3_client *client, const struct s3_request *request,
                           struct http_response *response, struct error *err)
{
    struct s3_request probe = *request;
    enum status st;

    probe.method = "GET";
    probe.range_len = 1;
    http_response_release(response);
    st = s3_call(client, &probe, 1 << 10, NULL, NULL, response, err);
    return response->status == 416 ? ST_OK : st; /* it is empty */
}

enum status s3_call(struct s3_client *client, const struct s3_request *request, size_t max_body,
                    http_body_fn *each, void *ctx, struct http_response *response,
                    struct error *err)
{
    struct aws_key key = {.token = ""};
    struct s3_error said;
    bool has_mended = false;

    for (int tries = 1;; tries++) {
        enum status st = send(client, request, max_body, each, ctx, &key, response, err);

        if (st == ST_OK)
            return st;
        st = explain(client, request, response, &said, st, err);
        if (strcmp(request->method, "HEAD") == 0 && !has_mended &&
            (response->status == 400 || response->status == 403)) {
            has_mended = true;
            st = ask_why(client, request, response, err);
            if (st != ST_OK)
                return st;
            http_response_release(response);
            continue;
        }
        /* S3 says 400 to a body that came too slowly, which HTTP's rules would not try again. */
        if (!(!has_mended && mended(client, &said, &key, response)) &&
            !(strcmp(said.code, "RequestTimeout") == 0 && tries < client->max_tries))
            return st;
        has_mended = has_mended || strcmp(said.code, "RequestTimeout") != 0;
        http_response_release(response);
    }
}

enum status s3_tell(struct s3_client *client, const struct s3_request *request, struct error *err)
{
    struct http_response response;
    enum status st = s3_call(client, request, 1 << 20, NULL, NULL, &response, err);

    http_response_release(&response);
    return st;
}
