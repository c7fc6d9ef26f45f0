#include "storage/catalog/catalog_sqlite.h"

#include "storage/catalog/catalog_sqlite_jobs.h"
#include "storage/catalog/catalog_sqlite_read.h"
#include "storage/catalog/migrations.h"
#include "storage/catalog/sqlite_rows.h"

#include <inttypes.h>
#include <stdlib.h>

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

static enum status sqlite_plan_commit(struct catalog *c, int64_t job,
                                      const struct catalog_shard_plan *shards, size_t n_shards,
                                      struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    int64_t n_started = 0;
    enum status st = sqlite_db_begin(db, err);

    if (st != ST_OK)
        return st;
    st = sqlite_db_run(db, JOB_START, &n_started, err, "i", job);
    if (st == ST_OK && n_started == 0)
        st = error_set(err, ST_CONFLICT, "job %" PRId64 " is planned already", job);
    for (size_t i = 0; i < n_shards && st == ST_OK; i++) {
        const struct catalog_shard_plan *s = &shards[i];

        st =
            sqlite_db_run(db, SHARD_INSERT, NULL, err, "iiissiis", job, s->shard,
                          s->input_is_plan ? (int64_t)2 : (int64_t)1, s->input_key, s->input_format,
                          (int64_t)s->input_begin, (int64_t)s->input_end, s->input_etag);
    }
    return sqlite_db_end(db, st, err);
}

/* Reads SHARD_NEXT's row; *expired says whether a lease was out. */
static enum status read_lease(sqlite3_stmt *row, struct arena *arena, struct catalog_lease *lease,
                              bool *expired, struct error *err)
{
    int64_t source = sqlite3_column_int64(row, 4);
    enum status st = sqlite_rows_copy(row, 5, arena, &lease->plan.input_key, err);

    if (st == ST_OK)
        st = sqlite_rows_copy(row, 6, arena, &lease->plan.input_format, err);
    lease->shard = lease->plan.shard = sqlite3_column_int64(row, 0);
    lease->epoch = sqlite3_column_int64(row, 1) + 1;
    *expired = sqlite3_column_int(row, 2) == CATALOG_SHARD_LEASED;
    lease->attempts = sqlite3_column_int(row, 3) + *expired;
    lease->plan.input_is_plan = source == 2;
    lease->plan.input_is_previous = source == 3;
    lease->plan.input_begin = (uint64_t)sqlite3_column_int64(row, 7);
    lease->plan.input_end = (uint64_t)sqlite3_column_int64(row, 8);
    sqlite_rows_copy_fixed(row, 9, lease->plan.input_etag, sizeof lease->plan.input_etag);
    lease->plan.input_samples = sqlite3_column_int64(row, 10);
    lease->next_offset = (uint64_t)sqlite3_column_int64(row, 11);
    lease->next_index = (uint64_t)sqlite3_column_int64(row, 12);
    lease->n_parts = sqlite3_column_int64(row, 13);
    (void)sqlite3_reset(row);
    return st;
}

