/* Committing work: rows go in by COPY, under the lock of their shard's row. */
#include "reinforce/base/utf8.h"
#include "storage/catalog/catalog_postgres_slots.h"
#include "storage/catalog/postgres_copy.h"
#include "storage/catalog/suspects.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* Plans that are kept may be from when a job's tables were empty: they may not be scans. */
static const char begin_sql[] = "begin; set local enable_seqscan = off";

enum { DETAIL_MAX = 1024, UIDS_MAX_BYTES = 256 << 20 };

struct part_call {
    const struct catalog_lease *lease;
    const struct catalog_part *part;
    int64_t *places; /* of the samples: their own, or those they had before */
    struct catalog_standing at;
    const char *object_key;
    const struct object_written *written;
};

/* Where the sample's rows go to, in order. */
static const char copy_samples_sql[] =
    "copy reinforce.samples (job, shard, sample_index, uid, state, stage, reason, detail, width, "
    "height) from stdin (format binary)";
static const char copy_captions_sql[] =
    "copy reinforce.captions (job, shard, sample_index, column_name, caption_index, caption, "
    "log_probability) from stdin (format binary)";
static const char copy_scores_sql[] =
    "copy reinforce.scores (job, shard, sample_index, column_name, caption_index, teacher, cosine) "
    "from stdin (format binary)";

/* What is made again adds to what is there: its rows come by way of tables that live as long as the
 * transaction. */
static const char stage_sql[] =
    "create temp table added_captions (like reinforce.captions) on commit drop;"
    "create temp table added_scores (like reinforce.scores) on commit drop";
static const char copy_added_captions_sql[] =
    "copy added_captions (job, shard, sample_index, column_name, caption_index, caption, "
    "log_probability) from stdin (format binary)";
static const char copy_added_scores_sql[] =
    "copy added_scores (job, shard, sample_index, column_name, caption_index, teacher, cosine) "
    "from stdin (format binary)";
static const char merge_captions_sql[] =
    "insert into reinforce.captions select * from added_captions on conflict do nothing";
static const char replace_captions_sql[] =
    "insert into reinforce.captions select * from added_captions on conflict (job, shard, "
    "sample_index, column_name, caption_index) do update set caption = excluded.caption, "
    "log_probability = excluded.log_probability";
static const char merge_scores_sql[] =
    "insert into reinforce.scores select * from added_scores on conflict (job, shard, "
    "sample_index, column_name, caption_index, teacher) do update set cosine = excluded.cosine";

enum status catalog_postgres_lock_shard(struct postgres_db *db, const struct catalog_lease *lease,
                                        struct catalog_standing *at, struct error *err)
{
    PGresult *row;
    enum status st =
        postgres_db_query(db, &row, err,
                          "select n_parts, again_source, input_source, coalesce(parent, shard), "
                          "coalesce(end_index, 0), next_index, (parent is not null or end_index is "
                          "not null)::integer, (rival_owner is not null)::integer "
                          "from reinforce.shards where " CATALOG_POSTGRES_HELD " for update",
                          "iii", lease->job, lease->shard, lease->epoch);

    if (st == ST_OK && PQntuples(row) == 0)
        st = catalog_postgres_fenced(lease, err);
    if (st == ST_OK) {
        at->n_parts = postgres_db_int(row, 0, 0);
        at->is_again = !PQgetisnull(row, 0, 1);
        at->is_redo = at->is_again && postgres_db_int(row, 0, 1) == CATALOG_INPUT_LIST;
        at->is_retry = !at->is_again && postgres_db_int(row, 0, 2) == CATALOG_INPUT_LIST;
        at->home = postgres_db_int(row, 0, 3);
        at->end_index = (uint64_t)postgres_db_int(row, 0, 4);
        at->next_index = (uint64_t)postgres_db_int(row, 0, 5);
        at->is_split = postgres_db_int(row, 0, 6) != 0;
        at->is_rivalled = postgres_db_int(row, 0, 7) != 0;
    }
    PQclear(row);
    return st;
}

enum status catalog_postgres_settle(struct postgres_db *db, const struct catalog_lease *lease,
                                    struct error *err)
{
    return postgres_db_query(
        db, NULL, err,
        "update reinforce.shards set owner = case when epoch = $3 then owner else rival_owner end, "
        "epoch = $3, rival_owner = null where job = $1 and shard = $2",
        "iii", lease->job, lease->shard, lease->epoch);
}

/* A part that is there already: ours, committed by a call whose answer was lost, or somebody
 * else's. */
