/* Committing work into the SQLite catalog, as catalog.h says. Private to storage/catalog. */
#ifndef REINFORCE_STORAGE_CATALOG_SQLITE_PART_H
#define REINFORCE_STORAGE_CATALOG_SQLITE_PART_H

#include "storage/catalog/catalog.h"

/** ST_CONFLICT: somebody else has the shard by now. */
enum status catalog_sqlite_fenced(const struct catalog_lease *lease, struct error *err);

NODISCARD enum status catalog_sqlite_part_commit(struct catalog *c,
                                                 const struct catalog_lease *lease,
                                                 const struct catalog_part *part,
                                                 struct error *err);
NODISCARD enum status catalog_sqlite_shard_commit(struct catalog *c,
                                                  const struct catalog_lease *lease,
                                                  const char *object_key,
                                                  const struct object_written *written,
                                                  struct error *err);

NODISCARD enum status catalog_sqlite_lease_split(struct catalog *c,
                                                 const struct catalog_lease *lease,
                                                 uint64_t at_offset, uint64_t at_index,
                                                 struct error *err);
NODISCARD enum status catalog_sqlite_piece_commit(struct catalog *c,
                                                  const struct catalog_lease *lease, int64_t *shard,
                                                  bool *is_last, struct error *err);

#endif
