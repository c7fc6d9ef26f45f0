#include "storage/catalog/catalog_sqlite.h"

#include "storage/catalog/catalog_sqlite_accounts.h"
#include "storage/catalog/catalog_sqlite_ingest.h"
#include "storage/catalog/catalog_sqlite_jobs.h"
#include "storage/catalog/catalog_sqlite_outbox.h"
#include "storage/catalog/catalog_sqlite_part.h"
#include "storage/catalog/catalog_sqlite_read.h"
#include "storage/catalog/migrations.h"
#include "storage/catalog/plan_differs.h"
#include "storage/catalog/sqlite_rows.h"
#include "storage/catalog/suspects.h"

#include <inttypes.h>
#include <stdlib.h>

/* How long to wait for a job that is paused, or has as many leases out as it may. */
enum { GATE_WAIT_MS = 1000 };

static void sqlite_close(struct catalog *c)
{
    struct catalog_of_sqlite *own = CONTAINER_OF(c, struct catalog_of_sqlite, base);

    sqlite_db_close(&own->db);
    file_lock_release(&own->coordination);
    free(own);
}

static enum status sqlite_open(const char *url, struct catalog **out, struct error *err)
{
    struct catalog_of_sqlite *own = calloc(1, sizeof *own);
    enum status st;

    if (own == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a catalog");
    own->base.ops = &catalog_sqlite;
    own->coordination.fd = -1;
    st = sqlite_db_open(url, sqlite_statements, &own->db, err);
    if (st != ST_OK) {
        free(own);
        return st;
    }
    *out = &own->base;
    return ST_OK;
}

static enum status sqlite_schema(const char *url, struct catalog_schema *schema, struct error *err)
{
    schema->newest = sqlite_n_migrations;
    return sqlite_db_version(url, &schema->stored, err);
}

static enum status sqlite_migrate(const char *url, struct catalog_schema *before, struct error *err)
{
    struct sqlite_db db;
    enum status st = sqlite_schema(url, before, err);

    if (st == ST_OK)
        st = sqlite_db_open(url, sqlite_statements, &db, err);
    if (st == ST_OK)
        sqlite_db_close(&db);
    return st;
}

static enum status select_job(struct sqlite_db *db, const char *name, struct arena *arena,
                              struct catalog_job *job, const char **config, struct error *err)
{
    sqlite3_stmt *statement;
    enum status st = sqlite_db_prepare(db, JOB_SELECT, &statement, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, statement, err, "s", name);
    if (st == ST_OK)
        st = sqlite_db_step(db, statement, err);
    if (st != ST_OK)
        return st;
    job->job = sqlite3_column_int64(statement, 0);
    job->state = (enum catalog_job_state)sqlite3_column_int(statement, 1);
    (void)snprintf(job->name, sizeof job->name, "%s", name);
    sqlite_rows_copy_fixed(statement, 2, job->config_digest, sizeof job->config_digest);
    job->created_ms = sqlite3_column_int64(statement, 3);
    job->is_planned = sqlite3_column_int(statement, 5) != 0;
    st = sqlite_rows_copy(statement, 4, arena, config, err);
    (void)sqlite3_reset(statement);
    return st;
}

static enum status sqlite_job_begin(struct catalog *c, const char *name, const char *config_digest,
                                    const char *config_json, int64_t now_ms, struct arena *arena,
                                    struct catalog_job *job, const char **stored_config,
                                    struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    enum status st;

    if (strlen(name) >= sizeof job->name)
        return error_set(err, ST_INVALID, "job name \"%s\" is longer than %zu bytes", name,
                         sizeof job->name - 1);
    st = sqlite_db_run(db, JOB_INSERT, NULL, err, "sissi", name, (int64_t)CATALOG_JOB_PLANNING,
                       config_digest, config_json, now_ms);
    if (st == ST_OK)
        st = sqlite_db_run(db, JOB_MEND, NULL, err, "sss", name, config_digest, config_json);
    if (st == ST_OK)
        st = select_job(db, name, arena, job, stored_config, err);
    if (st == ST_OK && strcmp(job->config_digest, config_digest) != 0)
        st = error_set(err, ST_CONFLICT, "job \"%s\" was begun with another configuration", name);
    return st;
}

static enum status sqlite_job_find(struct catalog *c, const char *name, struct arena *arena,
                                   struct catalog_job *job, const char **config_json,
                                   struct error *err)
{
    enum status st = select_job(sqlite_rows_db(c), name, arena, job, config_json, err);

