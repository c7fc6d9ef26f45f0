#include "storage/catalog/catalog_postgres_slots.h"

#include <stdio.h>

#define SAMPLE_COLUMNS  "shard, sample_index, uid, state, reason, detail, stage, width, height"
#define CAPTION_COLUMNS "sample_index, column_name, caption_index, caption, log_probability"
#define SCORE_COLUMNS   "sample_index, teacher, column_name, caption_index, cosine"

/* Rows come one at a time, so that no result has to fit in memory. */
struct walk_call {
    const char *sql;
    int64_t job;
    catalog_postgres_row_fn *each;
    void *ctx;
    bool begun; /* a row has been seen: the walk cannot be made again */
    enum status answer;
};

/* Ends what is still on its way: the caller has had enough, or something failed. */
static void abandon(struct postgres_db *db)
{
    PGcancel *cancel = PQgetCancel(db->conn);
    char ignored[256];
    PGresult *result;

    if (cancel != NULL)
        (void)PQcancel(cancel, ignored, sizeof ignored);
    PQfreeCancel(cancel);
    while ((result = PQgetResult(db->conn)) != NULL)
        PQclear(result);
}

static enum status walk_rows(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    struct walk_call *call = ctx;
    char job[24];
    const char *value = job;
    PGresult *row;
    enum status st = ST_OK;

    (void)repeated;
    (void)snprintf(job, sizeof job, "%lld", (long long)call->job);
    if (PQsendQueryParams(db->conn, call->sql, 1, NULL, &value, NULL, NULL, 0) != 1)
        return postgres_db_error(db, NULL, err);
    (void)PQsetSingleRowMode(db->conn);
    while (st == ST_OK && call->answer == ST_OK && (row = PQgetResult(db->conn)) != NULL) {
        ExecStatusType kind = PQresultStatus(row);

        if (kind == PGRES_SINGLE_TUPLE) {
            call->begun = true;
            call->answer = call->each(call->ctx, row, err);
        } else if (kind != PGRES_TUPLES_OK) {
            st = postgres_db_error(db, row, err);
        }
        PQclear(row);
    }
    if (st != ST_OK || call->answer != ST_OK)
        abandon(db);
    if (st != ST_OK && call->begun) { /* the caller has to begin again, we cannot */
        call->answer = st;
        st = ST_OK;
    }
    return st;
}

enum status catalog_postgres_walk(struct catalog *c, int64_t job, const char *sql,
                                  catalog_postgres_row_fn *each, void *ctx, struct error *err)
{
    struct walk_call call = {.sql = sql, .job = job, .each = each, .ctx = ctx};
    enum status st = postgres_db_transact(catalog_postgres_db(c), NULL, walk_rows, &call, err);

    return st == ST_OK ? call.answer : st;
}

enum status catalog_postgres_parts(struct catalog *c, int64_t job, int64_t shard,
                                   struct arena *arena, struct catalog_part_row **rows,
                                   size_t *n_rows, struct error *err)
{
    struct catalog_part_row *parts = NULL;
    PGresult *found;
    enum status st = postgres_db_ask(
        catalog_postgres_db(c), &found, err,
        "select p.part, p.epoch, p.object_key, p.bytes, p.sha256, p.n_done, p.n_quarantined, "
        "p.n_filtered "
        "from (select $2::bigint as shard, 0::bigint as begin_index union all "
        "select shard, begin_index from reinforce.shards where job = $1 and "
        "parent = $2) f join reinforce.parts p on p.job = $1 and "
        "p.shard = f.shard order by f.begin_index, p.part",
        "ii", job, shard);

    if (st == ST_OK)
        st = arena_calloc(arena, (size_t)MAX(PQntuples(found), 1), sizeof *parts, &parts, err);
    for (int i = 0; st == ST_OK && i < PQntuples(found); i++) {
        struct catalog_part_row *part = &parts[i];

        part->part = postgres_db_int(found, i, 0);
        part->epoch = postgres_db_int(found, i, 1);
        part->bytes = (uint64_t)postgres_db_int(found, i, 3);
        (void)snprintf(part->sha256, sizeof part->sha256, "%s", postgres_db_text(found, i, 4));
        part->n_done = postgres_db_int(found, i, 5);
        part->n_quarantined = postgres_db_int(found, i, 6);
        part->n_filtered = postgres_db_int(found, i, 7);
        st = postgres_db_copy_text(found, i, 2, arena, &part->object_key, err);
    }
    if (st == ST_OK) {
        *rows = parts;
        *n_rows = (size_t)PQntuples(found);
    }
    PQclear(found);
    return st;
}

