#include "storage/catalog/catalog_sqlite_read.h"

#include "storage/catalog/sqlite_rows.h"

#include <math.h>

enum status catalog_sqlite_parts(struct catalog *c, int64_t job, int64_t shard, struct arena *arena,
                                 struct catalog_part_row **rows, size_t *n_rows, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
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
        sqlite_rows_copy_fixed(statement, 4, row->sha256, sizeof row->sha256);
        row->n_done = sqlite3_column_int64(statement, 5);
        row->n_quarantined = sqlite3_column_int64(statement, 6);
        row->n_filtered = sqlite3_column_int64(statement, 7);
        st = sqlite_rows_copy(statement, 2, arena, &row->object_key, err);
    }
    (void)sqlite3_reset(statement);
    return st == ST_END ? ST_OK : st;
}

enum status catalog_sqlite_progress(struct catalog *c, int64_t job,
                                    struct catalog_progress *progress, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    sqlite3_stmt *row;
    enum status st = sqlite_db_prepare(db, PROGRESS, &row, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, row, err, "i", job);
    if (st == ST_OK)
        st = sqlite_db_step(db, row, err);
    if (st != ST_OK)
        return st;
    *progress = (struct catalog_progress){
        .shards_total = sqlite3_column_int64(row, 0),
        .shards_done = sqlite3_column_int64(row, 1),
        .shards_leased = sqlite3_column_int64(row, 2),
        .shards_failed = sqlite3_column_int64(row, 3),
        .samples_done = sqlite3_column_int64(row, 4),
        .samples_quarantined = sqlite3_column_int64(row, 5),
        .samples_in_done_shards = sqlite3_column_int64(row, 6),
        .bytes_written = (uint64_t)sqlite3_column_int64(row, 7),
        .pieces = sqlite3_column_int64(row, 8),
        .rivals = sqlite3_column_int64(row, 9),
        .samples_filtered = sqlite3_column_int64(row, 10),
    };
    (void)sqlite3_reset(row);
    return ST_OK;
}

enum status catalog_sqlite_outputs(struct catalog *c, int64_t job, catalog_output_fn *each,
                                   void *ctx, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    sqlite3_stmt *statement;
    enum status st = sqlite_db_prepare(db, OUTPUT_LIST, &statement, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, statement, err, "i", job);
    while (st == ST_OK && (st = sqlite_db_step(db, statement, err)) == ST_OK) {
        struct catalog_output output = {.shard = sqlite3_column_int64(statement, 0),
                                        .object_key = sqlite_rows_text(statement, 1),
                                        .bytes = (uint64_t)sqlite3_column_int64(statement, 2),
                                        .n_done = sqlite3_column_int64(statement, 4),
                                        .n_quarantined = sqlite3_column_int64(statement, 5),
                                        .n_filtered = sqlite3_column_int64(statement, 6)};

        sqlite_rows_copy_fixed(statement, 3, output.sha256, sizeof output.sha256);
        st = each(ctx, &output, err);
    }
    (void)sqlite3_reset(statement);
    return st == ST_END ? ST_OK : st;
}

enum status catalog_sqlite_reasons(struct catalog *c, int64_t job, enum catalog_sample_state state,
                                   catalog_reason_fn *each, void *ctx, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    sqlite3_stmt *statement;
    enum status st = sqlite_db_prepare(db, REASON_LIST, &statement, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, statement, err, "ii", job, (int64_t)state);
    while (st == ST_OK && (st = sqlite_db_step(db, statement, err)) == ST_OK)
        st = each(ctx, sqlite_rows_text(statement, 0), sqlite_rows_text(statement, 1),
                  sqlite3_column_int64(statement, 2), err);
    (void)sqlite3_reset(statement);
    return st == ST_END ? ST_OK : st;
}

static struct bytes_view column_view(sqlite3_stmt *statement, int i)
{
    const void *text = sqlite3_column_text(statement, i);

    return bytes_view_of(text, (size_t)sqlite3_column_bytes(statement, i));
}