    return st == ST_END ? error_set(err, ST_NOT_FOUND, "catalog \"%s\" has no job \"%s\"",
                                    sqlite_rows_db(c)->path, name)
                        : st;
}

static enum status sqlite_job_set_state(struct catalog *c, int64_t job,
                                        enum catalog_job_state state, struct error *err)
{
    return sqlite_db_run(sqlite_rows_db(c), JOB_SET_STATE, NULL, err, "ii", job, (int64_t)state);
}

/* One that is there must be the same. */
static enum status check_shard(struct sqlite_db *db, int64_t job,
                               const struct catalog_shard_plan *s, struct error *err)
{
    sqlite3_stmt *row;
    enum status st = sqlite_db_prepare(db, SHARD_SAME, &row, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, row, err, "iiissiis", job, s->shard, (int64_t)s->source,
                            s->input_key, s->input_format, (int64_t)s->input_begin,
                            (int64_t)s->input_end, s->input_etag);
    if (st == ST_OK)
        st = sqlite_db_step(db, row, err);
    if (st == ST_OK)
        (void)sqlite3_reset(row);
    return st == ST_END ? plan_differs(s, err) : st;
}

static enum status add_shards(struct sqlite_db *db, const struct catalog_job *job,
                              const struct catalog_shard_plan *shards, size_t n_shards,
                              struct error *err)
{
    int64_t n_planning = 0, n_known = 0;
    enum status st =
        sqlite_db_run(db, JOB_PLANNING_AS, &n_planning, err, "is", job->job, job->config_digest);

    if (st == ST_OK && n_planning == 0)
        st = error_set(err, ST_CONFLICT, "job %" PRId64 " is not being planned any more, or anew",
                       job->job);
    if (st == ST_OK)
        st = sqlite_rows_count_shards(db, job->job, &n_known, err);
    for (size_t i = 0; i < n_shards && st == ST_OK; i++) {
        const struct catalog_shard_plan *s = &shards[i];

        st = s->shard < n_known
                 ? check_shard(db, job->job, s, err)
                 : sqlite_db_run(db, SHARD_INSERT, NULL, err, "iiissiis", job->job, s->shard,
                                 (int64_t)s->source, s->input_key, s->input_format,
                                 (int64_t)s->input_begin, (int64_t)s->input_end, s->input_etag);
    }
    return st;
}

static enum status sqlite_plan_commit(struct catalog *c, const struct catalog_job *job,
                                      const struct catalog_shard_plan *shards, size_t n_shards,
                                      bool is_all, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    enum status st = sqlite_db_begin(db, err);

    if (st != ST_OK)
        return st;
    st = add_shards(db, job, shards, n_shards, err);
    if (st == ST_OK && is_all)
        st = sqlite_db_run(db, JOB_START, NULL, err, "i", job->job);
    return sqlite_db_end(db, st, err);
}

/* Reads SHARD_LEASE's row. */
static enum status read_lease(sqlite3_stmt *row, struct arena *arena, struct catalog_lease *lease,
                              struct error *err)
{
    enum status st = sqlite_rows_copy(row, 4, arena, &lease->plan.input_key, err);