static enum status see_progress(void *ctx, const PGresult *row, struct error *err)
{
    (void)err;
    *(struct catalog_progress *)ctx = (struct catalog_progress){
        .shards_total = postgres_db_int(row, 0, 0),
        .shards_done = postgres_db_int(row, 0, 1),
        .shards_leased = postgres_db_int(row, 0, 2),
        .shards_failed = postgres_db_int(row, 0, 3),
        .samples_done = postgres_db_int(row, 0, 4),
        .samples_quarantined = postgres_db_int(row, 0, 5),
        .samples_in_done_shards = postgres_db_int(row, 0, 6),
        .bytes_written = (uint64_t)postgres_db_int(row, 0, 7),
        .pieces = postgres_db_int(row, 0, 8),
        .rivals = postgres_db_int(row, 0, 9),
        .samples_filtered = postgres_db_int(row, 0, 10),
    };
    return ST_OK;
}

enum status catalog_postgres_progress(struct catalog *c, int64_t job,
                                      struct catalog_progress *progress, struct error *err)
{
    return catalog_postgres_walk(
        c, job,
        "select h.n, h.done, h.leased, h.failed, p.done, p.quarantined, o.samples, o.bytes, "
        "h.pieces, h.rivals, p.filtered from (select count(*) filter (where parent is null) as n, "
        "count(*) filter (where state = 3 and parent is null) as done, "
        "count(*) filter (where state = 2) as leased, "
        "count(distinct coalesce(parent, shard)) filter (where state = 4) as failed, "
        "count(parent) as pieces, "
        "count(*) filter (where state = 2 and rival_owner is not null) as rivals from "
        "reinforce.shards where job = $1) h, "
        "(select count(*) filter (where state = 1) as done, "
        "count(*) filter (where state = 2) as quarantined, "
        "count(*) filter (where state = 4) as filtered "
        "from reinforce.samples where job = $1) p, "
        "(select coalesce(sum(o.n_done + o.n_quarantined + o.n_filtered), 0)::bigint as samples, "
        "coalesce(sum(o.bytes), 0)::bigint as bytes from reinforce.outputs o "
        "join reinforce.shards s on s.job = o.job and s.shard = o.shard "
        "where o.job = $1 and s.state = 3) o",
        see_progress, progress, err);
}

struct each_ctx {
    catalog_output_fn *output;
    catalog_reason_fn *reason;
    catalog_sample_fn *sample;
    void *ctx;
};

static enum status see_output(void *ctx, const PGresult *row, struct error *err)
{
    const struct each_ctx *each = ctx;
    struct catalog_output output = {.shard = postgres_db_int(row, 0, 0),
                                    .object_key = postgres_db_text(row, 0, 1),
                                    .bytes = (uint64_t)postgres_db_int(row, 0, 2),
                                    .n_done = postgres_db_int(row, 0, 4),
                                    .n_quarantined = postgres_db_int(row, 0, 5),
                                    .n_filtered = postgres_db_int(row, 0, 6)};

    (void)snprintf(output.sha256, sizeof output.sha256, "%s", postgres_db_text(row, 0, 3));
    return each->output(each->ctx, &output, err);
}

enum status catalog_postgres_outputs(struct catalog *c, int64_t job, catalog_output_fn *each,
                                     void *ctx, struct error *err)
{
    struct each_ctx call = {.output = each, .ctx = ctx};

    return catalog_postgres_walk(c, job,
                                 "select shard, object_key, bytes, sha256, n_done, n_quarantined, "
                                 "n_filtered from reinforce.outputs where job = $1 order by shard",
                                 see_output, &call, err);
}

static enum status see_reason(void *ctx, const PGresult *row, struct error *err)
{
    const struct each_ctx *each = ctx;

    return each->reason(each->ctx, postgres_db_text(row, 0, 0), postgres_db_text(row, 0, 1),
                        postgres_db_int(row, 0, 2), err);
}

/* The state stands in the text: its index is of the rows in that state. */
#define REASONS_OF(state)                                                                          \
    "select reason, stage, count(*) from reinforce.samples where job = $1 and state = " state      \
    " group by reason, stage order by count(*) desc, reason collate \"C\", stage collate \"C\""

enum status catalog_postgres_reasons(struct catalog *c, int64_t job,
                                     enum catalog_sample_state state, catalog_reason_fn *each,
                                     void *ctx, struct error *err)
{
    struct each_ctx call = {.reason = each, .ctx = ctx};

    return catalog_postgres_walk(
        c, job, state == CATALOG_SAMPLE_FILTERED ? REASONS_OF("4") : REASONS_OF("2"), see_reason,
        &call, err);
}

static void read_sample(const PGresult *row, int i, int64_t *shard, struct catalog_sample *sample)
{
    memset(sample, 0, sizeof *sample);
    *shard = postgres_db_int(row, i, 0);
    sample->index = postgres_db_int(row, i, 1);
    sample->uid = postgres_db_view(row, i, 2);
    sample->state = (enum catalog_sample_state)postgres_db_int(row, i, 3);
    sample->reason = postgres_db_text(row, i, 4);
    sample->detail = postgres_db_text(row, i, 5);
    sample->stage = postgres_db_text(row, i, 6);
    sample->width = (int32_t)postgres_db_int(row, i, 7);
    sample->height = (int32_t)postgres_db_int(row, i, 8);
}

