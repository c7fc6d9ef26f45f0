/* Estimate: what a job would do and cost, from a small run of its first samples that leaves nothing
 * behind. */
#ifndef REINFORCE_COORDINATOR_ESTIMATE_H
#define REINFORCE_COORDINATOR_ESTIMATE_H

#include "coordinator/local_run.h"

struct estimate {
    int64_t shards;
    double samples;       /* in the input */
    bool samples_exact;   /* counted; else scaled up from the first shard by bytes */
    uint64_t input_bytes; /* of shards; 0 for folders, which are listed but not read */
    struct run_summary trial;
    double seconds; /* of compute for the whole job, at the trial's speed */
    double output_bytes;
    double quarantined, filtered; /* expected */
};

/** Runs at most `trial_samples` samples of the job into memory and a temporary catalog. */
NODISCARD enum status estimate_job(const struct job *job, int64_t trial_samples,
                                   const atomic_bool *stop, struct estimate *estimate,
                                   struct error *err);

#endif
