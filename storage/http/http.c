#include "storage/http/http.h"

#include "reinforce/base/clock.h"
#include "reinforce/base/parse.h"
#include "storage/http/address.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

enum {
    MAX_REDIRECTS = 5,
    MAX_ERROR_BODY = 4096,
    MAX_HEADERS = 64 << 10,
    MAX_HEADER_LINE = 8192, /* session tokens are long */
    SHOWN_BODY = 80,
    SHOWN_PATH = 90,
};

struct http {
    struct http_options options;
    char *bearer;
    pthread_mutex_t lock; /* guards what follows; held for a push or a pop only */
    pthread_cond_t free_handle;
    CURL **idle; /* [max_connections] */
    size_t n_idle, n_handles;
    size_t limit;  /* requests at once: n_handles, less after throttling */
    size_t n_good; /* answers since the limit last changed */
};

/* One try, as libcurl's callbacks see it. */
struct attempt {
    struct http *http;
    const struct http_request *request;
    CURL *curl;
    size_t max_body;
    http_body_fn *each;
    void *ctx;
    struct http_response *response;
    uint64_t skip; /* bytes of a whole answer that a range request did not want */
    uint64_t left; /* how many it still wants */
    bool begun;    /* a piece went to `each` */
    bool cut;      /* ended by us: `err` says why */
    bool enough;   /* ended by us: the range is here */
    char refused_address[ADDRESS_TEXT_BYTES]; /* a private one; "": none */
    int64_t retry_after_ms;                   /* -1: not said */
    struct error *err;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_curl(void)
{
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

void http_options_default(struct http_options *options)
{
    *options = (struct http_options){.connect_timeout_ms = 10000,
                                     .timeout_ms = 60000,
                                     .stall_ms = 30000,
                                     .max_tries = 5,
                                     .backoff_ms = 250,
                                     .backoff_max_ms = 30000,
                                     .max_connections = 8};
}

enum status http_open(const struct http_options *options, struct http **out, struct error *err)
{
    struct http *http = calloc(1, sizeof *http);