    if (st == ST_OK)
        st = sqlite_rows_copy(row, 5, arena, &lease->plan.input_format, err);
    lease->shard = lease->plan.shard = sqlite3_column_int64(row, 0);
    lease->epoch = sqlite3_column_int64(row, 1); /* of the newest, be it a rival's */
    lease->attempts = sqlite3_column_int(row, 2);
    lease->plan.source = (enum catalog_input)sqlite3_column_int(row, 3);
    lease->plan.input_begin = (uint64_t)sqlite3_column_int64(row, 6);
    lease->plan.input_end = (uint64_t)sqlite3_column_int64(row, 7);
    sqlite_rows_copy_fixed(row, 8, lease->plan.input_etag, sizeof lease->plan.input_etag);
    lease->plan.input_samples = sqlite3_column_int64(row, 9);
    lease->next_offset = (uint64_t)sqlite3_column_int64(row, 10);
    lease->next_index = (uint64_t)sqlite3_column_int64(row, 11);
    lease->n_parts = sqlite3_column_int64(row, 12);
    lease->suspect_end = (uint64_t)sqlite3_column_int64(row, 13);
    lease->probe_samples = sqlite3_column_int64(row, 14);
    lease->is_poison = sqlite3_column_int(row, 15) >= CATALOG_POISON_DEATHS;
    lease->end_index = (uint64_t)sqlite3_column_int64(row, 16);
    return st;
}

static enum status sqlite_shard_input(struct catalog *c, int64_t job, int64_t shard,
                                      struct arena *arena, struct catalog_shard_plan *plan,
                                      struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    struct catalog_lease lease = {.job = job};
    sqlite3_stmt *row;
    enum status st = sqlite_db_prepare(db, SHARD_LEASE, &row, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, row, err, "ii", job, shard);
    if (st == ST_OK)
        st = sqlite_db_step(db, row, err);
    if (st == ST_END)
        return error_set(err, ST_NOT_FOUND, "the catalog has no shard %" PRId64 " of the job",
                         shard);
    if (st == ST_OK) {
        st = read_lease(row, arena, &lease, err);
        (void)sqlite3_reset(row);
    }
    *plan = lease.plan;
    return st;
}

/* Whether the job's leases go out at all: ST_END if not, and when to ask again. */
static enum status pass_gate(struct sqlite_db *db, int64_t job, int64_t now_ms, int64_t *wait_ms,
                             struct error *err)
{
    sqlite3_stmt *row;
    int64_t state, max_leases, n_leases;
    enum status st = sqlite_db_prepare(db, JOB_GATE, &row, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, row, err, "ii", job, now_ms);
    if (st == ST_OK)
        st = sqlite_db_step(db, row, err);
    if (st != ST_OK)
        return st;
    state = sqlite3_column_int64(row, 0);
    max_leases = sqlite3_column_int64(row, 1);
    n_leases = sqlite3_column_int64(row, 2);
    (void)sqlite3_reset(row);
    *wait_ms = state == CATALOG_JOB_DONE || state == CATALOG_JOB_CANCELLED ? -1 : GATE_WAIT_MS;
    return (state == CATALOG_JOB_PLANNING || state == CATALOG_JOB_RUNNING) &&
                   (max_leases == 0 || n_leases < max_leases)
               ? ST_OK
               : ST_END;
}

/* Nothing to take: how long until there may be; -1: never. */
static enum status first_expiry(struct sqlite_db *db, int64_t job, int64_t now_ms, int64_t *wait_ms,
                                struct error *err)
{
    sqlite3_stmt *statement;
    enum status st = sqlite_db_prepare(db, SHARD_FIRST_EXPIRY, &statement, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, statement, err, "ii", job, now_ms);
    if (st == ST_OK)
        st = sqlite_db_step(db, statement, err);
    if (st != ST_OK)
        return st;
    *wait_ms = -1;
    if (sqlite3_column_type(statement, 0) != SQLITE_NULL)
        *wait_ms = MAX(sqlite3_column_int64(statement, 0) - now_ms, (int64_t)1);
    (void)sqlite3_reset(statement);
    return ST_OK;
}

static enum status next_shard(struct sqlite_db *db, int64_t job, int64_t now_ms, int64_t *shard,
                              struct error *err)
{
    sqlite3_stmt *row;
    enum status st = sqlite_db_prepare(db, SHARD_NEXT, &row, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, row, err, "ii", job, now_ms);
    if (st == ST_OK)
        st = sqlite_db_step(db, row, err);
    if (st == ST_OK)
        *shard = sqlite3_column_int64(row, 0);
    (void)sqlite3_reset(row);
    return st;
}

/* Not by `returning`, which gets repeated iif() wrong in SQLite 3.40. */
static enum status select_lease(struct sqlite_db *db, int64_t shard, struct arena *arena,
                                struct catalog_lease *lease, struct error *err)
{
    sqlite3_stmt *row;
    enum status st = sqlite_db_prepare(db, SHARD_LEASE, &row, err);

    if (st != ST_OK)
        return st;
    st = sqlite_db_bind(db, row, err, "ii", lease->job, shard);
    if (st == ST_OK)
        st = sqlite_db_step(db, row, err);
    if (st == ST_OK)
        st = read_lease(row, arena, lease, err);
    (void)sqlite3_reset(row);
    return st;
}

static enum status take_next(struct sqlite_db *db, int64_t job, const char *owner, int64_t now_ms,
                             const struct catalog_terms *terms, struct arena *arena,
                             struct catalog_lease *lease, struct error *err)
{
    int64_t shard;
    enum status st = next_shard(db, job, now_ms, &shard, err);

