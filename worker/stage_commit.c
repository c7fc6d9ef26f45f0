#include "worker/stage_commit.h"

#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "worker/stage_write.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

enum {
    SPOOL_ITEMS = 1024,
    SPOOL_BYTES = 256 << 20, /* of rows */
    PATIENCE_MS = 2000,      /* of one try */
    PAUSE_MS = 500,
    OUTAGE_MS = 15 * 60 * 1000,
    DRAIN_MS = 60 * 1000, /* when we were told to stop */
    PARTS_ARENA_BYTES = 512 << 20,
};

enum status stage_commit_init(struct stage_commit *stage, struct error *err)
{
    (void)pthread_mutex_init(&stage->lock, NULL);
    (void)pthread_cond_init(&stage->changed, NULL);
    catalog_set_patience(stage->catalog, PATIENCE_MS);
    return queue_create(SPOOL_ITEMS, SPOOL_BYTES, &stage->in, err);
}

void stage_commit_release(struct stage_commit *stage)
{
    if (stage->in == NULL)
        return;
    queue_destroy(&stage->in);
    (void)pthread_cond_destroy(&stage->changed);
    (void)pthread_mutex_destroy(&stage->lock);
}

static void set_away(struct stage_commit *stage, bool is_away)
{
    (void)pthread_mutex_lock(&stage->lock);
    stage->is_away = is_away;
    (void)pthread_cond_broadcast(&stage->changed);
    (void)pthread_mutex_unlock(&stage->lock);
}

/* What is asked of the catalog, and may be asked again. */
struct question {
    const struct catalog_lease *lease;
    const struct catalog_part *part;      /* of part_commit */
    int64_t shard;                        /* of parts, and out of piece_commit */
    bool is_last;                         /* out of piece_commit */
    struct arena *arena;                  /* of parts */
    struct catalog_part_row *rows;        /* out of parts */
    size_t n_rows;                        /* the same */
    const char *key;                      /* of shard_commit */
    const struct object_written *written; /* the same */
};

typedef enum status ask_fn(struct catalog *c, struct question *q, struct error *err);

static enum status ask_part(struct catalog *c, struct question *q, struct error *err)
{
    return catalog_part_commit(c, q->lease, q->part, err);
}

static enum status ask_piece(struct catalog *c, struct question *q, struct error *err)
{
    return catalog_piece_commit(c, q->lease, &q->shard, &q->is_last, err);
}

static enum status ask_parts(struct catalog *c, struct question *q, struct error *err)
{
    arena_reset(q->arena);
    return catalog_parts(c, q->lease->job, q->shard, q->arena, &q->rows, &q->n_rows, err);
}

static enum status ask_shard(struct catalog *c, struct question *q, struct error *err)
{
    return catalog_shard_commit(c, q->lease, q->key, q->written, err);
}

/* Again and again while the catalog is away: what is finished would have to be done again. */
static enum status ask(struct stage_commit *stage, ask_fn *fn, struct question *q,
                       struct error *err)
{
    int64_t begun_ms = clock_monotonic_ms(), elapsed_ms, limit_ms;
    enum status st;

    while ((st = fn(stage->catalog, q, err)) == ST_UNAVAILABLE) {
        elapsed_ms = clock_monotonic_ms() - begun_ms;
        limit_ms = stage->outage_ms > 0 ? stage->outage_ms : OUTAGE_MS;
        if (atomic_load(stage->drain))
            limit_ms = MIN(limit_ms, (int64_t)DRAIN_MS);
        if (elapsed_ms >= limit_ms)
            break;
        if (!stage->is_away) /* written by this thread alone */
            log_at(LOG_WARN, "catalog_away", "cause=\"%s\"", err->message);
        set_away(stage, true);
        clock_sleep_ms(PAUSE_MS, NULL);
    }
    if (stage->is_away) {
        log_at(st == ST_UNAVAILABLE ? LOG_ERROR : LOG_INFO,
               st == ST_UNAVAILABLE ? "catalog_given_up" : "catalog_back",
               "seconds=%" PRId64 " kept=%zu", (clock_monotonic_ms() - begun_ms) / 1000,
               queue_depth(stage->in));
        set_away(stage, false);
    }
    return st;
}

