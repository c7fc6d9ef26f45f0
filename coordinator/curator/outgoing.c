#include "coordinator/curator/outgoing.h"

#include "reinforce/base/log.h"

#include <string.h>

static void send_parts(void *socket, const struct task_peer *peer, const char *kind,
                       struct bytes_view message, const struct curator_answer *answer)
{
    size_t n_frames = answer != NULL ? answer->n_frames : 0;
    int events;
    size_t len = sizeof events;

    /* Without it libzmq may not have noticed yet what the peer has read, and drop this. */
    (void)zmq_getsockopt(socket, ZMQ_EVENTS, &events, &len);

    /* Whoever is gone, or does not read, goes without. */
    (void)zmq_send(socket, peer->id, peer->len, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    (void)zmq_send(socket, kind, strlen(kind), ZMQ_SNDMORE | ZMQ_DONTWAIT);
    (void)zmq_send(socket, message.data, message.len,
                   (n_frames > 0 ? ZMQ_SNDMORE : 0) | ZMQ_DONTWAIT);
    for (size_t f = 0; f < n_frames; f++) {
        struct bytes_view frame = curator_answer_frame(answer, f);

        (void)zmq_send(socket, frame.data, frame.len,
                       (f + 1 < n_frames ? ZMQ_SNDMORE : 0) | ZMQ_DONTWAIT);
    }
}

void outgoing_answer(void *socket, const struct task *task, const struct curator_answer *answer)
{
    for (size_t p = 0; p < task->n_peers; p++)
        send_parts(socket, &task->peers[p], task_kind_name(TASK_SELECT),
                   curator_answer_message(answer), answer);
}

void outgoing_message(void *socket, const struct task *task, const char *kind, enum status encoded,
                      struct byte_buf *message, const struct error *err)
{
    if (encoded != ST_OK)
        log_at(LOG_WARN, "not_answered", "cause=\"%s\"", err->message);
    else if (task->n_peers > 0)
        send_parts(socket, &task->peers[0], kind, byte_buf_view(message), NULL);
    byte_buf_release(message);
}
