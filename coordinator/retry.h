/* Work that is done again: samples that were quarantined, in shards behind the planned ones, and
 * shards whose objects are missing or damaged. Both are planned here and done as any other work. */
#ifndef REINFORCE_COORDINATOR_RETRY_H
#define REINFORCE_COORDINATOR_RETRY_H

#include "coordinator/output.h"

struct retry_summary {
    int64_t samples, shards; /* to be made */
};

/**
 * Plans another try for the quarantined samples of done shards, those with `reason` or (NULL) all,
 * `shard_samples` to a shard. Until a try is committed a sample stays quarantined. ST_CONFLICT: the
 * job is not planned, or is cancelled.
 */
NODISCARD enum status retry_samples(struct output *out, const char *reason, int64_t shard_samples,
                                    struct retry_summary *summary, struct error *err);

/**
 * Looks as output_verify() does, telling every problem, and plans every shard to be made again
 * whose object is missing, damaged or not what the catalog says. The same samples go into it, so
 * that its bytes are the same. Side files are made again when the job ends.
 */
NODISCARD enum status retry_shards(struct output *out, output_problem_fn *problem, void *ctx,
                                   struct output_verdict *verdict, struct retry_summary *summary,
                                   struct error *err);

#endif