/* The lease is another's: its part is not ours to commit, and after the job's end nobody would
 * sweep it. It stays when it is visible after all, by a commit whose answer was lost. */
static void drop_part(struct stage_commit *stage, const struct finished_part *f)
{
    struct arena arena;
    struct question q = {.lease = &f->lease, .shard = f->lease.shard, .arena = &arena};
    bool is_visible = false;
    struct error why;
    enum status st;

    arena_init(&arena, PARTS_ARENA_BYTES);
    st = ask(stage, ask_parts, &q, &why);
    for (size_t i = 0; st == ST_OK && i < q.n_rows; i++)
        is_visible = is_visible || strcmp(q.rows[i].object_key, f->key) == 0;
    if (st == ST_OK && !is_visible)
        st = object_store_remove(stage->context->output, f->key, &why);
    if (st != ST_OK && st != ST_NOT_FOUND)
        log_at(LOG_WARN, "part_left", "key=%s cause=\"%s\"", f->key, why.message);
    arena_release(&arena);
}

static void count_part(struct stage_commit *stage, const struct finished_part *f)
{
    struct worker_stats *stats = stage->context->stats;
    long long n_done = catalog_part_count(&f->part, CATALOG_SAMPLE_DONE);
    long long n_filtered = catalog_part_count(&f->part, CATALOG_SAMPLE_FILTERED);
    long long n_bad = (long long)f->part.n_samples - n_done - n_filtered;

    (void)atomic_fetch_add(&f->item.work->samples_done, (unsigned long long)(n_done + n_filtered));
    (void)atomic_fetch_add(&f->item.work->samples_quarantined, (unsigned long long)n_bad);
    (void)atomic_fetch_add(&stats->samples_done, n_done);
    (void)atomic_fetch_add(&stats->samples_quarantined, n_bad);
    (void)atomic_fetch_add(&stats->samples_filtered, n_filtered);
    (void)atomic_fetch_add(&stats->bytes_committed, (long long)f->part.written.bytes);
}

/* Behind a part that failed none is committed: the reader is stopped, and what it has sent on is
 * let go until the end of the lease arrives. */
static void commit_part(struct stage_commit *stage, const struct finished_part *f)
{
    struct question q = {.lease = &f->lease, .part = &f->part};
    struct shard_work *work = f->item.work;
    struct error err = work->why_broken;
    enum status st = err.code != ST_OK ? err.code : ask(stage, ask_part, &q, &err);

    if (st == ST_OK) {
        count_part(stage, f);
        return;
    }
    work->why_broken = err;
    atomic_store(&work->abandoned, true);
    if (st == ST_CONFLICT)
        drop_part(stage, f);
}

/* Joins the parts to the output, makes it visible, and sweeps the parts. */
static enum status join_parts(struct stage_commit *stage, const struct catalog_lease *lease,
                              int64_t shard, struct error *err)
{
    struct object_store *output = stage->context->output;
    struct arena arena;
    struct byte_buf tail;
    struct object_written written;
    struct question q = {.lease = lease, .shard = shard, .arena = &arena, .written = &written};
    const char **keys;
    uint64_t bytes = 0;
    char key[64];
    enum status st;

    arena_init(&arena, PARTS_ARENA_BYTES);
    byte_buf_init(&tail, 1 << 20);
    st = ask(stage, ask_parts, &q, err);
    if (st == ST_OK)
        st = arena_calloc(&arena, q.n_rows + 1, sizeof *keys, &keys, err);
    for (size_t i = 0; i < q.n_rows && st == ST_OK; i++) {
        keys[i] = q.rows[i].object_key;
        bytes += q.rows[i].bytes;
    }
    if (st == ST_OK)
        st = stage->format->tail(bytes, &tail, err);
    stage_write_output_key(shard, stage->format, key);
    q.key = key;
    if (st == ST_OK)
        st = object_store_join(output, keys, q.n_rows, byte_buf_view(&tail), key, &written, err);
    if (st == ST_OK)
        st = ask(stage, ask_shard, &q, err);
    for (size_t i = 0; i < q.n_rows && st == ST_OK; i++) {
        struct error why;

        if (object_store_remove(output, keys[i], &why) != ST_OK) /* `run` sweeps at its end */
            log_at(LOG_WARN, "part_left", "key=%s cause=\"%s\"", keys[i], why.message);
    }
    if (st == ST_OK)
        log_at(LOG_INFO, "shard_done", "shard=%" PRId64 " epoch=%" PRId64 " bytes=%" PRIu64, shard,
               lease->epoch, written.bytes);
    byte_buf_release(&tail);
    arena_release(&arena);
    return st;
}

