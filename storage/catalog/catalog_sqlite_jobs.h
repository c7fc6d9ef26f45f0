/* Slots of the SQLite catalog for coordinators and their users. Private to storage/catalog. */
#ifndef REINFORCE_STORAGE_CATALOG_SQLITE_JOBS_H
#define REINFORCE_STORAGE_CATALOG_SQLITE_JOBS_H

#include "storage/catalog/catalog.h"
#include "storage/catalog/sqlite_db.h"

NODISCARD enum status catalog_sqlite_coordinate(struct catalog *c, struct error *err);
NODISCARD enum status catalog_sqlite_job_move(struct catalog *c, int64_t job,
                                              enum catalog_job_state from,
                                              enum catalog_job_state to, const char *note,
                                              struct error *err);
NODISCARD enum status catalog_sqlite_job_set_priority(struct catalog *c, int64_t job,
                                                      int32_t priority, struct error *err);
NODISCARD enum status catalog_sqlite_job_set_quota(struct catalog *c, int64_t job,
                                                   int64_t max_leases, struct error *err);
NODISCARD enum status catalog_sqlite_workers_seen(struct catalog *c,
                                                  const struct catalog_worker *workers, size_t n,
                                                  int64_t now_ms, struct error *err);
NODISCARD enum status catalog_sqlite_workers(struct catalog *c, int64_t now_ms,
                                             catalog_worker_fn *each, void *ctx, struct error *err);
NODISCARD enum status catalog_sqlite_job_set_rate(struct catalog *c, int64_t job,
                                                  double samples_per_second, int64_t now_ms,
                                                  struct error *err);
NODISCARD enum status catalog_sqlite_leases_extend(struct catalog *c, int64_t job, int64_t now_ms,
                                                   int64_t lease_ms, struct error *err);
NODISCARD enum status catalog_sqlite_shards_retry(struct catalog *c, int64_t job, int64_t *n,
                                                  struct error *err);
NODISCARD enum status catalog_sqlite_jobs(struct catalog *c, int64_t now_ms, catalog_job_fn *each,
                                          void *ctx, struct error *err);
NODISCARD enum status catalog_sqlite_shards(struct catalog *c, int64_t job,
                                            enum catalog_shard_state state, int64_t now_ms,
                                            catalog_shard_fn *each, void *ctx, struct error *err);

/** Within a transaction that gives a job more work: a done one runs again. ST_CONFLICT: it is
 * planning or cancelled, and takes none. */
NODISCARD enum status catalog_sqlite_job_reopen(struct sqlite_db *db, int64_t job,
                                                struct error *err);

#endif
