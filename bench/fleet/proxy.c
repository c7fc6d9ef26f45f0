#include "bench/fleet/proxy.h"

#include "reinforce/base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOST "127.0.0.1"

enum { MAX_FILES = 65536, MAX_EVENTS = 256, CHUNK_BYTES = 16384, TICK_MS = 1, BACKLOG = 1024 };

/* Bytes on their way. */
struct chunk {
    struct chunk *next;
    int64_t due_ms;
    size_t begin, end;
    uint8_t bytes[CHUNK_BYTES];
};

/* One end of a connection, and what is to be written to it. */
struct side {
    int fd;
    struct side *peer;
    bool is_server, is_waiting; /* for room to write */
    struct chunk *first, *last;
};

struct proxy {
    const struct proxy_options *options;
    int epoll;
    struct side *sides[MAX_FILES]; /* by descriptor */
    int n_files;                   /* none is higher */
    double cuts;                   /* owed */
    uint64_t random;
};

static struct sockaddr_in address_of(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    (void)inet_pton(AF_INET, HOST, &address.sin_addr);
    return address;
}

enum status proxy_place(char *url, size_t size, int *listener, int *port, struct error *err)
{
    char *at = strstr(url, HOST ":"), *rest;
    struct sockaddr_in address = address_of(0);
    socklen_t len = sizeof address;
    char tail[1024];

    if (at == NULL)
        return error_set(err, ST_INVALID, "\"%s\" is not at " HOST, url);
    at += strlen(HOST ":");
    *port = (int)strtol(at, &rest, 10);
    (void)snprintf(tail, sizeof tail, "%s", rest);
    *listener = socket(AF_INET, SOCK_STREAM, 0);
    if (*listener < 0 || bind(*listener, (struct sockaddr *)&address, len) != 0 ||
        listen(*listener, BACKLOG) != 0 ||
        getsockname(*listener, (struct sockaddr *)&address, &len) != 0)
        return error_set_errno(err, ST_UNAVAILABLE, "could not listen");
    (void)snprintf(at, size - (size_t)(at - url), "%d%s", ntohs(address.sin_port), tail);
    return ST_OK;
}

static void watch(struct proxy *p, struct side *side, int how)
{
    struct epoll_event event = {.events = EPOLLIN | (side->is_waiting ? EPOLLOUT : 0U),
                                .data.fd = side->fd};

    (void)epoll_ctl(p->epoll, how, side->fd, &event);
}

static struct side *add_side(struct proxy *p, int fd)
{
    struct side *side = calloc(1, sizeof *side);

    if (side == NULL)
        abort();
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    side->fd = fd;
    p->sides[fd] = side;
    p->n_files = MAX(p->n_files, fd + 1);
    watch(p, side, EPOLL_CTL_ADD);
    return side;
}

static void take(struct proxy *p)
{
    const struct sockaddr_in address = address_of(p->options->port);
    int client = accept(p->options->listener, NULL, NULL);
    int server = client >= 0 ? socket(AF_INET, SOCK_STREAM, 0) : -1;

    if (server < 0 || MAX(client, server) >= MAX_FILES ||
        connect(server, (const struct sockaddr *)&address, sizeof address) != 0) {
        if (client >= 0)
            (void)close(client);
        if (server >= 0)
            (void)close(server);
        return;
    }
    add_side(p, client)->peer = add_side(p, server);
    p->sides[server]->peer = p->sides[client];
    p->sides[server]->is_server = true;
}

static void drop_side(struct proxy *p, struct side *side)
{
    while (side->first != NULL) {
        struct chunk *next = side->first->next;

        free(side->first);
        side->first = next;
    }
    p->sides[side->fd] = NULL;
    (void)close(side->fd);
    free(side);
}

static void cut(struct proxy *p, struct side *side)
{
    drop_side(p, side->peer);
    drop_side(p, side);
}

