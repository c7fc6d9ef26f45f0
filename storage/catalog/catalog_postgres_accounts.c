/* Accounts, retries and shards that are made again. */
#include "storage/catalog/catalog_postgres_slots.h"
#include "storage/catalog/postgres_copy.h"

#include <inttypes.h>
#include <stdio.h>

/* Arguments of the slots, for work that may be done again. */
struct accounts_call {
    int64_t job, shard, n_samples;
    const char *list_key;
    const struct catalog_shard_plan *shards;
    size_t n_shards;
    const struct catalog_retry *retries;
    size_t n_retries;
};

/* Whether shard `shard` is there with this input: a try whose answer was lost had made it. */
static enum status is_there(struct postgres_db *db, const struct accounts_call *call, bool *found,
                            struct error *err)
{
    PGresult *row;
    enum status st = postgres_db_query(
        db, &row, err,
        "select 1 from reinforce.shards where job = $1 and shard = $2 and input_key = $3", "iis",
        call->job, call->shards[0].shard, call->shards[0].input_key);

    *found = st == ST_OK && PQntuples(row) == 1;
    PQclear(row);
    return st;
}

/* Shards are numbered without gaps: the next one has the number that was planned for. */
static enum status check_next_shard(struct postgres_db *db, const struct accounts_call *call,
                                    struct error *err)
{
    PGresult *row;
    int64_t next = 0;
    enum status st = postgres_db_query(
        db, &row, err, "select coalesce(max(shard) + 1, 0) from reinforce.shards where job = $1",
        "i", call->job);

    if (st == ST_OK)
        next = postgres_db_int(row, 0, 0);
    PQclear(row);
    if (st == ST_OK && next != call->shards[0].shard)
        st = error_set(err, ST_CONFLICT, "the next shard is %" PRId64 " by now, not %" PRId64, next,
                       call->shards[0].shard);
    return st;
}

static enum status copy_retry_shards(struct postgres_db *db, const struct accounts_call *call,
                                     struct error *err)
{
    struct postgres_copy copy;
    enum status st = postgres_copy_begin(
        db,
        "copy reinforce.shards (job, shard, state, input_source, input_key, input_format, "
        "input_begin, input_end, input_etag) from stdin (format binary)",
        &copy, err);

    for (size_t i = 0; i < call->n_shards && st == ST_OK; i++) {
        const struct catalog_shard_plan *s = &call->shards[i];

        st = postgres_copy_row(&copy, "an input's name", err, "iihhssiis", call->job, s->shard,
                               (int)CATALOG_SHARD_READY, (int)s->source, s->input_key,
                               s->input_format, (int64_t)0, (int64_t)0, s->input_etag);
    }
    return postgres_copy_end(&copy, st, err);
}

static enum status copy_retries(struct postgres_db *db, const struct accounts_call *call,
                                struct error *err)
{
    struct postgres_copy copy;
    enum status st = postgres_copy_begin(
        db,
        "copy reinforce.retries (job, shard, sample_index, old_shard, old_index, source_shard, "
        "source_index) from stdin (format binary)",
        &copy, err);

    for (size_t i = 0; i < call->n_retries && st == ST_OK; i++) {
        const struct catalog_retry *r = &call->retries[i];

        st = postgres_copy_row(&copy, "a retry", err, "iiiiiii", call->job, r->shard, r->index,
                               r->old_shard, r->old_index, r->source_shard, r->source_index);
    }
    return postgres_copy_end(&copy, st, err);
}

static enum status commit_retry(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    const struct accounts_call *call = ctx;
    bool found = false;
    enum status st = catalog_postgres_job_reopen(db, call->job, err);

    if (st == ST_OK && repeated)
        st = is_there(db, call, &found, err);
    if (st != ST_OK || found)
        return st;
    st = check_next_shard(db, call, err);
    if (st == ST_OK)
        st = copy_retry_shards(db, call, err);
    return st == ST_OK ? copy_retries(db, call, err) : st;
}

enum status catalog_postgres_retry_commit(struct catalog *c, int64_t job,
                                          const struct catalog_shard_plan *shards, size_t n_shards,
                                          const struct catalog_retry *retries, size_t n_retries,
                                          struct error *err)
{
    struct accounts_call call = {.job = job,
                                 .shards = shards,
                                 .n_shards = n_shards,
                                 .retries = retries,
                                 .n_retries = n_retries};

    return postgres_db_transact(catalog_postgres_db(c), "begin", commit_retry, &call, err);
}

static enum status redo(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    const struct accounts_call *call = ctx;
    PGresult *row = NULL;
    enum status st = catalog_postgres_job_reopen(db, call->job, err);

    if (st == ST_OK)
        st = postgres_db_query(
            db, &row, err,
            "update reinforce.shards set state = 1, attempts = 0, suspect_end = 0, again_source = "
            "4, again_key = "
            "$3, again_format = 'list', input_samples = $4, next_offset = 0, next_index = 0, "
            "n_parts = 0 where job = $1 and shard = $2 and (state = 3 or ($5::integer = 1 and "
            "state = 1 and again_key = $3)) returning 1",
            "iisii", call->job, call->shard, call->list_key, call->n_samples, (int64_t)repeated);
    if (st == ST_OK && PQntuples(row) == 0)
        st = error_set(err, ST_CONFLICT, "shard %" PRId64 " is not done", call->shard);
    PQclear(row);
    if (st == ST_OK)
        st = postgres_db_query(
            db, NULL, err,
            "delete from reinforce.parts where job = $1 and (shard = $2 or shard in "
            "(select shard from reinforce.shards where job = $1 and parent = $2))",
            "ii", call->job, call->shard);
    return st;
}

