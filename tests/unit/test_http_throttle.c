/* How many requests a client has under way at once, as a server sees it that answers none before it
 * has seen how many come. */
#include "storage/http/http.h"
#include "tests/support/test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 4, QUIET_MS = 150, DEADLINE_MS = 20000 };

struct server {
    int listener;
    char url[64];
};

static void server_init(struct server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;

    server->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(server->listener >= 0);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(server->listener, 16), 0);
    assert_int_equal(getsockname(server->listener, (struct sockaddr *)&address, &len), 0);
    (void)snprintf(server->url, sizeof server->url, "http://127.0.0.1:%u/",
                   (unsigned)ntohs(address.sin_port));
}

/* Takes a request that comes within `wait_ms`; -1: none does. */
static int take(const struct server *server, int wait_ms)
{
    struct pollfd poller = {.fd = server->listener, .events = POLLIN};
    char text[4096];
    int fd;

    if (poll(&poller, 1, wait_ms) <= 0)
        return -1;
    fd = accept(server->listener, NULL, NULL);
    assert_true(fd >= 0);
    assert_true(recv(fd, text, sizeof text, 0) > 0);
    return fd;
}

static void answer(int fd, const char *status)
{
    char text[256];
    int n = snprintf(text, sizeof text,
                     "HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n"
                     "Retry-After: 0\r\n\r\n",
                     status);

    assert_int_equal(send(fd, text, (size_t)n, MSG_NOSIGNAL), n);
    (void)close(fd);
}

struct asker {
    struct http *http;
    const char *url;
    enum status st;
};

static void *ask(void *arg)
{
    struct asker *asker = arg;
    const struct http_request request = {.method = "GET", .url = asker->url};
    struct http_response response;
    struct error err;

    asker->st = http_run(asker->http, &request, 100, NULL, NULL, &response, &err);
    http_response_release(&response);
    return NULL;
}

/* So many requests from as many threads; gives how many came before one was answered, of which
 * `at_least` are waited for. The first is answered `first`, the others 200. */
static int at_once(const struct server *server, struct http *http, int n, int at_least,
                   const char *first)
{
    struct asker askers[CONNECTIONS];
    pthread_t threads[CONNECTIONS];
    int fds[CONNECTIONS], n_first = 0, n_answered = 0;

    for (int i = 0; i < n; i++) {
        askers[i] = (struct asker){.http = http, .url = server->url};
        assert_int_equal(pthread_create(&threads[i], NULL, ask, &askers[i]), 0);
    }
    while (n_first < n) {
        fds[n_first] = take(server, n_first < at_least ? DEADLINE_MS : QUIET_MS);
        if (fds[n_first] < 0)
            break;
        n_first++;
    }
    assert_true(n_first >= at_least);
    answer(fds[0], first);
    n_answered = first[0] == '2';
    for (int i = 1; i < n_first; i++, n_answered++)
        answer(fds[i], "200 OK");
    for (; n_answered < n; n_answered++) {
        int fd = take(server, DEADLINE_MS);

        assert_true(fd >= 0);
        answer(fd, "200 OK");
    }
    for (int i = 0; i < n; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(askers[i].st, ST_OK);
    }
    return n_first;
}

/* FT-9 */
static void a_server_that_throttles_gets_fewer_at_once_until_it_recovers(void **state)
{
    struct http_options options;
    struct server server;
    struct http *http;
    struct error err = {0};
    int n = 0;

    (void)state;
    server_init(&server);
    http_options_default(&options);
    options.max_connections = CONNECTIONS;
    options.backoff_ms = 2;
    options.backoff_max_ms = 4;
    assert_ok(http_open(&options, &http, &err));
    assert_int_equal(at_once(&server, http, CONNECTIONS, CONNECTIONS, "200 OK"), CONNECTIONS);
    assert_int_equal(at_once(&server, http, 1, 1, "503 Slow Down"), 1);
    assert_int_equal(at_once(&server, http, CONNECTIONS, CONNECTIONS / 2, "429 Too Many"),
                     CONNECTIONS / 2);
    for (int round = 0; n < CONNECTIONS; round++) {
        assert_true(round < 10 * CONNECTIONS);
        n = at_once(&server, http, CONNECTIONS, 1, "200 OK");
    }
    http_close(&http);
    (void)close(server.listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_that_throttles_gets_fewer_at_once_until_it_recovers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