    (void)pthread_once(&once, init_curl);
    *out = NULL;
    if (http == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate an HTTP client");
    http->options = *options;
    (void)pthread_mutex_init(&http->lock, NULL);
    (void)pthread_cond_init(&http->free_handle, NULL);
    http->idle = calloc((size_t)MAX(options->max_connections, 1), sizeof(CURL *));
    http->bearer = options->bearer != NULL ? strdup(options->bearer) : NULL;
    http->n_handles = (size_t)MAX(options->max_connections, 1);
    http->limit = http->n_handles;
    *out = http;
    if (http->idle != NULL && (options->bearer == NULL || http->bearer != NULL)) {
        while (http->n_idle < http->n_handles) {
            http->idle[http->n_idle] = curl_easy_init();
            if (http->idle[http->n_idle] == NULL)
                break;
            http->n_idle++;
        }
        if (http->n_idle == http->n_handles)
            return ST_OK;
    }
    http_close(out);
    return error_set(err, ST_NO_MEMORY, "could not allocate %d HTTP connections",
                     options->max_connections);
}

void http_close(struct http **http)
{
    if (*http == NULL)
        return;
    for (size_t i = 0; (*http)->idle != NULL && i < (*http)->n_idle; i++)
        curl_easy_cleanup((*http)->idle[i]);
    (void)pthread_cond_destroy(&(*http)->free_handle);
    (void)pthread_mutex_destroy(&(*http)->lock);
    free((*http)->bearer);
    free((*http)->idle);
    free(*http);
    *http = NULL;
}

static CURL *take_handle(struct http *http)
{
    CURL *curl;

    (void)pthread_mutex_lock(&http->lock);
    while (http->n_handles - http->n_idle >= http->limit)
        (void)pthread_cond_wait(&http->free_handle, &http->lock);
    curl = http->idle[--http->n_idle];
    (void)pthread_mutex_unlock(&http->lock);
    return curl;
}

static void give_handle(struct http *http, CURL *curl)
{
    curl_easy_reset(curl); /* its connections stay */
    (void)pthread_mutex_lock(&http->lock);
    http->idle[http->n_idle++] = curl;
    (void)pthread_cond_signal(&http->free_handle);
    (void)pthread_mutex_unlock(&http->lock);
}

/* A server that throttles gets half as many requests at once, and one more for every round of good
 * answers afterwards. */
static void adapt(struct http *http, int status)
{
    (void)pthread_mutex_lock(&http->lock);
    if (status == 429 || status == 503) {
        http->limit = MAX(http->limit / 2, (size_t)1);
        http->n_good = 0;
    } else if (http->limit < http->n_handles && ++http->n_good > http->limit) {
        http->limit++;
        http->n_good = 0;
        (void)pthread_cond_signal(&http->free_handle);
    }
    (void)pthread_mutex_unlock(&http->lock);
}

static bool is_stopped(const struct http *http)
{
    return http->options.stop != NULL && atomic_load(http->options.stop);
}

/* "host/path", for messages: a query or a user part may be secret. */
static void describe(const struct http_request *request, char text[SHOWN_PATH + 1])
{
    CURLU *url = curl_url();
    char *host = NULL, *path = NULL;

    text[0] = '\0';
    if (url != NULL && curl_url_set(url, CURLUPART_URL, request->url, 0) == CURLUE_OK &&
        curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
        curl_url_get(url, CURLUPART_PATH, &path, 0) == CURLUE_OK)
        (void)snprintf(text, SHOWN_PATH + 1, "%s%s", host, path);
    curl_free(host);
    curl_free(path);
    curl_url_cleanup(url);
}

static bool header_is(const char *line, size_t len, const char *name, struct bytes_view *value)
{
    size_t n = strlen(name);

    if (len <= n || strncasecmp(line, name, n) != 0 || line[n] != ':')
        return false;
    for (n++; n < len && (line[n] == ' ' || line[n] == '\t');)
        n++;
    while (len > n && (line[len - 1] == '\r' || line[len - 1] == '\n' || line[len - 1] == ' '))
        len--;
    *value = bytes_view_of(line + n, len - n);
    return true;
}

/* Without W/ and quotes. */
static void keep_etag(struct bytes_view value, char *out, size_t size)
{
    const char *text = (const char *)value.data;
    size_t from = 0, to = value.len;

    if (to >= 2 && text[0] == 'W' && text[1] == '/')
        from = 2;
    if (to - from >= 2 && text[from] == '"' && text[to - 1] == '"') {
        from++;
        to--;
    }
    (void)snprintf(out, size, "%.*s", (int)(to - from), text + from);
}

/* Seconds, or a date. */
static int64_t parse_retry_after(struct bytes_view value)
{
    char text[64];
    struct error ignored;
    int64_t seconds;
    time_t when;

    (void)snprintf(text, sizeof text, "%.*s", (int)value.len, (const char *)value.data);
    if (parse_i64(text, 0, 86400, &seconds, &ignored) == ST_OK)
        return seconds * 1000;
    when = curl_getdate(text, NULL);
    return when == (time_t)-1 ? -1 : MAX((int64_t)when * 1000 - clock_wall_ms(), (int64_t)0);
}

static size_t on_header(char *line, size_t size, size_t n, void *context)
{
    struct attempt *a = context;
    struct http_response *r = a->response;
    size_t len = size * n;
    struct bytes_view value;

    if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) { /* one answer of a row of redirects */
        byte_buf_reset(&r->headers);
        r->etag[0] = '\0';
        r->content_length = 0;
        a->retry_after_ms = -1;
    } else if (header_is(line, len, "etag", &value)) {
        keep_etag(value, r->etag, sizeof r->etag);
    } else if (header_is(line, len, "x-linked-etag", &value) && r->linked_etag[0] == '\0') {
        keep_etag(value, r->linked_etag, sizeof r->linked_etag);
    } else if (header_is(line, len, "x-repo-commit", &value) && r->commit[0] == '\0') {
        (void)snprintf(r->commit, sizeof r->commit, "%.*s", (int)value.len,
                       (const char *)value.data);
    } else if (header_is(line, len, "retry-after", &value)) {
        a->retry_after_ms = parse_retry_after(value);
    }
    a->cut = byte_buf_append(&r->headers, line, len, a->err) != ST_OK;
    return a->cut ? 0 : len;
}

static int status_of(CURL *curl)
{
    long code = 0;

    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    return (int)code;
}

static size_t on_body(char *data, size_t size, size_t n, void *context)
{
    struct attempt *a = context;
    struct bytes_view piece = bytes_view_of(data, size * n);
    int status = status_of(a->curl);
    enum status st = ST_OK;

    if (status < 200 || status > 299) {
        size_t room = MAX_ERROR_BODY - a->response->refusal.len;
        struct error ignored;

        if (byte_buf_append(&a->response->refusal, piece.data, MIN(piece.len, room), &ignored) !=
            ST_OK)
            byte_buf_reset(&a->response->refusal); /* the status says enough */
        return size * n;
    }
    if (status == 200 && a->skip > 0) { /* the server knows no ranges */
        size_t skipped = (size_t)MIN(a->skip, (uint64_t)piece.len);

        a->skip -= skipped;
        piece = bytes_view_of(piece.data + skipped, piece.len - skipped);
    }
    piece.len = (size_t)MIN((uint64_t)piece.len, a->left);
    if (piece.len == 0)
        return size * n;
    if (a->each != NULL) {
        a->begun = true;
        st = a->each(a->ctx, piece, a->err);
    } else if (piece.len > a->max_body - a->response->body.len) {
        st = error_set(a->err, ST_INVALID, "the answer is larger than %zu bytes", a->max_body);
    } else {
        st = byte_buf_append(&a->response->body, piece.data, piece.len, a->err);
    }
    a->cut = st != ST_OK;
    a->left -= piece.len;
    a->enough = a->left == 0 && status == 200;
    return a->cut || a->enough ? 0 : size * n;
}

/* Called with the address a name has led to, of every host of a row of redirects. */
static curl_socket_t open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *to)
{
    struct attempt *a = context;

    (void)purpose;
    if (address_is_private(&to->addr)) {
        address_text(&to->addr, a->refused_address);
        return CURL_SOCKET_BAD;
    }
    return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

static int on_progress(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    const struct attempt *attempt = context;

    (void)a, (void)b, (void)c, (void)d;
    return is_stopped(attempt->http);
}

static struct curl_slist *headers_of(const struct http_request *request, bool *ok)
{
    struct curl_slist *list = curl_slist_append(NULL, "Expect:"); /* no wait for 100-continue */
    char line[MAX_HEADER_LINE];
    int n;

    *ok = list != NULL;
    for (size_t i = 0; i < request->n_headers + 1 && *ok; i++) {
        struct curl_slist *longer;

        if (i == request->n_headers && request->range_begin == 0 && request->range_len == 0)
            break;
        if (i < request->n_headers)
            n = snprintf(line, sizeof line, "%s: %s", request->headers[i].name,
                         request->headers[i].value);
        else if (request->range_len == 0)
            n = snprintf(line, sizeof line, "Range: bytes=%llu-",
                         (unsigned long long)request->range_begin);
        else
            n = snprintf(line, sizeof line, "Range: bytes=%llu-%llu",
                         (unsigned long long)request->range_begin,
                         (unsigned long long)(request->range_begin + request->range_len - 1));
        *ok = n >= 0 && (size_t)n < sizeof line;
        longer = *ok ? curl_slist_append(list, line) : NULL;
        *ok = longer != NULL;
        list = *ok ? longer : list;
    }
    return list;
}

static void set_options(struct attempt *a, struct curl_slist *headers)
{
    const struct http_options *o = &a->http->options;
    const struct http_request *request = a->request;
    CURL *c = a->curl;

    (void)curl_easy_setopt(c, CURLOPT_URL, request->url);
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, request->follow_redirects ? 1L : 0L);
    (void)curl_easy_setopt(c, CURLOPT_MAXREDIRS, (long)MAX_REDIRECTS);
    (void)curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)o->connect_timeout_ms);
    (void)curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)o->timeout_ms);
    (void)curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    (void)curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)MAX(o->stall_ms / 1000, 1));
    (void)curl_easy_setopt(c, CURLOPT_USERAGENT, "reinforce");
    (void)curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    (void)curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(c, CURLOPT_HEADERDATA, a);
    (void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(c, CURLOPT_WRITEDATA, a);
    (void)curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    (void)curl_easy_setopt(c, CURLOPT_XFERINFODATA, a);
    (void)curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    if (o->ca_file != NULL)
        (void)curl_easy_setopt(c, CURLOPT_CAINFO, o->ca_file);
    if (o->direct || o->public_only)
        (void)curl_easy_setopt(c, CURLOPT_PROXY, "");
    if (o->public_only) {
        (void)curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, open_socket);
        (void)curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, a);
    }
    if (a->http->bearer != NULL) { /* libcurl keeps it from other hosts of a redirect */
        (void)curl_easy_setopt(c, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
        (void)curl_easy_setopt(c, CURLOPT_XOAUTH2_BEARER, a->http->bearer);
    }
    if (strcmp(request->method, "HEAD") == 0) {
        (void)curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    } else if (strcmp(request->method, "GET") != 0) {
        (void)curl_easy_setopt(c, CURLOPT_POST, 1L);
        (void)curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, request->method);
        (void)curl_easy_setopt(c, CURLOPT_POSTFIELDS,
                               request->body.len > 0 ? (const void *)request->body.data : "");
        (void)curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
    }
}

