#include "tests/support/http_fake.h"

#include "tests/support/test.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_REQUESTS = 256, MAX_REQUEST_BYTES = 8 << 20, WAIT_MS = 20 };

struct http_fake {
    const struct http_fake_answer *answers;
    size_t n_answers;
    char url[64];
    int listener;
    pthread_t thread;
    atomic_bool stop;
    pthread_mutex_t lock; /* guards what came */
    char *requests[MAX_REQUESTS];
    size_t n_requests;
};

/* The Content-Length header, whatever its case; NULL: none. */
static const char *find_length(const char *text)
{
    static const char name[] = "\r\ncontent-length:";

    for (const char *at = strchr(text, '\r'); at != NULL; at = strchr(at + 1, '\r'))
        if (strncasecmp(at, name, sizeof name - 1) == 0)
            return at;
    return NULL;
}

/* Reads one request whole: head, and Content-Length of body. NULL: the peer is gone. */
static char *read_request(int fd)
{
    char *text = calloc(1, MAX_REQUEST_BYTES + 1), *end;
    const char *length;
    size_t len = 0, want = SIZE_MAX;

    while (text != NULL && len < want && len < MAX_REQUEST_BYTES) {
        ssize_t n = recv(fd, text + len, MAX_REQUEST_BYTES - len, 0);

        if (n <= 0) {
            free(text);
            return NULL;
        }
        len += (size_t)n;
        end = strstr(text, "\r\n\r\n");
        if (want == SIZE_MAX && end != NULL) {
            want = (size_t)(end - text) + 4;
            length = find_length(text);
            if (length != NULL && length < end)
                want += (size_t)strtoul(length + 17, NULL, 10);
        }
    }
    return text;
}

static void send_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

        if (n <= 0)
            return;
        data += n;
        len -= (size_t)n;
    }
}

static void answer(const struct http_fake_answer *a, int fd)
{
    const char *body = a->body != NULL ? a->body : "";
    size_t len = a->body_len > 0 ? a->body_len : strlen(body);
    struct timespec delay = {.tv_sec = a->delay_ms / 1000,
                             .tv_nsec = (long)(a->delay_ms % 1000) * 1000000};
    char head[2048];
    int n;

    (void)nanosleep(&delay, NULL);
    if (a->status == 0)
        return;
    n = snprintf(head, sizeof head,
                 "HTTP/1.1 %d Status\r\nContent-Length: %zu\r\nConnection: close\r\n%s\r\n",
                 a->status, len, a->headers != NULL ? a->headers : "");
    send_all(fd, head, (size_t)n);
    send_all(fd, body, a->cut_at > 0 ? a->cut_at : len);
}

static void *serve(void *argument)
{
    struct http_fake *fake = argument;

    while (!atomic_load(&fake->stop)) {
        struct pollfd poller = {.fd = fake->listener, .events = POLLIN};
        size_t i;
        char *request;
        int fd;

        if (poll(&poller, 1, WAIT_MS) <= 0)
            continue;
        fd = accept(fake->listener, NULL, NULL);
        if (fd < 0)
            continue;
        request = read_request(fd);
        if (request != NULL) {
            (void)pthread_mutex_lock(&fake->lock);
            i = fake->n_requests;
            if (i < MAX_REQUESTS)
                fake->requests[fake->n_requests++] = request;
            else
                free(request);
            (void)pthread_mutex_unlock(&fake->lock);
            answer(&fake->answers[MIN(i, fake->n_answers - 1)], fd);
        }
        (void)close(fd);
    }
    return NULL;
}

struct http_fake *http_fake_create(const struct http_fake_answer *answers, size_t n)
{
    struct http_fake *fake = calloc(1, sizeof *fake);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;

    assert_non_null(fake);
    fake->answers = answers;
    fake->n_answers = n;
    fake->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fake->listener >= 0);
    assert_int_equal(bind(fake->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fake->listener, 16), 0);
    assert_int_equal(getsockname(fake->listener, (struct sockaddr *)&address, &len), 0);
    (void)snprintf(fake->url, sizeof fake->url, "http://127.0.0.1:%u",
                   (unsigned)ntohs(address.sin_port));
    (void)pthread_mutex_init(&fake->lock, NULL);
    assert_int_equal(pthread_create(&fake->thread, NULL, serve, fake), 0);
    return fake;
}

const char *http_fake_url(const struct http_fake *fake)
{
    return fake->url;
}

size_t http_fake_count(struct http_fake *fake)
{
    size_t n;

    (void)pthread_mutex_lock(&fake->lock);
    n = fake->n_requests;
    (void)pthread_mutex_unlock(&fake->lock);
    return n;
}

const char *http_fake_request(struct http_fake *fake, size_t i)
{
    assert_true(i < http_fake_count(fake));
    return fake->requests[i];
}

void http_fake_destroy(struct http_fake **fake)
{
    atomic_store(&(*fake)->stop, true);
    (void)pthread_join((*fake)->thread, NULL);
    (void)close((*fake)->listener);
    for (size_t i = 0; i < (*fake)->n_requests; i++)
        free((*fake)->requests[i]);
    (void)pthread_mutex_destroy(&(*fake)->lock);
    free(*fake);
    *fake = NULL;
}
