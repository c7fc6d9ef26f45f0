/* The embedded catalog: one SQLite file in WAL mode. */
#ifndef REINFORCE_STORAGE_CATALOG_SQLITE_H
#define REINFORCE_STORAGE_CATALOG_SQLITE_H

#include "storage/catalog/catalog.h"

extern const struct catalog_ops catalog_sqlite;

#endif
