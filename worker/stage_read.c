#include "worker/stage_read.h"

#include "reinforce/base/log.h"
#include "worker/shard_reader.h"
#include "worker/split.h"
#include "worker/storage.h"

#include <inttypes.h>

/* Takes an empty slot; NULL when the pipeline is going down. */
static struct sample *take_slot(struct stage_read *stage, struct shard_work *work)
{
    void *item;
    struct sample *sample;

    if (queue_pop(stage->slots, &item) != ST_OK)
        return NULL;
    sample = item;
    sample->work = work;
    sample->seq = stage->next_seq++;
    return sample;
}

static bool send(struct stage_read *stage, struct sample *sample)
{
    return queue_push(stage->out, sample, sample->record.image.len) == ST_OK;
}

/* A shard that is being read. */
struct reading {
    struct shard_work *work;       /* NULL once its end is sent */
    struct dataset_reader *reader; /* NULL: not opened yet */
    struct dataset_position begin; /* where the lease began */
    int64_t index;                 /* of the next sample */
    uint64_t total;                /* samples of the input, once that is known; else 0 */
};

/* Sends on that no more samples come. Whoever takes it may free the lease: from here on it is not
 * ours. */
static bool send_end(struct stage_read *stage, struct reading *reading, struct sample *sample,
                     enum wire_outcome end, const struct error *err)
{
    sample->ends_shard = true;
    sample->end = end;
    if (end == WIRE_OUTCOME_FAILED)
        sample_fail(sample, STAGE_READ, "read_failed", err);
    atomic_store(&reading->work->samples_left, 0);
    reading->work = NULL;
    return send(stage, sample);
}

static bool end_shard(struct stage_read *stage, struct reading *reading, enum wire_outcome end,
                      const struct error *err)
{
    struct sample *sample = take_slot(stage, reading->work);

    return sample != NULL && send_end(stage, reading, sample, end, err);
}

static enum status open_reader(struct stage_read *stage, const struct shard_work *work,
                               struct dataset_position from, struct dataset_reader **reader,
                               struct error *err)
{
    const struct stage_context *context = stage->context;
    const struct shard_stores stores = {
        .job = context->job, .input = context->input, .output = context->output, .web = stage->web};

    return shard_reader_open(&stores, &work->lease.plan, from, reader, err);
}

static enum status open_catalog(struct stage_read *stage, struct error *err)
{
    return stage->catalog != NULL ? ST_OK : catalog_open(stage->catalog_url, &stage->catalog, err);
}

/* The catalog is told before the sample is touched: it knows then what we have died of. */
static enum status begin_probe(struct stage_read *stage, const struct shard_work *work,
                               struct error *err)
{
    enum status st = open_catalog(stage, err);

    return st == ST_OK ? catalog_lease_probe(stage->catalog, &work->lease, err) : st;
}

static enum status open_if_new(struct stage_read *stage, struct reading *reading, struct error *err)
{
    const struct shard_work *work = reading->work;
    enum status st = ST_OK;

    if (reading->reader == NULL && stage->web == NULL)
        st = storage_open_web(stage->context->job, 1, stage->drain, &stage->web, err);
    if (st == ST_OK && reading->reader == NULL)
        st = open_reader(stage, work, reading->begin, &reading->reader, err);
    if (st != ST_OK)
        error_add_context(err, "shard %" PRId64 ": input \"%s\"", work->lease.shard,
                          work->lease.plan.input_key);
    return st;
}

/* From what the samples so far took of the input. */
static void estimate_left(const struct reading *reading, const struct dataset_position *next)
{
    uint64_t end = dataset_reader_end(reading->reader), left = UINT64_MAX;
    uint64_t n = next->index - reading->begin.index, bytes = next->offset - reading->begin.offset;
    uint64_t end_index = atomic_load(&reading->work->end_index);

    if (end_index > 0)
        left = end_index - next->index;
    else if (end > 0 && n > 0 && bytes > 0 && next->offset <= end)
        left = (uint64_t)((double)(end - next->offset) / (double)bytes * (double)n);
    else if (reading->total > 0)
        left = reading->total - MIN(next->index, reading->total);
    atomic_store(&reading->work->samples_left, left);
}

/* The next record, or a sample that fails in its place. ST_END, or what ends the lease. */
static enum status read_record(struct reading *reading, struct sample *sample, struct error *err)
{
    struct dataset_reject reject;
    enum status st =
        dataset_reader_next(reading->reader, &sample->arena, &sample->record, &reject, err);
    char *uid;

    dataset_reader_tell(reading->reader, &sample->next);
    estimate_left(reading, &sample->next);
    sample->index = reading->index++;
    if (st == ST_CORRUPT) {
        struct error why = {.code = reject.code};

        (void)snprintf(why.message, sizeof why.message, "%s", reject.detail);
        sample_fail(sample, STAGE_READ, reject.reason, &why);
        sample->retry = false;
        st = arena_strndup(&sample->arena, reject.uid, strlen(reject.uid), &uid, err);
        sample->record.uid = bytes_view_of(uid, st == ST_OK ? strlen(uid) : 0);
        return ST_OK;
    }
    if (st == ST_OK && reading->work->lease.is_poison &&
        (uint64_t)sample->index == reading->work->begin_index) {
        struct error why;

        (void)error_set(&why, ST_CORRUPT, "%d workers died while it was all they had at work",
                        CATALOG_POISON_DEATHS);
        sample_fail(sample, STAGE_ANY, "crashed_worker", &why);
    }
    return st;
}