/* All parts of the lease are committed. Where others work on the same shard, the last joins them.
 */
static enum status commit_shard(struct stage_commit *stage, struct shard_work *work,
                                struct error *err)
{
    const struct catalog_lease *lease = &work->lease;
    struct question q = {.lease = lease, .shard = lease->shard, .is_last = true};
    enum status st = ST_OK;

    if (lease->shard < 0 || atomic_load(&work->end_index) > 0)
        st = ask(stage, ask_piece, &q, err);
    if (st == ST_OK && !q.is_last)
        log_at(LOG_INFO, "piece_done", "shard=%" PRId64 " piece=%" PRId64 " epoch=%" PRId64,
               q.shard, lease->shard, lease->epoch);
    return st == ST_OK && q.is_last ? join_parts(stage, lease, q.shard, err) : st;
}

static void end_lease(struct stage_commit *stage, struct shard_work *work)
{
    struct error err = work->why_broken.code != ST_OK ? work->why_broken : work->why_ended;
    enum status st = err.code;

    if (st == ST_OK && work->outcome == WIRE_OUTCOME_DONE)
        st = commit_shard(stage, work, &err);
    if (st != ST_OK) {
        work->outcome = st == ST_CONFLICT ? WIRE_OUTCOME_LOST : WIRE_OUTCOME_FAILED;
        (void)snprintf(work->why, sizeof work->why, "%s%s%s", err.context,
                       err.context[0] ? ": " : "", err.message);
        log_at(LOG_WARN, "lease_failed", "shard=%" PRId64 " epoch=%" PRId64 " cause=\"%s\"",
               work->lease.shard, work->lease.epoch, work->why);
    }
    stage->done(stage->done_ctx, work);
}

static void destroy_part(struct finished_part *f)
{
    arena_release(&f->arena);
    free(f->rows);
    free(f);
}

void stage_commit_run(struct stage_commit *stage)
{
    void *popped;

    while (queue_pop(stage->in, &popped) == ST_OK) {
        struct commit_item *item = popped;

        if (item->part != NULL) {
            commit_part(stage, item->part);
            destroy_part(item->part);
        } else {
            end_lease(stage, item->work);
        }
        (void)pthread_mutex_lock(&stage->lock);
        stage->n_pending--;
        (void)pthread_cond_broadcast(&stage->changed);
        (void)pthread_mutex_unlock(&stage->lock);
    }
}

static void wait(struct stage_commit *stage, bool whatever)
{
    (void)pthread_mutex_lock(&stage->lock);
    while (stage->n_pending > 0 && (whatever || !stage->is_away))
        (void)pthread_cond_wait(&stage->changed, &stage->lock);
    (void)pthread_mutex_unlock(&stage->lock);
}

static void push(struct stage_commit *stage, struct commit_item *item, size_t bytes)
{
    enum status st;

    (void)pthread_mutex_lock(&stage->lock);
    stage->n_pending++;
    (void)pthread_mutex_unlock(&stage->lock);
    st = queue_push(stage->in, item, bytes);
    assert(st == ST_OK); /* it is closed after the writer */
    wait(stage, false);
}

void stage_commit_push(struct stage_commit *stage, struct finished_part *part)
{
    push(stage, &part->item, part->arena.used_bytes + part->part.n_samples * sizeof *part->rows);
}

void stage_commit_end(struct stage_commit *stage, struct shard_work *work)
{
    work->end = (struct commit_item){.work = work};
    push(stage, &work->end, 0);
}

void stage_commit_wait(struct stage_commit *stage)
{
    wait(stage, true);
}
