/* What the files of the Postgres catalog share. Private to storage/catalog. */
#ifndef REINFORCE_STORAGE_CATALOG_POSTGRES_SLOTS_H
#define REINFORCE_STORAGE_CATALOG_POSTGRES_SLOTS_H

#include "storage/catalog/catalog.h"
#include "storage/catalog/postgres_db.h"
#include "storage/catalog/standing.h"

/** Wall clock of the database in ms. */
#define CATALOG_POSTGRES_NOW_MS "(extract(epoch from now()) * 1000)::bigint"

struct catalog_of_postgres {
    struct catalog base;
    struct postgres_db db;
    bool holds; /* a transaction of ours is open for a lock: catalog_postgres_hold() */
};

/* The row of a lease that is held: job, shard, epoch. Without `+ 0` the planner, whose statistics
 * are from before any shard was leased, looks for it through the index of those that are. */
#define CATALOG_POSTGRES_HELD                                                                      \
    "job = $1 and shard = $2 and state + 0 = 2 and (epoch = $3 or (rival_epoch = $3 and "          \
    "rival_owner is not null))"

struct postgres_db *catalog_postgres_db(struct catalog *c);

/** ST_CONFLICT: somebody else has the shard by now. */
enum status catalog_postgres_fenced(const struct catalog_lease *lease, struct error *err);

/** Locks a shard under its lease's epoch, within a transaction. ST_CONFLICT: fenced off. */
NODISCARD enum status catalog_postgres_lock_shard(struct postgres_db *db,
                                                  const struct catalog_lease *lease,
                                                  struct catalog_standing *at, struct error *err);

/** Of two leases of a shard that is locked, the one that commits has it from now on. */
NODISCARD enum status catalog_postgres_settle(struct postgres_db *db,
                                              const struct catalog_lease *lease, struct error *err);

/* Slots of catalog.h, in catalog_postgres_part.c. */
NODISCARD enum status catalog_postgres_part_commit(struct catalog *c,
                                                   const struct catalog_lease *lease,
                                                   const struct catalog_part *part,
                                                   struct error *err);
NODISCARD enum status catalog_postgres_shard_commit(struct catalog *c,
                                                    const struct catalog_lease *lease,
                                                    const char *object_key,
                                                    const struct object_written *written,
                                                    struct error *err);

/* In catalog_postgres_split.c. */
NODISCARD enum status catalog_postgres_lease_split(struct catalog *c,
                                                   const struct catalog_lease *lease,
                                                   uint64_t at_offset, uint64_t at_index,
                                                   struct error *err);
NODISCARD enum status catalog_postgres_piece_commit(struct catalog *c,
                                                    const struct catalog_lease *lease,
                                                    int64_t *shard, bool *is_last,
                                                    struct error *err);

/* In catalog_postgres_leases.c. */
NODISCARD enum status catalog_postgres_leases_take(struct catalog *c, int64_t job,
                                                   struct catalog_take *takes, size_t n,
                                                   int64_t now_ms,
                                                   const struct catalog_terms *terms,
                                                   struct arena *arena, struct error *err);
NODISCARD enum status catalog_postgres_lease_probe(struct catalog *c,
                                                   const struct catalog_lease *lease,
                                                   struct error *err);
NODISCARD enum status catalog_postgres_leases_renew(struct catalog *c,
                                                    const struct catalog_lease *leases, size_t n,
                                                    int64_t now_ms, int64_t lease_ms, bool *lost,
                                                    struct error *err);
NODISCARD enum status catalog_postgres_lease_release(struct catalog *c,
                                                     const struct catalog_lease *lease, bool failed,
                                                     const char *why, struct error *err);

NODISCARD enum status catalog_postgres_lease_rival(struct catalog *c, int64_t job, int64_t shard,
                                                   int64_t epoch, const char *owner, int64_t now_ms,
                                                   const struct catalog_terms *terms,
                                                   struct arena *arena, struct catalog_lease *lease,
                                                   struct error *err);

NODISCARD enum status catalog_postgres_shard_input(struct catalog *c, int64_t job, int64_t shard,
                                                   struct arena *arena,
                                                   struct catalog_shard_plan *plan,
                                                   struct error *err);

/* And in catalog_postgres_read.c. */
NODISCARD enum status catalog_postgres_parts(struct catalog *c, int64_t job, int64_t shard,
                                             struct arena *arena, struct catalog_part_row **rows,
                                             size_t *n_rows, struct error *err);
NODISCARD enum status catalog_postgres_progress(struct catalog *c, int64_t job,
                                                struct catalog_progress *progress,
                                                struct error *err);
NODISCARD enum status catalog_postgres_outputs(struct catalog *c, int64_t job,
                                               catalog_output_fn *each, void *ctx,
                                               struct error *err);
NODISCARD enum status catalog_postgres_reasons(struct catalog *c, int64_t job,
                                               enum catalog_sample_state state,
                                               catalog_reason_fn *each, void *ctx,
                                               struct error *err);
NODISCARD enum status catalog_postgres_sample_find(struct catalog *c, int64_t job,
                                                   struct bytes_view uid, catalog_sample_fn *each,
                                                   void *ctx, struct error *err);
NODISCARD enum status catalog_postgres_samples(struct catalog *c, int64_t job,
                                               catalog_sample_fn *each, void *ctx,
                                               struct error *err);
NODISCARD enum status catalog_postgres_shard_samples(struct catalog *c, int64_t job, int64_t shard,
                                                     catalog_sample_fn *each, void *ctx,
                                                     struct error *err);

typedef enum status catalog_postgres_row_fn(void *ctx, const PGresult *row, struct error *err);

