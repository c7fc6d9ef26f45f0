/* A worker's process, as the curator that has started it sees it. */
#ifndef REINFORCE_COORDINATOR_CURATOR_TEACHER_CHILD_H
#define REINFORCE_COORDINATOR_CURATOR_TEACHER_CHILD_H

#include "coordinator/curator/teacher_worker.h"

#include <stdatomic.h>
#include <sys/types.h>

/** Zeroed: none. */
struct teacher_child {
    pid_t pid;
    int socket; /* polled for reading */
};

/** Starts this program again with `argv`, NULL last, its standard input a socket, its standard
 * output where ours has errors. ST_UNAVAILABLE. */
NODISCARD enum status teacher_child_start(const char *const *argv, struct teacher_child *child,
                                          struct error *err);

/** ST_FULL: it has said nothing. ST_END: it is gone; ST_CORRUPT: it says what no worker does. */
NODISCARD enum status teacher_child_hear(const struct teacher_child *child,
                                         struct teacher_said *said, struct error *err);
NODISCARD enum status teacher_child_hear_hello(const struct teacher_child *child,
                                               struct teacher_hello *hello, struct error *err);

/** Waits for its hello. ST_CANCELLED: `stop` (may be NULL). ST_INVALID, ST_UNAVAILABLE: it has
 * ended, by exit code 2 or otherwise. */
NODISCARD enum status teacher_child_await_hello(struct teacher_child *child,
                                                const atomic_bool *stop,
                                                struct teacher_hello *hello, struct error *err);

/** Hands it a place; false: it takes no more now, or is gone. */
bool teacher_child_give(const struct teacher_child *child, uint64_t place);

/** Ends it, and tells how it had ended by itself, as waitpid() does. Safe when there is none. */
int teacher_child_end(struct teacher_child *child);

#endif