/* Writes what is due; false: the other end is gone. */
static bool flush(struct proxy *p, struct side *side)
{
    bool was_waiting = side->is_waiting;

    side->is_waiting = false;
    while (side->first != NULL && side->first->due_ms <= clock_monotonic_ms()) {
        struct chunk *chunk = side->first;
        ssize_t n =
            send(side->fd, chunk->bytes + chunk->begin, chunk->end - chunk->begin, MSG_NOSIGNAL);

        if (n < 0 && errno != EAGAIN)
            return false;
        if (n < 0) {
            side->is_waiting = true;
            break;
        }
        chunk->begin += (size_t)n;
        if (chunk->begin < chunk->end)
            continue;
        side->first = chunk->next;
        if (side->first == NULL)
            side->last = NULL;
        free(chunk);
    }
    if (side->is_waiting != was_waiting)
        watch(p, side, EPOLL_CTL_MOD);
    return true;
}

static bool pass_on(struct proxy *p, struct side *from)
{
    struct chunk *chunk = malloc(sizeof *chunk);
    ssize_t n;

    if (chunk == NULL)
        abort();
    n = recv(from->fd, chunk->bytes, sizeof chunk->bytes, 0);
    if (n <= 0) {
        free(chunk);
        return n < 0 && errno == EAGAIN;
    }
    chunk->next = NULL;
    chunk->begin = 0;
    chunk->end = (size_t)n;
    chunk->due_ms = clock_monotonic_ms() + (from->is_server ? p->options->delay_ms : 0);
    if (from->peer->last != NULL)
        from->peer->last->next = chunk;
    else
        from->peer->first = chunk;
    from->peer->last = chunk;
    return flush(p, from->peer);
}

static void cut_some(struct proxy *p, double seconds)
{
    p->cuts += p->options->cuts * seconds;
    for (; p->cuts >= 1; p->cuts--) {
        p->random = p->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        struct side *side = p->sides[(p->random >> 33) % (uint64_t)p->n_files];

        if (side != NULL)
            cut(p, side);
    }
}

static void tick(struct proxy *p, double seconds)
{
    if (p->options->delay_ms > 0)
        for (int fd = 0; fd < p->n_files; fd++)
            if (p->sides[fd] != NULL && p->sides[fd]->first != NULL && !flush(p, p->sides[fd]))
                cut(p, p->sides[fd]);
    cut_some(p, seconds);
}

static void handle(struct proxy *p, const struct epoll_event *event)
{
    struct side *side = p->sides[event->data.fd];
    bool alive = true;

    if (event->data.fd == p->options->listener) {
        take(p);
        return;
    }
    if (side == NULL) /* cut by an earlier event */
        return;
    if ((event->events & EPOLLOUT) != 0)
        alive = flush(p, side);
    if (alive && (event->events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
        alive = pass_on(p, side);
    if (!alive)
        cut(p, side);
}

enum status proxy_run(const struct proxy_options *options, struct error *err)
{
    struct proxy *p = calloc(1, sizeof *p);
    struct epoll_event events[MAX_EVENTS],
        event = {.events = EPOLLIN, .data.fd = options->listener};
    int64_t ticked_ms = clock_monotonic_ms();

    if (p == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a proxy");
    p->options = options;
    p->random = options->seed;
    p->n_files = options->listener + 1;
    p->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (p->epoll < 0 || epoll_ctl(p->epoll, EPOLL_CTL_ADD, options->listener, &event) != 0) {
        free(p);
        return error_set_errno(err, ST_UNAVAILABLE, "could not poll");
    }
    for (;;) {
        int n = epoll_wait(p->epoll, events, MAX_EVENTS, TICK_MS);
        int64_t now_ms = clock_monotonic_ms();

        for (int i = 0; i < n; i++)
            handle(p, &events[i]);
        if (now_ms > ticked_ms) {
            tick(p, (double)(now_ms - ticked_ms) / 1000);
            ticked_ms = now_ms;
        }
    }
}