static enum status check_repeat(struct postgres_db *db, const struct part_call *call,
                                struct error *err)
{
    PGresult *row;
    enum status st = postgres_db_query(
        db, &row, err,
        "select 1 from reinforce.parts where job = $1 and shard = $2 and part = $3 and epoch = $4 "
        "and sha256 = $5",
        "iiiis", call->lease->job, call->lease->shard, call->lease->n_parts, call->lease->epoch,
        call->part->written.sha256);

    if (st == ST_OK && PQntuples(row) == 0)
        st = error_set(err, ST_CONFLICT, "shard %" PRId64 " is not at part %" PRId64,
                       call->lease->shard, call->lease->n_parts);
    PQclear(row);
    return st;
}

/* {"uid","uid"} as Postgres reads arrays. */
static enum status uid_array(const struct catalog_part *part, struct byte_buf *text,
                             struct error *err)
{
    enum status st = byte_buf_append_string(text, "{", err);

    for (size_t i = 0; i < part->n_samples && st == ST_OK; i++) {
        struct bytes_view uid = part->samples[i].uid;

        st = byte_buf_append_string(text, i > 0 ? ",\"" : "\"", err);
        for (size_t k = 0; k < uid.len && st == ST_OK; k++) {
            if (uid.data[k] == '\0')
                return error_set(err, ST_INVALID, "a sample's uid holds a NUL byte");
            if (uid.data[k] == '"' || uid.data[k] == '\\')
                st = byte_buf_append_string(text, "\\", err);
            if (st == ST_OK)
                st = byte_buf_append(text, &uid.data[k], 1, err);
        }
        if (st == ST_OK)
            st = byte_buf_append_string(text, "\"", err);
    }
    return st == ST_OK ? byte_buf_append_string(text, "}", err) : st;
}

/* Samples of a shard that is made again keep the places they had in the first input: they are found
 * by uid. */
static enum status find_previous(struct postgres_db *db, const struct part_call *call,
                                 struct error *err)
{
    struct byte_buf uids;
    const char *text = NULL;
    PGresult *rows = NULL;
    enum status st;

    byte_buf_init(&uids, UIDS_MAX_BYTES);
    st = uid_array(call->part, &uids, err);
    if (st == ST_OK)
        st = byte_buf_c_str(&uids, &text, err);
    if (st == ST_OK)
        st = postgres_db_query(
            db, &rows, err,
            "select (select min(s.sample_index) from reinforce.samples s where s.job = $1 and "
            "s.shard = $2 and s.uid = u.uid and s.state = 1) "
            "from unnest($3::text[]) with ordinality u (uid, place) order by place",
            "iis", call->lease->job, call->at.home, text);
    for (size_t i = 0; i < call->part->n_samples && st == ST_OK; i++) {
        const struct catalog_sample *s = &call->part->samples[i];

        if (PQgetisnull(rows, (int)i, 0))
            st = error_set(err, ST_CORRUPT,
                           "sample \"%.*s\" of the previous output is not in the catalog",
                           (int)s->uid.len, (const char *)s->uid.data);
        else
            call->places[i] = postgres_db_int(rows, (int)i, 0);
    }
    PQclear(rows);
    byte_buf_release(&uids);
    return st;
}

/* Those that are quarantined now lose their rows, and get new ones. */
static enum status delete_quarantined(struct postgres_db *db, const struct part_call *call,
                                      struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < call->part->n_samples && st == ST_OK; i++)
        if (call->part->samples[i].state != CATALOG_SAMPLE_DONE)
            st = postgres_db_query(
                db, NULL, err,
                "with c as (delete from reinforce.captions where job = $1 and shard = $2 and "
                "sample_index = $3), s as (delete from reinforce.scores where job = $1 and "
                "shard = $2 and sample_index = $3) "
                "delete from reinforce.samples where job = $1 and shard = $2 and sample_index = $3",
                "iii", call->lease->job, call->at.home, call->places[i]);
    return st;
}

/* What failed is told in words that may quote a file's bytes, or be cut in mid-character: it is
 * mended, for a bad word may not cost the part. */
static struct bytes_view mended(const char *text, uint8_t out[DETAIL_MAX + 4])
{
    struct bytes_view in = bytes_of_string(text);
    size_t n = 0;

    for (size_t pos = 0; pos < in.len && n < DETAIL_MAX;)
        n += utf8_put(utf8_next(in, &pos), out + n);
    return bytes_view_of(out, n);
}