static bool is_worth_another_try(int status)
{
    return status == 408 || status == 425 || status == 429 || status == 500 || status == 502 ||
           status == 503 || status == 504;
}

static enum status refused(struct attempt *a, const char *target)
{
    int status = a->response->status;
    char said[SHOWN_BODY + 1];
    size_t n = MIN(a->response->refusal.len, (size_t)SHOWN_BODY);
    enum status st = status == 404 || status == 410                  ? ST_NOT_FOUND
                     : status == 409 || status == 412                ? ST_CONFLICT
                     : is_worth_another_try(status) || status >= 500 ? ST_UNAVAILABLE
                                                                     : ST_INVALID;

    for (size_t i = 0; i < n; i++)
        said[i] = a->response->refusal.data[i] >= ' ' && a->response->refusal.data[i] < 0x7f
                      ? (char)a->response->refusal.data[i]
                      : ' ';
    said[n] = '\0';
    return error_set(a->err, st, "%s %s: status %d%s%s", a->request->method, target, status,
                     n > 0 ? ", " : "", said);
}

static enum status broken(struct attempt *a, CURLcode code, const char *target)
{
    enum status st = code == CURLE_OPERATION_TIMEDOUT ? ST_TIMEOUT
                     : code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL
                         ? ST_INVALID
                     : code == CURLE_OUT_OF_MEMORY ? ST_NO_MEMORY
                                                   : ST_UNAVAILABLE;