/** The rows of one statement about a job ($1), one at a time. */
NODISCARD enum status catalog_postgres_walk(struct catalog *c, int64_t job, const char *sql,
                                            catalog_postgres_row_fn *each, void *ctx,
                                            struct error *err);

/* And in catalog_postgres_accounts.c. */
NODISCARD enum status catalog_postgres_retry_commit(struct catalog *c, int64_t job,
                                                    const struct catalog_shard_plan *shards,
                                                    size_t n_shards,
                                                    const struct catalog_retry *retries,
                                                    size_t n_retries, struct error *err);
NODISCARD enum status catalog_postgres_shard_redo(struct catalog *c, int64_t job, int64_t shard,
                                                  const char *list_key, int64_t n_samples,
                                                  struct error *err);
NODISCARD enum status catalog_postgres_sources(struct catalog *c, int64_t job,
                                               const struct catalog_source_query *query,
                                               catalog_source_fn *each, void *ctx,
                                               struct error *err);
NODISCARD enum status catalog_postgres_accounts(struct catalog *c, int64_t job,
                                                catalog_account_fn *each, void *ctx,
                                                struct error *err);

/* And in catalog_postgres_jobs.c. */
NODISCARD enum status catalog_postgres_job_set_quota(struct catalog *c, int64_t job,
                                                     int64_t max_leases, struct error *err);
NODISCARD enum status catalog_postgres_workers_seen(struct catalog *c,
                                                    const struct catalog_worker *workers, size_t n,
                                                    int64_t now_ms, struct error *err);
NODISCARD enum status catalog_postgres_workers(struct catalog *c, int64_t now_ms,
                                               catalog_worker_fn *each, void *ctx,
                                               struct error *err);
NODISCARD enum status catalog_postgres_coordinate(struct catalog *c, struct error *err);
NODISCARD enum status catalog_postgres_job_move(struct catalog *c, int64_t job,
                                                enum catalog_job_state from,
                                                enum catalog_job_state to, const char *note,
                                                struct error *err);
NODISCARD enum status catalog_postgres_job_set_priority(struct catalog *c, int64_t job,
                                                        int32_t priority, struct error *err);
NODISCARD enum status catalog_postgres_job_set_rate(struct catalog *c, int64_t job,
                                                    double samples_per_second, int64_t now_ms,
                                                    struct error *err);
NODISCARD enum status catalog_postgres_leases_extend(struct catalog *c, int64_t job, int64_t now_ms,
                                                     int64_t lease_ms, struct error *err);
NODISCARD enum status catalog_postgres_shards_retry(struct catalog *c, int64_t job, int64_t *n,
                                                    struct error *err);
NODISCARD enum status catalog_postgres_jobs(struct catalog *c, int64_t now_ms, catalog_job_fn *each,
                                            void *ctx, struct error *err);
NODISCARD enum status catalog_postgres_shards(struct catalog *c, int64_t job,
                                              enum catalog_shard_state state, int64_t now_ms,
                                              catalog_shard_fn *each, void *ctx, struct error *err);

/** Within a transaction that gives a job more work: a done one runs again. Locks the job's row, and
 * with that the numbers of its shards. ST_CONFLICT: it is planning or cancelled, and takes none. */
NODISCARD enum status catalog_postgres_job_reopen(struct postgres_db *db, int64_t job,
                                                  struct error *err);

/** Takes an advisory lock for as long as the handle lives, or sees whether it is still ours; of one
 * handle always the same. `what` names who holds it. ST_CONFLICT: somebody else, or it was lost. */
NODISCARD enum status catalog_postgres_hold(struct catalog *c, int64_t key, const char *what,
                                            struct error *err);

/* And in catalog_postgres_outbox.c. */
NODISCARD enum status catalog_postgres_job_set_events(struct catalog *c, int64_t job,
                                                      enum catalog_events events,
                                                      struct error *err);
NODISCARD enum status catalog_postgres_outbox_claim(struct catalog *c, int64_t job,
                                                    struct error *err);
NODISCARD enum status catalog_postgres_outbox_read(struct catalog *c, int64_t job, int64_t max_rows,
                                                   struct arena *arena,
                                                   struct catalog_outbox_row **rows, size_t *n_rows,
                                                   struct error *err);
NODISCARD enum status catalog_postgres_outbox_remove(struct catalog *c, int64_t job,
                                                     const struct catalog_outbox_row *rows,
                                                     size_t n_rows, struct error *err);
NODISCARD enum status catalog_postgres_outbox_count(struct catalog *c, int64_t job,
                                                    struct catalog_outbox *outbox,
                                                    struct error *err);

/** In the transaction that makes a shard done: what the job tells of it. */
NODISCARD enum status catalog_postgres_outbox_insert(struct postgres_db *db, int64_t job,
                                                     int64_t shard, struct error *err);

/* And in catalog_postgres_ingest.c. */
NODISCARD enum status catalog_postgres_ingest_commit(struct catalog *c, int64_t job,
                                                     const struct catalog_ingest *ingest,
                                                     int64_t now_ms, int64_t *shard,
                                                     struct error *err);
NODISCARD enum status catalog_postgres_ingest_read(struct catalog *c, int64_t job,
                                                   const char *topic, int32_t partition,
                                                   int64_t window, struct arena *arena,
                                                   struct catalog_ingest_position *position,
                                                   struct error *err);
NODISCARD enum status catalog_postgres_ingest_list(struct catalog *c, int64_t job,
                                                   catalog_ingest_fn *each, void *ctx,
                                                   struct error *err);
NODISCARD enum status catalog_postgres_ingest_pace(struct catalog *c, int64_t job,
                                                   struct catalog_ingest_pace *pace,
                                                   struct error *err);

#endif
