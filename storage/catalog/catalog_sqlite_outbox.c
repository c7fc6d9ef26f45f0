#include "storage/catalog/catalog_sqlite_outbox.h"

#include "storage/catalog/catalog_sqlite_read.h"

enum status catalog_sqlite_job_set_events(struct catalog *c, int64_t job,
                                          enum catalog_events events, struct error *err)
{
    return sqlite_db_run(sqlite_rows_db(c), JOB_SET_EVENTS, NULL, err, "ii", job, (int64_t)events);
}

/* Whoever works on a job holds the lock of coordinators. */
enum status catalog_sqlite_outbox_claim(struct catalog *c, int64_t job, struct error *err)
{
    (void)c;
    (void)job;
    (void)err;
    return ST_OK;
}

static enum status keep_text(struct arena *arena, const char **text, struct error *err)
{
    char *copy;
    enum status st;

    if (*text == NULL)
        return ST_OK;
    st = arena_strndup(arena, *text, strlen(*text), &copy, err);
    *text = copy;
    return st;
}

static enum status keep_sample(sqlite3_stmt *row, struct sqlite_db *db, int64_t job,
                               struct arena *arena, struct catalog_sample *sample,
                               struct error *err)
{
    char *uid;
    int64_t shard;
    enum status st;

    catalog_sqlite_read_sample(row, 7, &shard, sample);
    st = arena_strndup(arena, (const char *)sample->uid.data, sample->uid.len, &uid, err);
    sample->uid = bytes_view_of(uid, sample->uid.len);
    if (st == ST_OK)
        st = keep_text(arena, &sample->reason, err);
    if (st == ST_OK)
        st = keep_text(arena, &sample->detail, err);
    if (st == ST_OK)
        st = keep_text(arena, &sample->stage, err);
    if (st == ST_OK && sample->state == CATALOG_SAMPLE_DONE)
        st = catalog_sqlite_fill_sample(db, job, shard, arena, sample, err);
    return st;
}

static enum status keep_row(sqlite3_stmt *row, struct sqlite_db *db, int64_t job,
                            struct arena *arena, struct catalog_outbox_row *out, struct error *err)
{
    enum status st;

    *out = (struct catalog_outbox_row){
        .seq = sqlite3_column_int64(row, 0),
        .committed_ms = sqlite3_column_int64(row, 1),
        .shard = sqlite3_column_int64(row, 7),
        .is_sample = sqlite3_column_type(row, 8) != SQLITE_NULL,
        .output = {.shard = sqlite3_column_int64(row, 7),
                   .bytes = (uint64_t)sqlite3_column_int64(row, 3),
                   .n_done = sqlite3_column_int64(row, 5),
                   .n_quarantined = sqlite3_column_int64(row, 6),
                   .n_filtered = sqlite3_column_int64(row, 16)},
    };
    sqlite_rows_copy_fixed(row, 4, out->output.sha256, sizeof out->output.sha256);
    st = sqlite_rows_copy(row, 2, arena, &out->output.object_key, err);
    return st == ST_OK && out->is_sample ? keep_sample(row, db, job, arena, &out->sample, err) : st;
}

enum status catalog_sqlite_outbox_read(struct catalog *c, int64_t job, int64_t max_rows,
                                       struct arena *arena, struct catalog_outbox_row **rows,
                                       size_t *n_rows, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    sqlite3_stmt *row;
    enum status st = arena_calloc(arena, (size_t)max_rows, sizeof **rows, rows, err);

    if (st == ST_OK)
        st = sqlite_db_prepare(db, OUTBOX_LIST, &row, err);
    if (st != ST_OK)
        return st;
    st = sqlite_db_bind(db, row, err, "ii", job, max_rows);
    while (st == ST_OK && (st = sqlite_db_step(db, row, err)) == ST_OK)
        st = keep_row(row, db, job, arena, &(*rows)[(*n_rows)++], err);
    (void)sqlite3_reset(row);
    return st == ST_END ? ST_OK : st;
}

enum status catalog_sqlite_outbox_remove(struct catalog *c, int64_t job,
                                         const struct catalog_outbox_row *rows, size_t n_rows,
                                         struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    enum status st = sqlite_db_begin(db, err);

    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < n_rows && st == ST_OK; i++)
        st = sqlite_db_run(db, OUTBOX_DELETE, NULL, err, "ii", job, rows[i].seq);
    return sqlite_db_end(db, st, err);
}

enum status catalog_sqlite_outbox_count(struct catalog *c, int64_t job,
                                        struct catalog_outbox *outbox, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    sqlite3_stmt *row;
    enum status st = sqlite_db_prepare(db, OUTBOX_COUNT, &row, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, row, err, "i", job);
    if (st == ST_OK)
        st = sqlite_db_step(db, row, err);
    if (st != ST_OK)
        return st;
    outbox->n_waiting = sqlite3_column_int64(row, 0);
    outbox->oldest_ms = sqlite3_column_int64(row, 1);
    (void)sqlite3_reset(row);
    return ST_OK;
}
