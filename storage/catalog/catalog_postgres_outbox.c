/* The outbox: rows wait beside what they tell of; captions and scores are joined to them when they
 * are read. */
#include "storage/catalog/catalog_outbox.h"
#include "storage/catalog/catalog_postgres_slots.h"

#include <stdio.h>

/* "outb" in ASCII, before the job's number; advisory locks are per database. */
#define PUBLISHER_LOCK (INT64_C(0x6f757462) << 32)

/* The rows of a batch, the same for every statement of a snapshot. */
#define BATCH "(select * from reinforce.outbox where job = $1 order by seq limit $2) o "

enum { IDS_MAX_BYTES = 16 << 20 };

enum status catalog_postgres_job_set_events(struct catalog *c, int64_t job,
                                            enum catalog_events events, struct error *err)
{
    return postgres_db_ask(catalog_postgres_db(c), NULL, err,
                           "update reinforce.jobs set events = $2 where job = $1", "ii", job,
                           (int64_t)events);
}

enum status catalog_postgres_outbox_claim(struct catalog *c, int64_t job, struct error *err)
{
    return catalog_postgres_hold(c, PUBLISHER_LOCK + (job & INT32_MAX), "publisher", err);
}

enum status catalog_postgres_outbox_insert(struct postgres_db *db, int64_t job, int64_t shard,
                                           struct error *err)
{
    /* the shard behind its samples */
    return postgres_db_query(
        db, NULL, err,
        "insert into reinforce.outbox (job, shard, sample_index) select $1, $2, i from "
        "(select p.sample_index as i, 2 as wanted from reinforce.samples p where p.job = $1 and "
        "p.shard = $2 and p.state in (1, 2, 4) union all select null, 1) e where wanted <= (select "
        "events from reinforce.jobs where job = $1) order by i nulls last",
        "ii", job, shard);
}

struct read_call {
    int64_t job, max_rows;
    struct arena *arena;
    struct catalog_outbox_row *rows;
    size_t n_rows;
};

/* NULL stays NULL. */
static enum status keep_text(const PGresult *result, int row, int column, struct arena *arena,
                             const char **out, struct error *err)
{
    *out = NULL;
    return PQgetisnull(result, row, column)
               ? ST_OK
               : postgres_db_copy_text(result, row, column, arena, out, err);
}

static enum status keep_sample(const PGresult *found, int i, struct arena *arena,
                               struct catalog_sample *sample, struct error *err)
{
    const char *uid;
    enum status st = postgres_db_copy_text(found, i, 9, arena, &uid, err);

    *sample = (struct catalog_sample){
        .index = postgres_db_int(found, i, 8),
        .state = (enum catalog_sample_state)postgres_db_int(found, i, 10),
        .width = (int32_t)postgres_db_int(found, i, 14),
        .height = (int32_t)postgres_db_int(found, i, 15),
    };
    if (st != ST_OK)
        return st;
    sample->uid = bytes_of_string(uid);
    st = keep_text(found, i, 11, arena, &sample->reason, err);
    if (st == ST_OK)
        st = keep_text(found, i, 12, arena, &sample->detail, err);
    return st == ST_OK ? keep_text(found, i, 13, arena, &sample->stage, err) : st;
}

static enum status keep_row(const PGresult *found, int i, struct arena *arena,
                            struct catalog_outbox_row *row, struct error *err)
{
    struct catalog_output *output = &row->output;

    row->seq = postgres_db_int(found, i, 0);
    row->committed_ms = postgres_db_int(found, i, 1);
    row->shard = output->shard = postgres_db_int(found, i, 7);
    row->is_sample = !PQgetisnull(found, i, 8);
    output->bytes = (uint64_t)postgres_db_int(found, i, 3);
    (void)snprintf(output->sha256, sizeof output->sha256, "%s", postgres_db_text(found, i, 4));
    output->n_done = postgres_db_int(found, i, 5);
    output->n_quarantined = postgres_db_int(found, i, 6);
    output->n_filtered = postgres_db_int(found, i, 16);
    if (postgres_db_copy_text(found, i, 2, arena, &output->object_key, err) != ST_OK)
        return err->code;
    return row->is_sample ? keep_sample(found, i, arena, &row->sample, err) : ST_OK;
}

static enum status read_rows(struct postgres_db *db, struct read_call *call, struct error *err)
{
    PGresult *found;
    enum status st = postgres_db_query(
        db, &found, err,
        "select o.seq, o.committed_ms, t.object_key, t.bytes, t.sha256, t.n_done, "
        "t.n_quarantined, o.shard, o.sample_index, uid, state, reason, detail, stage, width, "
        "height, t.n_filtered from " BATCH
        "join reinforce.outputs t on t.job = $1 and t.shard = o.shard left "
        "join reinforce.samples p on p.job = $1 and p.shard = o.shard and p.sample_index = "
        "o.sample_index order by o.seq",
        "ii", call->job, call->max_rows);

    call->n_rows = 0;
    if (st == ST_OK)
        st = arena_calloc(call->arena, (size_t)PQntuples(found), sizeof *call->rows, &call->rows,
                          err);
    for (int i = 0; st == ST_OK && i < PQntuples(found); i++)
        st = keep_row(found, i, call->arena, &call->rows[call->n_rows++], err);
    PQclear(found);
    return st;
}

/* How many rows of `found`, from `i` on, have the sequence number that stands first in them. */
static int n_alike(const PGresult *found, int i)
{
    int n = 0;

    while (i + n < PQntuples(found) &&
           postgres_db_int(found, i + n, 0) == postgres_db_int(found, i, 0))
        n++;
    return n;
}

