#include "storage/catalog/catalog_postgres_slots.h"

#include <inttypes.h>
#include <stdio.h>

/* "reinforc" in ASCII; advisory locks are per database. */
#define COORDINATOR_LOCK INT64_C(0x7265696e666f7263)

struct lock_call {
    int64_t key;
    const char *what;
    bool held;
};

/*
 * The lock belongs to a transaction, not to the session, so that a pooler in transaction mode may
 * stand between: it keeps the connection for a transaction that is open. It has no snapshot and
 * holds nothing else back. A holder that vanishes without a word (power, network) is ended by the
 * server after 15 s in which it has not asked.
 */
static enum status lock(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    struct lock_call *call = ctx;
    PGresult *row = NULL;
    enum status st = postgres_db_execute(
        db, "rollback; begin; set local idle_in_transaction_session_timeout = '15s'", err);

    (void)repeated;
    if (st == ST_OK)
        st = postgres_db_query(db, &row, err, "select pg_try_advisory_xact_lock($1)::integer", "i",
                               call->key);
    call->held = st == ST_OK && postgres_db_int(row, 0, 0) == 1;
    PQclear(row);
    if (st == ST_OK && !call->held) {
        (void)error_set(err, ST_CONFLICT, "another %s serves catalog \"%s\"", call->what, db->name);
        st = postgres_db_execute(db, "rollback", err);
        return st == ST_OK ? ST_CONFLICT : st;
    }
    return st;
}

enum status catalog_postgres_hold(struct catalog *c, int64_t key, const char *what,
                                  struct error *err)
{
    struct catalog_of_postgres *own = CONTAINER_OF(c, struct catalog_of_postgres, base);
    struct lock_call call = {.key = key, .what = what};
    struct error why;
    enum status st;

    if (!own->holds) {
        st = postgres_db_transact(&own->db, NULL, lock, &call, err);
        own->holds = call.held;
        return st;
    }
    if (postgres_db_query(&own->db, NULL, &why, "select 1", "") == ST_OK)
        return ST_OK;
    own->holds = false;
    return error_set(err, ST_CONFLICT, "the lock of the %s was lost: %s", what, why.message);
}

enum status catalog_postgres_coordinate(struct catalog *c, struct error *err)
{
    return catalog_postgres_hold(c, COORDINATOR_LOCK, "coordinator", err);
}

/* Arguments of a move, for work that may be done again. */
struct move_call {
    int64_t job;
    enum catalog_job_state from, to;
    const char *note;
};

/* Said again, it may have happened the first time. The row is locked before shards are looked at,
 * as whoever adds some locks it. */
static enum status move(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    const struct move_call *call = ctx;
    PGresult *row = NULL;
    enum status st = postgres_db_query(
        db, NULL, err, "select 1 from reinforce.jobs where job = $1 for update", "i", call->job);

    if (st == ST_OK)
        st = postgres_db_query(
            db, &row, err,
            "update reinforce.jobs set state = $3, note = $4 where job = $1 and "
            "(state = $2 or ($5::integer = 1 and state = $3 and note = $4)) and ($3 <> 4 or not "
            "exists (select from reinforce.shards s where s.job = $1 and s.state in (1, 2))) "
            "returning 1",
            "iiisi", call->job, (int64_t)call->from, (int64_t)call->to, call->note,
            (int64_t)repeated);
    if (st == ST_OK && PQntuples(row) == 0)
        st = error_set(err, ST_CONFLICT, "job %" PRId64 " is not %s any more, or has work left",
                       call->job, catalog_job_state_name(call->from));
    PQclear(row);
    return st;
}

enum status catalog_postgres_job_move(struct catalog *c, int64_t job, enum catalog_job_state from,
                                      enum catalog_job_state to, const char *note,
                                      struct error *err)
{
    struct move_call call = {.job = job, .from = from, .to = to, .note = note};

    return postgres_db_transact(catalog_postgres_db(c), "begin", move, &call, err);
}

enum status catalog_postgres_job_reopen(struct postgres_db *db, int64_t job, struct error *err)
{
    PGresult *row;
    enum status st = postgres_db_query(
        db, &row, err,
        "update reinforce.jobs set state = case when state = 4 then 2 else state end "
        "where job = $1 and state in (2, 3, 4) and is_planned returning 1",
        "i", job);

    if (st == ST_OK && PQntuples(row) == 0)
        st = error_set(err, ST_CONFLICT, "the job is not planned yet, or cancelled; resume it");
    PQclear(row);
    return st;
}

enum status catalog_postgres_job_set_priority(struct catalog *c, int64_t job, int32_t priority,
                                              struct error *err)
{
    return postgres_db_ask(catalog_postgres_db(c), NULL, err,
                           "update reinforce.jobs set priority = $2 where job = $1", "ii", job,
                           (int64_t)priority);
}

