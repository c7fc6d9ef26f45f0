/* What every catalog must do, wherever it keeps its rows. */
#ifndef REINFORCE_TESTS_CATALOG_CONTRACT_H
#define REINFORCE_TESTS_CATALOG_CONTRACT_H

#include <stdint.h>

struct catalog_target {
    const char *url; /* no job of the suite is in it yet; they stay there */
    /* Lets `ms` pass for the leases of a kind that asks its own clock; NULL when the kind takes the
     * caller's time. */
    void (*pass_time)(void *ctx, int64_t ms);
    void *ctx;
};

/** Runs in a test; fails it where the contract is not kept. */
void catalog_contract(const struct catalog_target *target);

/** The same for leases: how they go out and end, what deaths say, how a shard is shared. */
void catalog_leases_contract(const struct catalog_target *target);

/** The same for jobs that pause, quotas, workers, retries, shards made again, and accounts. */
void catalog_accounts_contract(const struct catalog_target *target);

/** The same for samples that a rule of the job has dropped. */
void catalog_filtered_contract(const struct catalog_target *target);

/** The same for streams: offsets and shards that come together. */
void catalog_ingest_contract(const struct catalog_target *target);

/** The same for events that wait to be published. */
void catalog_outbox_contract(const struct catalog_target *target);

#endif
