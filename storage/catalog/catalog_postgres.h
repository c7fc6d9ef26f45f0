#ifndef REINFORCE_STORAGE_CATALOG_POSTGRES_H
#define REINFORCE_STORAGE_CATALOG_POSTGRES_H

#include "storage/catalog/catalog.h"

/** Shared by many machines; Postgres 14 and later, directly or behind a pooler in transaction mode.
 * A call that finds the connection lost makes a new one and tries again for a minute. */
extern const struct catalog_ops catalog_postgres;

#endif