static enum status see_sample(void *ctx, const PGresult *row, struct error *err)
{
    const struct each_ctx *each = ctx;
    struct catalog_sample sample;
    int64_t shard;

    read_sample(row, 0, &shard, &sample);
    return each->sample(each->ctx, shard, &sample, err);
}

enum status catalog_postgres_samples(struct catalog *c, int64_t job, catalog_sample_fn *each,
                                     void *ctx, struct error *err)
{
    struct each_ctx call = {.sample = each, .ctx = ctx};

    return catalog_postgres_walk(
        c, job,
        "select " SAMPLE_COLUMNS
        " from reinforce.samples where job = $1 order by shard, sample_index",
        see_sample, &call, err);
}

static struct catalog_caption read_caption(const PGresult *row, int i)
{
    return (struct catalog_caption){.column = postgres_db_text(row, i, 1),
                                    .index = (int32_t)postgres_db_int(row, i, 2),
                                    .text = postgres_db_view(row, i, 3),
                                    .score = postgres_db_real(row, i, 4)};
}

static struct catalog_score read_score(const PGresult *row, int i)
{
    return (struct catalog_score){.teacher = postgres_db_text(row, i, 1),
                                  .column = postgres_db_text(row, i, 2),
                                  .index = (int32_t)postgres_db_int(row, i, 3),
                                  .value = postgres_db_real(row, i, 4)};
}

/* One sample with all its rows, held in `arena` until the next. */
static enum status fill_sample(struct postgres_db *db, int64_t job, int64_t shard,
                               struct arena *arena, struct catalog_sample *sample,
                               PGresult **captions, PGresult **scores, struct error *err)
{
    struct catalog_caption *c;
    struct catalog_score *s;
    enum status st = postgres_db_query(db, captions, err,
                                       "select " CAPTION_COLUMNS " from reinforce.captions "
                                       "where job = $1 and shard = $2 and sample_index = $3 "
                                       "order by column_name collate \"C\", caption_index",
                                       "iii", job, shard, sample->index);

    if (st == ST_OK)
        st = postgres_db_query(
            db, scores, err,
            "select " SCORE_COLUMNS " from reinforce.scores "
            "where job = $1 and shard = $2 and sample_index = $3 "
            "order by column_name collate \"C\", caption_index, teacher collate \"C\"",
            "iii", job, shard, sample->index);
    if (st != ST_OK)
        return st;
    sample->n_captions = (size_t)PQntuples(*captions);
    sample->n_scores = (size_t)PQntuples(*scores);
    st = arena_calloc(arena, MAX(sample->n_captions, (size_t)1), sizeof *c, &c, err);
    if (st == ST_OK)
        st = arena_calloc(arena, MAX(sample->n_scores, (size_t)1), sizeof *s, &s, err);
    if (st != ST_OK)
        return st;
    for (int i = 0; i < PQntuples(*captions); i++)
        c[i] = read_caption(*captions, i);
    for (int i = 0; i < PQntuples(*scores); i++)
        s[i] = read_score(*scores, i);
    sample->captions = c;
    sample->scores = s;
    return ST_OK;
}

struct find_call {
    int64_t job;
    struct bytes_view uid;
    struct each_ctx each;
    bool begun;
    enum status answer;
};

static enum status find_sample(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    struct find_call *call = ctx;
    struct arena arena;
    PGresult *rows;
    enum status st;

    if (call->begun) /* the end of the transaction was lost: all has been seen */
        return ST_OK;
    st = postgres_db_query(db, &rows, err,
                           "select " SAMPLE_COLUMNS " from reinforce.samples where job = $1 and "
                           "uid = $2 order by shard, sample_index",
                           "ib", call->job, &call->uid);
    (void)repeated;
    arena_init(&arena, (size_t)64 << 20);
    if (st == ST_OK && PQntuples(rows) == 0)
        st = error_set(err, ST_NOT_FOUND, "no sample \"%.*s\"", (int)call->uid.len,
                       (const char *)call->uid.data);
    for (int i = 0; st == ST_OK && call->answer == ST_OK && i < PQntuples(rows); i++) {
        PGresult *captions = NULL, *scores = NULL;
        struct catalog_sample sample;
        int64_t shard;

        arena_reset(&arena);
        read_sample(rows, i, &shard, &sample);
        st = fill_sample(db, call->job, shard, &arena, &sample, &captions, &scores, err);
        if (st == ST_OK) {
            call->begun = true;
            call->answer = call->each.sample(call->each.ctx, shard, &sample, err);
        }
        PQclear(captions);
        PQclear(scores);
    }
    PQclear(rows);
    arena_release(&arena);
    if (st != ST_OK && call->begun) { /* as in walk_rows() */
        call->answer = st;
        st = ST_OK;
    }
    return st;
}

