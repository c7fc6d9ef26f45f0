#include "storage/catalog/catalog_sqlite_jobs.h"

#include "storage/catalog/sqlite_rows.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

enum status catalog_sqlite_coordinate(struct catalog *c, struct error *err)
{
    struct catalog_of_sqlite *own = CONTAINER_OF(c, struct catalog_of_sqlite, base);
    char path[PATH_MAX];

    if (own->coordination.fd >= 0)
        return ST_OK;
    if (snprintf(path, sizeof path, "%s.lock", own->db.path) >= (int)sizeof path)
        return error_set(err, ST_INVALID, "catalog path \"%s\" is too long", own->db.path);
    return file_lock_take(path, &own->coordination, err);
}

enum status catalog_sqlite_job_move(struct catalog *c, int64_t job, enum catalog_job_state from,
                                    enum catalog_job_state to, const char *note, struct error *err)
{
    int64_t n = 0;
    enum status st = sqlite_db_run(sqlite_rows_db(c), JOB_MOVE, &n, err, "iiis", job, (int64_t)from,
                                   (int64_t)to, note);

    return st == ST_OK && n == 0
               ? error_set(err, ST_CONFLICT, "job %" PRId64 " is not %s any more, or has work left",
                           job, catalog_job_state_name(from))
               : st;
}

enum status catalog_sqlite_job_reopen(struct sqlite_db *db, int64_t job, struct error *err)
{
    int64_t n = 0;
    enum status st = sqlite_db_run(db, JOB_REOPEN, &n, err, "i", job);

    return st == ST_OK && n == 0
               ? error_set(err, ST_CONFLICT, "the job is not planned yet, or cancelled; resume it")
               : st;
}

enum status catalog_sqlite_job_set_priority(struct catalog *c, int64_t job, int32_t priority,
                                            struct error *err)
{
    return sqlite_db_run(sqlite_rows_db(c), JOB_SET_PRIORITY, NULL, err, "ii", job,
                         (int64_t)priority);
}

enum status catalog_sqlite_job_set_quota(struct catalog *c, int64_t job, int64_t max_leases,
                                         struct error *err)
{
    return sqlite_db_run(sqlite_rows_db(c), JOB_SET_QUOTA, NULL, err, "ii", job, max_leases);
}

enum status catalog_sqlite_workers_seen(struct catalog *c, const struct catalog_worker *workers,
                                        size_t n, int64_t now_ms, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    enum status st = sqlite_db_begin(db, err);

    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < n && st == ST_OK; i++)
        st = sqlite_db_run(db, WORKER_SEEN, NULL, err, "ssssiir", workers[i].name, workers[i].host,
                           workers[i].address, workers[i].version, (int64_t)workers[i].state,
                           now_ms, workers[i].samples_per_second);
    if (st == ST_OK)
        st = sqlite_db_run(db, WORKER_FORGET, NULL, err, "i", now_ms);
    return sqlite_db_end(db, st, err);
}

enum status catalog_sqlite_job_set_rate(struct catalog *c, int64_t job, double samples_per_second,
                                        int64_t now_ms, struct error *err)
{
    return sqlite_db_run(sqlite_rows_db(c), JOB_SET_RATE, NULL, err, "iri", job, samples_per_second,
                         now_ms);
}

enum status catalog_sqlite_leases_extend(struct catalog *c, int64_t job, int64_t now_ms,
                                         int64_t lease_ms, struct error *err)
{
    return sqlite_db_run(sqlite_rows_db(c), SHARD_EXTEND_LEASES, NULL, err, "ii", job,
                         now_ms + lease_ms);
}

enum status catalog_sqlite_shards_retry(struct catalog *c, int64_t job, int64_t *n,
                                        struct error *err)
{
    return sqlite_db_run(sqlite_rows_db(c), SHARD_RETRY, n, err, "i", job);
}

