#include "storage/catalog/catalog_sqlite_accounts.h"

#include "storage/catalog/catalog_sqlite_jobs.h"
#include "storage/catalog/sqlite_rows.h"

#include <inttypes.h>

/* Shards are numbered without gaps: the next one has the number that was planned for. */
static enum status check_next_shard(struct sqlite_db *db, int64_t job, int64_t shard,
                                    struct error *err)
{
    int64_t next;
    enum status st = sqlite_rows_count_shards(db, job, &next, err);

    if (st != ST_OK)
        return st;
    return next == shard
               ? ST_OK
               : error_set(err, ST_CONFLICT, "the next shard is %" PRId64 " by now, not %" PRId64,
                           next, shard);
}

static enum status insert_retries(struct sqlite_db *db, int64_t job,
                                  const struct catalog_shard_plan *shards, size_t n_shards,
                                  const struct catalog_retry *retries, size_t n_retries,
                                  struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < n_shards && st == ST_OK; i++)
        st = sqlite_db_run(db, SHARD_INSERT, NULL, err, "iiissiis", job, shards[i].shard,
                           (int64_t)shards[i].source, shards[i].input_key, shards[i].input_format,
                           (int64_t)0, (int64_t)0, shards[i].input_etag);
    for (size_t i = 0; i < n_retries && st == ST_OK; i++)
        st = sqlite_db_run(db, RETRY_INSERT, NULL, err, "iiiiiii", job, retries[i].shard,
                           retries[i].index, retries[i].old_shard, retries[i].old_index,
                           retries[i].source_shard, retries[i].source_index);
    return st;
}

enum status catalog_sqlite_retry_commit(struct catalog *c, int64_t job,
                                        const struct catalog_shard_plan *shards, size_t n_shards,
                                        const struct catalog_retry *retries, size_t n_retries,
                                        struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    enum status st = sqlite_db_begin(db, err);

    if (st != ST_OK)
        return st;
    st = catalog_sqlite_job_reopen(db, job, err);
    if (st == ST_OK)
        st = check_next_shard(db, job, shards[0].shard, err);
    if (st == ST_OK)
        st = insert_retries(db, job, shards, n_shards, retries, n_retries, err);
    return sqlite_db_end(db, st, err);
}

enum status catalog_sqlite_shard_redo(struct catalog *c, int64_t job, int64_t shard,
                                      const char *list_key, int64_t n_samples, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    int64_t n = 0;
    enum status st = sqlite_db_begin(db, err);

    if (st != ST_OK)
        return st;
    st = catalog_sqlite_job_reopen(db, job, err);
    if (st == ST_OK)
        st = sqlite_db_run(db, SHARD_REDO, &n, err, "iisi", job, shard, list_key, n_samples);
    if (st == ST_OK && n == 0)
        st = error_set(err, ST_CONFLICT, "shard %" PRId64 " is not done", shard);
    if (st == ST_OK)
        st = sqlite_db_run(db, PART_DELETE_SHARD, NULL, err, "ii", job, shard);
    return sqlite_db_end(db, st, err);
}

enum status catalog_sqlite_sources(struct catalog *c, int64_t job,
                                   const struct catalog_source_query *query,
                                   catalog_source_fn *each, void *ctx, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    sqlite3_stmt *row;
    enum status st = sqlite_db_prepare(db, SOURCE_LIST, &row, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, row, err, "iisii", job, (int64_t)query->state, query->reason,
                            MAX(query->shard, (int64_t)0),
                            query->shard < 0 ? INT64_MAX : query->shard);
    while (st == ST_OK && (st = sqlite_db_step(db, row, err)) == ST_OK) {
        struct catalog_source source = {
            .shard = sqlite3_column_int64(row, 0),
            .index = sqlite3_column_int64(row, 1),
            .source_shard = sqlite3_column_int64(row, 2),
            .source_index = sqlite3_column_int64(row, 3),
            .source = {.shard = sqlite3_column_int64(row, 2),
                       .source = (enum catalog_input)sqlite3_column_int(row, 4),
                       .input_key = sqlite_rows_text(row, 5),
                       .input_format = sqlite_rows_text(row, 6),
                       .input_begin = (uint64_t)sqlite3_column_int64(row, 7),
                       .input_end = (uint64_t)sqlite3_column_int64(row, 8)}};

        sqlite_rows_copy_fixed(row, 9, source.source.input_etag, sizeof source.source.input_etag);
        st = each(ctx, &source, err);
    }
    (void)sqlite3_reset(row);
    return st == ST_END ? ST_OK : st;
}

static int64_t or_minus_one(sqlite3_stmt *row, int i)
{
    return sqlite3_column_type(row, i) == SQLITE_NULL ? -1 : sqlite3_column_int64(row, i);
}

enum status catalog_sqlite_accounts(struct catalog *c, int64_t job, catalog_account_fn *each,
                                    void *ctx, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    sqlite3_stmt *row;
    enum status st = sqlite_db_prepare(db, ACCOUNT_LIST, &row, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, row, err, "i", job);
    while (st == ST_OK && (st = sqlite_db_step(db, row, err)) == ST_OK) {
        const struct catalog_account account = {
            .shard = sqlite3_column_int64(row, 0),
            .state = (enum catalog_shard_state)sqlite3_column_int(row, 1),
            .is_retry = sqlite3_column_int(row, 2) != 0,
            .read = or_minus_one(row, 3),
            .samples = sqlite3_column_int64(row, 4),
            .done = sqlite3_column_int64(row, 5),
            .quarantined = sqlite3_column_int64(row, 6),
            .retried = sqlite3_column_int64(row, 7),
            .last_index = or_minus_one(row, 8),
            .output_done = or_minus_one(row, 9),
            .output_quarantined = or_minus_one(row, 10),
            .filtered = sqlite3_column_int64(row, 11),
            .output_filtered = or_minus_one(row, 12),
        };

        st = each(ctx, &account, err);
    }
    (void)sqlite3_reset(row);
    return st == ST_END ? ST_OK : st;
}
