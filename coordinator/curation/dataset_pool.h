/* The samples of a written dataset as a pool that filters choose from. */
#ifndef REINFORCE_COORDINATOR_CURATION_DATASET_POOL_H
#define REINFORCE_COORDINATOR_CURATION_DATASET_POOL_H

#include "coordinator/output.h"
#include "reinforce/curate/pool.h"

/** A finished shard; its samples are rows [begin, end), in the order of the object's records. */
struct dataset_shard {
    int64_t shard;
    const char *object_key;
    uint64_t bytes;
    char sha256[SHA256_HEX_LEN + 1];
    size_t begin, end;
};

/** Memory: 28 bytes, the uid and 4 bytes a score for each sample. */
struct dataset_pool {
    struct pool pool;
    size_t n_shards;
    struct dataset_shard *shards;
    uint32_t *indices;    /* [n] of each sample in its shard's input */
    uint64_t *uid_begins; /* [n + 1] into uids */
    struct byte_buf uids;
    struct arena arena;
};

/**
 * Reads all done samples of finished shards and the scores that `specs` (borrowed) name, from the
 * catalog alone. ST_INVALID: a teacher or column that the job does not have, with those it has;
 * ST_CORRUPT: the catalog does not agree with itself.
 */
NODISCARD enum status dataset_pool_read(struct output *out, struct score_spec *specs,
                                        size_t n_specs, struct dataset_pool *pool,
                                        struct error *err);
/** Safe on a zeroed pool. */
void dataset_pool_release(struct dataset_pool *pool);

/** Borrowed from the pool. */
struct bytes_view dataset_pool_uid(const struct dataset_pool *pool, size_t row);

/** The shard that a row belongs to. */
const struct dataset_shard *dataset_pool_shard(const struct dataset_pool *pool, size_t row);

#endif
