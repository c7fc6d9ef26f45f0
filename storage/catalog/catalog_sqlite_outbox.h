/* Slots of catalog_outbox.h on SQLite. Private to storage/catalog. */
#ifndef REINFORCE_STORAGE_CATALOG_SQLITE_OUTBOX_H
#define REINFORCE_STORAGE_CATALOG_SQLITE_OUTBOX_H

#include "storage/catalog/catalog_outbox.h"

NODISCARD enum status catalog_sqlite_job_set_events(struct catalog *c, int64_t job,
                                                    enum catalog_events events, struct error *err);
NODISCARD enum status catalog_sqlite_outbox_claim(struct catalog *c, int64_t job,
                                                  struct error *err);
NODISCARD enum status catalog_sqlite_outbox_read(struct catalog *c, int64_t job, int64_t max_rows,
                                                 struct arena *arena,
                                                 struct catalog_outbox_row **rows, size_t *n_rows,
                                                 struct error *err);
NODISCARD enum status catalog_sqlite_outbox_remove(struct catalog *c, int64_t job,
                                                   const struct catalog_outbox_row *rows,
                                                   size_t n_rows, struct error *err);
NODISCARD enum status catalog_sqlite_outbox_count(struct catalog *c, int64_t job,
                                                  struct catalog_outbox *outbox, struct error *err);

#endif