/* Nothing to take: how long until there may be; -1: never. */
static enum status first_expiry(struct sqlite_db *db, int64_t job, int64_t now_ms, int64_t *wait_ms,
                                struct error *err)
{
    sqlite3_stmt *statement;
    enum status st = sqlite_db_prepare(db, SHARD_FIRST_EXPIRY, &statement, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, statement, err, "i", job);
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

static enum status take_next(struct sqlite_db *db, int64_t job, const char *owner, int64_t now_ms,
                             int64_t lease_ms, struct arena *arena, struct catalog_lease *lease,
                             struct error *err)
{
    sqlite3_stmt *statement;
    bool expired;
    enum status st = sqlite_db_prepare(db, SHARD_NEXT, &statement, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, statement, err, "ii", job, now_ms);
    if (st == ST_OK)
        st = sqlite_db_step(db, statement, err);
    if (st == ST_OK)
        st = read_lease(statement, arena, lease, &expired, err);
    if (st != ST_OK)
        return st;
    lease->job = job;
    lease->expires_ms = now_ms + lease_ms;
    return sqlite_db_run(db, SHARD_TAKE, NULL, err, "iiisii", job, lease->shard, lease->epoch,
                         owner, lease->expires_ms, (int64_t)lease->attempts);
}

static enum status sqlite_lease_take(struct catalog *c, int64_t job, const char *owner,
                                     int64_t now_ms, int64_t lease_ms, int max_attempts,
                                     struct arena *arena, struct catalog_lease *lease,
                                     int64_t *wait_ms, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    bool none = false;
    enum status st = sqlite_db_begin(db, err);

    if (st != ST_OK)
        return st;
    st = sqlite_db_run(db, SHARD_FAIL_SPENT, NULL, err, "iii", job, (int64_t)max_attempts, now_ms);
    if (st == ST_OK)
        st = take_next(db, job, owner, now_ms, lease_ms, arena, lease, err);
    if (st == ST_END) {
        none = true;
        st = first_expiry(db, job, now_ms, wait_ms, err);
    }
    st = sqlite_db_end(db, st, err);
    return st == ST_OK && none ? error_set(err, ST_NOT_FOUND, "no shard is ready") : st;
}

static enum status fenced(const struct catalog_lease *lease, struct error *err)
{
    return error_set(err, ST_CONFLICT,
                     "the lease of shard %" PRId64 " at epoch %" PRId64 " is no longer ours",
                     lease->shard, lease->epoch);
}

static enum status sqlite_lease_renew(struct catalog *c, const struct catalog_lease *lease,
                                      int64_t now_ms, int64_t lease_ms, struct error *err)
{
    int64_t n;
    enum status st = sqlite_db_run(sqlite_rows_db(c), SHARD_RENEW, &n, err, "iiii", lease->job,
                                   lease->shard, lease->epoch, now_ms + lease_ms);

    return st == ST_OK && n == 0 ? fenced(lease, err) : st;
}

static enum status sqlite_lease_release(struct catalog *c, const struct catalog_lease *lease,
                                        bool failed, const char *why, struct error *err)
{
    int64_t n;
    enum status st =
        sqlite_db_run(sqlite_rows_db(c), SHARD_RELEASE, &n, err, "iiiis", lease->job, lease->shard,
                      lease->epoch, (int64_t)failed, failed ? why : NULL);

    return st == ST_OK && n == 0 ? fenced(lease, err) : st;
}

/* Under the lease's epoch, inside a transaction. ST_CONFLICT: fenced off. */
static enum status check_epoch(struct sqlite_db *db, const struct catalog_lease *lease,
                               int64_t *n_parts, bool *previous, struct error *err)
{
    sqlite3_stmt *statement;
    enum status st = sqlite_db_prepare(db, SHARD_OF_EPOCH, &statement, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, statement, err, "iii", lease->job, lease->shard, lease->epoch);
    if (st == ST_OK)
        st = sqlite_db_step(db, statement, err);
    if (st == ST_END)
        return fenced(lease, err);
    if (st != ST_OK)
        return st;
    *n_parts = sqlite3_column_int64(statement, 0);
    *previous = sqlite3_column_int64(statement, 1) == 3;
    (void)sqlite3_reset(statement);
    return ST_OK;
}

/* A sample of an extended shard keeps the place it had in the first input: it is found by uid. */
static enum status find_previous(struct sqlite_db *db, const struct catalog_lease *lease,
                                 const struct catalog_sample *sample, int64_t *index,
                                 struct error *err)
{
    sqlite3_stmt *statement;
    enum status st = sqlite_db_prepare(db, SAMPLE_OF_UID, &statement, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, statement, err, "ibi", lease->job, &sample->uid, lease->shard);
    if (st == ST_OK)
        st = sqlite_db_step(db, statement, err);
    if (st == ST_END)
        return error_set(err, ST_CORRUPT,
                         "sample \"%.*s\" of the previous output is not in the catalog",
                         (int)sample->uid.len, (const char *)sample->uid.data);
    if (st != ST_OK)
        return st;
    *index = sqlite3_column_int64(statement, 0);
    (void)sqlite3_reset(statement);
    return ST_OK;
}

static enum status insert_sample(struct sqlite_db *db, const struct catalog_lease *lease,
                                 const struct catalog_sample *s, bool previous, struct error *err)
{
    int64_t index = s->index;
    bool keep = previous && s->state == CATALOG_SAMPLE_DONE; /* rows are added to what is there */
    enum status st = previous ? find_previous(db, lease, s, &index, err) : ST_OK;

    if (st == ST_OK && previous && !keep)
        st = sqlite_db_run(db, SAMPLE_DELETE, NULL, err, "iii", lease->job, lease->shard, index);
    if (st == ST_OK && !keep)
        st = sqlite_db_run(db, SAMPLE_INSERT, NULL, err, "iiibisssii", lease->job, lease->shard,
                           index, &s->uid, (int64_t)s->state, s->stage, s->reason, s->detail,
                           (int64_t)s->width, (int64_t)s->height);
    for (size_t i = 0; i < s->n_captions && st == ST_OK; i++)
        st = sqlite_db_run(db, CAPTION_INSERT, NULL, err, "iiisibr", lease->job, lease->shard,
                           index, s->captions[i].column, (int64_t)s->captions[i].index,
                           &s->captions[i].text, s->captions[i].score);
    for (size_t i = 0; i < s->n_scores && st == ST_OK; i++)
        st = sqlite_db_run(db, SCORE_INSERT, NULL, err, "iiisisr", lease->job, lease->shard, index,
                           s->scores[i].column, (int64_t)s->scores[i].index, s->scores[i].teacher,
                           s->scores[i].value);
    return st;
}

/* A part that is there already: ours, committed by a call whose answer was lost, or somebody
 * else's. */
static enum status check_repeat(struct sqlite_db *db, const struct catalog_lease *lease,
                                const struct catalog_part *part, struct error *err)
{
    sqlite3_stmt *statement;
    bool same = false;
    enum status st = sqlite_db_prepare(db, PART_SELECT, &statement, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, statement, err, "iii", lease->job, lease->shard, lease->n_parts);
    if (st == ST_OK)
        st = sqlite_db_step(db, statement, err);
    if (st == ST_OK) {
        same = sqlite3_column_int64(statement, 0) == lease->epoch &&
               strcmp(sqlite_rows_text(statement, 1), part->written.sha256) == 0;
        (void)sqlite3_reset(statement);
    }
    if (st == ST_OK || st == ST_END)
        st = same ? ST_OK
                  : error_set(err, ST_CONFLICT, "shard %" PRId64 " is not at part %" PRId64,
                              lease->shard, lease->n_parts);
    return st;
}

static enum status insert_part(struct sqlite_db *db, const struct catalog_lease *lease,
                               const struct catalog_part *part, bool previous, struct error *err)
{
    int64_t n_done = 0;
    enum status st = ST_OK;

    for (size_t i = 0; i < part->n_samples && st == ST_OK; i++) {
        n_done += part->samples[i].state == CATALOG_SAMPLE_DONE;
        st = insert_sample(db, lease, &part->samples[i], previous, err);
    }
    if (st == ST_OK)
        st = sqlite_db_run(db, PART_INSERT, NULL, err, "iiiisisii", lease->job, lease->shard,
                           lease->n_parts, lease->epoch, part->object_key,
                           (int64_t)part->written.bytes, part->written.sha256, n_done,
                           (int64_t)part->n_samples - n_done);
    if (st == ST_OK)
        st = sqlite_db_run(db, SHARD_ADVANCE, NULL, err, "iiii", lease->job, lease->shard,
                           (int64_t)part->next_offset, (int64_t)part->next_index);
    return st;
}

static enum status sqlite_part_commit(struct catalog *c, const struct catalog_lease *lease,
                                      const struct catalog_part *part, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    int64_t n_parts;
    bool previous;
    enum status st = sqlite_db_begin(db, err);

    if (st != ST_OK)
        return st;
    st = check_epoch(db, lease, &n_parts, &previous, err);
    if (st == ST_OK)
        st = n_parts == lease->n_parts ? insert_part(db, lease, part, previous, err)
                                       : check_repeat(db, lease, part, err);
    return sqlite_db_end(db, st, err);
}

/* A shard that is done: by this lease with these bytes, the answer to which was lost, or not. */
static enum status check_done(struct sqlite_db *db, const struct catalog_lease *lease,
                              const struct object_written *written, struct error *err)
{
    sqlite3_stmt *statement;
    enum status st = sqlite_db_prepare(db, OUTPUT_OF_EPOCH, &statement, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, statement, err, "iiis", lease->job, lease->shard, lease->epoch,
                            written->sha256);
    if (st == ST_OK)
        st = sqlite_db_step(db, statement, err);
    if (st == ST_OK)
        (void)sqlite3_reset(statement);
    return st == ST_END ? fenced(lease, err) : st;
}

static enum status sqlite_shard_commit(struct catalog *c, const struct catalog_lease *lease,
                                       const char *object_key, const struct object_written *written,
                                       struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    int64_t n_parts;
    bool previous;
    enum status st = sqlite_db_begin(db, err);

    if (st != ST_OK)
        return st;
    st = check_epoch(db, lease, &n_parts, &previous, err);
    if (st == ST_CONFLICT)
        return sqlite_db_end(db, check_done(db, lease, written, err), err);
    if (st == ST_OK)
        st = sqlite_db_run(db, OUTPUT_INSERT, NULL, err, "iisis", lease->job, lease->shard,
                           object_key, (int64_t)written->bytes, written->sha256);
    if (st == ST_OK)
        st = sqlite_db_run(db, SHARD_DONE, NULL, err, "ii", lease->job, lease->shard);
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
    .lease_take = sqlite_lease_take,
    .lease_renew = sqlite_lease_renew,
    .lease_release = sqlite_lease_release,
    .part_commit = sqlite_part_commit,
    .parts = catalog_sqlite_parts,
    .shard_commit = sqlite_shard_commit,
    .job_extend = sqlite_job_extend,
    .leases_reset = sqlite_leases_reset,
    .coordinate = catalog_sqlite_coordinate,
    .job_move = catalog_sqlite_job_move,
    .job_set_priority = catalog_sqlite_job_set_priority,
    .job_set_rate = catalog_sqlite_job_set_rate,
    .leases_extend = catalog_sqlite_leases_extend,
    .shards_retry = catalog_sqlite_shards_retry,
    .jobs = catalog_sqlite_jobs,
    .shards = catalog_sqlite_shards,
    .job_find = sqlite_job_find,
    .progress = catalog_sqlite_progress,
    .outputs = catalog_sqlite_outputs,
    .reasons = catalog_sqlite_reasons,
    .sample_find = catalog_sqlite_sample_find,
    .samples = catalog_sqlite_samples,
    .close = sqlite_close,
};