/* The sample that the i-th of `found` belongs to. Both are in order. */
static struct catalog_sample *sample_of(struct read_call *call, const PGresult *found, int i,
                                        size_t *at)
{
    while (call->rows[*at].seq != postgres_db_int(found, i, 0))
        (*at)++;
    return &call->rows[*at].sample;
}

static enum status read_captions(struct postgres_db *db, struct read_call *call, struct error *err)
{
    PGresult *found;
    size_t at = 0;
    enum status st = postgres_db_query(
        db, &found, err,
        "select o.seq, column_name, caption_index, caption, log_probability from " BATCH
        "join reinforce.captions c on c.job = $1 and c.shard = o.shard and c.sample_index = "
        "o.sample_index order by o.seq, column_name collate \"C\", caption_index",
        "ii", call->job, call->max_rows);

    for (int i = 0; st == ST_OK && i < PQntuples(found);) {
        struct catalog_sample *sample = sample_of(call, found, i, &at);
        int n = n_alike(found, i);
        struct catalog_caption *captions;

        st = arena_calloc(call->arena, (size_t)n, sizeof *captions, &captions, err);
        for (int k = 0; k < n && st == ST_OK; k++, i++) {
            const char *text;

            captions[k].index = (int32_t)postgres_db_int(found, i, 2);
            captions[k].score = postgres_db_real(found, i, 4);
            st = postgres_db_copy_text(found, i, 1, call->arena, &captions[k].column, err);
            if (st == ST_OK)
                st = postgres_db_copy_text(found, i, 3, call->arena, &text, err);
            if (st == ST_OK)
                captions[k].text = bytes_of_string(text);
        }
        sample->captions = captions;
        sample->n_captions = (size_t)n;
    }
    PQclear(found);
    return st;
}

static enum status read_scores(struct postgres_db *db, struct read_call *call, struct error *err)
{
    PGresult *found;
    size_t at = 0;
    enum status st = postgres_db_query(
        db, &found, err,
        "select o.seq, teacher, column_name, caption_index, cosine from " BATCH
        "join reinforce.scores c on c.job = $1 and c.shard = o.shard and c.sample_index = "
        "o.sample_index order by o.seq, column_name collate \"C\", caption_index, teacher "
        "collate \"C\"",
        "ii", call->job, call->max_rows);

    for (int i = 0; st == ST_OK && i < PQntuples(found);) {
        struct catalog_sample *sample = sample_of(call, found, i, &at);
        int n = n_alike(found, i);
        struct catalog_score *scores;

        st = arena_calloc(call->arena, (size_t)n, sizeof *scores, &scores, err);
        for (int k = 0; k < n && st == ST_OK; k++, i++) {
            scores[k].index = (int32_t)postgres_db_int(found, i, 3);
            scores[k].value = postgres_db_real(found, i, 4);
            st = postgres_db_copy_text(found, i, 1, call->arena, &scores[k].teacher, err);
            if (st == ST_OK)
                st = postgres_db_copy_text(found, i, 2, call->arena, &scores[k].column, err);
        }
        sample->scores = scores;
        sample->n_scores = (size_t)n;
    }
    PQclear(found);
    return st;
}

static enum status read_batch(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    struct read_call *call = ctx;
    enum status st = read_rows(db, call, err);

    (void)repeated;
    if (st == ST_OK && call->n_rows > 0)
        st = read_captions(db, call, err);
    if (st == ST_OK && call->n_rows > 0)
        st = read_scores(db, call, err);
    return st;
}

enum status catalog_postgres_outbox_read(struct catalog *c, int64_t job, int64_t max_rows,
                                         struct arena *arena, struct catalog_outbox_row **rows,
                                         size_t *n_rows, struct error *err)
{
    struct read_call call = {.job = job, .max_rows = max_rows, .arena = arena};
    enum status st = postgres_db_transact(catalog_postgres_db(c),
                                          "begin isolation level repeatable read read only",
                                          read_batch, &call, err);

    if (st == ST_OK) {
        *rows = call.rows;
        *n_rows = call.n_rows;
    }
    return st;
}

enum status catalog_postgres_outbox_remove(struct catalog *c, int64_t job,
                                           const struct catalog_outbox_row *rows, size_t n_rows,
                                           struct error *err)
{
    struct byte_buf ids;
    const char *text = NULL;
    enum status st = ST_OK;

    byte_buf_init(&ids, IDS_MAX_BYTES);
    for (size_t i = 0; i < n_rows && st == ST_OK; i++)
        st = byte_buf_printf(&ids, err, "%c%lld", i == 0 ? '{' : ',', (long long)rows[i].seq);
    if (st == ST_OK)
        st = byte_buf_append_string(&ids, "}", err);
    if (st == ST_OK)
        st = byte_buf_c_str(&ids, &text, err);
    if (st == ST_OK)
        st = postgres_db_ask(catalog_postgres_db(c), NULL, err,
                             "delete from reinforce.outbox where job = $1 and seq = "
                             "any($2::bigint[])",
                             "is", job, text);
    byte_buf_release(&ids);
    return st;
}

enum status catalog_postgres_outbox_count(struct catalog *c, int64_t job,
                                          struct catalog_outbox *outbox, struct error *err)
{
    PGresult *row;
    enum status st = postgres_db_ask(
        catalog_postgres_db(c), &row, err,
        "select count(*), coalesce(min(committed_ms), 0) from reinforce.outbox where job = $1", "i",
        job);

    if (st == ST_OK) {
        outbox->n_waiting = postgres_db_int(row, 0, 0);
        outbox->oldest_ms = postgres_db_int(row, 0, 1);
    }
    PQclear(row);
    return st;
}
