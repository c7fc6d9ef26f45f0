/* Streams in the SQLite catalog, as catalog_ingest.h says. Private to storage/catalog. */
#ifndef REINFORCE_STORAGE_CATALOG_SQLITE_INGEST_H
#define REINFORCE_STORAGE_CATALOG_SQLITE_INGEST_H

#include "storage/catalog/catalog_ingest.h"

NODISCARD enum status catalog_sqlite_ingest_commit(struct catalog *c, int64_t job,
                                                   const struct catalog_ingest *ingest,
                                                   int64_t now_ms, int64_t *shard,
                                                   struct error *err);
NODISCARD enum status catalog_sqlite_ingest_read(struct catalog *c, int64_t job, const char *topic,
                                                 int32_t partition, int64_t window,
                                                 struct arena *arena,
                                                 struct catalog_ingest_position *position,
                                                 struct error *err);
NODISCARD enum status catalog_sqlite_ingest_list(struct catalog *c, int64_t job,
                                                 catalog_ingest_fn *each, void *ctx,
                                                 struct error *err);

NODISCARD enum status catalog_sqlite_ingest_pace(struct catalog *c, int64_t job,
                                                 struct catalog_ingest_pace *pace,
                                                 struct error *err);

#endif