enum status catalog_postgres_job_set_quota(struct catalog *c, int64_t job, int64_t max_leases,
                                           struct error *err)
{
    return postgres_db_ask(catalog_postgres_db(c), NULL, err,
                           "update reinforce.jobs set max_leases = $2 where job = $1", "ii", job,
                           max_leases);
}

struct workers_call {
    const struct catalog_worker *workers;
    size_t n;
};

static enum status bind_worker(struct postgres_db *db, void *ctx, size_t i, struct error *err)
{
    const struct workers_call *call = ctx;
    const struct catalog_worker *w = &call->workers[i];

    return postgres_db_bind(db, err, "ssssir", w->name, w->host, w->address, w->version,
                            (int64_t)w->state, w->samples_per_second);
}

static enum status see_workers(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    const struct workers_call *call = ctx;
    const struct postgres_batch batch = {
        .sql = "insert into reinforce.workers (name, host, address, version, state, "
               "samples_per_second) values ($1, $2, $3, $4, $5, $6) on conflict (name) do update "
               "set host = excluded.host, address = excluded.address, version = excluded.version, "
               "state = excluded.state, "
               "last_seen = case when excluded.state = 3 then workers.last_seen else now() end, "
               "samples_per_second = excluded.samples_per_second",
        .n = call->n,
        .bind = bind_worker,
        .ctx = ctx};
    enum status st = postgres_db_batch(db, &batch, err);

    (void)repeated;
    if (st != ST_OK || call->n == CATALOG_BATCH_MAX) /* more are coming */
        return st;
    return postgres_db_execute(
        db, "delete from reinforce.workers where last_seen < now() - interval '1 day'", err);
}

enum status catalog_postgres_workers_seen(struct catalog *c, const struct catalog_worker *workers,
                                          size_t n, int64_t now_ms, struct error *err)
{
    struct workers_call call = {.workers = workers, .n = n};

    (void)now_ms;
    return postgres_db_transact(catalog_postgres_db(c), NULL, see_workers, &call, err);
}

enum status catalog_postgres_workers(struct catalog *c, int64_t now_ms, catalog_worker_fn *each,
                                     void *ctx, struct error *err)
{
    PGresult *rows;
    enum status st = postgres_db_ask(
        catalog_postgres_db(c), &rows, err,
        "select name, host, address, version, w.state, coalesce(n, 0), samples_per_second, "
        "floor(extract(epoch from first_seen) * 1000)::bigint, "
        "floor(extract(epoch from now() - last_seen) * 1000)::bigint "
        "from reinforce.workers w left join (select owner, count(*) as n from reinforce.shards "
        "where state = 2 group by owner) l on l.owner = w.name order by name collate \"C\"",
        "");

    (void)now_ms;
    for (int i = 0; st == ST_OK && i < PQntuples(rows); i++) {
        const struct catalog_worker worker = {
            .name = postgres_db_text(rows, i, 0),
            .host = postgres_db_text(rows, i, 1),
            .address = postgres_db_text(rows, i, 2),
            .version = postgres_db_text(rows, i, 3),
            .state = (enum catalog_worker_state)postgres_db_int(rows, i, 4),
            .n_leases = postgres_db_int(rows, i, 5),
            .samples_per_second = postgres_db_real(rows, i, 6),
            .first_seen_ms = postgres_db_int(rows, i, 7),
            .seen_ago_ms = postgres_db_int(rows, i, 8),
        };

        st = each(ctx, &worker, err);
    }
    PQclear(rows);
    return st;
}

enum status catalog_postgres_job_set_rate(struct catalog *c, int64_t job, double samples_per_second,
                                          int64_t now_ms, struct error *err)
{
    return postgres_db_ask(
        catalog_postgres_db(c), NULL, err,
        "update reinforce.jobs set samples_per_second = $2, rated_ms = $3 where job = $1", "iri",
        job, samples_per_second, now_ms);
}

enum status catalog_postgres_leases_extend(struct catalog *c, int64_t job, int64_t now_ms,
                                           int64_t lease_ms, struct error *err)
{
    (void)now_ms;
    return postgres_db_ask(
        catalog_postgres_db(c), NULL, err,
        "update reinforce.shards set lease_expires = greatest(lease_expires, now() + "
        "$2::bigint * interval '1 millisecond') where job = $1 and state = 2",
        "ii", job, lease_ms);
}

enum status catalog_postgres_shards_retry(struct catalog *c, int64_t job, int64_t *n,
                                          struct error *err)
{
    PGresult *row;
    enum status st = postgres_db_ask(
        catalog_postgres_db(c), &row, err,
        "with again as (update reinforce.shards set state = 1, attempts = 0 where job = $1 and "
        "state = 4 returning 1) select count(*) from again",
        "i", job);

