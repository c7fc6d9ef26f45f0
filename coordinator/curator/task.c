#include "coordinator/curator/task.h"

#include "reinforce/base/clock.h"
#include "reinforce/curate/selection_options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { REQUEST_ARENA_BYTES = 1 << 20, NS_A_MS = 1000000 };

static const char *const kinds[] = {
    [TASK_SELECT] = "select", [TASK_PROBE] = "probe", [TASK_STATUS] = "status"};

const char *task_kind_name(enum task_kind kind)
{
    return kinds[kind];
}

static bool more_follows(void *socket)
{
    int more = 0;
    size_t len = sizeof more;

    return zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &len) == 0 && more != 0;
}

/* The rest of a message that is too long to be one of ours. */
static void skip(void *socket)
{
    while (more_follows(socket)) {
        zmq_msg_t part;

        (void)zmq_msg_init(&part);
        (void)zmq_msg_recv(&part, socket, 0);
        (void)zmq_msg_close(&part);
    }
}

static enum status receive_parts(struct task *task, void *socket, struct error *err)
{
    while (more_follows(socket)) {
        zmq_msg_t *part = &task->parts[task->n_parts];

        if (task->n_parts == TASK_MAX_PARTS) {
            skip(socket);
            return error_set(err, ST_CORRUPT, "the message has more than %d frames",
                             (int)TASK_MAX_PARTS);
        }
        (void)zmq_msg_init(part);
        task->n_parts++;
        if (zmq_msg_recv(part, socket, 0) < 0)
            return error_set(err, ST_CORRUPT, "could not be received: %s", zmq_strerror(errno));
        task->bytes += zmq_msg_size(part);
    }
    if (task->n_parts < 2)
        return error_set(err, ST_CORRUPT,
                         "the message has %zu frames; kind and message are missing", task->n_parts);
    return ST_OK;
}

static struct bytes_view view_of(zmq_msg_t *part)
{
    return bytes_view_of(zmq_msg_data(part), zmq_msg_size(part));
}

static enum status decode(struct task *task, struct error *err)
{
    struct bytes_view kind = view_of(&task->parts[0]);

    task->message = view_of(&task->parts[1]);
    task->n_frames = task->n_parts - 2;
    for (size_t f = 0; f < task->n_frames; f++)
        task->frames[f] = view_of(&task->parts[2 + f]);
    for (size_t k = TASK_SELECT; k < ARRAY_LEN(kinds); k++)
        if (bytes_equal(kind, bytes_of_string(kinds[k])))
            task->kind = (enum task_kind)k;
    switch (task->kind) {
    case TASK_SELECT:
        return curator_request_decode(task->message, task->frames, task->n_frames,
                                      &task->request.select, &task->arena, err);
    case TASK_PROBE:
        return curator_probe_request_decode(task->message, task->frames, task->n_frames,
                                            &task->request.probe, err);
    case TASK_STATUS:
        return curator_status_request_decode(task->message, err);
    }
    return error_set(err, ST_CORRUPT, "the first frame is none of select, probe, status");
}

enum status task_receive(void *socket, struct task **out, struct error *err)
{
    struct task_peer peer;
    struct task *task;
    enum status st;
    int n = zmq_recv(socket, peer.id, sizeof peer.id, ZMQ_DONTWAIT);

    *out = NULL;
    if (n < 0)
        return errno == EAGAIN || errno == EINTR
                   ? ST_FULL
                   : error_set(err, ST_UNAVAILABLE, "could not receive: %s", zmq_strerror(errno));
    peer.len = (size_t)n;
    task = calloc(1, sizeof *task);
    if (task == NULL) {
        skip(socket);
        return error_set(err, ST_NO_MEMORY, "could not allocate a request");
    }
    task->received_ns = clock_monotonic_ns();
    arena_init(&task->arena, REQUEST_ARENA_BYTES);
    task_add_peer(task, &peer);
    st = receive_parts(task, socket, err);
    if (st == ST_OK)
        st = decode(task, err);
    if (st == ST_OK && task->kind == TASK_SELECT && task->request.select.deadline_ms != 0)
        task->deadline_ns = task->received_ns + (int64_t)task->request.select.deadline_ms * NS_A_MS;
    *out = task;
    return st;
}

void task_add_peer(struct task *task, const struct task_peer *peer)
{
    if (task->n_peers == task->peers_capacity) {
        size_t capacity = 2 * task->peers_capacity + 1;
        struct task_peer *grown = realloc(task->peers, capacity * sizeof *grown);

        if (grown != NULL) {
            task->peers = grown;
            task->peers_capacity = capacity;
        } else if (task->n_peers > 0) {
            task->n_peers--;
        } else {
            return;
        }
    }
    task->peers[task->n_peers++] = *peer;
}

void task_want_references(struct task *task, struct teacher_process *teacher)
{
    const struct curator_request *select = &task->request.select;
    const struct curator_probe_request *probe = &task->request.probe;
    bool is_probe = task->kind == TASK_PROBE;
    const struct selection_options options = {
        .criterion = (enum selection_criterion)(is_probe ? probe->criterion : select->criterion)};

    if (teacher == NULL || selection_reference_sign(&options) == 0 ||
        (is_probe ? probe->reference.D : select->reference.D) != 0)
        return;
    task->wanted = teacher_process_want(teacher, is_probe ? probe->ids : select->ids,
                                        is_probe ? probe->n : select->B);
    if (is_probe)
        wanted_release(&task->wanted);
}

int64_t task_wanted_until_ns(const struct task *task)
{
    return task->deadline_ns == 0 ? INT64_MAX
                                  : task->received_ns + (task->deadline_ns - task->received_ns) / 2;
}

bool task_waits_for_references(const struct task *task, int64_t now_ns)
{
    return task->wanted != NULL && now_ns < task_wanted_until_ns(task) &&
           !wanted_is_ready(task->wanted);
}

void task_drop_parts(struct task *task)
{
    for (size_t p = 0; p < task->n_parts; p++)
        (void)zmq_msg_close(&task->parts[p]);
    task->n_parts = 0;
}

void task_destroy(struct task **task)
{
    if (*task == NULL)
        return;
    task_drop_parts(*task);
    wanted_release(&(*task)->wanted);
    arena_release(&(*task)->arena);
    curator_answer_release(&(*task)->answer);
    free((*task)->peers);
    free(*task);
    *task = NULL;
}
