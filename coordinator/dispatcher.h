/* Dispatcher: hands shards to workers as leases. Soft state only: all that must last is in the
 * catalog. */
#ifndef REINFORCE_COORDINATOR_DISPATCHER_H
#define REINFORCE_COORDINATOR_DISPATCHER_H

#include "proto/keys.h"
#include "reinforce/job/job.h"

#include <stdatomic.h>

struct dispatcher;

struct dispatcher_options {
    void *zmq;            /* ZeroMQ context */
    const char *endpoint; /* to bind: "inproc://dispatch", "tcp://127.0.0.1:7600" */
    const struct keys
        *keys;             /* CURVE; NULL: plain. Who may come in is the context's door's to say */
    const struct job *job; /* NULL: every job of the catalog, as it comes and goes */
    int64_t job_id;        /* of `job` */
    const char *catalog_url;   /* also what workers are told to open */
    int64_t (*wall_ms)(void);  /* what leases expire by; NULL: clock_wall_ms */
    const atomic_bool *is_fed; /* of `job`: true: more shards may come; NULL: none come */
};

/** Why a dispatcher no longer grants leases. */
enum dispatcher_verdict {
    DISPATCHER_WORKING = 0,
    DISPATCHER_OVER_BUDGET = 1, /* the failure budget of `job` is spent: it should pause. When all
                                   are served, the dispatcher itself pauses the one, and works on */
    DISPATCHER_BROKEN = 2,      /* the catalog cannot be used; see dispatcher_error() */
};

/** Binds and starts one thread. */
NODISCARD enum status dispatcher_create(const struct dispatcher_options *options,
                                        struct dispatcher **out, struct error *err);

/** What was bound, with the port that the system chose; while the dispatcher lives. */
const char *dispatcher_address(const struct dispatcher *dispatcher);

/** Safe from any thread. */
enum dispatcher_verdict dispatcher_verdict(const struct dispatcher *dispatcher);

/** After DISPATCHER_BROKEN: what happened. Call after the workers have gone. */
const struct error *dispatcher_error(const struct dispatcher *dispatcher);

/** Stops the thread and frees all; leases that are out stay out until they expire. */
void dispatcher_destroy(struct dispatcher **dispatcher);

#endif
