#include "storage/catalog/catalog_postgres.h"

#include "storage/catalog/catalog_postgres_slots.h"
#include "storage/catalog/migrations.h"
#include "storage/catalog/plan_differs.h"
#include "storage/catalog/postgres_copy.h"
#include "storage/catalog/postgres_migrate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct postgres_db *catalog_postgres_db(struct catalog *c)
{
    return &CONTAINER_OF(c, struct catalog_of_postgres, base)->db;
}

enum status catalog_postgres_fenced(const struct catalog_lease *lease, struct error *err)
{
    return error_set(err, ST_CONFLICT,
                     "the lease of shard %" PRId64 " at epoch %" PRId64 " is no longer ours",
                     lease->shard, lease->epoch);
}

static void close_catalog(struct catalog *c)
{
    postgres_db_close(catalog_postgres_db(c));
    free(CONTAINER_OF(c, struct catalog_of_postgres, base));
}

static enum status open_catalog(const char *url, struct catalog **out, struct error *err)
{
    struct catalog_of_postgres *own = calloc(1, sizeof *own);
    enum status st;

    if (own == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a catalog");
    own->base.ops = &catalog_postgres;
    st = postgres_db_open(url, &own->db, err);
    if (st == ST_OK)
        st = postgres_migrate_check(&own->db, err);
    if (st != ST_OK) {
        close_catalog(&own->base);
        return st;
    }
    *out = &own->base;
    return ST_OK;
}

static enum status migrate(const char *url, struct catalog_schema *before, struct error *err)
{
    struct postgres_db db;
    enum status st = postgres_db_open(url, &db, err);

    if (st == ST_OK)
        st = postgres_migrate_run(&db, before, err);
    postgres_db_close(&db);
    return st;
}

static enum status read_schema(const char *url, struct catalog_schema *schema, struct error *err)
{
    struct postgres_db db;
    enum status st = postgres_db_open(url, &db, err);

    if (st == ST_OK)
        st = postgres_migrate_read(&db, schema, err);
    postgres_db_close(&db);
    return st;
}

enum { ANALYZE_SHARDS = 50000 };

/* Arguments of the slots, for work that may be done again. */
struct job_call {
    const char *name, *digest, *config, *format;
    int64_t job, now_ms;
    const struct catalog_shard_plan *shards;
    size_t n_shards;
    bool is_all;
    struct arena *arena;
    struct catalog_job *out;
    const char **stored;
};

static enum status select_job(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    struct job_call *call = ctx;
    struct catalog_job *job = call->out;
    PGresult *row;
    enum status st = postgres_db_query(
        db, &row, err,
        "select job, state, config_digest, created_ms, config, is_planned::integer from "
        "reinforce.jobs where name = $1",
        "s", call->name);

    (void)repeated;
    if (st == ST_OK && PQntuples(row) == 0)
        st = error_set(err, ST_NOT_FOUND, "no job \"%s\" in the catalog", call->name);
    if (st == ST_OK) {
        job->job = postgres_db_int(row, 0, 0);
        job->state = (enum catalog_job_state)postgres_db_int(row, 0, 1);
        (void)snprintf(job->name, sizeof job->name, "%s", call->name);
        (void)snprintf(job->config_digest, sizeof job->config_digest, "%s",
                       postgres_db_text(row, 0, 2));
        job->created_ms = postgres_db_int(row, 0, 3);
        job->is_planned = postgres_db_int(row, 0, 5) != 0;
        st = postgres_db_copy_text(row, 0, 4, call->arena, call->stored, err);
    }
    PQclear(row);
    return st;
}

/* The partitions come with the row: whoever sees the job can fill it. */
static enum status insert_job(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    struct job_call *call = ctx;
    enum status st = select_job(db, call, repeated, err);

    if (st == ST_OK && strcmp(call->out->config_digest, call->digest) != 0) {
        st = postgres_db_query(
            db, NULL, err,
            "update reinforce.jobs j set config_digest = $2, config = $3, state = 1, note = '' "
            "where name = $1 and state in (1, 3) and not is_planned and not exists (select from "
            "reinforce.shards s where s.job = j.job)",
            "sss", call->name, call->digest, call->config);
        return st == ST_OK ? select_job(db, call, repeated, err) : st;
    }
    if (st != ST_NOT_FOUND)
        return st;
    st = postgres_db_query(
        db, NULL, err,
        "with made as (insert into reinforce.jobs (name, state, config_digest, config, created_ms) "
        "values ($1, $2, $3, $4, $5) on conflict (name) do nothing returning job) "
        "select reinforce.create_partitions(job) from made",
        "sissi", call->name, (int64_t)CATALOG_JOB_PLANNING, call->digest, call->config,
        call->now_ms);
    return st == ST_OK ? select_job(db, call, repeated, err) : st;
}

static enum status job_begin(struct catalog *c, const char *name, const char *config_digest,
                             const char *config_json, int64_t now_ms, struct arena *arena,
                             struct catalog_job *job, const char **stored_config, struct error *err)
{
    struct job_call call = {.name = name,
                            .digest = config_digest,
                            .config = config_json,
                            .now_ms = now_ms,
                            .arena = arena,
                            .out = job,
                            .stored = stored_config};
    enum status st;

