/* What trainers have asked for: a request as it came, and everybody who wants its answer. */
#ifndef REINFORCE_COORDINATOR_CURATOR_TASK_H
#define REINFORCE_COORDINATOR_CURATOR_TASK_H

#include "coordinator/curator/curator.h"
#include "coordinator/curator/teacher_process.h"

#include <zmq.h>

enum { TASK_MAX_PARTS = CURATOR_MAX_FRAMES + 2, TASK_PEER_MAX = 255 };

enum task_kind {
    TASK_SELECT = 1,
    TASK_PROBE = 2,
    TASK_STATUS = 3,
};

/** The word that stands for a kind on the wire. */
const char *task_kind_name(enum task_kind kind);

struct task_peer {
    uint8_t id[TASK_PEER_MAX];
    size_t len;
};

/** Moves from thread to thread; whoever has it owns it. */
struct task {
    enum task_kind kind;
    struct task *next; /* its owner's */
    struct task_peer *peers;
    size_t n_peers, peers_capacity;
    zmq_msg_t parts[TASK_MAX_PARTS]; /* kind, message, frames, as they were received */
    size_t n_parts, bytes;
    struct bytes_view message, frames[CURATOR_MAX_FRAMES]; /* of the parts */
    size_t n_frames;
    int64_t received_ns, deadline_ns; /* by clock_monotonic_ns(); 0: none */
    union {
        struct curator_request select;
        struct curator_probe_request probe;
    } request;
    struct wanted *wanted;        /* references that it waits for; NULL: none */
    struct arena arena;           /* of the request's quotas */
    struct curator_answer answer; /* to TASK_SELECT */
    struct curator_probe_reply probed;
    bool is_selected;   /* on a selector's thread */
    enum status status; /* how it ended; if not well, why: */
    struct error err;
};

/**
 * Takes the next message from a ROUTER. ST_FULL: there is none. With *out set and another status,
 * the message is no request: answer its peer with the reason. ST_NO_MEMORY, ST_UNAVAILABLE: nothing
 * was received.
 */
NODISCARD enum status task_receive(void *socket, struct task **out, struct error *err);

/** Its answer goes to the peer, too; when there is no memory for more, in the last one's place. */
void task_add_peer(struct task *task, const struct task_peer *peer);

/** Has the references it needs computed by `teacher`, which may be NULL. A probe takes what is
 * there. */
void task_want_references(struct task *task, struct teacher_process *teacher);

/** Half of a request's time is for references, the other for the selection. */
int64_t task_wanted_until_ns(const struct task *task);

/** Whether it may not be selected from yet. */
bool task_waits_for_references(const struct task *task, int64_t now_ns);

/** Frees what was received, but not its answer and peers. */
void task_drop_parts(struct task *task);
void task_destroy(struct task **task);

#endif
