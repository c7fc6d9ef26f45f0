#include "storage/catalog/catalog_sqlite_part.h"

#include "storage/catalog/sqlite_rows.h"
#include "storage/catalog/standing.h"

#include <inttypes.h>

enum status catalog_sqlite_fenced(const struct catalog_lease *lease, struct error *err)
{
    return error_set(err, ST_CONFLICT,
                     "the lease of shard %" PRId64 " at epoch %" PRId64 " is no longer ours",
                     lease->shard, lease->epoch);
}

/* Under the lease's epoch, inside a transaction. ST_CONFLICT: fenced off. */
static enum status check_epoch(struct sqlite_db *db, const struct catalog_lease *lease,
                               struct catalog_standing *standing, struct error *err)
{
    sqlite3_stmt *statement;
    enum status st = sqlite_db_prepare(db, SHARD_OF_EPOCH, &statement, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, statement, err, "iii", lease->job, lease->shard, lease->epoch);
    if (st == ST_OK)
        st = sqlite_db_step(db, statement, err);
    if (st == ST_END)
        return catalog_sqlite_fenced(lease, err);
    if (st != ST_OK)
        return st;
    *standing = (struct catalog_standing){
        .n_parts = sqlite3_column_int64(statement, 0),
        .is_again = sqlite3_column_type(statement, 1) != SQLITE_NULL,
        .is_redo = sqlite3_column_int(statement, 1) == CATALOG_INPUT_LIST,
        .is_retry = sqlite3_column_int(statement, 2) == CATALOG_INPUT_LIST,
        .home = sqlite3_column_int64(statement, 3),
        .end_index = (uint64_t)sqlite3_column_int64(statement, 4),
        .next_index = (uint64_t)sqlite3_column_int64(statement, 5),
        .is_split = sqlite3_column_int(statement, 6) != 0,
        .is_rivalled = sqlite3_column_int(statement, 7) != 0,
    };
    standing->is_retry = standing->is_retry && !standing->is_again;
    (void)sqlite3_reset(statement);
    return ST_OK;
}

