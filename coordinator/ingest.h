/* Ingest: a stream's records become shards of a job, each exactly once in the catalog, whatever
 * dies in between. */
#ifndef REINFORCE_COORDINATOR_INGEST_H
#define REINFORCE_COORDINATOR_INGEST_H

#include "reinforce/job/job.h"
#include "storage/object/object_store.h"

#include <stdatomic.h>

/** Written by ingest's thread, read by any. */
struct ingest_stats {
    atomic_llong n_records;    /* committed */
    atomic_llong n_duplicates; /* of these batches */
    atomic_llong n_refused;
    atomic_llong n_shards;
    atomic_llong n_conflicts; /* batches that another reader had been before */
    atomic_llong n_gone;      /* offsets that retention took before they were read */
    atomic_llong n_late;      /* shards whose oldest record waited longer than the target */
    atomic_llong waited_ms;   /* of the last shard's oldest record, until its commit */
};

/** Borrowed for the call. */
struct ingest_options {
    const struct job *job; /* whose input is a stream */
    int64_t job_id;
    const char *catalog_url;
    struct object_store *output;
    const atomic_bool *stop; /* true: come to an end; what is not committed is read again */
    int connect_ms;          /* how long to look for the brokers at first */
    bool stays; /* until `stop` in any case: others of the group may still be reading */
};

/**
 * Reads until `stop`, or, when the job does not follow and nobody says to stay, until all that was
 * there is committed.
 * One member of the group; opens a consumer, a producer of dead letters and a catalog of its own.
 * Brokers, catalogs and stores that go away are waited for. ST_INVALID, ST_NOT_FOUND: they cannot
 * be used as they are said to be. ST_CORRUPT: a partition ends before what the catalog has read of
 * it. ST_CANCELLED: the job is not running any more.
 */
NODISCARD enum status ingest_run(const struct ingest_options *options, struct ingest_stats *stats,
                                 struct error *err);

#endif