    if (a->refused_address[0] != '\0')
        return error_set(a->err, ST_INVALID,
                         "%s %s: its address %s is private, and inputs are read from public ones "
                         "alone",
                         a->request->method, target, a->refused_address);
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return error_set(a->err, ST_CANCELLED, "%s %s was given up", a->request->method, target);
    return error_set(a->err, st, "%s %s: %s", a->request->method, target, curl_easy_strerror(code));
}

/* One try. *again: it may be worth another. */
static enum status try_once(struct attempt *a, const char *target, bool *again)
{
    struct http_response *r = a->response;
    struct curl_slist *headers;
    curl_off_t length = -1;
    CURLcode code;
    bool ok;
    enum status st = ST_OK;

    r->status = 0;
    r->content_length = 0;
    r->has_length = false;
    byte_buf_reset(&r->body);
    byte_buf_reset(&a->response->refusal);
    a->retry_after_ms = -1;
    a->skip = a->request->range_begin;
    a->left = a->request->range_len > 0 ? a->request->range_len : UINT64_MAX;
    a->enough = false;
    a->refused_address[0] = '\0';
    headers = headers_of(a->request, &ok);
    if (!ok) {
        curl_slist_free_all(headers);
        return error_set(a->err, ST_NO_MEMORY, "could not allocate headers");
    }
    set_options(a, headers);
    code = curl_easy_perform(a->curl);
    r->status = status_of(a->curl);
    if (curl_easy_getinfo(a->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length) == CURLE_OK &&
        length >= 0) {
        r->content_length = (uint64_t)length;
        r->has_length = true;
    }
    curl_slist_free_all(headers);
    if (a->cut) {
        *again = false;
        return a->err->code;
    }
    adapt(a->http, r->status);
    if (code != CURLE_OK && !a->enough) {
        st = broken(a, code, target);
        *again = !a->begun && (st == ST_UNAVAILABLE || st == ST_TIMEOUT);
    } else if (r->status < 200 || r->status > 299) {
        st = refused(a, target);
        *again = is_worth_another_try(r->status);
    }
    return st;
}

