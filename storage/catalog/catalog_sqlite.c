#include "storage/catalog/catalog_sqlite.h"

#include "storage/catalog/sqlite_db.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

struct catalog_of_sqlite {
    struct catalog base;
    struct sqlite_db db;
};

enum statement {
    JOB_INSERT,
    JOB_SELECT,
    JOB_SET_STATE,
    JOB_SET_CONFIG,
    SHARD_INSERT,
    SHARD_FAIL_SPENT,
    SHARD_NEXT,
    SHARD_TAKE,
    SHARD_FIRST_EXPIRY,
    SHARD_RENEW,
    SHARD_RELEASE,
    SHARD_OF_EPOCH,
    SHARD_ADVANCE,
    SHARD_DONE,
    SHARD_EXTEND,
    SHARD_RESET,
    PART_INSERT,
    PART_SELECT,
    PART_LIST,
    PART_DELETE_ALL,
    SAMPLE_INSERT,
    SAMPLE_OF_UID,
    SAMPLE_DELETE,
    CAPTION_INSERT,
    SCORE_INSERT,
    OUTPUT_INSERT,
    OUTPUT_LIST,
    PROGRESS_SHARDS,
    PROGRESS_SAMPLES,
    PROGRESS_OUTPUTS,
    REASON_LIST,
    SAMPLE_FIND,
    SAMPLE_LIST,
    CAPTION_LIST,
    SCORE_LIST,
    N_STATEMENTS,
};

#define SAMPLE_COLUMNS "shard, sample_index, uid, state, reason, detail, stage, width, height"

