/* An HTTP server in a thread that says what a test has written down, answer after answer. */
#ifndef REINFORCE_TESTS_HTTP_FAKE_H
#define REINFORCE_TESTS_HTTP_FAKE_H

#include "reinforce/base/bytes.h"

struct http_fake;

/** One answer, used once, in order; the last one is repeated. */
struct http_fake_answer {
    int status;          /* 0: the connection is closed without an answer */
    const char *headers; /* more of them, each ending in \r\n; NULL: none */
    const char *body;
    size_t body_len; /* 0: strlen(body) */
    size_t cut_at;   /* the connection breaks behind so many bytes of the body; 0: whole */
    int delay_ms;    /* before the answer */
};

/** Listens on loopback at a port of its own. Answers are borrowed until destroy. Fails the test
 * when it cannot. */
struct http_fake *http_fake_create(const struct http_fake_answer *answers, size_t n);

/** "http://127.0.0.1:PORT", until destroy. */
const char *http_fake_url(const struct http_fake *fake);

/** How many requests came, and the whole text of number `i` (head and body), until destroy. */
size_t http_fake_count(struct http_fake *fake);
const char *http_fake_request(struct http_fake *fake, size_t i);

void http_fake_destroy(struct http_fake **fake);

#endif
