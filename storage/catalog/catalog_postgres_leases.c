/* Leases, taken and renewed several at a time: one round trip, one transaction. */
#include "storage/catalog/catalog_postgres_slots.h"
#include "storage/catalog/suspects.h"

#include <inttypes.h>
#include <stdio.h>

#define LEASE_COLUMNS                                                                              \
    "s.shard, s.epoch, s.attempts, coalesce(s.again_source, s.input_source), "                     \
    "coalesce(s.again_key, s.input_key), coalesce(s.again_format, s.input_format), "               \
    "case when s.again_source is null then s.input_begin else 0 end, "                             \
    "case when s.again_source is null then s.input_end else 0 end, "                               \
    "s.input_etag, s.input_samples, s.next_offset, s.next_index, s.n_parts, s.suspect_end, "       \
    "s.probe_samples, s.probe_deaths, coalesce(s.end_index, 0)"

/*
 * One statement gives up what was tried too often and takes the lowest of what is ready or has run
 * out (of the 64 that did so first), if the job's leases go out at all. Rows that another call has
 * just locked are passed over, so that callers never wait for each other.
 *
 * Written so that each step has one way to go, whatever the planner believes: `state + 0` and
 * `shard + 0` keep it from indexes that, in a job of a million shards, lead past all that are done,
 * or past every version of a lease that was renewed. Those versions are why not every take of a
 * batch looks for what has run out ($8).
 */
static const char take_sql[] =
    "with dead as materialized (select shard from reinforce.shards where $8::integer = 1 and job = "
    "$1 and state = 2 "
    "and lease_expires <= now() order by lease_expires limit 64), "
    "spent as (update reinforce.shards set state = 4 "
    "where job = $1 and state = 1 and attempts > 0 and attempts >= $2), "
    "killed as (update reinforce.shards s set state = 4, owner = null, lease_expires = null, "
    "attempts = attempts + " SUSPECT_ATTEMPT ", "
    "last_error = 'its samples kill their workers' from dead where s.job = $1 and "
    "s.shard = dead.shard and state + 0 = 2 and lease_expires <= now() "
    "and attempts + " SUSPECT_ATTEMPT " >= $2), "
    "gate as materialized (select 1 from reinforce.jobs j where j.job = $1 and j.state in (1, 2) "
    "and case when j.max_leases > 0 then (select count(*) from reinforce.shards s where s.job = $1 "
    "and s.state = 2 and s.lease_expires > now()) < j.max_leases else true end), "
    "ready as (select shard from reinforce.shards where job = $1 and state = 1 and attempts < $2 "
    "and exists (select from gate) order by shard limit 1 for update skip locked), "
    "expired as (select s.shard from dead join reinforce.shards s on s.job = $1 and "
    "s.shard = dead.shard where state + 0 = 2 and lease_expires <= now() and "
    "attempts + " SUSPECT_ATTEMPT
    " < $2 and exists (select from gate) order by s.shard + 0 limit 1 "
    "for update of s skip locked), "
    "pick as (select shard from ready union all select shard from expired order by shard limit 1) "
    "update reinforce.shards s set state = 2, epoch = greatest(epoch, rival_epoch) + 1, owner = "
    "$3, "
    "rival_owner = null, lease_token = $4, "
    "lease_expires = now() + $5::bigint * interval '1 millisecond', "
    "attempts = attempts + " SUSPECT_ATTEMPT
    ", suspect_end = " SUSPECT_END("$6::bigint") ", probe_samples = " SUSPECT_PROBE(
        "$7::bigint") ", probe_deaths = " SUSPECT_DEATHS ", probing = false, leased_ms = "
                      "coalesce(s.leased_ms, " CATALOG_POSTGRES_NOW_MS
                      ") from pick where s.job = $1 and s.shard = pick.shard "
                      "returning " LEASE_COLUMNS;

/* Planned once for a batch: a plan for each take's own values would cost more than the take. */
static const char begin_sql[] = "begin; set local plan_cache_mode = force_generic_plan";

static const char taken_sql[] = "select " LEASE_COLUMNS " from reinforce.shards s where s.job = $1 "
                                "and s.state = 2 and s.lease_token = $2";

/* What is ready here is locked by somebody who is just taking it, or has been handed back; or the
 * job is paused or has as many leases out as it may: then a second is a good time. */