/* One sample or the end of the shard; false when the pipeline is going down. */
static bool read_one(struct stage_read *stage, struct reading *reading)
{
    struct isolation *isolation = stage->context->isolation;
    struct shard_work *work = reading->work;
    bool alone = shard_work_probes_alone(work, reading->index);
    struct sample *sample = take_slot(stage, work);
    struct error err = {0};
    int64_t begun, index = reading->index;
    bool is_lost;
    enum status st;

    if (sample == NULL)
        return false;
    isolation_enter(isolation, work, alone);
    begun = stage_begin();
    st = alone ? begin_probe(stage, work, &err) : ST_OK;
    is_lost = st == ST_CONFLICT;
    if (st == ST_OK)
        st = open_if_new(stage, reading, &err);
    if (st == ST_OK)
        st = read_record(reading, sample, &err);
    stage_end(stage->context, STAGE_READ, begun);
    sample->is_inside = st == ST_OK;
    if (st != ST_OK) {
        isolation_leave(isolation, work);
        return send_end(stage, reading, sample,
                        is_lost              ? WIRE_OUTCOME_LOST
                        : st == ST_END       ? WIRE_OUTCOME_DONE
                        : st == ST_CANCELLED ? WIRE_OUTCOME_RELEASED
                                             : WIRE_OUTCOME_FAILED,
                        &err);
    }
    if (!send(stage, sample))
        return false;
    if (shard_work_ends_probe(work, index))
        isolation_wait(isolation, work);
    return true;
}

/* About half of what is not begun becomes a piece for somebody else. When that fails, nothing is
 * lost but the help. */
static void split_rest(struct stage_read *stage, struct reading *reading)
{
    struct shard_work *work = reading->work;
    struct dataset_position from = reading->begin;
    struct dataset_reader *reader = NULL;
    uint64_t end_index = atomic_load(&work->end_index);
    struct split_point at;
    struct error err = {0};
    enum status st;

    /* One that is made again is not split: its samples' places are those of another input. */
    if ((uint64_t)reading->index < work->lease.suspect_end ||
        work->grant.u.lease_grant.input_samples > 0)
        return;
    if (reading->reader != NULL)
        dataset_reader_tell(reading->reader, &from);
    st = open_reader(stage, work, from, &reader, &err);
    if (st == ST_OK)
        st = split_find(reader, end_index, &at, &err);
    dataset_reader_close(&reader);
    if (st == ST_OK && at.n_left >= WIRE_SPLIT_MIN) {
        st = open_catalog(stage, &err);
        if (st == ST_OK)
            st = catalog_lease_split(stage->catalog, &work->lease, at.offset, at.index, &err);
        if (st == ST_OK) {
            end_index = at.index;
            atomic_store(&work->end_index, end_index);
            log_at(LOG_INFO, "shard_split",
                   "shard=%" PRId64 " epoch=%" PRId64 " at=%" PRIu64 " end=%" PRIu64,
                   work->lease.shard, work->lease.epoch, at.index, from.index + at.n_left);
        }
    }
    if (st == ST_OK) {
        reading->total = from.index + at.n_left;
        atomic_store(&work->samples_left,
                     (end_index > 0 ? end_index : reading->total) - from.index);
    } else {
        log_at(LOG_WARN, "shard_not_split", "shard=%" PRId64 " cause=\"%s\"", work->lease.shard,
               err.message);
    }
}

/* Whether all samples of the lease are read. */
static bool is_read(const struct reading *reading)
{
    uint64_t end = atomic_load(&reading->work->end_index);

    return end > 0 && (uint64_t)reading->index >= end;
}

static bool read_shard(struct stage_read *stage, struct shard_work *work)
{
    struct reading reading = {
        .work = work,
        .begin = {.offset = work->lease.next_offset, .index = work->lease.next_index},
        .index = (int64_t)work->lease.next_index};
    struct error err = {0};
    uint64_t known = work->grant.u.lease_grant.input_samples;
    bool up = true;

    /* A previous output that is committed to its end may have been overwritten by its successor
     * already. */
    if (known > 0 && work->lease.next_index >= known)
        return end_shard(stage, &reading, WIRE_OUTCOME_DONE, &err);
    while (up && reading.work != NULL) {
        if (atomic_load(&work->abandoned))
            up = end_shard(stage, &reading, WIRE_OUTCOME_LOST, &err);
        else if (atomic_load(stage->drain))
            up = end_shard(stage, &reading, WIRE_OUTCOME_RELEASED, &err);
        else if (is_read(&reading))
            up = end_shard(stage, &reading, WIRE_OUTCOME_DONE, &err);
        else if (atomic_exchange(&work->split, false))
            split_rest(stage, &reading);
        else
            up = read_one(stage, &reading);
    }
    dataset_reader_close(&reading.reader);
    return up;
}

void stage_read_run(struct stage_read *stage)
{
    void *item;

    while (queue_pop(stage->leases, &item) == ST_OK) {
        bool up = read_shard(stage, item);

        (void)atomic_fetch_sub(stage->n_unread, 1);
        wake_signal(stage->idle);
        if (!up)
            break;
    }
    catalog_close(&stage->catalog);
    http_close(&stage->web);
    queue_close(stage->out);
}
