/* The schema of a Postgres catalog and its version. Private to storage/catalog. */
#ifndef REINFORCE_STORAGE_POSTGRES_MIGRATE_H
#define REINFORCE_STORAGE_POSTGRES_MIGRATE_H

#include "storage/catalog/catalog.h"
#include "storage/catalog/postgres_db.h"

/** What is there; stored 0 when nothing is. */
NODISCARD enum status postgres_migrate_read(struct postgres_db *db, struct catalog_schema *schema,
                                            struct error *err);

/** Brings it to the newest version in one transaction; two at once wait for each other. *before is
 * what was there. ST_INVALID: newer than this program. */
NODISCARD enum status postgres_migrate_run(struct postgres_db *db, struct catalog_schema *before,
                                           struct error *err);

/** ST_INVALID, with the next step, unless the schema is the one this program was built for. */
NODISCARD enum status postgres_migrate_check(struct postgres_db *db, struct error *err);

#endif