enum status catalog_postgres_sample_find(struct catalog *c, int64_t job, struct bytes_view uid,
                                         catalog_sample_fn *each, void *ctx, struct error *err)
{
    struct find_call call = {.job = job, .uid = uid, .each = {.sample = each, .ctx = ctx}};
    enum status st = postgres_db_transact(catalog_postgres_db(c),
                                          "begin isolation level repeatable read read only",
                                          find_sample, &call, err);

    return call.answer != ST_OK ? call.answer : st;
}

struct shard_call {
    int64_t job, shard;
    struct each_ctx each;
    bool begun;
    enum status answer;
};

/* Rows of a shard's samples stand together, in the order of the samples: *at goes through them. */
static size_t rows_of(const PGresult *rows, int *at, int64_t index)
{
    int begin = *at;

    while (*at < PQntuples(rows) && postgres_db_int(rows, *at, 0) == index)
        ++*at;
    return (size_t)(*at - begin);
}

static enum status give_samples(struct shard_call *call, const PGresult *rows,
                                const PGresult *captions, const PGresult *scores, struct error *err)
{
    int caption = 0, score = 0;
    struct arena arena;
    enum status st = ST_OK;

    arena_init(&arena, (size_t)64 << 20);
    for (int i = 0; i < PQntuples(rows) && st == ST_OK && call->answer == ST_OK; i++) {
        int first_caption = caption, first_score = score;
        struct catalog_sample sample;
        struct catalog_caption *c;
        struct catalog_score *s;
        int64_t shard;

        arena_reset(&arena);
        read_sample(rows, i, &shard, &sample);
        sample.n_captions = rows_of(captions, &caption, sample.index);
        sample.n_scores = rows_of(scores, &score, sample.index);
        st = arena_alloc(&arena, sample.n_captions * sizeof *c, &c, err);
        if (st == ST_OK)
            st = arena_alloc(&arena, sample.n_scores * sizeof *s, &s, err);
        if (st != ST_OK)
            break;
        for (size_t k = 0; k < sample.n_captions; k++)
            c[k] = read_caption(captions, first_caption + (int)k);
        for (size_t k = 0; k < sample.n_scores; k++)
            s[k] = read_score(scores, first_score + (int)k);
        sample.captions = c;
        sample.scores = s;
        call->begun = true;
        call->answer = call->each.sample(call->each.ctx, shard, &sample, err);
    }
    arena_release(&arena);
    return st;
}

static enum status find_shard(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    struct shard_call *call = ctx;
    PGresult *rows = NULL, *captions = NULL, *scores = NULL;
    enum status st;

    (void)repeated;
    if (call->begun) /* as in find_sample() */
        return ST_OK;
    st = postgres_db_query(db, &rows, err,
                           "select " SAMPLE_COLUMNS " from reinforce.samples where job = $1 and "
                           "shard = $2 and state = 1 order by sample_index",
                           "ii", call->job, call->shard);
    if (st == ST_OK)
        st = postgres_db_query(
            db, &captions, err,
            "select " CAPTION_COLUMNS " from reinforce.captions c join reinforce.samples p using "
            "(job, shard, sample_index) where job = $1 and shard = $2 and p.state = 1 "
            "order by sample_index, column_name collate \"C\", caption_index",
            "ii", call->job, call->shard);
    if (st == ST_OK)
        st = postgres_db_query(
            db, &scores, err,
            "select " SCORE_COLUMNS " from reinforce.scores c join reinforce.samples p using "
            "(job, shard, sample_index) where job = $1 and shard = $2 and p.state = 1 order by "
            "sample_index, column_name collate \"C\", caption_index, teacher collate \"C\"",
            "ii", call->job, call->shard);
    if (st == ST_OK)
        st = give_samples(call, rows, captions, scores, err);
    PQclear(scores);
    PQclear(captions);
    PQclear(rows);
    if (st != ST_OK && call->begun) { /* as in walk_rows() */
        call->answer = st;
        st = ST_OK;
    }
    return st;
}

enum status catalog_postgres_shard_samples(struct catalog *c, int64_t job, int64_t shard,
                                           catalog_sample_fn *each, void *ctx, struct error *err)
{
    struct shard_call call = {.job = job, .shard = shard, .each = {.sample = each, .ctx = ctx}};
    enum status st = postgres_db_transact(catalog_postgres_db(c),
                                          "begin isolation level repeatable read read only",
                                          find_shard, &call, err);

    return call.answer != ST_OK ? call.answer : st;
}