void catalog_sqlite_read_sample(sqlite3_stmt *row, int first, int64_t *shard,
                                struct catalog_sample *sample)
{
    memset(sample, 0, sizeof *sample);
    *shard = sqlite3_column_int64(row, first);
    sample->index = sqlite3_column_int64(row, first + 1);
    sample->uid = column_view(row, first + 2);
    sample->state = (enum catalog_sample_state)sqlite3_column_int(row, first + 3);
    sample->reason = sqlite_rows_text(row, first + 4);
    sample->detail = sqlite_rows_text(row, first + 5);
    sample->stage = sqlite_rows_text(row, first + 6);
    sample->width = sqlite3_column_int(row, first + 7);
    sample->height = sqlite3_column_int(row, first + 8);
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

        st = sqlite_rows_copy(row, 0, arena, &caption.column, err);
        if (st == ST_OK)
            st = sqlite_rows_copy(row, 2, arena, &text, err);
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

        st = sqlite_rows_copy(row, 0, arena, &score.teacher, err);
        if (st == ST_OK)
            st = sqlite_rows_copy(row, 1, arena, &score.column, err);
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

enum status catalog_sqlite_fill_sample(struct sqlite_db *db, int64_t job, int64_t shard,
                                       struct arena *arena, struct catalog_sample *sample,
                                       struct error *err)
{
    enum status st = read_captions(db, job, shard, arena, sample, err);

    return st == ST_OK ? read_scores(db, job, shard, arena, sample, err) : st;
}

/* The samples that a bound statement finds, with captions and scores. */
static enum status walk_filled(struct sqlite_db *db, sqlite3_stmt *row, int64_t job,
                               catalog_sample_fn *each, void *ctx, size_t *n, struct error *err)
{
    struct arena arena;
    enum status st = ST_OK;

    *n = 0;
    arena_init(&arena, (size_t)1 << 30);
    while (st == ST_OK && (st = sqlite_db_step(db, row, err)) == ST_OK) {
        struct catalog_sample sample;
        int64_t shard;

        catalog_sqlite_read_sample(row, 0, &shard, &sample);
        arena_reset(&arena);
        st = catalog_sqlite_fill_sample(db, job, shard, &arena, &sample, err);
        if (st == ST_OK)
            st = each(ctx, shard, &sample, err);
        ++*n;
    }
    (void)sqlite3_reset(row);
    arena_release(&arena);
    return st == ST_END ? ST_OK : st;
}

enum status catalog_sqlite_sample_find(struct catalog *c, int64_t job, struct bytes_view uid,
                                       catalog_sample_fn *each, void *ctx, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    sqlite3_stmt *row;
    size_t n = 0;
    enum status st = sqlite_db_prepare(db, SAMPLE_FIND, &row, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, row, err, "ib", job, &uid);
    if (st == ST_OK)
        st = walk_filled(db, row, job, each, ctx, &n, err);
    if (st == ST_OK && n == 0)
        st = error_set(err, ST_NOT_FOUND, "no sample \"%.*s\"", (int)uid.len,
                       (const char *)uid.data);
    return st;
}

enum status catalog_sqlite_shard_samples(struct catalog *c, int64_t job, int64_t shard,
                                         catalog_sample_fn *each, void *ctx, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    sqlite3_stmt *row;
    size_t n;
    enum status st = sqlite_db_prepare(db, SHARD_SAMPLE_LIST, &row, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, row, err, "ii", job, shard);
    return st == ST_OK ? walk_filled(db, row, job, each, ctx, &n, err) : st;
}

enum status catalog_sqlite_samples(struct catalog *c, int64_t job, catalog_sample_fn *each,
                                   void *ctx, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    sqlite3_stmt *row;
    enum status st = sqlite_db_prepare(db, SAMPLE_LIST, &row, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, row, err, "i", job);
    while (st == ST_OK && (st = sqlite_db_step(db, row, err)) == ST_OK) {
        struct catalog_sample sample;
        int64_t shard;

        catalog_sqlite_read_sample(row, 0, &shard, &sample);
        st = each(ctx, shard, &sample, err);
    }
    (void)sqlite3_reset(row);
    return st == ST_END ? ST_OK : st;
}