    if (strlen(name) >= sizeof job->name)
        return error_set(err, ST_INVALID, "job name \"%s\" is longer than %zu bytes", name,
                         sizeof job->name - 1);
    st = postgres_db_transact(catalog_postgres_db(c), "begin", insert_job, &call, err);
    if (st == ST_OK && strcmp(job->config_digest, config_digest) != 0)
        st = error_set(err, ST_CONFLICT, "job \"%s\" was begun with another configuration", name);
    return st;
}

static enum status job_find(struct catalog *c, const char *name, struct arena *arena,
                            struct catalog_job *job, const char **config_json, struct error *err)
{
    struct job_call call = {.name = name, .arena = arena, .out = job, .stored = config_json};

    return postgres_db_transact(catalog_postgres_db(c), NULL, select_job, &call, err);
}

static enum status job_set_state(struct catalog *c, int64_t job, enum catalog_job_state state,
                                 struct error *err)
{
    return postgres_db_ask(catalog_postgres_db(c), NULL, err,
                           "update reinforce.jobs set state = $2 where job = $1", "ii", job,
                           (int64_t)state);
}

/* Those behind the first n_known. */
static enum status copy_shards(struct postgres_db *db, const struct job_call *call, size_t n_known,
                               struct error *err)
{
    struct postgres_copy copy;
    enum status st = postgres_copy_begin(
        db,
        "copy reinforce.shards (job, shard, state, input_source, input_key, input_format, "
        "input_begin, input_end, input_etag, next_offset) from stdin (format binary)",
        &copy, err);

    for (size_t i = n_known; i < call->n_shards && st == ST_OK; i++) {
        const struct catalog_shard_plan *s = &call->shards[i];

        st = postgres_copy_row(&copy, "an input's name", err, "iihhssiisi", call->job, s->shard,
                               (int)CATALOG_SHARD_READY, (int)s->source, s->input_key,
                               s->input_format, (int64_t)s->input_begin, (int64_t)s->input_end,
                               s->input_etag, (int64_t)s->input_begin);
    }
    return postgres_copy_end(&copy, st, err);
}

/* What the planner does not know yet would cost a sort of all shards for every lease, until the
 * server looks for itself a minute later. */
static enum status analyze_shards(struct postgres_db *db, int64_t job, struct error *err)
{
    char sql[64];

    (void)snprintf(sql, sizeof sql, "analyze reinforce.shards_%" PRId64, job);
    return postgres_db_execute(db, sql, err);
}

/* The job, locked while its shards are added; in what state it is, and how many it has. */
static enum status lock_plan(struct postgres_db *db, const struct job_call *call, int64_t *state,
                             int64_t *n_there, struct error *err)
{
    PGresult *row;
    enum status st = postgres_db_query(
        db, &row, err,
        "select state, (select coalesce(max(shard) + 1, 0) from reinforce.shards where job = $1) "
        "from reinforce.jobs where job = $1 and config_digest = $2 for update",
        "is", call->job, call->digest);

    *state = *n_there = 0;
    if (st == ST_OK && PQntuples(row) == 1) {
        *state = postgres_db_int(row, 0, 0);
        *n_there = postgres_db_int(row, 0, 1);
    }
    PQclear(row);
    return st;
}

static bool is_same(const PGresult *rows, int i, const struct catalog_shard_plan *s)
{
    return postgres_db_int(rows, i, 0) == s->shard &&
           postgres_db_int(rows, i, 1) == (int64_t)s->source &&
           strcmp(postgres_db_text(rows, i, 2), s->input_key) == 0 &&
           strcmp(postgres_db_text(rows, i, 3), s->input_format) == 0 &&
           postgres_db_int(rows, i, 4) == (int64_t)s->input_begin &&
           postgres_db_int(rows, i, 5) == (int64_t)s->input_end &&
           strcmp(postgres_db_text(rows, i, 6), s->input_etag) == 0;
}

/* The first n_known are there: they must be the same. */
static enum status check_shards(struct postgres_db *db, const struct job_call *call, size_t n_known,
                                struct error *err)
{
    PGresult *rows;
    enum status st;