/* Names a row for errors; the uid may be anything, and is cut. */
static const char *name_row(char name[160], const char *what, const struct catalog_sample *sample)
{
    (void)snprintf(name, 160, "%.40s of sample \"%.*s\"", what,
                   (int)MIN(sample->uid.len, (size_t)80), (const char *)sample->uid.data);
    return name;
}

static enum status copy_samples(struct postgres_db *db, const struct part_call *call,
                                struct error *err)
{
    struct postgres_copy copy;
    enum status st = postgres_copy_begin(db, copy_samples_sql, &copy, err);

    for (size_t i = 0; i < call->part->n_samples && st == ST_OK; i++) {
        const struct catalog_sample *s = &call->part->samples[i];
        uint8_t detail[DETAIL_MAX + 4];
        struct bytes_view text;
        char name[160];

        if (call->at.is_again && s->state == CATALOG_SAMPLE_DONE)
            continue;
        text = mended(s->detail != NULL ? s->detail : "", detail);
        if (s->detail != NULL)
            st = postgres_copy_row(&copy, name_row(name, "the uid", s), err, "iiibhssbdd",
                                   call->lease->job, call->at.home, call->places[i], &s->uid,
                                   (int)s->state, s->stage, s->reason, &text, s->width, s->height);
        else
            st = postgres_copy_row(&copy, name_row(name, "the uid", s), err, "iiibhsssdd",
                                   call->lease->job, call->at.home, call->places[i], &s->uid,
                                   (int)s->state, s->stage, s->reason, (const char *)NULL, s->width,
                                   s->height);
    }
    return postgres_copy_end(&copy, st, err);
}

static enum status copy_captions(struct postgres_db *db, const struct part_call *call,
                                 struct error *err)
{
    struct postgres_copy copy;
    enum status st = postgres_copy_begin(
        db, call->at.is_again ? copy_added_captions_sql : copy_captions_sql, &copy, err);

    for (size_t i = 0; i < call->part->n_samples && st == ST_OK; i++) {
        const struct catalog_sample *s = &call->part->samples[i];
        char what[40], name[160];

        for (size_t k = 0; k < s->n_captions && st == ST_OK; k++) {
            const struct catalog_caption *c = &s->captions[k];

            (void)snprintf(what, sizeof what, "caption %.20s[%" PRId32 "]", c->column, c->index);
            st = postgres_copy_row(&copy, name_row(name, what, s), err, "iiisdbr", call->lease->job,
                                   call->at.home, call->places[i], c->column, c->index, &c->text,
                                   c->score);
        }
    }
    return postgres_copy_end(&copy, st, err);
}

static enum status copy_scores(struct postgres_db *db, const struct part_call *call,
                               struct error *err)
{
    struct postgres_copy copy;
    enum status st = postgres_copy_begin(
        db, call->at.is_again ? copy_added_scores_sql : copy_scores_sql, &copy, err);

    for (size_t i = 0; i < call->part->n_samples && st == ST_OK; i++) {
        const struct catalog_sample *s = &call->part->samples[i];
        char name[160];

        for (size_t k = 0; k < s->n_scores && st == ST_OK; k++)
            st = postgres_copy_row(&copy, name_row(name, "a score", s), err, "iiisdsr",
                                   call->lease->job, call->at.home, call->places[i],
                                   s->scores[k].column, s->scores[k].index, s->scores[k].teacher,
                                   s->scores[k].value);
    }
    return postgres_copy_end(&copy, st, err);
}

/* The rows that a retry's samples take the place of are theirs no longer. Their shards are locked,
 * in order, for the counts of an output that is made again meanwhile come from the same rows. */
static enum status take_over(struct postgres_db *db, const struct part_call *call,
                             struct error *err)
{
    const struct catalog_part *part = call->part;
    int64_t begin = part->n_samples > 0 ? part->samples[0].index : 0;
    int64_t end = begin + (int64_t)part->n_samples, n = 0;
    PGresult *row = NULL;
    enum status st = postgres_db_query(
        db, NULL, err,
        "select 1 from reinforce.shards where job = $1 and shard in (select old_shard from "
        "reinforce.retries where job = $1 and shard = $2 and sample_index >= $3 and "
        "sample_index < $4) order by shard for update",
        "iiii", call->lease->job, call->at.home, begin, end);

