/* Streams: the records of a batch become a shard, and offsets move, in one transaction. */
#include "storage/catalog/catalog_postgres_slots.h"
#include "storage/catalog/postgres_copy.h"

#include <inttypes.h>
#include <stdio.h>

struct ingest_call {
    int64_t job, now_ms;
    const struct catalog_ingest *ingest;
    int64_t *shard;
    /* reading */
    const char *topic;
    int32_t partition;
    int64_t window;
    struct arena *arena;
    struct catalog_ingest_position *position;
};

/* The shard of a commit whose answer was lost; ST_NOT_FOUND: there was none. */
static enum status find_made(struct postgres_db *db, const struct ingest_call *call,
                             struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < call->ingest->n_ranges && st == ST_OK; i++) {
        const struct catalog_ingest_range *range = &call->ingest->ranges[i];
        PGresult *row;

        st = postgres_db_query(
            db, &row, err,
            "select coalesce(r.shard, -1) from reinforce.ingest_ranges r left join "
            "reinforce.shards s on s.job = $1 and s.shard = r.shard where r.job = $1 and r.topic = "
            "$2 and r.partition = $3 and r.begin_offset = $4 and r.end_offset = $5 and s.input_key "
            "is not distinct from $6::text",
            "isiiis", call->job, range->topic, (int64_t)range->partition, range->begin, range->end,
            call->ingest->input_key);
        if (st == ST_OK && PQntuples(row) == 0)
            st = ST_NOT_FOUND;
        if (st == ST_OK)
            *call->shard = postgres_db_int(row, 0, 0);
        PQclear(row);
    }
    return st;
}

static enum status move_offset(struct postgres_db *db, const struct ingest_call *call,
                               const struct catalog_ingest_range *range, struct error *err)
{
    PGresult *row;
    bool moved;
    enum status st;

    if (range->begin == CATALOG_INGEST_UNKNOWN)
        st = postgres_db_query(
            db, &row, err,
            "insert into reinforce.ingest_offsets values ($1, $2, $3, $4, $5, $6, $7, $8) on "
            "conflict do nothing returning 1",
            "isiiiiii", call->job, range->topic, (int64_t)range->partition, range->end,
            range->n_records, range->n_duplicates, range->n_refused, call->now_ms);
    else
        st = postgres_db_query(
            db, &row, err,
            "update reinforce.ingest_offsets set next_offset = $5, n_records = n_records + $6, "
            "n_duplicates = n_duplicates + $7, n_refused = n_refused + $8, updated_ms = $9 where "
            "job = $1 and topic = $2 and partition = $3 and next_offset = $4 returning 1",
            "isiiiiiii", call->job, range->topic, (int64_t)range->partition, range->begin,
            range->end, range->n_records, range->n_duplicates, range->n_refused, call->now_ms);
    moved = st == ST_OK && PQntuples(row) == 1;
    PQclear(row);
    if (st == ST_OK && !moved)
        st = error_set(err, ST_CONFLICT,
                       "topic %s, partition %" PRId32 " has been read on from offset %" PRId64
                       " by somebody else",
                       range->topic, range->partition, range->begin);
    return st;
}

static enum status insert_shard(struct postgres_db *db, const struct ingest_call *call,
                                struct error *err)
{
    const struct catalog_ingest *ingest = call->ingest;
    PGresult *row;
    enum status st;

    *call->shard = -1;
    if (ingest->input_key == NULL)
        return ST_OK;
    st = postgres_db_query(
        db, &row, err,
        "insert into reinforce.shards (job, shard, state, input_source, input_key, input_format, "
        "input_begin, input_end, input_etag, arrived_ms) select $1, coalesce(max(shard) + 1, 0), "
        "1, "
        "$2, $3, 'jsonl', 0, $4, $5, " CATALOG_POSTGRES_NOW_MS " - $6 from reinforce.shards where "
        "job = $1 returning shard",
        "iisisi", call->job, (int64_t)CATALOG_INPUT_PLAN, ingest->input_key,
        (int64_t)ingest->input_bytes, ingest->input_etag, ingest->waited_ms);
    if (st == ST_OK)
        *call->shard = postgres_db_int(row, 0, 0);
    PQclear(row);
    return st;
}

static enum status insert_ranges(struct postgres_db *db, const struct ingest_call *call,
                                 struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < call->ingest->n_ranges && st == ST_OK; i++) {
        const struct catalog_ingest_range *range = &call->ingest->ranges[i];

        st = postgres_db_query(
            db, NULL, err,
            "insert into reinforce.ingest_ranges values ($1, $2, $3, $4, $5, nullif($6::bigint, "
            "-1), $7, $8, $9, $10, " CATALOG_POSTGRES_NOW_MS ")",
            "isiiiiiiib", call->job, range->topic, (int64_t)range->partition, range->begin,
            range->end, *call->shard, range->n_records, range->n_duplicates, range->n_refused,
            &range->seen);
    }
    return st;
}

static enum status commit(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    const struct ingest_call *call = ctx;
    struct error ignored;
    enum status st = catalog_postgres_job_reopen(db, call->job, err);

    (void)repeated;
    for (size_t i = 0; i < call->ingest->n_ranges && st == ST_OK; i++)
        st = move_offset(db, call, &call->ingest->ranges[i], err);
    /* of a commit that was made no range moves again, so that nothing has changed in this one */
    if (st == ST_CONFLICT && find_made(db, call, &ignored) == ST_OK)
        return ST_OK;
    if (st == ST_OK)
        st = insert_shard(db, call, err);
    return st == ST_OK ? insert_ranges(db, call, err) : st;
}

