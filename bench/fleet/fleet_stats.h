/* What simulated workers have seen, added up in memory that all processes of the bench share. */
#ifndef REINFORCE_BENCH_FLEET_STATS_H
#define REINFORCE_BENCH_FLEET_STATS_H

#include "reinforce/base/error.h"

#include <stdatomic.h>
#include <stdint.h>

enum { FLEET_BUCKETS = 16 * 40 };

struct fleet_stats {
    atomic_ullong grants, renewals, results; /* answered: together the lease operations */
    atomic_ullong lost;                      /* leases that another worker had taken meanwhile */
    atomic_ullong deaths, dropped, errors;
    atomic_ullong committed; /* shards */
    atomic_bool stop;
    atomic_ullong latency[FLEET_BUCKETS]; /* of a request until its grant */
};

/** Zeroed; processes forked later share it. Lives as long as they do. */
NODISCARD enum status fleet_stats_create(struct fleet_stats **out, struct error *err);

void fleet_stats_add_latency(struct fleet_stats *stats, int64_t ns);

/** The time in ms that `share` of the requests answered since `before` did not exceed; `before` (a
 * copy) may be NULL. 0: there were none. Within 6 %. */
double fleet_stats_latency_ms(const struct fleet_stats *stats, const struct fleet_stats *before,
                              double share);

#endif
