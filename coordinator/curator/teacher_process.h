/* References computed on the spot: what requests want that nobody has, a worker's process computes,
 * in the background and as long as it takes; if it dies it is started again. */
#ifndef REINFORCE_COORDINATOR_CURATOR_TEACHER_PROCESS_H
#define REINFORCE_COORDINATOR_CURATOR_TEACHER_PROCESS_H

#include "coordinator/curator/inputs.h"

#include <stdatomic.h>

struct teacher_process;

struct teacher_process_options {
    const char *const
        *argv; /* of this program, when it is to run teacher_worker_run(); NULL last */
    const char *cache;
    const struct curator_references *dataset; /* NULL: none */
    const atomic_bool *stop;                  /* ends the waiting for the worker; may be NULL */
};

/** Starts a worker, and returns when it knows its input and has its model. ST_INVALID,
 * ST_UNAVAILABLE: it cannot, and has said why. ST_CANCELLED. */
NODISCARD enum status teacher_process_open(const struct teacher_process_options *options,
                                           struct teacher_process **out, struct error *err);
/** What was not computed yet is forgotten. */
void teacher_process_close(struct teacher_process **process);

/** The dataset's and all that was computed up to now; lives as long as the process. */
const struct curator_references *teacher_process_references(const struct teacher_process *process);

/** Examples that a request wants to have references of. */
struct wanted;

/** Looks n ids of a frame up, in the background, and has computed what is missing, the latest
 * request first. NULL: no memory; they are missing then. */
struct wanted *teacher_process_want(struct teacher_process *process, struct bytes_view ids,
                                    size_t n);

/** Whether nothing can be hoped for any more: all that can be is there, or no worker is. */
bool wanted_is_ready(const struct wanted *wanted);

/** Nobody waits for them any more; they are computed all the same. Safe on NULL. */
void wanted_release(struct wanted **wanted);

/** Polled for reading; teacher_process_heard() makes it unreadable. */
int teacher_process_fd(const struct teacher_process *process);
void teacher_process_heard(struct teacher_process *process);

/** Since it was opened. */
struct teacher_counts {
    uint64_t n_examples;                  /* that the input has */
    uint64_t n_found, n_unknown;          /* when they were asked for; unknown: not in the input */
    uint64_t n_computed, n_bad, n_failed; /* bad: cannot be embedded */
    uint64_t n_wanted;                    /* now */
    uint64_t n_deaths;
    uint64_t compute_ms; /* while something was computed */
};

struct teacher_counts teacher_process_count(const struct teacher_process *process);

#endif
