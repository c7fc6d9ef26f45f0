/* Gatherer: records of a stream's partitions become batches, each the list of a shard. It knows no
 * network, no catalog and no clock. */
#ifndef REINFORCE_COORDINATOR_INGEST_GATHER_H
#define REINFORCE_COORDINATOR_INGEST_GATHER_H

#include "storage/catalog/catalog_ingest.h"
#include "storage/stream/stream.h"
#include "storage/stream/stream_record.h"

struct ingest_gather;

struct ingest_limits {
    /* A batch is cut when any of the first three is reached. */
    int64_t max_records;
    size_t max_bytes;        /* of lines; a single line may be longer */
    int64_t max_age_ms;      /* of what has waited longest */
    size_t max_queued_bytes; /* of what waits: past it partitions are to be paused */
    size_t window; /* records of a partition in which a second of a kind is a duplicate; 0: none */
    bool by_uid, by_content; /* what makes a second of a kind */
};

/** Lines to be a shard, and what they were made of. */
struct ingest_batch {
    struct bytes_view lines; /* JSONL; empty: nothing but offsets */
    int64_t n_records;
    int64_t first_ms; /* when the oldest record came */
    const struct catalog_ingest_range *ranges;
    size_t n_ranges;
};

NODISCARD enum status ingest_gather_create(const struct ingest_limits *limits,
                                           struct ingest_gather **out, struct error *err);
void ingest_gather_destroy(struct ingest_gather **g);

/**
 * A partition is ours from `at->offset` on. `committed` is what the catalog says of it
 * (CATALOG_INGEST_UNKNOWN: nothing); `seen` are ranges' seen of before, oldest first. One that is
 * there already begins anew.
 */
NODISCARD enum status ingest_gather_begin(struct ingest_gather *g,
                                          const struct stream_partition *at, int64_t committed,
                                          const struct bytes_view *seen, size_t n_seen,
                                          struct error *err);
/** It is ours no longer: what waits of it is forgotten. What is in a batch already stays there. */
void ingest_gather_end(struct ingest_gather *g, const char *topic, int32_t partition);
/** All of that, and the batch: for when the catalog says that others were here. */
void ingest_gather_reset(struct ingest_gather *g);

/**
 * A record, or NULL for one that was refused, with its line. Of partitions that are not ours, and
 * of offsets that have been here, nothing is taken. ST_NO_MEMORY: it was not taken.
 */
NODISCARD enum status ingest_gather_add(struct ingest_gather *g, const struct stream_origin *origin,
                                        const struct stream_record *record, struct bytes_view line,
                                        int64_t now_ms, struct error *err);

/** A partition has no record before `end` that is still to come: offsets at its end may be no
 * records (of transactions, or taken by retention). ST_NO_MEMORY: it was not taken. */
NODISCARD enum status ingest_gather_pass(struct ingest_gather *g, const char *topic,
                                         int32_t partition, int64_t end, int64_t now_ms,
                                         struct error *err);

/** Whether a batch should be cut now. */
bool ingest_gather_is_due(const struct ingest_gather *g, int64_t now_ms);
/** How long until age alone makes it so; -1: nothing waits. */
int64_t ingest_gather_wait_ms(const struct ingest_gather *g, int64_t now_ms);

/**
 * Makes a batch of what waits, a record of each partition in turn, up to the limits; it lives until
 * committed() or reset(). While there is one, the same comes again. ST_NOT_FOUND: nothing waits.
 * ST_NO_MEMORY: part of what waited is lost to it; reset() and begin anew from the catalog.
 */
NODISCARD enum status ingest_gather_cut(struct ingest_gather *g, const struct ingest_batch **batch,
                                        struct error *err);
/** The batch is in the catalog. */
void ingest_gather_committed(struct ingest_gather *g);

/**
 * Partitions to be paused (or resumed) now, at most `max`, each said once. When more waits than is
 * allowed, those with more than their share are paused, until half of it is gone. Topics are
 * borrowed until the partition ends.
 */
size_t ingest_gather_flow(struct ingest_gather *g, bool paused, struct stream_partition *out,
                          size_t max);

#endif
