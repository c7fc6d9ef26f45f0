/* HTTP for everyone: one libcurl wrapper with a pool of connections, deadlines, retries with
 * back-off, and rules about whom to talk to. */
#ifndef REINFORCE_STORAGE_HTTP_H
#define REINFORCE_STORAGE_HTTP_H

#include "reinforce/base/bytes.h"

#include <stdatomic.h>

struct http;

/** How a client behaves. http_options_default() fills it; strings are borrowed until http_close().
 */
struct http_options {
    int connect_timeout_ms;
    int timeout_ms;     /* for a whole answer, each try; 0: none (downloads watch stall_ms alone) */
    int stall_ms;       /* give up a try when no byte has come for so long */
    int max_tries;      /* of one request, 1: never again */
    int backoff_ms;     /* before the second try; doubles, with jitter, up to backoff_max_ms */
    int backoff_max_ms; /* a server's Retry-After counts up to this too */
    int max_connections; /* requests at once; callers beyond wait their turn */
    const char *bearer;  /* token for the Authorization header of the first host only; NULL: none */
    const char *ca_file; /* certificates to trust, PEM; NULL: the system's */
    bool direct;         /* no proxy, whatever the environment says */
    bool public_only;    /* connect to no address that is private (address.h); implies `direct`, as
                            a proxy would hide where a name leads */
    const atomic_bool *stop; /* true: give up between tries with ST_CANCELLED; may be NULL */
};

struct http_header {
    const char *name, *value;
};

/** One request. Plain data, borrowed for the call. */
struct http_request {
    const char *method; /* "GET", "HEAD", "POST", "PUT", "DELETE" */
    const char *url;
    const struct http_header *headers;
    size_t n_headers;
    struct bytes_view body;
    uint64_t range_begin;  /* bytes to skip; 0: the whole */
    uint64_t range_len;    /* how many from there at most; 0: to the end */
    bool follow_redirects; /* over http and https, at most 5 times; the token stays with its host */
};

/** Called with the body as it comes, of an answer in 200..299 alone; not ST_OK ends the request. */
typedef enum status http_body_fn(void *ctx, struct bytes_view piece, struct error *err);

/** What came back. Zeroed before use, http_response_release() afterwards. */
struct http_response {
    int status;              /* of the last try; 0: none arrived */
    struct byte_buf body;    /* unless a callback took it */
    struct byte_buf refusal; /* the beginning of an error's body */
    struct byte_buf headers; /* of the last answer, as they came: http_response_header() */
    char etag[128];          /* without quotes and W/ */
    char linked_etag[128];   /* X-Linked-Etag, of the first answer of a redirect */
    char commit[64];         /* X-Repo-Commit, the same */
    uint64_t content_length; /* 0 also when `has_length` is not set */
    bool has_length;         /* the server said how long the answer is */
    int tries;
    int64_t waited_ms; /* in back-off */
};

void http_options_default(struct http_options *options);

/** *out is the caller's. Any number of threads may use it at once. ST_NO_MEMORY. */
NODISCARD enum status http_open(const struct http_options *options, struct http **out,
                                struct error *err);
void http_close(struct http **http);

/**
 * Runs one request to its end. Tries again on 408, 425, 429, 500, 502, 503, 504 and when the
 * connection fails, times out or breaks off, as long as no piece of a body went to `each`. Answers
 * 429 and 503 halve how many requests run at once, answers that are good let them grow again.
 *
 * ST_OK       an answer in 200..299
 * ST_NOT_FOUND 404 or 410; ST_INVALID other 4xx, and URLs that are none; ST_CONFLICT 409 and 412;
 * ST_UNAVAILABLE 5xx, 429, no connection; ST_TIMEOUT; ST_CANCELLED
 * The message names method, host and path (never a query or a token), the status, and the beginning
 * of what the server said. `each` may be NULL: the body goes to response->body, up to max_body.
 */
NODISCARD enum status http_run(struct http *http, const struct http_request *request,
                               size_t max_body, http_body_fn *each, void *ctx,
                               struct http_response *response, struct error *err);
void http_response_release(struct http_response *response);

/** Waits as run() does between tries, after `n_failed` of them: for answers that only their reader
 * can tell from a success. */
void http_back_off(const struct http *http, int n_failed);

/** Value of a header of the last answer, by name whatever its case; until release. */
bool http_response_header(const struct http_response *response, const char *name,
                          struct bytes_view *value);

/** What the server's clock said, in milliseconds since 1970; 0: it did not say. */
int64_t http_response_date_ms(const struct http_response *response);

#endif