enum status catalog_postgres_shard_redo(struct catalog *c, int64_t job, int64_t shard,
                                        const char *list_key, int64_t n_samples, struct error *err)
{
    struct accounts_call call = {
        .job = job, .shard = shard, .list_key = list_key, .n_samples = n_samples};

    return postgres_db_transact(catalog_postgres_db(c), "begin", redo, &call, err);
}

/* Quarantined samples, or those of one shard, are few: they are fetched whole. */
enum status catalog_postgres_sources(struct catalog *c, int64_t job,
                                     const struct catalog_source_query *query,
                                     catalog_source_fn *each, void *ctx, struct error *err)
{
    PGresult *rows;
    enum status st = postgres_db_ask(
        catalog_postgres_db(c), &rows, err,
        "select p.shard, p.sample_index, s.shard, coalesce(r.source_index, p.sample_index), "
        "s.input_source, s.input_key, s.input_format, s.input_begin, s.input_end, s.input_etag "
        "from reinforce.samples p "
        "join reinforce.shards own on own.job = $1 and own.shard = p.shard and own.state = 3 "
        "left join reinforce.retries r on r.job = $1 and r.shard = p.shard and "
        "r.sample_index = p.sample_index "
        "join reinforce.shards s on s.job = $1 and s.shard = coalesce(r.source_shard, p.shard) "
        "where p.job = $1 and p.state = $2 and ($3::text is null or p.reason = $3) and "
        "p.shard between $4 and $5 and not exists (select 1 from reinforce.retries x where "
        "x.job = $1 and x.old_shard = p.shard and x.old_index = p.sample_index and $2 = 2) "
        "order by 3, 4",
        "iisii", job, (int64_t)query->state, query->reason, MAX(query->shard, (int64_t)0),
        query->shard < 0 ? INT64_MAX : query->shard);

    for (int i = 0; st == ST_OK && i < PQntuples(rows); i++) {
        struct catalog_source source = {
            .shard = postgres_db_int(rows, i, 0),
            .index = postgres_db_int(rows, i, 1),
            .source_shard = postgres_db_int(rows, i, 2),
            .source_index = postgres_db_int(rows, i, 3),
            .source = {.shard = postgres_db_int(rows, i, 2),
                       .source = (enum catalog_input)postgres_db_int(rows, i, 4),
                       .input_key = postgres_db_text(rows, i, 5),
                       .input_format = postgres_db_text(rows, i, 6),
                       .input_begin = (uint64_t)postgres_db_int(rows, i, 7),
                       .input_end = (uint64_t)postgres_db_int(rows, i, 8)}};

        (void)snprintf(source.source.input_etag, sizeof source.source.input_etag, "%s",
                       postgres_db_text(rows, i, 9));
        st = each(ctx, &source, err);
    }
    PQclear(rows);
    return st;
}

struct each_account {
    catalog_account_fn *each;
    void *ctx;
};

static int64_t or_minus_one(const PGresult *row, int column)
{
    return PQgetisnull(row, 0, column) ? -1 : postgres_db_int(row, 0, column);
}

static enum status see_account(void *ctx, const PGresult *row, struct error *err)
{
    const struct each_account *call = ctx;
    const struct catalog_account account = {
        .shard = postgres_db_int(row, 0, 0),
        .state = (enum catalog_shard_state)postgres_db_int(row, 0, 1),
        .is_retry = postgres_db_int(row, 0, 2) != 0,
        .read = or_minus_one(row, 3),
        .samples = postgres_db_int(row, 0, 4),
        .done = postgres_db_int(row, 0, 5),
        .quarantined = postgres_db_int(row, 0, 6),
        .retried = postgres_db_int(row, 0, 7),
        .last_index = or_minus_one(row, 8),
        .output_done = or_minus_one(row, 9),
        .output_quarantined = or_minus_one(row, 10),
        .filtered = postgres_db_int(row, 0, 11),
        .output_filtered = or_minus_one(row, 12),
    };

    return call->each(call->ctx, &account, err);
}

enum status catalog_postgres_accounts(struct catalog *c, int64_t job, catalog_account_fn *each,
                                      void *ctx, struct error *err)
{
    struct each_account call = {.each = each, .ctx = ctx};

    return catalog_postgres_walk(
        c, job,
        "select shard, state, is_retry::integer, samples_read, samples, done, quarantined, "
        "retried, last_index, output_done, output_quarantined, filtered, output_filtered from "
        "reinforce.accounts where "
        "job_id = $1 order by shard",
        see_account, &call, err);
}
