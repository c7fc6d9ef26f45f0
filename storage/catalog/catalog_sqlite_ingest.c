#include "storage/catalog/catalog_sqlite_ingest.h"

#include "storage/catalog/catalog_sqlite_jobs.h"
#include "storage/catalog/sqlite_rows.h"

#include <inttypes.h>

/* One row of one number; ST_END: none. */
static enum status read_number(struct sqlite_db *db, sqlite3_stmt *row, int64_t *out,
                               struct error *err)
{
    enum status st = sqlite_db_step(db, row, err);

    if (st == ST_OK)
        *out = sqlite3_column_int64(row, 0);
    (void)sqlite3_reset(row);
    return st;
}

/* The shard of a commit whose answer was lost; ST_END: there was none. */
static enum status find_made(struct sqlite_db *db, int64_t job, const struct catalog_ingest *ingest,
                             int64_t *shard, struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < ingest->n_ranges && st == ST_OK; i++) {
        const struct catalog_ingest_range *range = &ingest->ranges[i];
        sqlite3_stmt *row;

        st = sqlite_db_prepare(db, INGEST_RANGE_FIND, &row, err);
        if (st == ST_OK)
            st =
                sqlite_db_bind(db, row, err, "isiiis", job, range->topic, (int64_t)range->partition,
                               range->begin, range->end, ingest->input_key);
        if (st == ST_OK)
            st = read_number(db, row, shard, err);
    }
    return st;
}

static enum status move_offset(struct sqlite_db *db, int64_t job,
                               const struct catalog_ingest_range *range, int64_t now_ms,
                               struct error *err)
{
    int64_t n = 0;
    enum status st;

    if (range->begin == CATALOG_INGEST_UNKNOWN)
        st = sqlite_db_run(db, INGEST_OFFSET_INSERT, &n, err, "isiiiiii", job, range->topic,
                           (int64_t)range->partition, range->end, range->n_records,
                           range->n_duplicates, range->n_refused, now_ms);
    else
        st = sqlite_db_run(db, INGEST_OFFSET_MOVE, &n, err, "isiiiiiii", job, range->topic,
                           (int64_t)range->partition, range->begin, range->end, range->n_records,
                           range->n_duplicates, range->n_refused, now_ms);
    if (st == ST_OK && n == 0)
        st = error_set(err, ST_CONFLICT,
                       "topic %s, partition %" PRId32 " has been read on from offset %" PRId64
                       " by somebody else",
                       range->topic, range->partition, range->begin);
    return st;
}

static enum status insert_shard(struct sqlite_db *db, int64_t job,
                                const struct catalog_ingest *ingest, int64_t *shard,
                                struct error *err)
{
    enum status st;

    if (ingest->input_key == NULL)
        return ST_OK;
    st = sqlite_rows_count_shards(db, job, shard, err);
    if (st != ST_OK)
        return st;
    st = sqlite_db_run(db, SHARD_INSERT, NULL, err, "iiissiis", job, *shard,
                       (int64_t)CATALOG_INPUT_PLAN, ingest->input_key, "jsonl", (int64_t)0,
                       (int64_t)ingest->input_bytes, ingest->input_etag);
    return st == ST_OK
               ? sqlite_db_run(db, INGEST_ARRIVED, NULL, err, "iii", job, *shard, ingest->waited_ms)
               : st;
}

static enum status insert_range(struct sqlite_db *db, int64_t job,
                                const struct catalog_ingest_range *range, int64_t shard,
                                struct error *err)
{
    return sqlite_db_run(db, INGEST_RANGE_INSERT, NULL, err, "isiiiiiiib", job, range->topic,
                         (int64_t)range->partition, range->begin, range->end, shard,
                         range->n_records, range->n_duplicates, range->n_refused, &range->seen);
}

static enum status commit(struct sqlite_db *db, int64_t job, const struct catalog_ingest *ingest,
                          int64_t now_ms, int64_t *shard, struct error *err)
{
    enum status st = catalog_sqlite_job_reopen(db, job, err);

    for (size_t i = 0; i < ingest->n_ranges && st == ST_OK; i++)
        st = move_offset(db, job, &ingest->ranges[i], now_ms, err);
    if (st == ST_OK)
        st = insert_shard(db, job, ingest, shard, err);
    for (size_t i = 0; i < ingest->n_ranges && st == ST_OK; i++)
        st = insert_range(db, job, &ingest->ranges[i], *shard, err);
    return st;
}

