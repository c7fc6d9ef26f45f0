#include "worker/remote/remote_client.h"

#include "reinforce/base/utf8.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { CONNECT_MS = 10000, BACKOFF_MS = 500, BACKOFF_MAX_MS = 60000, MAX_THREADS = 1024 };

struct remote_client {
    struct http *http;
    char *server; /* without a slash at the end */
    int concurrency;
};

enum status remote_client_open(const struct job_remote *spec, const atomic_bool *stop,
                               struct remote_client **out, struct error *err)
{
    const char *token = NULL;
    struct remote_client *client;
    struct http_options options;
    size_t len = strlen(spec->server);
    enum status st;

    *out = NULL;
    if (spec->token_env != NULL)
        token = getenv(spec->token_env); /* NOLINT(concurrency-mt-unsafe): nobody sets it */
    if (spec->token_env != NULL && (token == NULL || token[0] == '\0'))
        return error_set(err, ST_INVALID, "the environment variable %s, named by token_env, is %s",
                         spec->token_env, token == NULL ? "not set" : "empty");
    client = calloc(1, sizeof *client);
    if (client == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a client");
    while (len > 0 && spec->server[len - 1] == '/')
        len--;
    client->concurrency = spec->concurrency;
    client->server = strndup(spec->server, len);
    http_options_default(&options);
    options.connect_timeout_ms = CONNECT_MS;
    options.timeout_ms = (int)spec->timeout_ms;
    options.stall_ms = (int)spec->timeout_ms; /* a model is silent while it thinks */
    options.max_tries = spec->max_tries;
    options.backoff_ms = BACKOFF_MS;
    options.backoff_max_ms = BACKOFF_MAX_MS;
    options.max_connections = spec->concurrency;
    options.bearer = token;
    options.stop = stop;
    st = client->server != NULL ? http_open(&options, &client->http, err)
                                : error_set(err, ST_NO_MEMORY, "could not allocate a client");
    if (st != ST_OK)
        remote_client_close(&client);
    *out = client;
    return st;
}

void remote_client_close(struct remote_client **client)
{
    if (*client == NULL)
        return;
    http_close(&(*client)->http);
    free((*client)->server);
    free(*client);
    *client = NULL;
}

/* What a server finds wrong with a request is the request's fault; with whom it comes from, or
 * where it goes, is not. */
static bool blames_the_request(int status)
{
    return status == 400 || status == 413 || status == 415 || status == 422;
}

/* A page of some proxy says nothing about the sample; a broken answer of the model does. */
static enum status parse(const struct http_response *response, json_t **out, struct error *err)
{
    struct bytes_view body = byte_buf_view(&response->body);
    size_t at = 0;
    enum status st;

