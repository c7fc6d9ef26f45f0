/* The dispatcher's half of a lease: requests, heartbeats and results of workers, answered from the
 * catalog. Of the dispatcher's thread, as the state it works on; private to the coordinator. */
#ifndef REINFORCE_COORDINATOR_DISPATCH_LEASES_H
#define REINFORCE_COORDINATOR_DISPATCH_LEASES_H

#include "coordinator/dispatcher.h"
#include "coordinator/peers.h"
#include "coordinator/served_jobs.h"
#include "coordinator/tail.h"
#include "coordinator/waiting.h"
#include "reinforce/base/wake.h"
#include "storage/catalog/catalog.h"

#include <pthread.h>

struct dispatcher {
    struct dispatcher_options options;
    void *socket; /* ROUTER; the thread's once it runs */
    char address[256];
    struct catalog *catalog;
    pthread_t thread;
    bool started;
    struct wake stop;
    atomic_bool stopping;
    atomic_int verdict;
    struct error error;
    struct arena arena;
    struct served_jobs jobs;
    struct peers peers;
    struct waiting requests, beats;
    struct tail tail;
    uint64_t n_ignored;    /* messages that made no sense */
    int64_t refresh_at_ms; /* monotonic */
    bool is_away;          /* the catalog was, when it was asked last */
};

/** Sends a peer one message. ST_UNAVAILABLE: it could not be sent. */
NODISCARD enum status dispatcher_reply(struct dispatcher *d, const struct peer *peer,
                                       const struct wire_message *message, struct error *err);

/** Somebody is idle and no shard is ready. *asked: somebody is giving a part of a shard away. */
NODISCARD enum status dispatch_share(struct dispatcher *d, const struct served_job *job,
                                     bool *asked, struct error *err);

/** A request for a lease: answered at once when the answer is known, else with the next
 * dispatch_answer_waiting(). */
NODISCARD enum status dispatch_grant(struct dispatcher *d, struct peer *peer,
                                     const struct wire_message *request, struct error *err);

/** A heartbeat, in the same way. */
NODISCARD enum status dispatch_renew(struct dispatcher *d, struct peer *peer,
                                     const struct wire_message *beat, struct error *err);

/** How a lease has ended: acknowledged when it is where it belongs; until then the worker says it
 * again. */
NODISCARD enum status dispatch_take_result(struct dispatcher *d, struct peer *peer,
                                           const struct wire_message *result, struct error *err);

/** Answers all that wait. What is retryable leaves them without an answer: they ask again. */
NODISCARD enum status dispatch_answer_waiting(struct dispatcher *d, struct error *err);

#endif