static const char wait_sql[] =
    "select (case when j.state in (4, 5) then null when j.state = 3 then 1000 else least("
    "case when not exists (select from reinforce.shards s where s.job = $1 and s.state = 1) "
    "then case j.state when 1 then 200 end when j.max_leases > 0 then 1000 else 20 end, "
    "(select greatest(ceil(extract(epoch from s.lease_expires - now()) * 1000), 1) "
    "from reinforce.shards s where s.job = $1 and s.state = 2 order by s.lease_expires limit 1)) "
    "end)::bigint from reinforce.jobs j where j.job = $1";

/* Arguments of the slots, for work that may be done again. */
struct lease_call {
    int64_t job, lease_ms, token; /* that of the first take; the others follow */
    const struct catalog_terms *terms;
    struct arena *arena;
    struct catalog_take *takes;
    const struct catalog_lease *held;
    size_t n;         /* of takes or held */
    size_t first;     /* take of the batch under way */
    bool is_thorough; /* every take of it looks for what has run out, not only the first of all */
    bool *lost;
    bool failed;
    const char *why;
};

static enum status read_lease(const PGresult *row, struct arena *arena, struct catalog_lease *lease,
                              struct error *err)
{
    enum status st = postgres_db_copy_text(row, 0, 4, arena, &lease->plan.input_key, err);

    if (st == ST_OK)
        st = postgres_db_copy_text(row, 0, 5, arena, &lease->plan.input_format, err);
    lease->shard = lease->plan.shard = postgres_db_int(row, 0, 0);
    lease->epoch = postgres_db_int(row, 0, 1);
    lease->attempts = (int)postgres_db_int(row, 0, 2);
    lease->plan.source = (enum catalog_input)postgres_db_int(row, 0, 3);
    lease->plan.input_begin = (uint64_t)postgres_db_int(row, 0, 6);
    lease->plan.input_end = (uint64_t)postgres_db_int(row, 0, 7);
    (void)snprintf(lease->plan.input_etag, sizeof lease->plan.input_etag, "%s",
                   postgres_db_text(row, 0, 8));
    lease->plan.input_samples = postgres_db_int(row, 0, 9);
    lease->next_offset = (uint64_t)postgres_db_int(row, 0, 10);
    lease->next_index = (uint64_t)postgres_db_int(row, 0, 11);
    lease->n_parts = postgres_db_int(row, 0, 12);
    lease->suspect_end = (uint64_t)postgres_db_int(row, 0, 13);
    lease->probe_samples = postgres_db_int(row, 0, 14);
    lease->is_poison = postgres_db_int(row, 0, 15) >= CATALOG_POISON_DEATHS;
    lease->end_index = (uint64_t)postgres_db_int(row, 0, 16);
    return st;
}

/* When there may be a shard to take; -1: never. */
static enum status first_expiry(struct postgres_db *db, int64_t job, int64_t *wait_ms,
                                struct error *err)
{
    PGresult *row;
    enum status st = postgres_db_query(db, &row, err, wait_sql, "i", job);

    if (st == ST_OK)
        *wait_ms = PQntuples(row) == 0 || PQgetisnull(row, 0, 0) ? -1 : postgres_db_int(row, 0, 0);
    PQclear(row);
    return st;
}

static enum status bind_taken(struct postgres_db *db, void *ctx, size_t i, struct error *err)
{
    const struct lease_call *call = ctx;

    return postgres_db_bind(db, err, "ii", call->job, call->token + (int64_t)i);
}

static enum status bind_take(struct postgres_db *db, void *ctx, size_t i, struct error *err)
{
    const struct lease_call *call = ctx;

    i += call->first;
    return postgres_db_bind(db, err, "iisiiiii", call->job, (int64_t)call->terms->max_attempts,
                            call->takes[i].owner, call->token + (int64_t)i, call->terms->lease_ms,
                            suspects_reach(call->terms), suspects_first_probe(call->terms),
                            (int64_t)(i == 0 || call->is_thorough));
}

static enum status read_take(void *ctx, size_t i, const PGresult *result, struct error *err)
{
    const struct lease_call *call = ctx;
    struct catalog_take *take = &call->takes[call->first + i];

    take->status = PQntuples(result) == 1 ? ST_OK : ST_NOT_FOUND;
    return take->status == ST_OK ? read_lease(result, call->arena, &take->lease, err) : ST_OK;
}

