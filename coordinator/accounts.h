/* A job's books: whether every sample that was read ended in exactly one state. */
#ifndef REINFORCE_COORDINATOR_ACCOUNTS_H
#define REINFORCE_COORDINATOR_ACCOUNTS_H

#include "storage/catalog/catalog.h"

struct accounts {
    int64_t read; /* samples of the planned shards whose input was read to its end */
    int64_t done, quarantined, filtered; /* of all shards */
    int64_t retried;                     /* rows of earlier tries */
    int64_t n_shards;
    bool is_complete; /* every shard is done */
    bool agree;       /* nothing below contradicts the rest */
    int64_t shard;    /* the first that disagrees; < 0: none does, but the sums do not */
    char why[200];
};

/**
 * Adds up every shard. Of a done one, the samples read are the rows 0, 1, ... without a gap, each
 * done, quarantined, filtered, or tried again elsewhere, and its output's row counts the same. Of a
 * complete job, the samples that the planned shards have read are those that are done, quarantined
 * or filtered anywhere. ST_OK also when they disagree.
 */
NODISCARD enum status accounts_read(struct catalog *catalog, int64_t job, struct accounts *accounts,
                                    struct error *err);

#endif
