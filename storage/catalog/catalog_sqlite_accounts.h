/* Accounts, retries and shards that are made again, in the SQLite catalog, as catalog.h says.
 * Private to storage/catalog. */
#ifndef REINFORCE_STORAGE_CATALOG_SQLITE_ACCOUNTS_H
#define REINFORCE_STORAGE_CATALOG_SQLITE_ACCOUNTS_H

#include "storage/catalog/catalog.h"

NODISCARD enum status catalog_sqlite_retry_commit(struct catalog *c, int64_t job,
                                                  const struct catalog_shard_plan *shards,
                                                  size_t n_shards,
                                                  const struct catalog_retry *retries,
                                                  size_t n_retries, struct error *err);
NODISCARD enum status catalog_sqlite_shard_redo(struct catalog *c, int64_t job, int64_t shard,
                                                const char *list_key, int64_t n_samples,
                                                struct error *err);
NODISCARD enum status catalog_sqlite_sources(struct catalog *c, int64_t job,
                                             const struct catalog_source_query *query,
                                             catalog_source_fn *each, void *ctx, struct error *err);
NODISCARD enum status catalog_sqlite_accounts(struct catalog *c, int64_t job,
                                              catalog_account_fn *each, void *ctx,
                                              struct error *err);

#endif
