/* What a catalog knows of streams: which records have become shards, and where reading goes on. */
#ifndef REINFORCE_STORAGE_CATALOG_INGEST_H
#define REINFORCE_STORAGE_CATALOG_INGEST_H

#include "reinforce/base/arena.h"
#include "reinforce/base/bytes.h"

struct catalog;

enum { CATALOG_INGEST_UNKNOWN = -1 }; /* the catalog has not heard of a partition */

/** What was read of one partition since the last commit. Strings are borrowed. */
struct catalog_ingest_range {
    const char *topic;
    int32_t partition;
    int64_t begin; /* what the catalog says now, or CATALOG_INGEST_UNKNOWN */
    int64_t end;   /* offset of the next record: what it says afterwards */
    int64_t n_records, n_duplicates, n_refused;
    struct bytes_view seen; /* text; to know duplicates by after a restart */
};

/** The list of a shard and what it was made of. */
struct catalog_ingest {
    const char *input_key; /* in the output store, JSONL, unlike any other; NULL: no record */
    uint64_t input_bytes;
    const char *input_etag;
    int64_t waited_ms; /* by the oldest record, since it was read */
    const struct catalog_ingest_range *ranges;
    size_t n_ranges; /* at least 1 */
};

/** Where reading goes on. What it points at lives in the arena given. */
struct catalog_ingest_position {
    int64_t next_offset;     /* or CATALOG_INGEST_UNKNOWN */
    struct bytes_view *seen; /* of the last ranges, oldest first */
    size_t n_seen;
};

/** A partition's row. */
struct catalog_ingest_partition {
    const char *topic;
    int32_t partition;
    int64_t next_offset;
    int64_t n_records, n_duplicates, n_refused; /* of all commits */
    int64_t updated_ms;
};

enum { CATALOG_PACE_MS = 60000, CATALOG_PACE_SHARDS = 1000 };

/** How fast records become work. What a shard has waited is what its oldest record has, from when
 * it was read to when the shard was first leased. */
struct catalog_ingest_pace {
    int64_t n_records; /* committed in the last CATALOG_PACE_MS */
    int64_t n_leased;  /* shards that the next two are of, up to CATALOG_PACE_SHARDS: the last */
    int64_t p50_ms, p99_ms; /* half of them, and 99 of 100, have waited no longer */
    int64_t n_waiting;      /* shards that nobody has leased yet, and */
    int64_t oldest_ms;      /* what the one that waits longest has waited by now */
};

typedef enum status catalog_ingest_fn(void *ctx, const struct catalog_ingest_partition *partition,
                                      struct error *err);

/**
 * The shard, ready for work and numbered behind the others, and all offsets, in one transaction; a
 * done job runs again. *shard is -1 when there was no record. ST_CONFLICT: the catalog does not
 * say `begin` of some partition (another reader was here), or the job is planning or cancelled;
 * nothing has changed. May be said again when its answer was lost.
 */
NODISCARD enum status catalog_ingest_commit(struct catalog *c, int64_t job,
                                            const struct catalog_ingest *ingest, int64_t now_ms,
                                            int64_t *shard, struct error *err);
/** With the keys of the last `window` records. */
NODISCARD enum status catalog_ingest_read(struct catalog *c, int64_t job, const char *topic,
                                          int32_t partition, int64_t window, struct arena *arena,
                                          struct catalog_ingest_position *position,
                                          struct error *err);
/** By topic and partition. */
NODISCARD enum status catalog_ingest_list(struct catalog *c, int64_t job, catalog_ingest_fn *each,
                                          void *ctx, struct error *err);

NODISCARD enum status catalog_ingest_read_pace(struct catalog *c, int64_t job,
                                               struct catalog_ingest_pace *pace, struct error *err);

/** Records a second. */
static inline double catalog_ingest_rate(const struct catalog_ingest_pace *pace)
{
    return (double)pace->n_records * 1000 / CATALOG_PACE_MS;
}

#endif