static const char *const sql[N_STATEMENTS] = {
    [JOB_INSERT] = "insert or ignore into jobs (name, state, config_digest, config, created_ms) "
                   "values (?, ?, ?, ?, ?)",
    [JOB_SELECT] = "select job, state, config_digest, created_ms, config from jobs where name = ?",
    [JOB_SET_STATE] = "update jobs set state = ?2 where job = ?1",
    [JOB_SET_CONFIG] =
        "update jobs set state = 2, config_digest = ?2, config = ?3 where job = ?1 and state = 4",
    [SHARD_INSERT] =
        "insert into shards (job, shard, state, input_source, input_key, input_format, "
        "input_begin, "
        "input_end, input_etag, next_offset) values (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?6)",
    [SHARD_FAIL_SPENT] =
        "update shards set state = 4, owner = null where job = ?1 and attempts >= ?2 and "
        "(state = 1 or (state = 2 and lease_expires_ms <= ?3))",
    [SHARD_NEXT] = "select shard, epoch, state, attempts, input_source, input_key, input_format, "
                   "input_begin, input_end, "
                   "input_etag, input_samples, next_offset, next_index, n_parts from shards where "
                   "job = ?1 and "
                   "(state = 1 or (state = 2 and lease_expires_ms <= ?2)) order by shard limit 1",
    [SHARD_TAKE] =
        "update shards set state = 2, epoch = ?3, owner = ?4, lease_expires_ms = ?5, attempts = ?6 "
        "where job = ?1 and shard = ?2",
    [SHARD_FIRST_EXPIRY] = "select min(lease_expires_ms) from shards where job = ? and state = 2",
    [SHARD_RENEW] = "update shards set lease_expires_ms = ?4 where job = ?1 and shard = ?2 and "
                    "epoch = ?3 and state = 2",
    [SHARD_RELEASE] = "update shards set state = 1, owner = null, lease_expires_ms = null, "
                      "attempts = attempts + ?4, "
                      "last_error = ?5 where job = ?1 and shard = ?2 and epoch = ?3 and state = 2",
    [SHARD_OF_EPOCH] = "select n_parts, input_source from shards where job = ?1 and shard = ?2 and "
                       "epoch = ?3 and state = 2",
    [SHARD_ADVANCE] = "update shards set next_offset = ?3, next_index = ?4, n_parts = n_parts + 1 "
                      "where job = ?1 and shard = ?2",
    [SHARD_DONE] =
        "update shards set state = 3, owner = null, lease_expires_ms = null, last_error = null "
        "where job = ?1 and shard = ?2",
    [SHARD_EXTEND] = "update shards set state = 1, attempts = 0, input_source = 3, input_begin = "
                     "0, input_end = 0, "
                     "next_offset = 0, next_index = 0, n_parts = 0, input_format = ?2, "
                     "input_key = (select object_key from outputs o where o.job = shards.job and "
                     "o.shard = shards.shard), "
                     "input_samples = (select n_done from outputs o where o.job = shards.job and "
                     "o.shard = shards.shard) "
                     "where job = ?1",
    [SHARD_RESET] =
        "update shards set state = 1, owner = null, lease_expires_ms = null, attempts = 0 "
        "where job = ?1 and state in (2, 4)",
    [PART_INSERT] = "insert into parts (job, shard, part, epoch, object_key, bytes, sha256, "
                    "n_done, n_quarantined) "
                    "values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [PART_SELECT] = "select epoch, sha256 from parts where job = ? and shard = ? and part = ?",
    [PART_LIST] = "select part, epoch, object_key, bytes, sha256, n_done, n_quarantined from parts "
                  "where job = ? and shard = ? order by part",
    [PART_DELETE_ALL] = "delete from parts where job = ?",
    [SAMPLE_INSERT] = "insert into samples (job, shard, sample_index, uid, state, stage, reason, "
                      "detail, width, height) "
                      "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [SAMPLE_OF_UID] =
        "select sample_index from samples where job = ? and uid = ? and shard = ? and state = 1",
    [SAMPLE_DELETE] = "delete from samples where job = ? and shard = ? and sample_index = ?",
    [CAPTION_INSERT] =
        "insert into captions (job, shard, sample_index, column_name, caption_index, caption, "
        "log_probability) values (?, ?, ?, ?, ?, ?, ?) on conflict do nothing",
    [SCORE_INSERT] =
        "insert into scores (job, shard, sample_index, column_name, caption_index, "
        "teacher, cosine) "
        "values (?, ?, ?, ?, ?, ?, ?) on conflict do update set cosine = excluded.cosine",
    [OUTPUT_INSERT] = "insert or replace into outputs (job, shard, object_key, bytes, sha256, "
                      "n_done, n_quarantined) "
                      "values (?1, ?2, ?3, ?4, ?5, "
                      "(select count(*) from samples where job = ?1 and shard = ?2 and state = 1), "
                      "(select count(*) from samples where job = ?1 and shard = ?2 and state = 2))",
    [OUTPUT_LIST] =
        "select shard, object_key, bytes, sha256, n_done, n_quarantined from outputs where job = ? "
        "order by shard",
    [PROGRESS_SHARDS] = "select state, count(*) from shards where job = ? group by state",
    [PROGRESS_SAMPLES] = "select state, count(*) from samples where job = ? group by state",
    [PROGRESS_OUTPUTS] =
        "select coalesce(sum(o.bytes), 0), coalesce(sum(o.n_done + o.n_quarantined), 0) from "
        "outputs o "
        "join shards s on s.job = o.job and s.shard = o.shard where o.job = ? and s.state = 3",
    [REASON_LIST] = "select reason, stage, count(*) from samples where job = ? and state = 2 "
                    "group by reason, stage order by count(*) desc, reason, stage",
    [SAMPLE_FIND] = "select " SAMPLE_COLUMNS
                    " from samples where job = ? and uid = ? order by shard, sample_index",
    [SAMPLE_LIST] =
        "select " SAMPLE_COLUMNS " from samples where job = ? order by shard, sample_index",
    [CAPTION_LIST] =
        "select column_name, caption_index, caption, log_probability from captions "
        "where job = ? and shard = ? and sample_index = ? order by column_name, caption_index",
    [SCORE_LIST] = "select teacher, column_name, caption_index, cosine from scores "
                   "where job = ? and shard = ? and sample_index = ? order by column_name, "
                   "caption_index, teacher",
};

_Static_assert((int)N_STATEMENTS <= (int)SQLITE_DB_MAX_STATEMENTS, "room for every statement");

static struct sqlite_db *db_of(struct catalog *c)
{
    return &CONTAINER_OF(c, struct catalog_of_sqlite, base)->db;
}

static const char *column_text(sqlite3_stmt *statement, int i)
{
    return (const char *)sqlite3_column_text(statement, i);
}

static enum status copy_column(sqlite3_stmt *statement, int i, struct arena *arena,
                               const char **out, struct error *err)
{
    const char *text = column_text(statement, i);
    char *copy;
    enum status st =
        arena_strndup(arena, text != NULL ? text : "", text != NULL ? strlen(text) : 0, &copy, err);

    *out = copy;
    return st;
}