/* The first that has nothing; n: all have. */
static size_t first_without(const struct lease_call *call, size_t i)
{
    while (i < call->n && call->takes[i].status == ST_OK)
        i++;
    return i;
}

/* What a try whose answer was lost has taken is not taken again. Where what is ready does not do,
 * what has run out is handed out one by one, until there is none. */
static enum status take(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    struct lease_call *call = ctx;
    struct postgres_batch batch = {
        .sql = taken_sql, .n = call->n, .bind = bind_taken, .take = read_take, .ctx = call};
    int64_t wait_ms = 0;
    enum status st = ST_OK;

    call->first = 0;
    call->is_thorough = false;
    if (repeated)
        st = postgres_db_batch(db, &batch, err);
    batch.sql = take_sql;
    batch.bind = bind_take;
    if (st == ST_OK && (!repeated || first_without(call, 0) == 0))
        st = postgres_db_batch(db, &batch, err);
    batch.n = 1;
    call->is_thorough = true;
    for (size_t i = first_without(call, 0); st == ST_OK && i > 0 && i < call->n;
         i = first_without(call, i + 1)) {
        call->first = i;
        st = postgres_db_batch(db, &batch, err);
        if (call->takes[i].status != ST_OK)
            break;
    }
    if (st == ST_OK && first_without(call, 0) < call->n)
        st = first_expiry(db, call->job, &wait_ms, err);
    for (size_t i = 0; i < call->n; i++)
        call->takes[i].wait_ms = wait_ms;
    return st;
}

enum status catalog_postgres_leases_take(struct catalog *c, int64_t job, struct catalog_take *takes,
                                         size_t n, int64_t now_ms,
                                         const struct catalog_terms *terms, struct arena *arena,
                                         struct error *err)
{
    struct postgres_db *db = catalog_postgres_db(c);
    struct lease_call call = {.job = job,
                              .token = (int64_t)(postgres_db_random(db) >> 2),
                              .terms = terms,
                              .arena = arena,
                              .takes = takes,
                              .n = n};

    for (size_t i = 0; i < n; i++) {
        takes[i].lease.job = job;
        takes[i].lease.expires_ms = now_ms + terms->lease_ms;
    }
    return postgres_db_transact(db, begin_sql, take, &call, err);
}

static enum status bind_renew(struct postgres_db *db, void *ctx, size_t i, struct error *err)
{
    const struct lease_call *call = ctx;

    return postgres_db_bind(db, err, "iiii", call->held[i].job, call->held[i].shard,
                            call->held[i].epoch, call->lease_ms);
}

static enum status read_renewed(void *ctx, size_t i, const PGresult *result, struct error *err)
{
    const struct lease_call *call = ctx;

    (void)err;
    call->lost[i] = PQntuples(result) == 0;
    return ST_OK;
}

static enum status renew(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    const struct lease_call *call = ctx;
    const struct postgres_batch batch = {
        .sql = "update reinforce.shards set lease_expires = now() + $4::bigint * interval "
               "'1 millisecond' where " CATALOG_POSTGRES_HELD " returning 1",
        .n = call->n,
        .bind = bind_renew,
        .take = read_renewed,
        .ctx = ctx};

    (void)repeated;
    return postgres_db_batch(db, &batch, err);
}

enum status catalog_postgres_leases_renew(struct catalog *c, const struct catalog_lease *leases,
                                          size_t n, int64_t now_ms, int64_t lease_ms, bool *lost,
                                          struct error *err)
{
    struct lease_call call = {.held = leases, .lease_ms = lease_ms, .n = n, .lost = lost};

    (void)now_ms;
    return postgres_db_transact(catalog_postgres_db(c), NULL, renew, &call, err);
}

enum status catalog_postgres_lease_probe(struct catalog *c, const struct catalog_lease *lease,
                                         struct error *err)
{
    PGresult *row;
    enum status st = postgres_db_ask(
        catalog_postgres_db(c), &row, err,
        "update reinforce.shards set probing = true where " CATALOG_POSTGRES_HELD " returning 1",
        "iii", lease->job, lease->shard, lease->epoch);

    if (st == ST_OK && PQntuples(row) == 0)
        st = catalog_postgres_fenced(lease, err);
    PQclear(row);
    return st;
}

