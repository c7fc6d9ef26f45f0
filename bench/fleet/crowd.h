/* Thousands of simulated workers in one thread: each has a socket of its own and speaks as real
 * workers do (worker/conversation); only its computing is a time that is waited for. */
#ifndef REINFORCE_BENCH_CROWD_H
#define REINFORCE_BENCH_CROWD_H

#include "bench/fleet/fleet_stats.h"

struct crowd_options {
    const char *coordinator; /* address */
    const char *catalog_url;
    int64_t job;
    const char *digest;
    size_t first, n_workers; /* their numbers */
    size_t n_committers;
    int n_samples; /* of a shard */
    int64_t lease_ms;
    double compute_ms; /* of a shard: drawn between half and one and a half of it */
    double deaths;     /* workers that vanish and are replaced, each second */
    double loss;       /* share of the messages that vanish, each way */
    double skew;       /* clocks run faster or slower by up to this share, and differ by hours */
    uint64_t seed;
    struct fleet_stats *stats;
};

/** Until stats->stop, or until the coordinator has no more work. */
NODISCARD enum status crowd_run(const struct crowd_options *options, struct error *err);

#endif