    lease->job = job;
    lease->expires_ms = now_ms + terms->lease_ms;
    if (st == ST_OK)
        st = sqlite_db_run(db, SHARD_TAKE, NULL, err, "iisiii", job, shard, owner,
                           lease->expires_ms, suspects_reach(terms), suspects_first_probe(terms));
    return st == ST_OK ? select_lease(db, shard, arena, lease, err) : st;
}

static enum status take_one(struct sqlite_db *db, int64_t job, const char *owner, int64_t now_ms,
                            const struct catalog_terms *terms, struct arena *arena,
                            struct catalog_lease *lease, int64_t *wait_ms, struct error *err)
{
    bool none = false;
    enum status st = sqlite_db_begin(db, err);

    if (st != ST_OK)
        return st;
    st = pass_gate(db, job, now_ms, wait_ms, err);
    if (st == ST_END) {
        st = sqlite_db_end(db, ST_OK, err);
        return st == ST_OK ? error_set(err, ST_NOT_FOUND, "the job hands out no lease now") : st;
    }
    if (st == ST_OK)
        st = sqlite_db_run(db, SHARD_FAIL_SPENT, NULL, err, "iii", job,
                           (int64_t)terms->max_attempts, now_ms);
    if (st == ST_OK)
        st = take_next(db, job, owner, now_ms, terms, arena, lease, err);
    if (st == ST_END) {
        none = true;
        st = first_expiry(db, job, now_ms, wait_ms, err);
    }
    st = sqlite_db_end(db, st, err);
    return st == ST_OK && none ? error_set(err, ST_NOT_FOUND, "no shard is ready") : st;
}

static enum status sqlite_leases_take(struct catalog *c, int64_t job, struct catalog_take *takes,
                                      size_t n, int64_t now_ms, const struct catalog_terms *terms,
                                      struct arena *arena, struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < n && st == ST_OK; i++) {
        st = take_one(sqlite_rows_db(c), job, takes[i].owner, now_ms, terms, arena, &takes[i].lease,
                      &takes[i].wait_ms, err);
        takes[i].status = st == ST_OK ? ST_OK : ST_NOT_FOUND;
        if (st != ST_OK && st != ST_NOT_FOUND && i > 0) { /* those before it are out */
            takes[i].wait_ms = GATE_WAIT_MS;
            return ST_OK;
        }
        st = st == ST_NOT_FOUND ? ST_OK : st;
    }
    return st;
}

static enum status sqlite_leases_renew(struct catalog *c, const struct catalog_lease *leases,
                                       size_t n, int64_t now_ms, int64_t lease_ms, bool *lost,
                                       struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < n && st == ST_OK; i++) {
        int64_t n_rows;

        st = sqlite_db_run(sqlite_rows_db(c), SHARD_RENEW, &n_rows, err, "iiii", leases[i].job,
                           leases[i].shard, leases[i].epoch, now_ms + lease_ms);
        lost[i] = st == ST_OK && n_rows == 0;
    }
    return st;
}

static enum status sqlite_lease_probe(struct catalog *c, const struct catalog_lease *lease,
                                      struct error *err)
{
    int64_t n;
    enum status st = sqlite_db_run(sqlite_rows_db(c), SHARD_PROBE, &n, err, "iii", lease->job,
                                   lease->shard, lease->epoch);

    return st == ST_OK && n == 0 ? catalog_sqlite_fenced(lease, err) : st;
}

static enum status sqlite_lease_release(struct catalog *c, const struct catalog_lease *lease,
                                        bool failed, const char *why, struct error *err)
{
    int64_t n;
    enum status st =
        sqlite_db_run(sqlite_rows_db(c), SHARD_RELEASE, &n, err, "iiiis", lease->job, lease->shard,
                      lease->epoch, (int64_t)failed, failed ? why : NULL);

    return st == ST_OK && n == 0 ? catalog_sqlite_fenced(lease, err) : st;
}

static enum status take_rival(struct sqlite_db *db, int64_t shard, int64_t epoch, const char *owner,
                              int64_t now_ms, struct arena *arena, struct catalog_lease *lease,
                              struct error *err)
{
    int64_t n = 0;
    enum status st = sqlite_db_run(db, SHARD_RIVAL, &n, err, "iiisii", lease->job, shard, epoch,
                                   owner, now_ms, lease->expires_ms);

    if (st == ST_OK && n == 0)
        return error_set(err, ST_NOT_FOUND, "shard %" PRId64 " gets no second lease", shard);
    if (st == ST_OK)
        st = select_lease(db, shard, arena, lease, err);
    return st;
}