/* Said twice, the second finds nothing to hand back: that is as it should be. */
static enum status release(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    const struct lease_call *call = ctx;
    PGresult *row;
    enum status st = postgres_db_query(
        db, &row, err,
        "update reinforce.shards set state = case when rival_owner is null then 1 else 2 end, "
        "owner = case when epoch = $3 then rival_owner else owner end, "
        "epoch = case when epoch = $3 and rival_owner is not null then rival_epoch else epoch end, "
        "lease_expires = case when rival_owner is null then null else lease_expires end, "
        "rival_owner = null, probing = false, attempts = attempts + $4, last_error = $5 "
        "where " CATALOG_POSTGRES_HELD " returning 1",
        "iiiis", call->held->job, call->held->shard, call->held->epoch, (int64_t)call->failed,
        call->failed ? call->why : NULL);

    if (st == ST_OK && PQntuples(row) == 0 && !repeated)
        st = catalog_postgres_fenced(call->held, err);
    PQclear(row);
    return st;
}

enum status catalog_postgres_lease_release(struct catalog *c, const struct catalog_lease *lease,
                                           bool failed, const char *why, struct error *err)
{
    struct lease_call call = {.held = lease, .failed = failed, .why = why};

    return postgres_db_transact(catalog_postgres_db(c), NULL, release, &call, err);
}

/* Arguments of the slot, for work that may be done again. */
struct rival_call {
    int64_t shard, epoch;
    const char *owner;
    const struct catalog_terms *terms;
    struct arena *arena;
    struct catalog_lease *lease;
};

/* A try whose answer was lost has made us the rival: we are given another epoch then. */
static enum status take_rival(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    const struct rival_call *call = ctx;
    PGresult *row;
    enum status st = postgres_db_query(
        db, &row, err,
        "update reinforce.shards s set rival_epoch = greatest(epoch, rival_epoch) + 1, "
        "rival_owner = $4, lease_expires = greatest(lease_expires, now() + $5::bigint * interval "
        "'1 millisecond') where job = $1 and shard = $2 and epoch = $3 and state + 0 = 2 and "
        "(rival_owner is null or ($6::integer = 1 and rival_owner = $4)) and "
        "lease_expires > now() and next_index >= suspect_end returning " LEASE_COLUMNS
        ", rival_epoch",
        "iiisii", call->lease->job, call->shard, call->epoch, call->owner, call->terms->lease_ms,
        (int64_t)repeated);

    if (st == ST_OK && PQntuples(row) == 0)
        st = error_set(err, ST_NOT_FOUND, "shard %" PRId64 " gets no second lease", call->shard);
    if (st == ST_OK)
        st = read_lease(row, call->arena, call->lease, err);
    if (st == ST_OK)
        call->lease->epoch = postgres_db_int(row, 0, 17);
    PQclear(row);
    return st;
}

enum status catalog_postgres_lease_rival(struct catalog *c, int64_t job, int64_t shard,
                                         int64_t epoch, const char *owner, int64_t now_ms,
                                         const struct catalog_terms *terms, struct arena *arena,
                                         struct catalog_lease *lease, struct error *err)
{
    struct rival_call call = {.shard = shard,
                              .epoch = epoch,
                              .owner = owner,
                              .terms = terms,
                              .arena = arena,
                              .lease = lease};

    lease->job = job;
    lease->expires_ms = now_ms + terms->lease_ms;
    return postgres_db_transact(catalog_postgres_db(c), NULL, take_rival, &call, err);
}

enum status catalog_postgres_shard_input(struct catalog *c, int64_t job, int64_t shard,
                                         struct arena *arena, struct catalog_shard_plan *plan,
                                         struct error *err)
{
    struct catalog_lease lease = {.job = job};
    PGresult *row;
    enum status st = postgres_db_ask(catalog_postgres_db(c), &row, err,
                                     "select " LEASE_COLUMNS
                                     " from reinforce.shards s where s.job = $1 and s.shard = $2",
                                     "ii", job, shard);

    if (st == ST_OK && PQntuples(row) == 0)
        st = error_set(err, ST_NOT_FOUND, "the catalog has no shard %" PRId64 " of the job", shard);
    if (st == ST_OK)
        st = read_lease(row, arena, &lease, err);
    *plan = lease.plan;
    PQclear(row);
    return st;
}