    if (st == ST_OK)
        st = postgres_db_query(
            db, &row, err,
            "with old as (update reinforce.samples p set state = 3 from reinforce.retries r where "
            "r.job = $1 and r.shard = $2 and r.sample_index >= $3 and r.sample_index < $4 and "
            "p.job = $1 and p.shard = r.old_shard and p.sample_index = r.old_index and "
            "p.state = 2 returning 1) select count(*) from old",
            "iiii", call->lease->job, call->at.home, begin, end);
    if (st == ST_OK)
        n = postgres_db_int(row, 0, 0);
    PQclear(row);
    if (st == ST_OK && n != (int64_t)part->n_samples)
        st = error_set(err, ST_CORRUPT,
                       "%" PRId64 " of the %zu samples that shard %" PRId64
                       " tries again are quarantined",
                       n, part->n_samples, call->at.home);
    if (st == ST_OK)
        st = postgres_db_query(
            db, NULL, err,
            "update reinforce.outputs o set n_quarantined = (select count(*) from "
            "reinforce.samples p where p.job = $1 and p.shard = o.shard and p.state = 2) where "
            "o.job = $1 and o.shard in (select old_shard from reinforce.retries where job = $1 and "
            "shard = $2 and sample_index >= $3 and sample_index < $4)",
            "iiii", call->lease->job, call->at.home, begin, end);
    return st;
}

static enum status copy_costs(struct postgres_db *db, const struct part_call *call,
                              struct error *err)
{
    struct postgres_copy copy;
    enum status st;

    if (call->part->n_costs == 0)
        return ST_OK;
    st = postgres_copy_begin(
        db,
        "copy reinforce.costs (job, shard, epoch, part, role, model, seconds, images, texts, "
        "tokens) from stdin (format binary)",
        &copy, err);
    for (size_t i = 0; i < call->part->n_costs && st == ST_OK; i++) {
        const struct catalog_cost *c = &call->part->costs[i];

        st = postgres_copy_row(&copy, "a model's name", err, "iiiissriii", call->lease->job,
                               call->lease->shard, call->lease->epoch, call->lease->n_parts,
                               c->role, c->model, c->seconds, c->images, c->texts, c->tokens);
    }
    return postgres_copy_end(&copy, st, err);
}

static enum status insert_part(struct postgres_db *db, const struct part_call *call,
                               struct error *err)
{
    const struct catalog_part *part = call->part;
    int64_t n_done = catalog_part_count(part, CATALOG_SAMPLE_DONE);
    int64_t n_filtered = catalog_part_count(part, CATALOG_SAMPLE_FILTERED);

    return postgres_db_query(
        db, NULL, err,
        "with p as (insert into reinforce.parts (job, shard, part, epoch, object_key, bytes, "
        "sha256, n_done, n_quarantined, n_filtered) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, "
        "$12)) "
        "update reinforce.shards set next_offset = $10, next_index = $11, n_parts = n_parts + 1, "
        "attempts = " SUSPECT_ATTEMPTS_AFTER(
            "$8::bigint + $12") ", probing = false, probe_deaths = 0 "
                                "where job = $1 and shard = $2",
        "iiiisisiiiii", call->lease->job, call->lease->shard, call->lease->n_parts,
        call->lease->epoch, part->object_key, (int64_t)part->written.bytes, part->written.sha256,
        n_done, (int64_t)part->n_samples - n_done - n_filtered, (int64_t)part->next_offset,
        (int64_t)part->next_index, n_filtered);
}

static enum status commit_part(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    struct part_call *call = ctx;
    enum status st = catalog_postgres_lock_shard(db, call->lease, &call->at, err);

    (void)repeated;
    if (st != ST_OK)
        return st;
    if (call->at.n_parts != call->lease->n_parts)
        return check_repeat(db, call, err);
    if (call->at.end_index > 0 && call->part->next_index > call->at.end_index)
        return catalog_postgres_fenced(call->lease, err);
    for (size_t i = 0; i < call->part->n_samples; i++)
        call->places[i] = call->part->samples[i].index;
    if (call->at.is_rivalled)
        st = catalog_postgres_settle(db, call->lease, err);
    if (st == ST_OK && call->at.is_retry)
        st = take_over(db, call, err);
    if (st == ST_OK && call->at.is_again) {
        st = find_previous(db, call, err);
        if (st == ST_OK)
            st = delete_quarantined(db, call, err);
        if (st == ST_OK)
            st = postgres_db_execute(db, stage_sql, err);
    }
    if (st == ST_OK)
        st = copy_samples(db, call, err);
    if (st == ST_OK)
        st = copy_captions(db, call, err);
    if (st == ST_OK)
        st = copy_scores(db, call, err);
    if (st == ST_OK && call->at.is_again)
        st = postgres_db_execute(db, call->at.is_redo ? replace_captions_sql : merge_captions_sql,
                                 err);
    if (st == ST_OK && call->at.is_again)
        st = postgres_db_execute(db, merge_scores_sql, err);
    if (st == ST_OK)
        st = copy_costs(db, call, err);
    return st == ST_OK ? insert_part(db, call, err) : st;
}

