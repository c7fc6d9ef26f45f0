/* The reading slots of the SQLite catalog, as catalog.h says. Private to storage/catalog. */
#ifndef REINFORCE_STORAGE_CATALOG_SQLITE_READ_H
#define REINFORCE_STORAGE_CATALOG_SQLITE_READ_H

#include "storage/catalog/sqlite_rows.h"

NODISCARD enum status catalog_sqlite_parts(struct catalog *c, int64_t job, int64_t shard,
                                           struct arena *arena, struct catalog_part_row **rows,
                                           size_t *n_rows, struct error *err);
NODISCARD enum status catalog_sqlite_progress(struct catalog *c, int64_t job,
                                              struct catalog_progress *progress, struct error *err);
NODISCARD enum status catalog_sqlite_outputs(struct catalog *c, int64_t job,
                                             catalog_output_fn *each, void *ctx, struct error *err);
NODISCARD enum status catalog_sqlite_reasons(struct catalog *c, int64_t job,
                                             enum catalog_sample_state state,
                                             catalog_reason_fn *each, void *ctx, struct error *err);
NODISCARD enum status catalog_sqlite_sample_find(struct catalog *c, int64_t job,
                                                 struct bytes_view uid, catalog_sample_fn *each,
                                                 void *ctx, struct error *err);
NODISCARD enum status catalog_sqlite_shard_samples(struct catalog *c, int64_t job, int64_t shard,
                                                   catalog_sample_fn *each, void *ctx,
                                                   struct error *err);
NODISCARD enum status catalog_sqlite_samples(struct catalog *c, int64_t job,
                                             catalog_sample_fn *each, void *ctx, struct error *err);

/** A row whose columns from `first` on are shard, sample_index, uid, state, reason, detail, stage,
 * width, height. Texts until the statement steps on. */
void catalog_sqlite_read_sample(sqlite3_stmt *row, int first, int64_t *shard,
                                struct catalog_sample *sample);

/** Its captions and scores, in `arena`. */
NODISCARD enum status catalog_sqlite_fill_sample(struct sqlite_db *db, int64_t job, int64_t shard,
                                                 struct arena *arena, struct catalog_sample *sample,
                                                 struct error *err);

#endif
