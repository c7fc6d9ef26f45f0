/* Shards whose rest is split off for other workers. */
#include "storage/catalog/catalog_postgres_slots.h"

#include <inttypes.h>

struct split_call {
    const struct catalog_lease *lease;
    struct catalog_standing at;
    uint64_t at_offset, at_index;
    bool is_last;
};

/* Whether the piece that begins there has been split off: the call is made again. */
static enum status is_split_there(struct postgres_db *db, const struct split_call *call,
                                  bool *found, struct error *err)
{
    PGresult *row;
    enum status st = postgres_db_query(
        db, &row, err,
        "select 1 from reinforce.shards where job = $1 and parent = $2 and begin_index = $3", "iii",
        call->lease->job, call->at.home, (int64_t)call->at_index);

    *found = st == ST_OK && PQntuples(row) > 0 && call->at.end_index == call->at_index;
    PQclear(row);
    return st;
}

/* The job's row is locked, and with that the numbers of its pieces. */
static enum status split(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    struct split_call *call = ctx;
    const struct catalog_lease *lease = call->lease;
    bool found;
    enum status st = postgres_db_query(
        db, NULL, err, "select 1 from reinforce.jobs where job = $1 for update", "i", lease->job);

    (void)repeated;
    if (st == ST_OK)
        st = catalog_postgres_lock_shard(db, lease, &call->at, err);
    if (st == ST_OK)
        st = is_split_there(db, call, &found, err);
    if (st != ST_OK || found)
        return st;
    if (call->at.is_again || call->at.is_rivalled || call->at_index <= call->at.next_index ||
        (call->at.end_index > 0 && call->at_index >= call->at.end_index))
        return error_set(err, ST_CONFLICT, "shard %" PRId64 " is not split at sample %" PRIu64,
                         lease->shard, call->at_index);
    st = postgres_db_query(
        db, NULL, err,
        "insert into reinforce.shards (job, shard, state, parent, input_source, input_key, "
        "input_format, input_begin, input_end, input_etag, begin_index, end_index, next_offset, "
        "next_index) select job, (select least(min(shard), 0) - 1 from reinforce.shards where "
        "job = $1), 1, coalesce(parent, shard), input_source, input_key, input_format, "
        "input_begin, input_end, input_etag, $4, end_index, $3, $4 from reinforce.shards "
        "where job = $1 and shard = $2",
        "iiii", lease->job, lease->shard, (int64_t)call->at_offset, (int64_t)call->at_index);
    return st == ST_OK
               ? postgres_db_query(
                     db, NULL, err,
                     "update reinforce.shards set end_index = $3 where job = $1 and shard = $2",
                     "iii", lease->job, lease->shard, (int64_t)call->at_index)
               : st;
}

enum status catalog_postgres_lease_split(struct catalog *c, const struct catalog_lease *lease,
                                         uint64_t at_offset, uint64_t at_index, struct error *err)
{
    struct split_call call = {.lease = lease, .at_offset = at_offset, .at_index = at_index};

    return postgres_db_transact(catalog_postgres_db(c), "begin", split, &call, err);
}

/* Locks the shard that the lease's samples are of: of those who end at the same time, one is the
 * last. */
static enum status lock_home(struct postgres_db *db, struct split_call *call, struct error *err)
{
    PGresult *row;
    enum status st = postgres_db_query(
        db, &row, err,
        "select shard from reinforce.shards where job = $1 and shard = (select coalesce(parent, "
        "shard) from reinforce.shards where job = $1 and shard = $2) for update",
        "ii", call->lease->job, call->lease->shard);

    if (st == ST_OK && PQntuples(row) == 0)
        st = catalog_postgres_fenced(call->lease, err);
    if (st == ST_OK)
        call->at.home = postgres_db_int(row, 0, 0);
    PQclear(row);
    return st;
}

/* The lease's row, when it waits already, or all are done: a try whose answer was lost has ended
 * it.
 */
static enum status waits(struct postgres_db *db, const struct split_call *call, struct error *err)
{
    PGresult *row;
    enum status st =
        postgres_db_query(db, &row, err,
                          "select 1 from reinforce.shards where job = $1 and shard = $2 and epoch "
                          "= $3 and state in (3, 5)",
                          "iii", call->lease->job, call->lease->shard, call->lease->epoch);

    if (st == ST_OK && PQntuples(row) == 0)
        st = catalog_postgres_fenced(call->lease, err);
    PQclear(row);
    return st;
}

static enum status commit_piece(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    struct split_call *call = ctx;
    const struct catalog_lease *lease = call->lease;
    PGresult *row;
    enum status st = lock_home(db, call, err);

    call->is_last = false;
    if (st != ST_OK)
        return st;
    st = catalog_postgres_lock_shard(db, lease, &call->at, err);
    (void)repeated;
    if (st == ST_CONFLICT)
        return waits(db, call, err);
    if (st == ST_OK && call->at.is_rivalled)
        st = catalog_postgres_settle(db, lease, err);
    if (st == ST_OK)
        st = postgres_db_query(
            db, &row, err,
            "with others as (select count(*) as n from reinforce.shards where job = $1 and "
            "(shard = $2 or parent = $2) and shard <> $3 and state <> 5) "
            "update reinforce.shards set state = case when n > 0 then 5 else 2 end, "
            "lease_expires = case when n > 0 then null else lease_expires end, "
            "owner = case when n > 0 then null else owner end, last_error = null from others "
            "where job = $1 and shard = $3 returning n",
            "iii", lease->job, call->at.home, lease->shard);
    if (st != ST_OK)
        return st;
    call->is_last = postgres_db_int(row, 0, 0) == 0;
    PQclear(row);
    return ST_OK;
}

enum status catalog_postgres_piece_commit(struct catalog *c, const struct catalog_lease *lease,
                                          int64_t *shard, bool *is_last, struct error *err)
{
    struct split_call call = {.lease = lease, .at = {.home = lease->shard}};
    enum status st =
        postgres_db_transact(catalog_postgres_db(c), "begin", commit_piece, &call, err);

    *shard = call.at.home;
    *is_last = call.is_last;
    return st;
}