enum status catalog_postgres_part_commit(struct catalog *c, const struct catalog_lease *lease,
                                         const struct catalog_part *part, struct error *err)
{
    struct part_call call = {.lease = lease,
                             .part = part,
                             .places = calloc(MAX(part->n_samples, (size_t)1), sizeof(int64_t))};
    enum status st;

    if (call.places == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a part's places");
    st = postgres_db_transact(catalog_postgres_db(c), begin_sql, commit_part, &call, err);
    free(call.places);
    return st;
}

/* A shard that is done: by this lease with these bytes, the answer to which was lost, or not. */
static enum status check_done(struct postgres_db *db, const struct part_call *call,
                              struct error *err)
{
    PGresult *row;
    enum status st = postgres_db_query(
        db, &row, err,
        "select 1 from reinforce.shards s join reinforce.outputs o on o.job = s.job and "
        "o.shard = coalesce(s.parent, s.shard) where s.job = $1 and s.shard = $2 and s.epoch = $3 "
        "and s.state = 3 and "
        "o.sha256 = $4",
        "iiis", call->lease->job, call->lease->shard, call->lease->epoch, call->written->sha256);

    if (st == ST_OK && PQntuples(row) == 0)
        st = catalog_postgres_fenced(call->lease, err);
    PQclear(row);
    return st;
}

/* Of the pieces of a shard that is just done; it knows then how many samples there were. */
static enum status end_pieces(struct postgres_db *db, const struct part_call *call,
                              struct error *err)
{
    return postgres_db_query(
        db, NULL, err,
        "with pieces as (update reinforce.shards set state = 3, owner = null, lease_expires = null "
        "where job = $1 and parent = $2 returning next_index) update reinforce.shards set "
        "end_index = null, samples_read = greatest(next_index, (select max(next_index) from "
        "pieces))"
        " where job = $1 and shard = $2",
        "ii", call->lease->job, call->at.home);
}

static enum status commit_shard(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    struct part_call *call = ctx;
    enum status st = catalog_postgres_lock_shard(db, call->lease, &call->at, err);

    (void)repeated;
    if (st == ST_CONFLICT)
        return check_done(db, call, err);
    if (st == ST_OK && call->at.is_rivalled)
        st = catalog_postgres_settle(db, call->lease, err);
    if (st != ST_OK)
        return st;
    st = postgres_db_query(
        db, NULL, err,
        "with n as (select count(*) filter (where state = 1) as done, "
        "count(*) filter (where state = 2) as quarantined, "
        "count(*) filter (where state = 4) as filtered from reinforce.samples "
        "where job = $1 and shard = $2), "
        "o as (insert into reinforce.outputs (job, shard, object_key, bytes, sha256, n_done, "
        "n_quarantined, n_filtered) select $1, $2, $3, $4, $5, n.done, n.quarantined, n.filtered "
        "from n "
        "on conflict (job, shard) do update set object_key = excluded.object_key, "
        "bytes = excluded.bytes, sha256 = excluded.sha256, n_done = excluded.n_done, "
        "n_quarantined = excluded.n_quarantined, n_filtered = excluded.n_filtered) "
        "update reinforce.shards set state = 3, owner = null, lease_expires = null, "
        "last_error = null, "
        "samples_read = case when again_source is null then next_index else samples_read end, "
        "again_source = null, again_key = null, again_format = null where job = $1 and shard = $2",
        "iisis", call->lease->job, call->at.home, call->object_key, (int64_t)call->written->bytes,
        call->written->sha256);
    if (st == ST_OK && call->at.is_split)
        st = end_pieces(db, call, err);
    return st == ST_OK ? catalog_postgres_outbox_insert(db, call->lease->job, call->at.home, err)
                       : st;
}

enum status catalog_postgres_shard_commit(struct catalog *c, const struct catalog_lease *lease,
                                          const char *object_key,
                                          const struct object_written *written, struct error *err)
{
    struct part_call call = {.lease = lease, .object_key = object_key, .written = written};

    return postgres_db_transact(catalog_postgres_db(c), begin_sql, commit_shard, &call, err);
}