    while (at < body.len && (body.data[at] == ' ' || body.data[at] == '\r' ||
                             body.data[at] == '\n' || body.data[at] == '\t'))
        at++;
    if (at == body.len || (body.data[at] != '{' && body.data[at] != '['))
        return error_set(err, ST_UNAVAILABLE, "the server's answer is no JSON but \"%.40s\"",
                         at == body.len ? "" : (const char *)body.data + at);
    if (!utf8_is_valid(body))
        return error_set(err, ST_CORRUPT, "the server's answer is not UTF-8");
    st = json_parse(body, out, err);
    if (st != ST_OK)
        error_add_context(err, "the server's answer");
    return st;
}

/* http_status: of the last try; may be NULL. */
static enum status run(struct remote_client *client, struct http_request *request, const char *path,
                       json_t **out, int *http_status, struct error *err)
{
    size_t size = strlen(client->server) + strlen(path) + 1;
    struct http_response response = {0};
    char *url = malloc(size);
    enum status st;

    *out = NULL;
    if (url == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate %zu bytes", size);
    (void)snprintf(url, size, "%s%s", client->server, path);
    request->url = url;
    st = http_run(client->http, request, REMOTE_MAX_ANSWER, NULL, NULL, &response, err);
    if (st == ST_OK) {
        const char *text;

        st = byte_buf_c_str(&response.body, &text, err);
        if (st == ST_OK)
            st = parse(&response, out, err);
    }
    if (http_status != NULL)
        *http_status = response.status;
    http_response_release(&response);
    free(url);
    return st;
}

enum status remote_client_get(struct remote_client *client, const char *path, json_t **out,
                              struct error *err)
{
    struct http_request request = {.method = "GET"};

    return run(client, &request, path, out, NULL, err);
}

enum status remote_client_post(struct remote_client *client, const char *path,
                               struct bytes_view body, size_t json_len, json_t **out,
                               struct error *err)
{
    bool binary = json_len < body.len;
    char length[24];
    const struct http_header headers[] = {
        {"Content-Type", binary ? "application/octet-stream" : "application/json"},
        {"Inference-Header-Content-Length", length}};
    struct http_request request = {
        .method = "POST", .headers = headers, .n_headers = binary ? 2 : 1, .body = body};
    int http_status = 0;
    enum status st;

    (void)snprintf(length, sizeof length, "%zu", json_len);
    st = run(client, &request, path, out, &http_status, err);
    if ((st == ST_INVALID || st == ST_NOT_FOUND || st == ST_CONFLICT) &&
        !blames_the_request(http_status))
        st = err->code = ST_UNAVAILABLE;
    return st;
}

/* One call's tasks. */
struct crew {
    remote_task_fn *task;
    void *ctx;
    size_t n, next, failed; /* failed: lowest number that did; n: none */
    pthread_mutex_t lock;   /* guards next, failed and err; never held in a task */
    struct error err;
};

static void *work(void *arg)
{
    struct crew *crew = arg;

    for (;;) {
        struct error err = {0};
        size_t i;

        (void)pthread_mutex_lock(&crew->lock);
        i = crew->failed < crew->n ? crew->n : crew->next++;
        (void)pthread_mutex_unlock(&crew->lock);
        if (i >= crew->n)
            return NULL;
        if (crew->task(crew->ctx, i, &err) == ST_OK)
            continue;
        (void)pthread_mutex_lock(&crew->lock);
        if (i < crew->failed) {
            crew->failed = i;
            crew->err = err;
        }
        (void)pthread_mutex_unlock(&crew->lock);
    }
}

enum status remote_client_each(struct remote_client *client, size_t n, remote_task_fn *task,
                               void *ctx, struct error *err)
{
    struct crew crew = {.task = task, .ctx = ctx, .n = n, .failed = n};
    pthread_t threads[MAX_THREADS];
    size_t want = MIN(MIN(n, (size_t)client->concurrency), (size_t)MAX_THREADS), n_threads = 0;

    (void)pthread_mutex_init(&crew.lock, NULL);
    /* The caller is one of them; fewer threads than wished for are enough. */
    while (n_threads + 1 < want && pthread_create(&threads[n_threads], NULL, work, &crew) == 0)
        n_threads++;
    (void)work(&crew);
    for (size_t i = 0; i < n_threads; i++)
        (void)pthread_join(threads[i], NULL);
    (void)pthread_mutex_destroy(&crew.lock);
    if (crew.failed == n)
        return ST_OK;
    *err = crew.err;
    return err->code;
}

enum status remote_client_identity(const char *protocol, const char *model, json_t *said,
                                   char digest[SHA256_HEX_LEN + 1], struct error *err)
{
    json_t *identity =
        json_pack("{s:s, s:s, s:O}", "protocol", protocol, "model", model, "said", said);
    char *text = identity != NULL ? json_dumps(identity, JSON_SORT_KEYS | JSON_COMPACT) : NULL;

    json_decref(identity);
    if (text == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate the model's identity");
    sha256_of(bytes_of_string(text), digest);
    free(text);
    return ST_OK;
}