/* Doubling, the upper half of it by chance, no shorter than what the server asked for. */
static int64_t backoff_ms(const struct http_options *o, int n_failed, int64_t retry_after_ms)
{
    int64_t full = o->backoff_ms, wait;

    for (int i = 1; i < n_failed && full < o->backoff_max_ms; i++)
        full *= 2;
    full = MIN(full, (int64_t)o->backoff_max_ms);
    wait = full / 2 + clock_monotonic_ns() % (full / 2 + 1);
    return MIN(MAX(wait, retry_after_ms), (int64_t)o->backoff_max_ms);
}

void http_back_off(const struct http *http, int n_failed)
{
    clock_sleep_ms(backoff_ms(&http->options, n_failed, -1), http->options.stop);
}

enum status http_run(struct http *http, const struct http_request *request, size_t max_body,
                     http_body_fn *each, void *ctx, struct http_response *response,
                     struct error *err)
{
    struct attempt attempt = {.http = http,
                              .request = request,
                              .max_body = max_body,
                              .each = each,
                              .ctx = ctx,
                              .response = response,
                              .err = err};
    char target[SHOWN_PATH + 1];
    enum status st = ST_CANCELLED;

    memset(response, 0, sizeof *response);
    byte_buf_init(&response->body, MAX(max_body, (size_t)1));
    byte_buf_init(&response->refusal, MAX_ERROR_BODY);
    byte_buf_init(&response->headers, MAX_HEADERS);
    describe(request, target);
    attempt.curl = take_handle(http);
    for (bool again = true; again;) {
        again = false;
        if (is_stopped(http)) {
            st = error_set(err, ST_CANCELLED, "%s %s was given up", request->method, target);
            break;
        }
        st = try_once(&attempt, target, &again);
        curl_easy_reset(attempt.curl);
        response->tries++;
        again = again && response->tries < MAX(http->options.max_tries, 1);
        if (again) {
            int64_t ms = backoff_ms(&http->options, response->tries, attempt.retry_after_ms);

            clock_sleep_ms(ms, http->options.stop);
            response->waited_ms += ms;
        }
    }
    give_handle(http, attempt.curl);
    return st;
}

void http_response_release(struct http_response *response)
{
    byte_buf_release(&response->body);
    byte_buf_release(&response->refusal);
    byte_buf_release(&response->headers);
}

bool http_response_header(const struct http_response *response, const char *name,
                          struct bytes_view *value)
{
    const char *text = (const char *)response->headers.data;
    size_t len = response->headers.len;

    while (len > 0) {
        const char *end = memchr(text, '\n', len);
        size_t n = end != NULL ? (size_t)(end - text) + 1 : len;

        if (header_is(text, n, name, value))
            return true;
        text += n;
        len -= n;
    }
    return false;
}

int64_t http_response_date_ms(const struct http_response *response)
{
    struct bytes_view value;
    char text[64];
    time_t when = -1;

    if (http_response_header(response, "date", &value) && value.len < sizeof text) {
        memcpy(text, value.data, value.len);
        text[value.len] = '\0';
        when = curl_getdate(text, NULL);
    }
    return when > 0 ? (int64_t)when * 1000 : 0;
}
