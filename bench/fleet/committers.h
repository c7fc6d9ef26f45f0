/* A few threads that commit what simulated workers have made, each with a catalog of its own: as a
 * pooler would have it for thousands of workers. */
#ifndef REINFORCE_BENCH_COMMITTERS_H
#define REINFORCE_BENCH_COMMITTERS_H

#include "bench/fleet/fleet_stats.h"
#include "proto/wire.h"
#include "reinforce/base/wake.h"

/** One lease whose time is over. */
struct commit {
    size_t worker;            /* its number */
    unsigned life;            /* which of the workers of that number */
    const atomic_uint *lives; /* of that number: another one means that ours is dead */
    int64_t job, shard, epoch, n_parts;
    enum wire_outcome outcome; /* out */
};

struct committers;

struct committers_options {
    const char *catalog_url;
    size_t n_threads;
    int n_samples;           /* of a shard, each with one caption and one score */
    size_t max_commits;      /* at once */
    const struct wake *wake; /* signalled when one is over */
    struct fleet_stats *stats;
};

NODISCARD enum status committers_start(const struct committers_options *options,
                                       struct committers **out, struct error *err);

/** Takes a commit; it comes back from committers_next(). */
void committers_push(struct committers *c, struct commit *commit);

/** One that is over, the caller's; NULL: none now. */
struct commit *committers_next(struct committers *c);

/** Finishes those that are in. */
void committers_stop(struct committers **c);

#endif
