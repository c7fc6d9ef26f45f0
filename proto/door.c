#include "proto/door.h"

#include "proto/endpoint.h"
#include "reinforce/base/log.h"
#include "reinforce/base/wake.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <zmq.h>

/* Frames of a question: version, request id, domain, address, identity, mechanism, credentials. */
enum { MAX_FRAMES = 7, MAX_FRAME_BYTES = 256, KEY_BYTES = 32 };
enum { REQUEST_ID = 1, ADDRESS = 3, MECHANISM = 5, CREDENTIALS = 6 };

struct door {
    void *socket; /* REP; the thread's once it runs */
    struct keys_allowed allowed;
    struct wake stop;
    atomic_bool stopping;
    pthread_t thread;
    bool started;
};

struct question {
    struct {
        char bytes[MAX_FRAME_BYTES + 1]; /* NUL-terminated */
        size_t len;
    } frames[MAX_FRAMES];
    int n; /* more than MAX_FRAMES: not one of ours */
};

/* False when there is none. */
static bool hear(void *socket, struct question *question)
{
    int more = 1;
    size_t len = sizeof more;

    memset(question, 0, sizeof *question);
    while (more != 0) {
        char spare[1];
        bool fits = question->n < MAX_FRAMES;
        int n = zmq_recv(socket, fits ? question->frames[question->n].bytes : spare,
                         fits ? MAX_FRAME_BYTES : sizeof spare, ZMQ_DONTWAIT);

        if (n < 0)
            return false;
        if (fits)
            question->frames[question->n].len = MIN((size_t)n, (size_t)MAX_FRAME_BYTES);
        question->n++;
        if (zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &len) != 0)
            return false;
    }
    return true;
}

static bool may_enter(struct door *door, const struct question *question)
{
    char key[KEYS_TEXT_LEN + 1];

    return question->n == MAX_FRAMES && strcmp(question->frames[MECHANISM].bytes, "CURVE") == 0 &&
           question->frames[CREDENTIALS].len == KEY_BYTES &&
           zmq_z85_encode(key, (const uint8_t *)question->frames[CREDENTIALS].bytes, KEY_BYTES) !=
               NULL &&
           keys_allowed_has(&door->allowed, key);
}

static void answer(struct door *door, const struct question *question)
{
    bool ok = may_enter(door, question);
    const char *status = ok ? "200" : "400", *text = ok ? "" : "this key is not allowed";

    if (!ok)
        log_at(LOG_WARN, "worker_refused", "address=%s cause=\"its key is not in the allow-list\"",
               endpoint_peer(question->frames[ADDRESS].bytes));
    (void)zmq_send(door->socket, "1.0", 3, ZMQ_SNDMORE);
    (void)zmq_send(door->socket, question->frames[REQUEST_ID].bytes,
                   question->frames[REQUEST_ID].len, ZMQ_SNDMORE);
    (void)zmq_send(door->socket, status, 3, ZMQ_SNDMORE);
    (void)zmq_send(door->socket, text, strlen(text), ZMQ_SNDMORE);
    (void)zmq_send(door->socket, "", 0, ZMQ_SNDMORE); /* user id */
    (void)zmq_send(door->socket, "", 0, 0);           /* metadata */
}

static void *run(void *arg)
{
    struct door *door = arg;

    while (!atomic_load(&door->stopping)) {
        zmq_pollitem_t items[] = {{.socket = door->socket, .events = ZMQ_POLLIN},
                                  {.fd = door->stop.fds[0], .events = ZMQ_POLLIN}};
        struct question question;

        (void)zmq_poll(items, 2, -1);
        while (hear(door->socket, &question))
            answer(door, &question);
    }
    return NULL;
}

enum status door_open(void *zmq, const char *allow_path, struct door **out, struct error *err)
{
    struct door *door = calloc(1, sizeof *door);
    int linger = 0;
    enum status st;

    *out = NULL;
    if (door == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate the allow-list");
    door->stop = (struct wake){{-1, -1}};
    st = keys_allowed_open(allow_path, &door->allowed, err);
    if (st == ST_OK)
        st = wake_init(&door->stop, err);
    if (st == ST_OK) {
        door->socket = zmq_socket(zmq, ZMQ_REP);
        if (door->socket == NULL ||
            zmq_setsockopt(door->socket, ZMQ_LINGER, &linger, sizeof linger) != 0 ||
            zmq_bind(door->socket, "inproc://zeromq.zap.01") != 0)
            st =
                error_set(err, ST_UNAVAILABLE, "could not guard the door: %s", zmq_strerror(errno));
    }
    if (st == ST_OK && pthread_create(&door->thread, NULL, run, door) != 0)
        st = error_set(err, ST_UNAVAILABLE, "could not start a thread");
    door->started = st == ST_OK;
    *out = door;
    if (st != ST_OK)
        door_close(out);
    return st;
}

void door_close(struct door **door)
{
    struct door *d = *door;

    if (d == NULL)
        return;
    if (d->started) {
        atomic_store(&d->stopping, true);
        wake_signal(&d->stop);
        (void)pthread_join(d->thread, NULL);
    }
    if (d->socket != NULL)
        (void)zmq_close(d->socket);
    wake_release(&d->stop);
    keys_allowed_release(&d->allowed);
    free(d);
    *door = NULL;
}
