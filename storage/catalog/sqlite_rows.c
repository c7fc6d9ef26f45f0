#include "storage/catalog/sqlite_rows.h"

#include "storage/catalog/suspects.h"

/* The row of a lease that is held, be it a straggler's or its rival's. */
#define HELD                                                                                       \
    "job = ?1 and shard = ?2 and state = 2 and (epoch = ?3 or (rival_epoch = ?3 and rival_owner "  \
    "is not null))"

#define SAMPLE_COLUMNS "shard, sample_index, uid, state, reason, detail, stage, width, height"

/* Wall clock in ms; SQLite tells whole seconds or days. */
#define NOW_MS "cast((julianday('now') - 2440587.5) * 86400000 as integer)"

const char *const sqlite_statements[N_STATEMENTS] = {
    [JOB_INSERT] = "insert or ignore into jobs (name, state, config_digest, config, created_ms) "
                   "values (?, ?, ?, ?, ?)",
    [JOB_SELECT] =
        "select job, state, config_digest, created_ms, config, is_planned from jobs where "
        "name = ?",
    [JOB_MEND] = "update jobs set config_digest = ?2, config = ?3, state = 1, note = '' where "
                 "name = ?1 and config_digest <> ?2 and state in (1, 3) and not is_planned and not "
                 "exists (select 1 from shards s where s.job = jobs.job)",
    [JOB_PLANNING_AS] = "update jobs set note = note where job = ?1 and state = 1 and "
                        "config_digest = ?2",
    [JOB_SET_STATE] = "update jobs set state = ?2 where job = ?1",
    [JOB_START] = "update jobs set state = 2, is_planned = 1 where job = ?1",
    [JOB_SET_CONFIG] =
        "update jobs set state = 2, config_digest = ?2, config = ?3 where job = ?1 and state = 4",
    [JOB_MOVE] = "update jobs set state = ?3, note = ?4 where job = ?1 and state = ?2 and (?3 <> 4 "
                 "or not exists (select 1 from shards s where s.job = ?1 and s.state in (1, 2)))",
    [JOB_SET_PRIORITY] = "update jobs set priority = ?2 where job = ?1",
    [JOB_SET_QUOTA] = "update jobs set max_leases = ?2 where job = ?1",
    [JOB_REOPEN] = "update jobs set state = iif(state = 4, 2, state) where job = ?1 and state in "
                   "(2, 3, 4) and is_planned",
    [JOB_GATE] = "select state, max_leases, iif(max_leases > 0, (select count(*) from shards s "
                 "where s.job = j.job and s.state = 2 and s.lease_expires_ms > ?2), 0) from jobs j "
                 "where job = ?1",
    [JOB_SET_RATE] = "update jobs set samples_per_second = ?2, rated_ms = ?3 where job = ?1",
    [JOB_LIST] =
        "select job, state, name, config_digest, created_ms, priority, note, samples_per_second, "
        "rated_ms, (select count(*) from (select 1 from shards s where s.job = j.job and s.state "
        "in (1, 2) and (s.state = 1 or s.lease_expires_ms <= ?1) limit ?2)), state <> 1 and not "
        "exists (select 1 from shards s where s.job = j.job and s.state in (1, 2)), max_leases, "
        "iif(max_leases > 0, (select count(*) from shards s where s.job = j.job and s.state = 2 "
        "and s.lease_expires_ms > ?1), 0), exists (select 1 from outbox o where o.job = j.job), "
        "is_planned "
        "from jobs j order by priority desc, job",
    [SHARD_INSERT] =
        "insert into shards (job, shard, state, input_source, input_key, input_format, "
        "input_begin, "
        "input_end, input_etag, next_offset) values (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?6)",
    [SHARD_FAIL_SPENT] =
        "update shards set state = 4, owner = null, lease_expires_ms = null, attempts = attempts "
        "+ " SUSPECT_ATTEMPT
        ", last_error = iif(state = 2, 'its samples kill their workers', last_error) "
        "where job = ?1 and attempts + " SUSPECT_ATTEMPT " >= ?2 and "
        "(state = 1 or (state = 2 and lease_expires_ms <= ?3))",
    [SHARD_NEXT] = "select shard from shards where job = ?1 and "
                   "(state = 1 or (state = 2 and lease_expires_ms <= ?2)) order by shard limit 1",
    [SHARD_TAKE] = "update shards set state = 2, epoch = max(epoch, rival_epoch) + 1, owner = ?3, "
                   "rival_owner = null, lease_expires_ms = ?4, "
                   "attempts = attempts + " SUSPECT_ATTEMPT
                   ", suspect_end = " SUSPECT_END("?5") ", probe_samples = " SUSPECT_PROBE(
                       "?6") ", probe_deaths = " SUSPECT_DEATHS
                             ", probing = false, leased_ms = coalesce(leased_ms, " NOW_MS
                             ") where job = ?1 and shard = ?2",
    [SHARD_LEASE] =
        "select shard, max(epoch, rival_epoch), attempts, coalesce(again_source, input_source), "
        "coalesce(again_key, input_key), coalesce(again_format, input_format), "
        "iif(again_source is null, input_begin, 0), "
        "iif(again_source is null, input_end, 0), input_etag, input_samples, "
        "next_offset, next_index, n_parts, suspect_end, probe_samples, probe_deaths, "
        "coalesce(end_index, 0) "
        "from shards where job = ?1 and shard = ?2",
    [SHARD_FIRST_EXPIRY] =
        "select min(at_ms) from (select min(lease_expires_ms) as at_ms from shards where job = ?1 "
        "and state = 2 union all select ?2 + 200 from jobs where job = ?1 and state = 1)",
    [SHARD_RENEW] = "update shards set lease_expires_ms = ?4 where " HELD,
    [SHARD_PROBE] = "update shards set probing = true where " HELD,
    [SHARD_RELEASE] =
        "update shards set state = iif(rival_owner is null, 1, 2), "
        "owner = iif(epoch = ?3, rival_owner, owner), "
        "epoch = iif(epoch = ?3 and rival_owner is not null, rival_epoch, epoch), "
        "lease_expires_ms = iif(rival_owner is null, null, lease_expires_ms), rival_owner = null, "
        "probing = false, attempts = attempts + ?4, last_error = ?5 where " HELD,
    [SHARD_RIVAL] =
        "update shards set rival_epoch = max(epoch, rival_epoch) + 1, rival_owner = ?4, "
        "lease_expires_ms = max(lease_expires_ms, ?6) where job = ?1 and shard = ?2 and epoch = ?3 "
        "and state = 2 and rival_owner is null and lease_expires_ms > ?5 and "
        "next_index >= suspect_end",
    [SHARD_SETTLE] = "update shards set owner = iif(epoch = ?3, owner, rival_owner), epoch = ?3, "
                     "rival_owner = null where job = ?1 and shard = ?2",
    [SHARD_OF_EPOCH] =
        "select n_parts, again_source, input_source, coalesce(parent, shard), end_index, "
        "next_index, "
        "parent is not null or end_index is not null, rival_owner is not null "
        "from shards where " HELD,
    [SHARD_SPLIT] = "update shards set end_index = ?3 where job = ?1 and shard = ?2",
    [PIECE_INSERT] =
        "insert into shards (job, shard, state, parent, input_source, input_key, input_format, "
        "input_begin, input_end, input_etag, begin_index, end_index, next_offset, next_index) "
        "select job, (select min(min(shard), 0) - 1 from shards where job = ?1), 1, "
        "coalesce(parent, shard), input_source, input_key, input_format, input_begin, input_end, "
        "input_etag, ?4, end_index, ?3, ?4 from shards where job = ?1 and shard = ?2",
    [PIECE_FIND] = "select 1 from shards where job = ?1 and parent = ?2 and begin_index = ?3",
    [FAMILY_UNFINISHED] = "select count(*) from shards where job = ?1 and (shard = ?2 or parent = "
                          "?2) and shard <> ?3 and state <> 5",
    [SHARD_WAIT] = "update shards set state = 5, owner = null, lease_expires_ms = null, "
                   "last_error = null where job = ?1 and shard = ?2",
    [PIECES_DONE] = "update shards set state = 3, owner = null, lease_expires_ms = null "
                    "where job = ?1 and parent = ?2",
    [SHARD_ADVANCE] =
        "update shards set next_offset = ?3, next_index = ?4, n_parts = n_parts + 1, "
        "attempts = " SUSPECT_ATTEMPTS_AFTER("?5") ", probing = false, probe_deaths = 0 "
                                                   "where job = ?1 and shard = ?2",
    [SHARD_DONE] =
        "update shards set state = 3, owner = null, lease_expires_ms = null, last_error = null, "
        "samples_read = iif(again_source is null, (select max(f.next_index) from shards f where "
        "f.job = ?1 and (f.shard = ?2 or f.parent = ?2)), samples_read), end_index = null, "
        "again_source = null, again_key = null, again_format = null where job = ?1 and shard = ?2",
    [SHARD_EXTEND] =
        "update shards set state = 1, attempts = 0, suspect_end = 0, again_source = 3, "
        "next_offset = 0, next_index = 0, n_parts = 0, again_format = ?2, "
        "again_key = (select object_key from outputs o where o.job = shards.job and "
        "o.shard = shards.shard), "
        "input_samples = (select n_done from outputs o where o.job = shards.job and "
        "o.shard = shards.shard) "
        "where job = ?1 and parent is null",
    [SHARD_RESET] = "update shards set state = iif(state = 2, 2, 1), lease_expires_ms = iif(state "
                    "= 2, 0, null), "
                    "attempts = 0 where job = ?1 and state in (2, 4)",
    [SHARD_EXTEND_LEASES] = "update shards set lease_expires_ms = max(lease_expires_ms, ?2) where "
                            "job = ?1 and state = 2",
    [SHARD_RETRY] = "update shards set state = 1, attempts = 0 where job = ?1 and state = 4",
    [SHARD_LIST] = "select shard, epoch, attempts, owner, last_error, lease_expires_ms, "
                   "coalesce(parent, shard), begin_index, rival_owner from shards "
                   "where job = ?1 and state = ?2 order by shard",
    [PART_INSERT] = "insert into parts (job, shard, part, epoch, object_key, bytes, sha256, "
                    "n_done, n_quarantined, n_filtered) "
                    "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [PART_SELECT] = "select epoch, sha256 from parts where job = ? and shard = ? and part = ?",
    [PART_LIST] =
        "select p.part, p.epoch, p.object_key, p.bytes, p.sha256, p.n_done, p.n_quarantined, "
        "p.n_filtered from (select ?2 as shard, 0 as begin_index union all select shard, "
        "begin_index from shards "
        "where job = ?1 and parent = ?2) f join parts p on p.job = ?1 and p.shard = f.shard "
        "order by f.begin_index, p.part",
    [PART_DELETE_ALL] = "delete from parts where job = ?",
    [PART_DELETE_SHARD] =
        "delete from parts where job = ?1 and (shard = ?2 or shard in (select shard "
        "from shards where job = ?1 and parent = ?2))",
    [SHARD_SAME] = "select 1 from shards where job = ?1 and shard = ?2 and input_source = ?3 and "
                   "input_key = ?4 and input_format = ?5 and input_begin = ?6 and input_end = ?7 "
                   "and input_etag = ?8",
    [SHARD_COUNT] = "select coalesce(max(shard) + 1, 0) from shards where job = ?",
    [SHARD_REDO] = "update shards set state = 1, attempts = 0, suspect_end = 0, again_source = 4, "
                   "again_key = ?3, "
                   "again_format = 'list', input_samples = ?4, next_offset = 0, next_index = 0, "
                   "n_parts = 0 where job = ?1 and shard = ?2 and state = 3",
    [SAMPLE_INSERT] = "insert into samples (job, shard, sample_index, uid, state, stage, reason, "
                      "detail, width, height) "
                      "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [SAMPLE_OF_UID] =
        "select sample_index from samples where job = ? and uid = ? and shard = ? and state = 1",
    [SAMPLE_DELETE] = "delete from samples where job = ? and shard = ? and sample_index = ?",
    [CAPTION_INSERT] =
        "insert into captions (job, shard, sample_index, column_name, caption_index, caption, "
        "log_probability) values (?, ?, ?, ?, ?, ?, ?) on conflict do nothing",
    [CAPTION_PUT] =
        "insert into captions (job, shard, sample_index, column_name, caption_index, caption, "
        "log_probability) values (?, ?, ?, ?, ?, ?, ?) on conflict do update set "
        "caption = excluded.caption, log_probability = excluded.log_probability",
    [COST_INSERT] =
        "insert into costs (job, shard, epoch, part, role, model, seconds, images, texts, tokens) "
        "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [RETRY_INSERT] = "insert into retries (job, shard, sample_index, old_shard, old_index, "
                     "source_shard, source_index) values (?, ?, ?, ?, ?, ?, ?)",
    [RETRY_TAKE_OVER] = "update samples set state = 3 where job = ?1 and state = 2 and (shard, "
                        "sample_index) in (select old_shard, old_index from retries where job = ?1 "
                        "and shard = ?2 and sample_index >= ?3 and sample_index < ?4)",
    [RETRY_RECOUNT] =
        "update outputs set n_quarantined = (select count(*) from samples p where p.job = "
        "outputs.job and p.shard = outputs.shard and p.state = 2) where job = ?1 and shard in "
        "(select old_shard from retries where job = ?1 and shard = ?2 and sample_index >= ?3 and "
        "sample_index < ?4)",
    [SCORE_INSERT] =
        "insert into scores (job, shard, sample_index, column_name, caption_index, "
        "teacher, cosine) "
        "values (?, ?, ?, ?, ?, ?, ?) on conflict do update set cosine = excluded.cosine",
    [OUTPUT_INSERT] = "insert or replace into outputs (job, shard, object_key, bytes, sha256, "
                      "n_done, n_quarantined, n_filtered) "
                      "values (?1, ?2, ?3, ?4, ?5, "
                      "(select count(*) from samples where job = ?1 and shard = ?2 and state = 1), "
                      "(select count(*) from samples where job = ?1 and shard = ?2 and state = 2), "
                      "(select count(*) from samples where job = ?1 and shard = ?2 and state = 4))",
    [OUTPUT_OF_EPOCH] =
        "select 1 from shards s join outputs o on o.job = s.job and o.shard = coalesce(s.parent, "
        "s.shard) where "
        "s.job = ? and s.shard = ? and s.epoch = ? and s.state = 3 and o.sha256 = ?",
    [OUTPUT_LIST] =
        "select shard, object_key, bytes, sha256, n_done, n_quarantined, n_filtered from outputs "
        "where job = ? order by shard",
    /* One statement, so that the numbers are of one moment. */
    [PROGRESS] =
        "select h.n, h.done, h.leased, h.failed, p.done, p.quarantined, o.samples, o.bytes, "
        "h.pieces, h.rivals, p.filtered from "
        "(select total(parent is null) as n, total(parent is null and state = 3) as done, "
        "total(state = 2) as leased, count(distinct iif(state = 4, coalesce(parent, shard), null)) "
        "as failed, total(parent is not null) as pieces, "
        "total(state = 2 and rival_owner is not null) as rivals from shards where job = ?1) h, "
        "(select total(state = 1) as done, total(state = 2) as quarantined, "
        "total(state = 4) as filtered from samples where job = ?1) p, "
        "(select coalesce(sum(o.n_done + o.n_quarantined + o.n_filtered), 0) as samples, "
        "coalesce(sum(o.bytes), 0) as bytes from outputs o join shards s on s.job = o.job and "
        "s.shard = o.shard where o.job = ?1 and s.state = 3) o",
    [REASON_LIST] = "select reason, stage, count(*) from samples where job = ? and state = ? "
                    "group by reason, stage order by count(*) desc, reason, stage",
    [SOURCE_LIST] =
        "select p.shard, p.sample_index, s.shard, coalesce(r.source_index, p.sample_index), "
        "s.input_source, s.input_key, s.input_format, s.input_begin, s.input_end, s.input_etag "
        "from samples p join shards own on own.job = p.job and own.shard = p.shard and "
        "own.state = 3 left join retries r on r.job = p.job and r.shard = p.shard and "
        "r.sample_index = p.sample_index join shards s on s.job = p.job and s.shard = "
        "coalesce(r.source_shard, p.shard) where p.job = ?1 and p.state = ?2 and "
        "(?3 is null or p.reason = ?3) and p.shard between ?4 and ?5 and not exists (select 1 from "
        "retries x where x.job = p.job and x.old_shard = p.shard and x.old_index = p.sample_index "
        "and ?2 = 2) order by 3, 4",
    [ACCOUNT_LIST] = "select shard, state, is_retry, samples_read, samples, done, quarantined, "
                     "retried, last_index, output_done, output_quarantined, filtered, "
                     "output_filtered from accounts where job_id = ? order by shard",
    [WORKER_SEEN] =
        "insert into workers (name, host, address, version, state, first_seen_ms, last_seen_ms, "
        "samples_per_second) values (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7) on conflict do "
        "update set host = excluded.host, address = excluded.address, version = "
        "excluded.version, state = excluded.state, last_seen_ms = iif(excluded.state = 3, "
        "last_seen_ms, excluded.last_seen_ms), "
        "samples_per_second = excluded.samples_per_second",
    [WORKER_FORGET] = "delete from workers where last_seen_ms < ?1 - 86400000",
    [WORKER_LIST] =
        "select name, host, address, version, w.state, coalesce(n, 0), samples_per_second, "
        "first_seen_ms, last_seen_ms from workers w left join (select owner, count(*) as n from "
        "shards where state = 2 group by owner) l on l.owner = w.name order by name",
    [SAMPLE_FIND] = "select " SAMPLE_COLUMNS
                    " from samples where job = ? and uid = ? order by shard, sample_index",
    [SAMPLE_LIST] =
        "select " SAMPLE_COLUMNS " from samples where job = ? order by shard, sample_index",
    [SHARD_SAMPLE_LIST] = "select " SAMPLE_COLUMNS " from samples where job = ? and shard = ? and "
                          "state = 1 order by sample_index",
    [CAPTION_LIST] =
        "select column_name, caption_index, caption, log_probability from captions "
        "where job = ? and shard = ? and sample_index = ? order by column_name, caption_index",
    [SCORE_LIST] = "select teacher, column_name, caption_index, cosine from scores "
                   "where job = ? and shard = ? and sample_index = ? order by column_name, "
                   "caption_index, teacher",
    [INGEST_OFFSET_INSERT] =
        "insert or ignore into ingest_offsets (job, topic, partition, next_offset, n_records, "
        "n_duplicates, n_refused, updated_ms) values (?, ?, ?, ?, ?, ?, ?, ?)",
    [INGEST_OFFSET_MOVE] =
        "update ingest_offsets set next_offset = ?5, n_records = n_records + ?6, n_duplicates = "
        "n_duplicates + ?7, n_refused = n_refused + ?8, updated_ms = ?9 where job = ?1 and topic = "
        "?2 and partition = ?3 and next_offset = ?4",
    [INGEST_OFFSET_SELECT] =
        "select next_offset from ingest_offsets where job = ? and topic = ? and partition = ?",
    [INGEST_RANGE_INSERT] =
        "insert into ingest_ranges (job, topic, partition, begin_offset, end_offset, shard, "
        "n_records, n_duplicates, n_refused, seen, committed_ms) values (?, ?, ?, ?, ?, nullif(?, "
        "-1), ?, ?, ?, ?, " NOW_MS ")",
    [INGEST_RANGE_FIND] =
        "select coalesce(r.shard, -1) from ingest_ranges r left join shards s on s.job = r.job and "
        "s.shard = r.shard where r.job = ? and topic = ? and partition = ? and begin_offset = ? "
        "and end_offset = ? and s.input_key is ?",
    [INGEST_SEEN] = "select seen, n_records from ingest_ranges where job = ? and topic = ? and "
                    "partition = ? order by begin_offset desc",
    [INGEST_LIST] =
        "select topic, partition, next_offset, n_records, n_duplicates, n_refused, updated_ms from "
        "ingest_offsets where job = ? order by topic, partition",
    [INGEST_ARRIVED] =
        "update shards set arrived_ms = " NOW_MS " - ?3 where job = ?1 and shard = ?2",
    [INGEST_PACE] =
        "with last as (select leased_ms - arrived_ms as ms from shards where job = ?1 and "
        "leased_ms is not null and arrived_ms is not null order by shard desc limit ?3), "
        "ranked as (select ms, row_number() over (order by ms) as i, count(*) over () as n from "
        "last), waiting as (select arrived_ms from shards where job = ?1 and state = 1 and "
        "leased_ms is null and arrived_ms is not null) "
        "select (select coalesce(sum(n_records), 0) from ingest_ranges where job = ?1 and "
        "committed_ms > " NOW_MS " - ?2), (select count(*) from last), (select min(ms) from ranked "
        "where i * 2 >= n), (select min(ms) from ranked where i * 100 >= n * 99), count(*), "
        "coalesce(" NOW_MS " - min(arrived_ms), 0) from waiting",
    [JOB_SET_EVENTS] = "update jobs set events = ?2 where job = ?1",
    /* the shard behind its samples */
    [OUTBOX_INSERT] =
        "insert into outbox (job, shard, sample_index, committed_ms) select ?1, ?2, i, " NOW_MS
        " from (select p.sample_index as i, 2 as wanted from samples p where p.job = ?1 and "
        "p.shard = ?2 and p.state in (1, 2, 4) union all select null, 1) where wanted <= (select "
        "events from jobs where job = ?1) order by i is null, i",
    [OUTBOX_LIST] =
        "select o.seq, o.committed_ms, t.object_key, t.bytes, t.sha256, t.n_done, t.n_quarantined, "
        "o.shard, o.sample_index, uid, state, reason, detail, stage, width, height, t.n_filtered "
        "from outbox o "
        "join outputs t on t.job = o.job and t.shard = o.shard left join samples p on p.job = "
        "o.job and p.shard = o.shard and p.sample_index = o.sample_index where o.job = ?1 order by "
        "o.seq limit ?2",
    [OUTBOX_DELETE] = "delete from outbox where seq = ?2 and job = ?1",
    [OUTBOX_COUNT] = "select count(*), coalesce(min(committed_ms), 0) from outbox where job = ?",
};

_Static_assert((int)N_STATEMENTS <= (int)SQLITE_DB_MAX_STATEMENTS, "room for every statement");

enum status sqlite_rows_count_shards(struct sqlite_db *db, int64_t job, int64_t *n,
                                     struct error *err)
{
    sqlite3_stmt *row;
    enum status st = sqlite_db_prepare(db, SHARD_COUNT, &row, err);

    if (st == ST_OK)
        st = sqlite_db_bind(db, row, err, "i", job);
    if (st == ST_OK)
        st = sqlite_db_step(db, row, err);
    if (st == ST_OK)
        *n = sqlite3_column_int64(row, 0);
    (void)sqlite3_reset(row);
    return st;
}

struct sqlite_db *sqlite_rows_db(struct catalog *c)
{
    return &CONTAINER_OF(c, struct catalog_of_sqlite, base)->db;
}

const char *sqlite_rows_text(sqlite3_stmt *row, int i)
{
    return (const char *)sqlite3_column_text(row, i);
}

enum status sqlite_rows_copy(sqlite3_stmt *row, int i, struct arena *arena, const char **out,
                             struct error *err)
{
    const char *text = sqlite_rows_text(row, i);
    char *copy;
    enum status st =
        arena_strndup(arena, text != NULL ? text : "", text != NULL ? strlen(text) : 0, &copy, err);

    *out = copy;
    return st;
}

void sqlite_rows_copy_fixed(sqlite3_stmt *row, int i, char *to, size_t capacity)
{
    const char *text = sqlite_rows_text(row, i);

    (void)snprintf(to, capacity, "%s", text != NULL ? text : "");
}
