/* A reader of what a shard is made of, wherever that is. */
#ifndef REINFORCE_WORKER_SHARD_READER_H
#define REINFORCE_WORKER_SHARD_READER_H

#include "reinforce/job/job.h"
#include "storage/catalog/catalog.h"
#include "storage/format/dataset.h"

/** Where a job's shards are read from; borrowed. */
struct shard_stores {
    const struct job *job;
    struct object_store *input, *output;
    struct http *web; /* what fetches images that are URLs; may be NULL */
};

/**
 * Reads the samples of a planned shard from `from` on. *out is the caller's; the stores must
 * outlive it. ST_INVALID: no reader for its format; else as dataset_reader_open() and
 * sample_list_open().
 */
NODISCARD enum status shard_reader_open(const struct shard_stores *stores,
                                        const struct catalog_shard_plan *plan,
                                        struct dataset_position from, struct dataset_reader **out,
                                        struct error *err);

#endif
