/* Dispatcher: hands shards to workers as leases. Soft state only: all that must last is in the
 * catalog. */
#ifndef REINFORCE_COORDINATOR_DISPATCHER_H
#define REINFORCE_COORDINATOR_DISPATCHER_H

#include "reinforce/job/job.h"

#include <stdatomic.h>

struct dispatcher;

struct dispatcher_options {
    void *zmq;            /* ZeroMQ context */
    const char *endpoint; /* to bind: "inproc://dispatch" */
    const struct job *job;
    int64_t job_id;
    const char *catalog_url;
    int64_t (*wall_ms)(void); /* what leases expire by; NULL: clock_wall_ms */
};

/** Why a dispatcher no longer grants leases. */
enum dispatcher_verdict {
    DISPATCHER_WORKING = 0,
    DISPATCHER_OVER_BUDGET = 1, /* the failure budget is spent: the job should pause */
    DISPATCHER_BROKEN = 2,      /* the catalog cannot be used; see dispatcher_error() */
};

/** Binds and starts one thread. */
NODISCARD enum status dispatcher_create(const struct dispatcher_options *options,
                                        struct dispatcher **out, struct error *err);

/** Safe from any thread. */
enum dispatcher_verdict dispatcher_verdict(const struct dispatcher *dispatcher);

/** After DISPATCHER_BROKEN: what happened. Call after the workers have gone. */
const struct error *dispatcher_error(const struct dispatcher *dispatcher);

/** Stops the thread and frees all; leases that are out stay out until they expire. */
void dispatcher_destroy(struct dispatcher **dispatcher);

#endif