static void read_job(sqlite3_stmt *row, struct catalog_job_row *out)
{
    memset(out, 0, sizeof *out);
    out->job.job = sqlite3_column_int64(row, 0);
    out->job.state = (enum catalog_job_state)sqlite3_column_int(row, 1);
    sqlite_rows_copy_fixed(row, 2, out->job.name, sizeof out->job.name);
    sqlite_rows_copy_fixed(row, 3, out->job.config_digest, sizeof out->job.config_digest);
    out->job.created_ms = sqlite3_column_int64(row, 4);
    out->priority = sqlite3_column_int(row, 5);
    sqlite_rows_copy_fixed(row, 6, out->note, sizeof out->note);
    out->samples_per_second = sqlite3_column_double(row, 7);
    out->rated_ms = sqlite3_column_int64(row, 8);
    out->n_ready = sqlite3_column_int64(row, 9);
    out->is_over = sqlite3_column_int(row, 10) != 0;
    out->max_leases = sqlite3_column_int64(row, 11);
    out->has_waiting_events = sqlite3_column_int(row, 13) != 0;
    out->job.is_planned = sqlite3_column_int(row, 14) != 0;
    if (out->max_leases > 0)
        out->n_ready =
            MIN(out->n_ready, MAX(out->max_leases - sqlite3_column_int64(row, 12), (int64_t)0));
}

enum status catalog_sqlite_jobs(struct catalog *c, int64_t now_ms, catalog_job_fn *each, void *ctx,
                                struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    sqlite3_stmt *statement;
    enum status st = sqlite_db_prepare(db, JOB_LIST, &statement, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, statement, err, "ii", now_ms, (int64_t)CATALOG_READY_MAX);
    while (st == ST_OK && (st = sqlite_db_step(db, statement, err)) == ST_OK) {
        struct catalog_job_row row;

        read_job(statement, &row);
        st = each(ctx, &row, err);
    }
    (void)sqlite3_reset(statement);
    return st == ST_END ? ST_OK : st;
}

enum status catalog_sqlite_workers(struct catalog *c, int64_t now_ms, catalog_worker_fn *each,
                                   void *ctx, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    sqlite3_stmt *row;
    enum status st = sqlite_db_prepare(db, WORKER_LIST, &row, err);

    while (st == ST_OK && (st = sqlite_db_step(db, row, err)) == ST_OK) {
        const struct catalog_worker worker = {
            .name = sqlite_rows_text(row, 0),
            .host = sqlite_rows_text(row, 1),
            .address = sqlite_rows_text(row, 2),
            .version = sqlite_rows_text(row, 3),
            .state = (enum catalog_worker_state)sqlite3_column_int(row, 4),
            .n_leases = sqlite3_column_int64(row, 5),
            .samples_per_second = sqlite3_column_double(row, 6),
            .first_seen_ms = sqlite3_column_int64(row, 7),
            .seen_ago_ms = now_ms - sqlite3_column_int64(row, 8),
        };

        st = each(ctx, &worker, err);
    }
    (void)sqlite3_reset(row);
    return st == ST_END ? ST_OK : st;
}

enum status catalog_sqlite_shards(struct catalog *c, int64_t job, enum catalog_shard_state state,
                                  int64_t now_ms, catalog_shard_fn *each, void *ctx,
                                  struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    sqlite3_stmt *statement;
    enum status st = sqlite_db_prepare(db, SHARD_LIST, &statement, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, statement, err, "ii", job, (int64_t)state);
    while (st == ST_OK && (st = sqlite_db_step(db, statement, err)) == ST_OK) {
        const struct catalog_shard_row row = {
            .shard = sqlite3_column_int64(statement, 0),
            .epoch = sqlite3_column_int64(statement, 1),
            .attempts = sqlite3_column_int(statement, 2),
            .owner = sqlite_rows_text(statement, 3),
            .last_error = sqlite_rows_text(statement, 4),
            .expires_in_ms = sqlite3_column_type(statement, 5) == SQLITE_NULL
                                 ? 0
                                 : sqlite3_column_int64(statement, 5) - now_ms,
            .home = sqlite3_column_int64(statement, 6),
            .begin_index = sqlite3_column_int64(statement, 7),
            .rival = sqlite_rows_text(statement, 8),
        };

        st = each(ctx, &row, err);
    }
    (void)sqlite3_reset(statement);
    return st == ST_END ? ST_OK : st;
}