    if (st == ST_OK)
        *n = postgres_db_int(row, 0, 0);
    PQclear(row);
    return st;
}

static void read_job(const PGresult *rows, int i, struct catalog_job_row *out)
{
    memset(out, 0, sizeof *out);
    out->job.job = postgres_db_int(rows, i, 0);
    out->job.state = (enum catalog_job_state)postgres_db_int(rows, i, 1);
    (void)snprintf(out->job.name, sizeof out->job.name, "%s", postgres_db_text(rows, i, 2));
    (void)snprintf(out->job.config_digest, sizeof out->job.config_digest, "%s",
                   postgres_db_text(rows, i, 3));
    out->job.created_ms = postgres_db_int(rows, i, 4);
    out->priority = (int32_t)postgres_db_int(rows, i, 5);
    (void)snprintf(out->note, sizeof out->note, "%s", postgres_db_text(rows, i, 6));
    out->samples_per_second = postgres_db_real(rows, i, 7);
    out->rated_ms = postgres_db_int(rows, i, 8);
    out->n_ready = postgres_db_int(rows, i, 9);
    out->is_over = postgres_db_int(rows, i, 10) != 0;
    out->max_leases = postgres_db_int(rows, i, 11);
    out->has_waiting_events = postgres_db_int(rows, i, 13) != 0;
    out->job.is_planned = postgres_db_int(rows, i, 14) != 0;
    if (out->max_leases > 0)
        out->n_ready =
            MIN(out->n_ready, MAX(out->max_leases - postgres_db_int(rows, i, 12), (int64_t)0));
}

/* Of all jobs there are few: their rows are fetched whole before the first is shown. */
/* `limit 1`, not `exists`: that is made a hash of all shards that are ready, every second. */
enum status catalog_postgres_jobs(struct catalog *c, int64_t now_ms, catalog_job_fn *each,
                                  void *ctx, struct error *err)
{
    PGresult *rows;
    enum status st = postgres_db_ask(
        catalog_postgres_db(c), &rows, err,
        "select job, state, name, config_digest, created_ms, priority, note, samples_per_second, "
        "rated_ms, (select count(*) from (select 1 from reinforce.shards s where s.job = j.job and "
        "s.state = 1 union all select 1 from reinforce.shards s where s.job = j.job and s.state = "
        "2 and s.lease_expires <= now() limit $1) ready), (state <> 1 and "
        "(select 1 from reinforce.shards s where s.job = j.job and s.state = 1 limit 1) is null "
        "and "
        "(select 1 from reinforce.shards s where s.job = j.job and s.state = 2 limit 1) is null)"
        "::integer, max_leases, "
        "case when max_leases > 0 then (select count(*) from reinforce.shards s where "
        "s.job = j.job and s.state = 2 and s.lease_expires > now()) else 0 end, exists (select 1 "
        "from reinforce.outbox o where o.job = j.job)::integer, is_planned::integer "
        "from reinforce.jobs "
        "j order by priority desc, job",
        "i", (int64_t)CATALOG_READY_MAX);

    (void)now_ms;
    for (int i = 0; st == ST_OK && i < PQntuples(rows); i++) {
        struct catalog_job_row row;

        read_job(rows, i, &row);
        st = each(ctx, &row, err);
    }
    PQclear(rows);
    return st;
}

enum status catalog_postgres_shards(struct catalog *c, int64_t job, enum catalog_shard_state state,
                                    int64_t now_ms, catalog_shard_fn *each, void *ctx,
                                    struct error *err)
{
    PGresult *rows;
    enum status st = postgres_db_ask(
        catalog_postgres_db(c), &rows, err,
        "select shard, epoch, attempts, owner, last_error, "
        "coalesce(ceil(extract(epoch from lease_expires - now()) * 1000), 0)::bigint, "
        "coalesce(parent, shard), begin_index, rival_owner "
        "from reinforce.shards where job = $1 and state = $2 order by shard",
        "ii", job, (int64_t)state);

    (void)now_ms;
    for (int i = 0; st == ST_OK && i < PQntuples(rows); i++) {
        const struct catalog_shard_row row = {
            .shard = postgres_db_int(rows, i, 0),
            .epoch = postgres_db_int(rows, i, 1),
            .attempts = (int)postgres_db_int(rows, i, 2),
            .owner = postgres_db_text(rows, i, 3),
            .last_error = postgres_db_text(rows, i, 4),
            .expires_in_ms = postgres_db_int(rows, i, 5),
            .home = postgres_db_int(rows, i, 6),
            .begin_index = postgres_db_int(rows, i, 7),
            .rival = postgres_db_text(rows, i, 8),
        };

        st = each(ctx, &row, err);
    }
    PQclear(rows);
    return st;
}