/* A sample of a shard that is made again keeps the place it had in the first input: it is found by
 * uid. */
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
                                 const struct catalog_sample *s,
                                 const struct catalog_standing *standing, struct error *err)
{
    int64_t index = s->index;
    /* Rows are added to what is there. */
    bool keep = standing->is_again && s->state == CATALOG_SAMPLE_DONE;
    enum statement put_caption = standing->is_redo ? CAPTION_PUT : CAPTION_INSERT;
    enum status st = standing->is_again ? find_previous(db, lease, s, &index, err) : ST_OK;

    if (st == ST_OK && standing->is_again && !keep)
        st = sqlite_db_run(db, SAMPLE_DELETE, NULL, err, "iii", lease->job, lease->shard, index);
    if (st == ST_OK && !keep)
        st = sqlite_db_run(db, SAMPLE_INSERT, NULL, err, "iiibisssii", lease->job, lease->shard,
                           index, &s->uid, (int64_t)s->state, s->stage, s->reason, s->detail,
                           (int64_t)s->width, (int64_t)s->height);
    for (size_t i = 0; i < s->n_captions && st == ST_OK; i++)
        st = sqlite_db_run(db, (int)put_caption, NULL, err, "iiisibr", lease->job, lease->shard,
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

/* The rows that a retry's samples take the place of are theirs no longer. */
static enum status take_over(struct sqlite_db *db, const struct catalog_lease *lease,
                             const struct catalog_part *part, struct error *err)
{
    int64_t begin = part->n_samples > 0 ? part->samples[0].index : 0;
    int64_t end = begin + (int64_t)part->n_samples, n = 0;
    enum status st =
        sqlite_db_run(db, RETRY_TAKE_OVER, &n, err, "iiii", lease->job, lease->shard, begin, end);

    if (st == ST_OK && n != (int64_t)part->n_samples)
        st = error_set(err, ST_CORRUPT,
                       "%" PRId64 " of the %zu samples that shard %" PRId64
                       " tries again are quarantined",
                       n, part->n_samples, lease->shard);
    if (st == ST_OK)
        st = sqlite_db_run(db, RETRY_RECOUNT, NULL, err, "iiii", lease->job, lease->shard, begin,
                           end);
    return st;
}

static enum status insert_costs(struct sqlite_db *db, const struct catalog_lease *lease,
                                const struct catalog_part *part, struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < part->n_costs && st == ST_OK; i++) {
        const struct catalog_cost *c = &part->costs[i];

        st = sqlite_db_run(db, COST_INSERT, NULL, err, "iiiissriii", lease->job, lease->shard,
                           lease->epoch, lease->n_parts, c->role, c->model, c->seconds, c->images,
                           c->texts, c->tokens);
    }
    return st;
}

/* Of two leases of a shard, the one that commits has it from now on. */
static enum status settle(struct sqlite_db *db, const struct catalog_lease *lease,
                          struct error *err)
{
    return sqlite_db_run(db, SHARD_SETTLE, NULL, err, "iii", lease->job, lease->shard,
                         lease->epoch);
}

static enum status insert_part(struct sqlite_db *db, const struct catalog_lease *lease,
                               const struct catalog_part *part,
                               const struct catalog_standing *standing, struct error *err)
{
    struct catalog_lease home = *lease;
    int64_t n_done = catalog_part_count(part, CATALOG_SAMPLE_DONE);
    int64_t n_filtered = catalog_part_count(part, CATALOG_SAMPLE_FILTERED);
    enum status st = ST_OK;

    home.shard = standing->home;
    if (standing->is_rivalled)
        st = settle(db, lease, err);
    if (standing->end_index > 0 && part->next_index > standing->end_index)
        return catalog_sqlite_fenced(lease, err);
    if (st == ST_OK && standing->is_retry)
        st = take_over(db, &home, part, err);

    for (size_t i = 0; i < part->n_samples && st == ST_OK; i++)
        st = insert_sample(db, &home, &part->samples[i], standing, err);
    if (st == ST_OK)
        st = insert_costs(db, lease, part, err);
    if (st == ST_OK)
        st = sqlite_db_run(db, PART_INSERT, NULL, err, "iiiisisiii", lease->job, lease->shard,
                           lease->n_parts, lease->epoch, part->object_key,
                           (int64_t)part->written.bytes, part->written.sha256, n_done,
                           (int64_t)part->n_samples - n_done - n_filtered, n_filtered);
    if (st == ST_OK)
        st = sqlite_db_run(db, SHARD_ADVANCE, NULL, err, "iiiii", lease->job, lease->shard,
                           (int64_t)part->next_offset, (int64_t)part->next_index,
                           n_done + n_filtered);
    return st;
}

enum status catalog_sqlite_part_commit(struct catalog *c, const struct catalog_lease *lease,
                                       const struct catalog_part *part, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    struct catalog_standing standing;
    enum status st = sqlite_db_begin(db, err);

    if (st != ST_OK)
        return st;
    st = check_epoch(db, lease, &standing, err);
    if (st == ST_OK)
        st = standing.n_parts == lease->n_parts ? insert_part(db, lease, part, &standing, err)
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
    return st == ST_END ? catalog_sqlite_fenced(lease, err) : st;
}

enum status catalog_sqlite_shard_commit(struct catalog *c, const struct catalog_lease *lease,
                                        const char *object_key,
                                        const struct object_written *written, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    struct catalog_standing standing;
    enum status st = sqlite_db_begin(db, err);

    if (st != ST_OK)
        return st;
    st = check_epoch(db, lease, &standing, err);
    if (st == ST_CONFLICT)
        return sqlite_db_end(db, check_done(db, lease, written, err), err);
    if (st == ST_OK && standing.is_rivalled)
        st = settle(db, lease, err);
    if (st == ST_OK)
        st = sqlite_db_run(db, OUTPUT_INSERT, NULL, err, "iisis", lease->job, standing.home,
                           object_key, (int64_t)written->bytes, written->sha256);
    if (st == ST_OK)
        st = sqlite_db_run(db, SHARD_DONE, NULL, err, "ii", lease->job, standing.home);
    if (st == ST_OK && standing.is_split)
        st = sqlite_db_run(db, PIECES_DONE, NULL, err, "ii", lease->job, standing.home);
    if (st == ST_OK)
        st = sqlite_db_run(db, OUTBOX_INSERT, NULL, err, "ii", lease->job, standing.home);
    return sqlite_db_end(db, st, err);
}

/* How many rows the statement counts or finds. */
static enum status ask(struct sqlite_db *db, enum statement which, int64_t job, int64_t a,
                       int64_t b, int64_t *n, struct error *err)
{
    sqlite3_stmt *row;
    enum status st = sqlite_db_prepare(db, (int)which, &row, err);

    *n = 0;
    if (st == ST_OK)
        st = sqlite_db_bind(db, row, err, "iii", job, a, b);
    if (st == ST_OK)
        st = sqlite_db_step(db, row, err);
    if (st == ST_OK) {
        *n = sqlite3_column_int64(row, 0);
        (void)sqlite3_reset(row);
    }
    return st == ST_END ? ST_OK : st;
}

static enum status split(struct sqlite_db *db, const struct catalog_lease *lease,
                         uint64_t at_offset, uint64_t at_index, struct error *err)
{
    struct catalog_standing standing;
    int64_t n = 0;
    enum status st = check_epoch(db, lease, &standing, err);

    if (st == ST_OK)
        st = ask(db, PIECE_FIND, lease->job, standing.home, (int64_t)at_index, &n, err);
    if (st != ST_OK || (n > 0 && standing.end_index == at_index)) /* it was said before */
        return st;
    if (standing.is_again || standing.is_rivalled || at_index <= standing.next_index ||
        (standing.end_index > 0 && at_index >= standing.end_index))
        return error_set(err, ST_CONFLICT, "shard %" PRId64 " is not split at sample %" PRIu64,
                         lease->shard, at_index);
    st = sqlite_db_run(db, PIECE_INSERT, NULL, err, "iiii", lease->job, lease->shard,
                       (int64_t)at_offset, (int64_t)at_index);
    return st == ST_OK ? sqlite_db_run(db, SHARD_SPLIT, NULL, err, "iii", lease->job, lease->shard,
                                       (int64_t)at_index)
                       : st;
}

enum status catalog_sqlite_lease_split(struct catalog *c, const struct catalog_lease *lease,
                                       uint64_t at_offset, uint64_t at_index, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    enum status st = sqlite_db_begin(db, err);

    return st == ST_OK ? sqlite_db_end(db, split(db, lease, at_offset, at_index, err), err) : st;
}

enum status catalog_sqlite_piece_commit(struct catalog *c, const struct catalog_lease *lease,
                                        int64_t *shard, bool *is_last, struct error *err)
{
    struct sqlite_db *db = sqlite_rows_db(c);
    struct catalog_standing standing;
    int64_t n = 0;
    enum status st = sqlite_db_begin(db, err);

    if (st != ST_OK)
        return st;
    st = check_epoch(db, lease, &standing, err);
    if (st == ST_OK)
        st = ask(db, FAMILY_UNFINISHED, lease->job, standing.home, lease->shard, &n, err);
    if (st == ST_OK && standing.is_rivalled)
        st = settle(db, lease, err);
    if (st == ST_OK && n > 0)
        st = sqlite_db_run(db, SHARD_WAIT, NULL, err, "ii", lease->job, lease->shard);
    if (st == ST_OK) {
        *shard = standing.home;
        *is_last = n == 0;
    }
    return sqlite_db_end(db, st, err);
}
