/* A worker process of a fleet: asks a coordinator for a job, loads its models, works until there is
 * nothing left for it, and asks for the next. */
#ifndef REINFORCE_WORKER_FLEET_WORKER_H
#define REINFORCE_WORKER_FLEET_WORKER_H

#include "proto/keys.h"

#include <stdatomic.h>
#include <stdint.h>

struct fleet_worker_options {
    const char *const *addresses; /* of coordinators, of which one is at work */
    size_t n_addresses;
    const struct keys *keys; /* NULL: plain */
    const char
        *catalog_url; /* how this machine reaches the catalog; NULL: as the coordinator does */
    int count;        /* workers in this process; 0: the job's workers.count */
    int threads;      /* compute threads of each; 0: the job's workers.threads */
    const atomic_bool *stop;
};

/**
 * Runs until *stop. A coordinator that is away, a catalog that is, a job that cannot be loaded
 * here: all are logged and tried again, with pauses, for ever. ST_INVALID: the coordinator refuses
 * us, or an address or key cannot be used. When *stop is set, samples that are begun are finished
 * and committed, the rest of a shard is handed back. A process that cannot wait for that may end at
 * once, which costs no more than a part.
 */
NODISCARD enum status fleet_worker_run(const struct fleet_worker_options *options,
                                       struct error *err);

#endif