enum status catalog_sqlite_ingest_commit(struct catalog *c, int64_t job,
                                         const struct catalog_ingest *ingest, int64_t now_ms,
                                         int64_t *shard, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    struct error ignored;
    enum status st = sqlite_db_begin(db, err);

    if (st != ST_OK)
        return st;
    st = sqlite_db_end(db, commit(db, job, ingest, now_ms, shard, err), err);
    if (st == ST_CONFLICT && find_made(db, job, ingest, shard, &ignored) == ST_OK)
        return ST_OK;
    return st;
}

static enum status read_seen(struct sqlite_db *db, sqlite3_stmt *row, int64_t window,
                             struct arena *arena, struct catalog_ingest_position *position,
                             struct error *err)
{
    size_t capacity = 0;
    int64_t n_records = 0;
    enum status st = ST_OK;

    while (n_records < window && (st = sqlite_db_step(db, row, err)) == ST_OK) {
        const char *seen;

        if (position->n_seen == capacity) {
            struct bytes_view *grown;

            capacity = MAX(2 * capacity, (size_t)16);
            st = arena_calloc(arena, capacity, sizeof *grown, &grown, err);
            if (st != ST_OK)
                break;
            if (position->n_seen > 0)
                memcpy(grown, position->seen, position->n_seen * sizeof *grown);
            position->seen = grown;
        }
        st = sqlite_rows_copy(row, 0, arena, &seen, err);
        if (st != ST_OK)
            break;
        position->seen[position->n_seen++] = bytes_of_string(seen);
        n_records += sqlite3_column_int64(row, 1);
    }
    (void)sqlite3_reset(row);
    return st == ST_END ? ST_OK : st;
}

enum status catalog_sqlite_ingest_read(struct catalog *c, int64_t job, const char *topic,
                                       int32_t partition, int64_t window, struct arena *arena,
                                       struct catalog_ingest_position *position, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    sqlite3_stmt *row;
    enum status st = sqlite_db_prepare(db, INGEST_OFFSET_SELECT, &row, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, row, err, "isi", job, topic, (int64_t)partition);
    if (st == ST_OK)
        st = read_number(db, row, &position->next_offset, err);
    if (st != ST_OK)
        return st == ST_END ? ST_OK : st;
    st = sqlite_db_prepare(db, INGEST_SEEN, &row, err);
    if (st == ST_OK)
        st = sqlite_db_bind(db, row, err, "isi", job, topic, (int64_t)partition);
    if (st == ST_OK)
        st = read_seen(db, row, window, arena, position, err);
    for (size_t i = 0; st == ST_OK && i < position->n_seen / 2; i++) {
        struct bytes_view swapped = position->seen[i];

        position->seen[i] = position->seen[position->n_seen - 1 - i];
        position->seen[position->n_seen - 1 - i] = swapped;
    }
    return st;
}

enum status catalog_sqlite_ingest_list(struct catalog *c, int64_t job, catalog_ingest_fn *each,
                                       void *ctx, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    sqlite3_stmt *row;
    enum status st = sqlite_db_prepare(db, INGEST_LIST, &row, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, row, err, "i", job);
    while (st == ST_OK && (st = sqlite_db_step(db, row, err)) == ST_OK) {
        const struct catalog_ingest_partition partition = {
            .topic = sqlite_rows_text(row, 0),
            .partition = sqlite3_column_int(row, 1),
            .next_offset = sqlite3_column_int64(row, 2),
            .n_records = sqlite3_column_int64(row, 3),
            .n_duplicates = sqlite3_column_int64(row, 4),
            .n_refused = sqlite3_column_int64(row, 5),
            .updated_ms = sqlite3_column_int64(row, 6),
        };

        st = each(ctx, &partition, err);
    }
    (void)sqlite3_reset(row);
    return st == ST_END ? ST_OK : st;
}

enum status catalog_sqlite_ingest_pace(struct catalog *c, int64_t job,
                                       struct catalog_ingest_pace *pace, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    sqlite3_stmt *row;
    enum status st = sqlite_db_prepare(db, INGEST_PACE, &row, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, row, err, "iii", job, (int64_t)CATALOG_PACE_MS,
                            (int64_t)CATALOG_PACE_SHARDS);
    if (st == ST_OK)
        st = sqlite_db_step(db, row, err);
    if (st != ST_OK)
        return st;
    *pace = (struct catalog_ingest_pace){
        .n_records = sqlite3_column_int64(row, 0),
        .n_leased = sqlite3_column_int64(row, 1),
        .p50_ms = sqlite3_column_int64(row, 2),
        .p99_ms = sqlite3_column_int64(row, 3),
        .n_waiting = sqlite3_column_int64(row, 4),
        .oldest_ms = sqlite3_column_int64(row, 5),
    };
    (void)sqlite3_reset(row);
    return ST_OK;
}