static enum status sqlite_lease_rival(struct catalog *c, int64_t job, int64_t shard, int64_t epoch,
                                      const char *owner, int64_t now_ms,
                                      const struct catalog_terms *terms, struct arena *arena,
                                      struct catalog_lease *lease, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    enum status st = sqlite_db_begin(db, err);

    if (st != ST_OK)
        return st;
    lease->job = job;
    lease->expires_ms = now_ms + terms->lease_ms;
    st = take_rival(db, shard, epoch, owner, now_ms, arena, lease, err);
    return sqlite_db_end(db, st, err);
}

static enum status sqlite_job_extend(struct catalog *c, int64_t job, const char *config_digest,
                                     const char *config_json, const char *output_format,
                                     struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    int64_t n = 0;
    enum status st = sqlite_db_begin(db, err);

    if (st != ST_OK)
        return st;
    st = sqlite_db_run(db, JOB_SET_CONFIG, &n, err, "iss", job, config_digest, config_json);
    if (st == ST_OK && n == 0)
        st = error_set(err, ST_CONFLICT, "job %" PRId64 " is not finished", job);
    if (st == ST_OK)
        st = sqlite_db_run(db, SHARD_EXTEND, NULL, err, "is", job, output_format);
    if (st == ST_OK)
        st = sqlite_db_run(db, PART_DELETE_ALL, NULL, err, "i", job);
    return sqlite_db_end(db, st, err);
}

static enum status sqlite_leases_reset(struct catalog *c, int64_t job, struct error *err)
{
    return sqlite_db_run(sqlite_rows_db(c), SHARD_RESET, NULL, err, "i", job);
}

const struct catalog_ops catalog_sqlite = {
    .scheme = "sqlite",
    .open = sqlite_open,
    .migrate = sqlite_migrate,
    .schema = sqlite_schema,
    .job_begin = sqlite_job_begin,
    .job_set_state = sqlite_job_set_state,
    .plan_commit = sqlite_plan_commit,
    .leases_take = sqlite_leases_take,
    .lease_probe = sqlite_lease_probe,
    .leases_renew = sqlite_leases_renew,
    .lease_release = sqlite_lease_release,
    .lease_rival = sqlite_lease_rival,
    .part_commit = catalog_sqlite_part_commit,
    .parts = catalog_sqlite_parts,
    .shard_commit = catalog_sqlite_shard_commit,
    .lease_split = catalog_sqlite_lease_split,
    .piece_commit = catalog_sqlite_piece_commit,
    .job_extend = sqlite_job_extend,
    .leases_reset = sqlite_leases_reset,
    .coordinate = catalog_sqlite_coordinate,
    .job_move = catalog_sqlite_job_move,
    .job_set_priority = catalog_sqlite_job_set_priority,
    .job_set_quota = catalog_sqlite_job_set_quota,
    .job_set_rate = catalog_sqlite_job_set_rate,
    .leases_extend = catalog_sqlite_leases_extend,
    .shards_retry = catalog_sqlite_shards_retry,
    .jobs = catalog_sqlite_jobs,
    .shards = catalog_sqlite_shards,
    .workers_seen = catalog_sqlite_workers_seen,
    .workers = catalog_sqlite_workers,
    .retry_commit = catalog_sqlite_retry_commit,
    .shard_redo = catalog_sqlite_shard_redo,
    .sources = catalog_sqlite_sources,
    .accounts = catalog_sqlite_accounts,
    .ingest_commit = catalog_sqlite_ingest_commit,
    .ingest_read = catalog_sqlite_ingest_read,
    .ingest_list = catalog_sqlite_ingest_list,
    .ingest_pace = catalog_sqlite_ingest_pace,
    .job_set_events = catalog_sqlite_job_set_events,
    .outbox_claim = catalog_sqlite_outbox_claim,
    .outbox_read = catalog_sqlite_outbox_read,
    .outbox_remove = catalog_sqlite_outbox_remove,
    .outbox_count = catalog_sqlite_outbox_count,
    .job_find = sqlite_job_find,
    .shard_input = sqlite_shard_input,
    .progress = catalog_sqlite_progress,
    .outputs = catalog_sqlite_outputs,
    .reasons = catalog_sqlite_reasons,
    .sample_find = catalog_sqlite_sample_find,
    .samples = catalog_sqlite_samples,
    .shard_samples = catalog_sqlite_shard_samples,
    .close = sqlite_close,
};
