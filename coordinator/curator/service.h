/* A curator for many trainers at once: ROUTER socket, what waits, what is remembered. */
#ifndef REINFORCE_COORDINATOR_CURATOR_SERVICE_H
#define REINFORCE_COORDINATOR_CURATOR_SERVICE_H

#include "coordinator/curator/curator.h"
#include "proto/keys.h"

#include <stdatomic.h>

struct selection_log;
struct teacher_process;

/** Called once, with the address that is bound. */
typedef void curator_told_fn(void *ctx, const char *address);

struct curator_service_options {
    const char *address;                         /* to bind: "tcp://127.0.0.1:7700" */
    const struct keys *keys;                     /* CURVE; NULL: plain */
    const char *allow_path;                      /* with keys: public keys of trainers */
    const struct curator_references *references; /* as curator_options */
    struct teacher_process *teacher; /* whose references these are, if some are computed; or NULL */
    struct selection_log *log;       /* NULL: nothing is logged; borrowed */
    size_t n_selectors;              /* selections at a time, 1 at least */
    size_t n_threads;                /* of each */
    int64_t deadline_ms;        /* of requests that have none, and no request has a later one; 0: no
                                   limit */
    size_t max_request_bytes;   /* of one request, all frames together */
    size_t max_waiting_bytes;   /* of all requests that wait; more is answered uniformly, at once */
    size_t max_selection_bytes; /* curator_options.max_bytes */
    const char *version;        /* of this program, for the status */
    const atomic_bool *stop;
    curator_told_fn *told; /* may be NULL */
    void *told_ctx;
};

/**
 * Runs until *stop: then what is being selected is finished, what waits is answered uniformly, and
 * replies have five seconds to leave. ST_INVALID, ST_UNAVAILABLE: the address, keys or list cannot
 * be used.
 */
NODISCARD enum status curator_service_run(const struct curator_service_options *options,
                                          struct error *err);

#endif