static void copy_fixed(sqlite3_stmt *statement, int i, char *to, size_t capacity)
{
    const char *text = column_text(statement, i);

    (void)snprintf(to, capacity, "%s", text != NULL ? text : "");
}

static void sqlite_close(struct catalog *c)
{
    struct catalog_of_sqlite *own = CONTAINER_OF(c, struct catalog_of_sqlite, base);

    sqlite_db_close(&own->db);
    free(own);
}

static enum status sqlite_open(const char *url, struct catalog **out, struct error *err)
{
    struct catalog_of_sqlite *own = calloc(1, sizeof *own);
    enum status st;

    if (own == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a catalog");
    own->base.ops = &catalog_sqlite;
    st = sqlite_db_open(url, sql, &own->db, err);
    if (st != ST_OK) {
        free(own);
        return st;
    }
    *out = &own->base;
    return ST_OK;
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
    copy_fixed(statement, 2, job->config_digest, sizeof job->config_digest);
    job->created_ms = sqlite3_column_int64(statement, 3);
    st = copy_column(statement, 4, arena, config, err);
    (void)sqlite3_reset(statement);
    return st;
}

static enum status sqlite_job_begin(struct catalog *c, const char *name, const char *config_digest,
                                    const char *config_json, int64_t now_ms, struct arena *arena,
                                    struct catalog_job *job, const char **stored_config,
                                    struct error *err)
{
    struct sqlite_db *db = db_of(c);
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
    enum status st = select_job(db_of(c), name, arena, job, config_json, err);

    return st == ST_END ? error_set(err, ST_NOT_FOUND, "catalog \"%s\" has no job \"%s\"",
                                    db_of(c)->path, name)
                        : st;
}

static enum status sqlite_job_set_state(struct catalog *c, int64_t job,
                                        enum catalog_job_state state, struct error *err)
{
    return sqlite_db_run(db_of(c), JOB_SET_STATE, NULL, err, "ii", job, (int64_t)state);
}

static enum status sqlite_plan_commit(struct catalog *c, int64_t job,
                                      const struct catalog_shard_plan *shards, size_t n_shards,
                                      struct error *err)
{
    struct sqlite_db *db = db_of(c);
    enum status st = sqlite_db_begin(db, err);

    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < n_shards && st == ST_OK; i++) {
        const struct catalog_shard_plan *s = &shards[i];

        st =
            sqlite_db_run(db, SHARD_INSERT, NULL, err, "iiissiis", job, s->shard,
                          s->input_is_plan ? (int64_t)2 : (int64_t)1, s->input_key, s->input_format,
                          (int64_t)s->input_begin, (int64_t)s->input_end, s->input_etag);
        if (st == ST_INTERNAL && (sqlite3_errcode(db->handle) & 0xff) == SQLITE_CONSTRAINT)
            st = error_set(err, ST_CONFLICT, "job %" PRId64 " is planned already", job);
    }
    if (st == ST_OK)
        st = sqlite_db_run(db, JOB_SET_STATE, NULL, err, "ii", job, (int64_t)CATALOG_JOB_RUNNING);
    return sqlite_db_end(db, st, err);
}

/* Reads SHARD_NEXT's row; *expired says whether a lease was out. */
static enum status read_lease(sqlite3_stmt *row, struct arena *arena, struct catalog_lease *lease,
                              bool *expired, struct error *err)
{
    int64_t source = sqlite3_column_int64(row, 4);
    enum status st = copy_column(row, 5, arena, &lease->plan.input_key, err);

    if (st == ST_OK)
        st = copy_column(row, 6, arena, &lease->plan.input_format, err);
    lease->shard = lease->plan.shard = sqlite3_column_int64(row, 0);
    lease->epoch = sqlite3_column_int64(row, 1) + 1;
    *expired = sqlite3_column_int(row, 2) == CATALOG_SHARD_LEASED;
    lease->attempts = sqlite3_column_int(row, 3) + *expired;
    lease->plan.input_is_plan = source == 2;
    lease->plan.input_is_previous = source == 3;
    lease->plan.input_begin = (uint64_t)sqlite3_column_int64(row, 7);
    lease->plan.input_end = (uint64_t)sqlite3_column_int64(row, 8);
    copy_fixed(row, 9, lease->plan.input_etag, sizeof lease->plan.input_etag);
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
    struct sqlite_db *db = db_of(c);
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
    enum status st = sqlite_db_run(db_of(c), SHARD_RENEW, &n, err, "iiii", lease->job, lease->shard,
                                   lease->epoch, now_ms + lease_ms);

    return st == ST_OK && n == 0 ? fenced(lease, err) : st;
}