enum status catalog_postgres_ingest_commit(struct catalog *c, int64_t job,
                                           const struct catalog_ingest *ingest, int64_t now_ms,
                                           int64_t *shard, struct error *err)
{
    struct ingest_call call = {.job = job, .ingest = ingest, .now_ms = now_ms, .shard = shard};

    return postgres_db_transact(catalog_postgres_db(c), "begin", commit, &call, err);
}

static enum status read_position(struct postgres_db *db, void *ctx, bool repeated,
                                 struct error *err)
{
    const struct ingest_call *call = ctx;
    struct catalog_ingest_position *position = call->position;
    PGresult *rows;
    enum status st = postgres_db_query(
        db, &rows, err,
        "select next_offset from reinforce.ingest_offsets where job = $1 and topic = $2 and "
        "partition = $3",
        "isi", call->job, call->topic, (int64_t)call->partition);

    (void)repeated;
    *position = (struct catalog_ingest_position){.next_offset = CATALOG_INGEST_UNKNOWN};
    if (st == ST_OK && PQntuples(rows) == 1)
        position->next_offset = postgres_db_int(rows, 0, 0);
    PQclear(rows);
    if (st != ST_OK || position->next_offset == CATALOG_INGEST_UNKNOWN)
        return st;
    st = postgres_db_query(
        db, &rows, err,
        "select seen from (select seen, begin_offset, sum(n_records) over (order by begin_offset "
        "desc) - n_records as younger from reinforce.ingest_ranges where job = $1 and topic = $2 "
        "and partition = $3) r where younger < $4 order by begin_offset",
        "isii", call->job, call->topic, (int64_t)call->partition, call->window);
    if (st == ST_OK)
        st = arena_calloc(call->arena, (size_t)PQntuples(rows), sizeof *position->seen,
                          &position->seen, err);
    for (int i = 0; st == ST_OK && i < PQntuples(rows); i++) {
        const char *seen;

        st = postgres_db_copy_text(rows, i, 0, call->arena, &seen, err);
        if (st == ST_OK)
            position->seen[position->n_seen++] = bytes_of_string(seen);
    }
    PQclear(rows);
    return st;
}

enum status catalog_postgres_ingest_read(struct catalog *c, int64_t job, const char *topic,
                                         int32_t partition, int64_t window, struct arena *arena,
                                         struct catalog_ingest_position *position,
                                         struct error *err)
{
    struct ingest_call call = {.job = job,
                               .topic = topic,
                               .partition = partition,
                               .window = window,
                               .arena = arena,
                               .position = position};

    return postgres_db_transact(catalog_postgres_db(c), "begin read only", read_position, &call,
                                err);
}

struct each_partition {
    catalog_ingest_fn *each;
    void *ctx;
};

static enum status see_partition(void *ctx, const PGresult *row, struct error *err)
{
    const struct each_partition *call = ctx;
    const struct catalog_ingest_partition partition = {
        .topic = postgres_db_text(row, 0, 0),
        .partition = (int32_t)postgres_db_int(row, 0, 1),
        .next_offset = postgres_db_int(row, 0, 2),
        .n_records = postgres_db_int(row, 0, 3),
        .n_duplicates = postgres_db_int(row, 0, 4),
        .n_refused = postgres_db_int(row, 0, 5),
        .updated_ms = postgres_db_int(row, 0, 6),
    };

    return call->each(call->ctx, &partition, err);
}

enum status catalog_postgres_ingest_list(struct catalog *c, int64_t job, catalog_ingest_fn *each,
                                         void *ctx, struct error *err)
{
    struct each_partition call = {.each = each, .ctx = ctx};

    return catalog_postgres_walk(
        c, job,
        "select topic, partition, next_offset, n_records, n_duplicates, n_refused, updated_ms from "
        "reinforce.ingest_offsets where job = $1 order by topic collate \"C\", partition",
        see_partition, &call, err);
}

static enum status see_pace(void *ctx, const PGresult *row, struct error *err)
{
    (void)err;
    *(struct catalog_ingest_pace *)ctx = (struct catalog_ingest_pace){
        .n_records = postgres_db_int(row, 0, 0),
        .n_leased = postgres_db_int(row, 0, 1),
        .p50_ms = postgres_db_int(row, 0, 2),
        .p99_ms = postgres_db_int(row, 0, 3),
        .n_waiting = postgres_db_int(row, 0, 4),
        .oldest_ms = postgres_db_int(row, 0, 5),
    };
    return ST_OK;
}

enum status catalog_postgres_ingest_pace(struct catalog *c, int64_t job,
                                         struct catalog_ingest_pace *pace, struct error *err)
{
    char sql[1536];

    (void)snprintf(
        sql, sizeof sql,
        "with last as (select leased_ms - arrived_ms as ms from reinforce.shards where job = $1 "
        "and leased_ms is not null and arrived_ms is not null order by shard desc limit %d), "
        "ranked as (select ms, row_number() over (order by ms) as i, count(*) over () as n from "
        "last), waiting as (select arrived_ms from reinforce.shards where job = $1 and state = 1 "
        "and leased_ms is null and arrived_ms is not null) "
        "select (select coalesce(sum(n_records), 0)::bigint from reinforce.ingest_ranges where "
        "job = $1 and committed_ms > " CATALOG_POSTGRES_NOW_MS " - %d), (select count(*) from "
        "last), coalesce((select min(ms) from ranked where i * 2 >= n), 0), coalesce((select "
        "min(ms) from ranked where i * 100 >= n * 99), 0), count(*), "
        "coalesce(" CATALOG_POSTGRES_NOW_MS " - min(arrived_ms), 0) from waiting",
        (int)CATALOG_PACE_SHARDS, (int)CATALOG_PACE_MS);
    return catalog_postgres_walk(c, job, sql, see_pace, pace, err);
}
