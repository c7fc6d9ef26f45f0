/* The outbox: what a job tells of its results, written in the transaction that makes them visible,
 * and kept until somebody has published it. */
#ifndef REINFORCE_STORAGE_CATALOG_OUTBOX_H
#define REINFORCE_STORAGE_CATALOG_OUTBOX_H

#include "storage/catalog/catalog.h"

/** One event that waits, as the catalog is now: what has changed since it was written is told as it
 * has become. What it points at lives in the arena given. */
struct catalog_outbox_row {
    int64_t seq; /* events of one shard or sample come in this order */
    int64_t shard, committed_ms;
    struct catalog_output output; /* of the shard */
    bool is_sample;               /* else of the shard alone */
    struct catalog_sample sample; /* with captions and scores when it is done */
};

struct catalog_outbox {
    int64_t n_waiting;
    int64_t oldest_ms; /* when the first of them was committed (wall clock of the catalog) */
};

/** From the next shard on. What waits is not touched. */
NODISCARD enum status catalog_job_set_events(struct catalog *c, int64_t job,
                                             enum catalog_events events, struct error *err);
/**
 * Makes this handle the only publisher of the job, or sees whether it still is; say it before each
 * batch, on a handle that does nothing else. ST_CONFLICT: another one is, or ours was lost. Until
 * the handle is closed or the process dies. On SQLite there is one process that works on a job, and
 * it is the publisher.
 */
NODISCARD enum status catalog_outbox_claim(struct catalog *c, int64_t job, struct error *err);
/** The first up to `max_rows`. */
NODISCARD enum status catalog_outbox_read(struct catalog *c, int64_t job, int64_t max_rows,
                                          struct arena *arena, struct catalog_outbox_row **rows,
                                          size_t *n_rows, struct error *err);
/** They are published. May be said again. */
NODISCARD enum status catalog_outbox_remove(struct catalog *c, int64_t job,
                                            const struct catalog_outbox_row *rows, size_t n_rows,
                                            struct error *err);
NODISCARD enum status catalog_outbox_count(struct catalog *c, int64_t job,
                                           struct catalog_outbox *outbox, struct error *err);

#endif