static enum status sqlite_lease_release(struct catalog *c, const struct catalog_lease *lease,
                                        bool failed, const char *why, struct error *err)
{
    int64_t n;
    enum status st =
        sqlite_db_run(db_of(c), SHARD_RELEASE, &n, err, "iiiis", lease->job, lease->shard,
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
               strcmp(column_text(statement, 1), part->written.sha256) == 0;
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
    struct sqlite_db *db = db_of(c);
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

static enum status sqlite_parts(struct catalog *c, int64_t job, int64_t shard, struct arena *arena,
                                struct catalog_part_row **rows, size_t *n_rows, struct error *err)
{
    struct sqlite_db *db = db_of(c);
    size_t capacity = 0;
    sqlite3_stmt *statement;
    enum status st = sqlite_db_prepare(db, PART_LIST, &statement, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, statement, err, "ii", job, shard);
    while (st == ST_OK && (st = sqlite_db_step(db, statement, err)) == ST_OK) {
        struct catalog_part_row *row;

        if (*n_rows == capacity) {
            struct catalog_part_row *grown;

            capacity = MAX(capacity * 2, (size_t)16);
            st = arena_calloc(arena, capacity, sizeof *grown, &grown, err);
            if (st != ST_OK)
                break;
            if (*n_rows > 0)
                memcpy(grown, *rows, *n_rows * sizeof *grown);
            *rows = grown;
        }
        row = &(*rows)[(*n_rows)++];
        row->part = sqlite3_column_int64(statement, 0);
        row->epoch = sqlite3_column_int64(statement, 1);
        row->bytes = (uint64_t)sqlite3_column_int64(statement, 3);
        copy_fixed(statement, 4, row->sha256, sizeof row->sha256);
        row->n_done = sqlite3_column_int64(statement, 5);
        row->n_quarantined = sqlite3_column_int64(statement, 6);
        st = copy_column(statement, 2, arena, &row->object_key, err);
    }
    (void)sqlite3_reset(statement);
    return st == ST_END ? ST_OK : st;
}

static enum status sqlite_shard_commit(struct catalog *c, const struct catalog_lease *lease,
                                       const char *object_key, const struct object_written *written,
                                       struct error *err)
{
    struct sqlite_db *db = db_of(c);
    int64_t n_parts;
    bool previous;
    enum status st = sqlite_db_begin(db, err);

    if (st != ST_OK)
        return st;
    st = check_epoch(db, lease, &n_parts, &previous, err);
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
    struct sqlite_db *db = db_of(c);
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
    return sqlite_db_run(db_of(c), SHARD_RESET, NULL, err, "i", job);
}

static void count_shards(struct catalog_progress *progress, enum catalog_shard_state state,
                         int64_t n)
{
    progress->shards_total += n;
    if (state == CATALOG_SHARD_DONE)
        progress->shards_done = n;
    else if (state == CATALOG_SHARD_LEASED)
        progress->shards_leased = n;
    else if (state == CATALOG_SHARD_FAILED)
        progress->shards_failed = n;
}

static enum status sqlite_progress(struct catalog *c, int64_t job,
                                   struct catalog_progress *progress, struct error *err)
{
    static const int numbers[] = {PROGRESS_SHARDS, PROGRESS_SAMPLES, PROGRESS_OUTPUTS};
    struct sqlite_db *db = db_of(c);
    enum status st = ST_OK;

    for (size_t i = 0; i < ARRAY_LEN(numbers) && st == ST_OK; i++) {
        sqlite3_stmt *statement;

        st = sqlite_db_prepare(db, numbers[i], &statement, err);
        if (st == ST_OK)
            st = sqlite_db_bind(db, statement, err, "i", job);
        while (st == ST_OK && (st = sqlite_db_step(db, statement, err)) == ST_OK) {
            int64_t a = sqlite3_column_int64(statement, 0), b = sqlite3_column_int64(statement, 1);

            if (numbers[i] == PROGRESS_SHARDS) {
                count_shards(progress, (enum catalog_shard_state)a, b);
            } else if (numbers[i] == PROGRESS_SAMPLES) {
                *(a == CATALOG_SAMPLE_DONE ? &progress->samples_done
                                           : &progress->samples_quarantined) = b;
            } else {
                progress->bytes_written = (uint64_t)a;
                progress->samples_in_done_shards = b;
            }
        }
        if (st == ST_END)
            st = ST_OK;
    }
    return st;
}

static enum status sqlite_outputs(struct catalog *c, int64_t job, catalog_output_fn *each,
                                  void *ctx, struct error *err)
{
    struct sqlite_db *db = db_of(c);
    sqlite3_stmt *statement;
    enum status st = sqlite_db_prepare(db, OUTPUT_LIST, &statement, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, statement, err, "i", job);
    while (st == ST_OK && (st = sqlite_db_step(db, statement, err)) == ST_OK) {
        struct catalog_output output = {.shard = sqlite3_column_int64(statement, 0),
                                        .object_key = column_text(statement, 1),
                                        .bytes = (uint64_t)sqlite3_column_int64(statement, 2),
                                        .n_done = sqlite3_column_int64(statement, 4),
                                        .n_quarantined = sqlite3_column_int64(statement, 5)};

        copy_fixed(statement, 3, output.sha256, sizeof output.sha256);
        st = each(ctx, &output, err);
    }
    (void)sqlite3_reset(statement);
    return st == ST_END ? ST_OK : st;
}

static enum status sqlite_reasons(struct catalog *c, int64_t job, catalog_reason_fn *each,
                                  void *ctx, struct error *err)
{
    struct sqlite_db *db = db_of(c);
    sqlite3_stmt *statement;
    enum status st = sqlite_db_prepare(db, REASON_LIST, &statement, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, statement, err, "i", job);
    while (st == ST_OK && (st = sqlite_db_step(db, statement, err)) == ST_OK)
        st = each(ctx, column_text(statement, 0), column_text(statement, 1),
                  sqlite3_column_int64(statement, 2), err);
    (void)sqlite3_reset(statement);
    return st == ST_END ? ST_OK : st;
}

static struct bytes_view column_view(sqlite3_stmt *statement, int i)
{
    const void *text = sqlite3_column_text(statement, i);

    return bytes_view_of(text, (size_t)sqlite3_column_bytes(statement, i));
}

static void read_sample(sqlite3_stmt *row, int64_t *shard, struct catalog_sample *sample)
{
    memset(sample, 0, sizeof *sample);
    *shard = sqlite3_column_int64(row, 0);
    sample->index = sqlite3_column_int64(row, 1);
    sample->uid = column_view(row, 2);
    sample->state = (enum catalog_sample_state)sqlite3_column_int(row, 3);
    sample->reason = column_text(row, 4);
    sample->detail = column_text(row, 5);
    sample->stage = column_text(row, 6);
    sample->width = sqlite3_column_int(row, 7);
    sample->height = sqlite3_column_int(row, 8);
}

/* Grows an array in the arena by one zeroed element. */
static enum status grow(struct arena *arena, void **array, size_t n, size_t size, struct error *err)
{
    void *grown;
    enum status st;

    if ((n & (n - 1)) != 0 && n != 0) /* room up to the next power of two */
        return ST_OK;
    st = arena_calloc(arena, MAX(n * 2, (size_t)1), size, &grown, err);
    if (st == ST_OK && n > 0)
        memcpy(grown, *array, n * size);
    if (st == ST_OK)
        *array = grown;
    return st;
}

static enum status read_captions(struct sqlite_db *db, int64_t job, int64_t shard,
                                 struct arena *arena, struct catalog_sample *sample,
                                 struct error *err)
{
    sqlite3_stmt *row;
    void *list = NULL;
    size_t n = 0;
    enum status st = sqlite_db_prepare(db, CAPTION_LIST, &row, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, row, err, "iii", job, shard, sample->index);
    while (st == ST_OK && (st = sqlite_db_step(db, row, err)) == ST_OK) {
        struct catalog_caption caption = {.index = sqlite3_column_int(row, 1),
                                          .score = sqlite3_column_type(row, 3) == SQLITE_NULL
                                                       ? (double)NAN
                                                       : sqlite3_column_double(row, 3)};
        const char *text;

        st = copy_column(row, 0, arena, &caption.column, err);
        if (st == ST_OK)
            st = copy_column(row, 2, arena, &text, err);
        if (st == ST_OK)
            st = grow(arena, &list, n, sizeof caption, err);
        if (st == ST_OK) {
            caption.text = bytes_view_of(text, (size_t)sqlite3_column_bytes(row, 2));
            ((struct catalog_caption *)list)[n++] = caption;
        }
    }
    (void)sqlite3_reset(row);
    sample->captions = list;
    sample->n_captions = n;
    return st == ST_END ? ST_OK : st;
}

static enum status read_scores(struct sqlite_db *db, int64_t job, int64_t shard,
                               struct arena *arena, struct catalog_sample *sample,
                               struct error *err)
{
    sqlite3_stmt *row;
    void *list = NULL;
    size_t n = 0;
    enum status st = sqlite_db_prepare(db, SCORE_LIST, &row, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, row, err, "iii", job, shard, sample->index);
    while (st == ST_OK && (st = sqlite_db_step(db, row, err)) == ST_OK) {
        struct catalog_score score = {.index = sqlite3_column_int(row, 2),
                                      .value = sqlite3_column_double(row, 3)};

        st = copy_column(row, 0, arena, &score.teacher, err);
        if (st == ST_OK)
            st = copy_column(row, 1, arena, &score.column, err);
        if (st == ST_OK)
            st = grow(arena, &list, n, sizeof score, err);
        if (st == ST_OK)
            ((struct catalog_score *)list)[n++] = score;
    }
    (void)sqlite3_reset(row);
    sample->scores = list;
    sample->n_scores = n;
    return st == ST_END ? ST_OK : st;
}

static enum status sqlite_sample_find(struct catalog *c, int64_t job, struct bytes_view uid,
                                      catalog_sample_fn *each, void *ctx, struct error *err)
{
    struct sqlite_db *db = db_of(c);
    struct arena arena;
    sqlite3_stmt *row;
    size_t n = 0;
    enum status st = sqlite_db_prepare(db, SAMPLE_FIND, &row, err);

    arena_init(&arena, (size_t)1 << 30);
    if (st == ST_OK)
        st = sqlite_db_bind(db, row, err, "ib", job, &uid);
    while (st == ST_OK && (st = sqlite_db_step(db, row, err)) == ST_OK) {
        struct catalog_sample sample;
        int64_t shard;

        read_sample(row, &shard, &sample);
        arena_reset(&arena);
        st = read_captions(db, job, shard, &arena, &sample, err);
        if (st == ST_OK)
            st = read_scores(db, job, shard, &arena, &sample, err);
        if (st == ST_OK)
            st = each(ctx, shard, &sample, err);
        n++;
    }
    (void)sqlite3_reset(row);
    arena_release(&arena);
    if (st == ST_END)
        st = n > 0 ? ST_OK
                   : error_set(err, ST_NOT_FOUND, "no sample \"%.*s\"", (int)uid.len,
                               (const char *)uid.data);
    return st;
}

static enum status sqlite_samples(struct catalog *c, int64_t job, catalog_sample_fn *each,
                                  void *ctx, struct error *err)
{
    struct sqlite_db *db = db_of(c);
    sqlite3_stmt *row;
    enum status st = sqlite_db_prepare(db, SAMPLE_LIST, &row, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, row, err, "i", job);
    while (st == ST_OK && (st = sqlite_db_step(db, row, err)) == ST_OK) {
        struct catalog_sample sample;
        int64_t shard;

        read_sample(row, &shard, &sample);
        st = each(ctx, shard, &sample, err);
    }
    (void)sqlite3_reset(row);
    return st == ST_END ? ST_OK : st;
}

const struct catalog_ops catalog_sqlite = {
    .scheme = "sqlite",
    .open = sqlite_open,
    .job_begin = sqlite_job_begin,
    .job_set_state = sqlite_job_set_state,
    .plan_commit = sqlite_plan_commit,
    .lease_take = sqlite_lease_take,
    .lease_renew = sqlite_lease_renew,
    .lease_release = sqlite_lease_release,
    .part_commit = sqlite_part_commit,
    .parts = sqlite_parts,
    .shard_commit = sqlite_shard_commit,
    .job_extend = sqlite_job_extend,
    .leases_reset = sqlite_leases_reset,
    .job_find = sqlite_job_find,
    .progress = sqlite_progress,
    .outputs = sqlite_outputs,
    .reasons = sqlite_reasons,
    .sample_find = sqlite_sample_find,
    .samples = sqlite_samples,
    .close = sqlite_close,
};