    if (n_known == 0)
        return ST_OK;
    st = postgres_db_query(db, &rows, err,
                           "select shard, input_source, input_key, input_format, input_begin, "
                           "input_end, input_etag from reinforce.shards where job = $1 and "
                           "shard >= $2 and shard < $3 order by shard",
                           "iii", call->job, call->shards[0].shard,
                           call->shards[0].shard + (int64_t)n_known);
    for (size_t i = 0; i < n_known && st == ST_OK; i++)
        if ((int)i >= PQntuples(rows) || !is_same(rows, (int)i, &call->shards[i]))
            st = plan_differs(&call->shards[i], err);
    PQclear(rows);
    return st;
}

static enum status insert_plan(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    const struct job_call *call = ctx;
    int64_t state, n_there;
    size_t n_known = 0;
    enum status st = lock_plan(db, call, &state, &n_there, err);

    if (st == ST_OK && n_there > 0 && call->n_shards > 0)
        n_known =
            (size_t)MIN(MAX(n_there - call->shards[0].shard, (int64_t)0), (int64_t)call->n_shards);
    /* a try whose answer was lost had planned it? */
    if (st == ST_OK && state != CATALOG_JOB_PLANNING &&
        !(repeated && call->is_all && state == CATALOG_JOB_RUNNING && n_known == call->n_shards))
        st = error_set(err, ST_CONFLICT, "job %" PRId64 " is not being planned any more, or anew",
                       call->job);
    if (st == ST_OK)
        st = check_shards(db, call, n_known, err);
    if (st == ST_OK && n_known < call->n_shards)
        st = copy_shards(db, call, n_known, err);
    if (st == ST_OK && call->is_all)
        st = postgres_db_query(
            db, NULL, err,
            "update reinforce.jobs set state = 2, is_planned = true where job = $1 and state = 1",
            "i", call->job);
    /* early, and whenever there are many more */
    if (st == ST_OK &&
        (n_there == 0 || call->is_all ||
         n_there / ANALYZE_SHARDS != (n_there + (int64_t)call->n_shards) / ANALYZE_SHARDS))
        st = analyze_shards(db, call->job, err);
    return st;
}

static enum status plan_commit(struct catalog *c, const struct catalog_job *job,
                               const struct catalog_shard_plan *shards, size_t n_shards,
                               bool is_all, struct error *err)
{
    struct job_call call = {.job = job->job,
                            .digest = job->config_digest,
                            .shards = shards,
                            .n_shards = n_shards,
                            .is_all = is_all};

    return postgres_db_transact(catalog_postgres_db(c), "begin", insert_plan, &call, err);
}

static enum status extend(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    const struct job_call *call = ctx;
    PGresult *row;
    bool begun, ours;
    enum status st = postgres_db_query(
        db, &row, err,
        "update reinforce.jobs set state = 2, config_digest = $2, config = $3 where job = $1 and "
        "(state = 4 or ($4::integer = 1 and state = 2 and config_digest = $2)) "
        "returning job",
        "issi", call->job, call->digest, call->config, (int64_t)repeated);

    begun = st == ST_OK && PQntuples(row) == 1;
    PQclear(row);
    if (st == ST_OK && !begun)
        st = error_set(err, ST_CONFLICT, "job %" PRId64 " is not finished", call->job);
    if (st == ST_OK && repeated) { /* did it happen, but for the answer? */
        st = postgres_db_query(
            db, &row, err, "select 1 from reinforce.shards where job = $1 and state <> 3 limit 1",
            "i", call->job);
        ours = st == ST_OK && PQntuples(row) == 1;
        PQclear(row);
        if (ours)
            return ST_OK;
    }
    if (st == ST_OK)
        st = postgres_db_query(
            db, NULL, err,
            "update reinforce.shards s set state = 1, attempts = 0, suspect_end = 0, again_source "
            "= 3, "
            "next_offset = 0, next_index = 0, n_parts = 0, "
            "again_format = $2, again_key = o.object_key, input_samples = o.n_done "
            "from reinforce.outputs o where s.job = $1 and o.job = $1 and o.shard = s.shard",
            "is", call->job, call->format);
    if (st == ST_OK)
        st = postgres_db_query(db, NULL, err, "delete from reinforce.parts where job = $1", "i",
                               call->job);
    return st;
}

static enum status job_extend(struct catalog *c, int64_t job, const char *config_digest,
                              const char *config_json, const char *output_format, struct error *err)
{
    struct job_call call = {
        .job = job, .digest = config_digest, .config = config_json, .format = output_format};

    return postgres_db_transact(catalog_postgres_db(c), "begin", extend, &call, err);
}

static enum status leases_reset(struct catalog *c, int64_t job, struct error *err)
{
    return postgres_db_ask(
        catalog_postgres_db(c), NULL, err,
        "update reinforce.shards set state = case when state = 2 then 2 else 1 end, "
        "lease_expires = case when state = 2 then now() end, attempts = 0 "
        "where job = $1 and state in (2, 4)",
        "i", job);
}

static void set_patience(struct catalog *c, int64_t ms)
{
    catalog_postgres_db(c)->patience_ms = ms;
}

const struct catalog_ops catalog_postgres = {
    .scheme = "postgres",
    .open = open_catalog,
    .migrate = migrate,
    .schema = read_schema,
    .job_begin = job_begin,
    .job_set_state = job_set_state,
    .plan_commit = plan_commit,
    .leases_take = catalog_postgres_leases_take,
    .lease_probe = catalog_postgres_lease_probe,
    .leases_renew = catalog_postgres_leases_renew,
    .lease_release = catalog_postgres_lease_release,
    .lease_rival = catalog_postgres_lease_rival,
    .part_commit = catalog_postgres_part_commit,
    .parts = catalog_postgres_parts,
    .shard_commit = catalog_postgres_shard_commit,
    .lease_split = catalog_postgres_lease_split,
    .piece_commit = catalog_postgres_piece_commit,
    .job_extend = job_extend,
    .leases_reset = leases_reset,
    .coordinate = catalog_postgres_coordinate,
    .job_move = catalog_postgres_job_move,
    .job_set_priority = catalog_postgres_job_set_priority,
    .job_set_quota = catalog_postgres_job_set_quota,
    .job_set_rate = catalog_postgres_job_set_rate,
    .leases_extend = catalog_postgres_leases_extend,
    .shards_retry = catalog_postgres_shards_retry,
    .jobs = catalog_postgres_jobs,
    .shards = catalog_postgres_shards,
    .workers_seen = catalog_postgres_workers_seen,
    .workers = catalog_postgres_workers,
    .retry_commit = catalog_postgres_retry_commit,
    .shard_redo = catalog_postgres_shard_redo,
    .sources = catalog_postgres_sources,
    .accounts = catalog_postgres_accounts,
    .ingest_commit = catalog_postgres_ingest_commit,
    .ingest_read = catalog_postgres_ingest_read,
    .ingest_list = catalog_postgres_ingest_list,
    .ingest_pace = catalog_postgres_ingest_pace,
    .job_set_events = catalog_postgres_job_set_events,
    .outbox_claim = catalog_postgres_outbox_claim,
    .outbox_read = catalog_postgres_outbox_read,
    .outbox_remove = catalog_postgres_outbox_remove,
    .outbox_count = catalog_postgres_outbox_count,
    .job_find = job_find,
    .shard_input = catalog_postgres_shard_input,
    .progress = catalog_postgres_progress,
    .outputs = catalog_postgres_outputs,
    .reasons = catalog_postgres_reasons,
    .sample_find = catalog_postgres_sample_find,
    .samples = catalog_postgres_samples,
    .shard_samples = catalog_postgres_shard_samples,
    .set_patience = set_patience,
    .close = close_catalog,
};
