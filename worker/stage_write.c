#include "worker/stage_write.h"

#include "reinforce/base/log.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

enum {
    MAX_PART_BYTES = 256 << 20, /* a part is cut early when its body reaches this */
    MAX_RECORD_BYTES = 1 << 30,
    ROW_ARENA_BYTES = 512 << 20,
};

/* The open part: bytes and rows that become visible together. */
struct part {
    struct byte_buf body;
    struct arena rows_arena; /* copies of what the rows point at */
    struct catalog_sample *rows;
    size_t n_rows, capacity;
    struct model_costs costs;
    struct dataset_position next;
};

struct writer {
    struct stage_write *stage;
    const struct dataset_format *format;
    struct dataset_write_options options;
    struct sample **ring; /* samples that came before their turn, by seq % n_slots */
    size_t n_ring;
    uint64_t next_seq;
    struct part part;
    bool broken;  /* the current lease cannot be finished: its samples are let go */
    bool stopped; /* it ends in front of a sample whose work was stopped */
    struct error why;
};

void stage_write_output_key(int64_t shard, const struct dataset_format *format, char key[64])
{
    (void)snprintf(key, 64, "%08" PRId64 "%s", shard, format->extension);
}

static void part_reset(struct writer *writer)
{
    byte_buf_reset(&writer->part.body);
    arena_reset(&writer->part.rows_arena);
    writer->part.n_rows = 0;
    memset(&writer->part.costs, 0, sizeof writer->part.costs);
}

static enum status copy_text(struct arena *arena, struct bytes_view *text, struct error *err)
{
    char *copy;
    enum status st = arena_strndup(arena, (const char *)text->data, text->len, &copy, err);

    if (st == ST_OK)
        text->data = (const uint8_t *)copy;
    return st;
}

/* Deep enough that the slot can be reused: names belong to the job, texts are copied. */
static enum status copy_rows(struct arena *arena, const struct sample *sample,
                             struct catalog_sample *row, struct error *err)
{
    struct catalog_caption *captions;
    struct catalog_score *scores;
    enum status st = copy_text(arena, &row->uid, err);

    if (st == ST_OK && sample->failed) {
        char *copy;

        st = arena_strndup(arena, sample->reason, strlen(sample->reason), &copy, err);
        row->reason = copy;
        if (st == ST_OK)
            st = arena_strndup(arena, sample->detail, strlen(sample->detail), &copy, err);
        row->detail = copy;
    }
    if (st != ST_OK || sample->failed)
        return st;
    st = arena_calloc(arena, MAX(sample->n_captions, (size_t)1), sizeof *captions, &captions, err);
    if (st == ST_OK)
        st = arena_calloc(arena, MAX(sample->n_scores, (size_t)1), sizeof *scores, &scores, err);
    for (size_t i = 0; i < sample->n_captions && st == ST_OK; i++) {
        char *column;

        captions[i] = sample->captions[i];
        st = copy_text(arena, &captions[i].text, err);
        if (st == ST_OK)
            st = arena_strndup(arena, captions[i].column, strlen(captions[i].column), &column, err);
        if (st == ST_OK)
            captions[i].column = column;
    }
    for (size_t i = 0; i < sample->n_scores && st == ST_OK; i++) {
        char *column;

        scores[i] = sample->scores[i];
        st = arena_strndup(arena, scores[i].column, strlen(scores[i].column), &column, err);
        if (st == ST_OK)
            scores[i].column = column;
    }
    if (st == ST_OK) {
        row->captions = captions;
        row->n_captions = sample->n_captions;
        row->scores = scores;
        row->n_scores = sample->n_scores;
    }
    return st;
}

static enum status add_row(struct writer *writer, const struct sample *sample, struct error *err)
{
    struct part *part = &writer->part;
    struct catalog_sample *row;

    if (part->n_rows == part->capacity) {
        size_t capacity = MAX(part->capacity * 2, (size_t)64);
        struct catalog_sample *rows = realloc(part->rows, capacity * sizeof *rows);

        if (rows == NULL)
            return error_set(err, ST_NO_MEMORY, "could not allocate %zu catalog rows", capacity);
        part->rows = rows;
        part->capacity = capacity;
    }
    row = &part->rows[part->n_rows];
    *row = (struct catalog_sample){
        .uid = sample->record.uid,
        .index = sample->index,
        .state = sample->failed ? CATALOG_SAMPLE_QUARANTINED : CATALOG_SAMPLE_DONE,
        .stage = sample->failed ? sample_stage_name(sample->failed_stage) : NULL,
        .width = sample->image.width,
        .height = sample->image.height,
    };
    if (copy_rows(&part->rows_arena, sample, row, err) != ST_OK)
        return err->code;
    part->n_rows++;
    return ST_OK;
}

static void add_cost(struct catalog_part *row, struct catalog_cost *costs, const char *role,
                     const char *model, const struct model_cost *cost)
{
    if (cost->ns > 0)
        costs[row->n_costs++] = (struct catalog_cost){.role = role,
                                                      .model = model,
                                                      .seconds = (double)cost->ns / 1e9,
                                                      .images = cost->images,
                                                      .texts = cost->texts,
                                                      .tokens = cost->tokens};
}

/* The lease is another's: its part is not ours to commit, and after the job's end nobody would
 * sweep it. It stays when it is visible after all, by a commit whose answer was lost. */
static void drop_part(struct writer *writer, const struct shard_work *work, const char *key)
{
    struct arena arena;
    struct catalog_part_row *rows;
    size_t n_rows;
    bool is_visible = false;
    struct error why;
    enum status st;

    arena_init(&arena, ROW_ARENA_BYTES);
    st = catalog_parts(writer->stage->catalog, work->lease.job, work->lease.shard, &arena, &rows,
                       &n_rows, &why);
    for (size_t i = 0; st == ST_OK && i < n_rows; i++)
        is_visible = is_visible || strcmp(rows[i].object_key, key) == 0;
    if (st == ST_OK && !is_visible)
        st = object_store_remove(writer->stage->context->output, key, &why);
    if (st != ST_OK && st != ST_NOT_FOUND)
        log_at(LOG_WARN, "part_left", "key=%s cause=\"%s\"", key, why.message);
    arena_release(&arena);
}

static enum status commit_part(struct writer *writer, struct shard_work *work, struct error *err)
{
    const struct stage_context *context = writer->stage->context;
    struct part *part = &writer->part;
    char key[96];
    struct catalog_part row = {.object_key = key,
                               .next_offset = part->next.offset,
                               .next_index = part->next.index,
                               .n_samples = part->n_rows,
                               .samples = part->rows};
    struct catalog_cost costs[JOB_MAX_CAPTIONERS + JOB_MAX_TEACHERS];
    unsigned long long n_done = 0;
    enum status st;

    if (part->n_rows == 0)
        return ST_OK;
    row.costs = costs;
    for (size_t c = 0; c < context->job->n_captioners; c++)
        add_cost(&row, costs, "captioner", context->job->captioners[c].name,
                 &part->costs.captioners[c]);
    for (size_t t = 0; t < context->job->n_teachers; t++)
        add_cost(&row, costs, "teacher", context->job->teachers[t].name, &part->costs.teachers[t]);
    (void)snprintf(key, sizeof key, "_reinforce/parts/%08" PRId64 "-%06" PRId64 "-e%" PRId64,
                   work->lease.shard, work->lease.n_parts, work->lease.epoch);
    st = object_store_put(context->output, key, byte_buf_view(&part->body), &row.written, err);
    if (st == ST_OK)
        st = catalog_part_commit(writer->stage->catalog, &work->lease, &row, err);
    if (st == ST_CONFLICT)
        drop_part(writer, work, key);
    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < part->n_rows; i++)
        n_done += part->rows[i].state == CATALOG_SAMPLE_DONE;
    work->lease.n_parts++;
    work->lease.next_offset = part->next.offset;
    work->lease.next_index = part->next.index;
    (void)atomic_fetch_add(&work->samples_done, n_done);
    (void)atomic_fetch_add(&work->samples_quarantined, part->n_rows - n_done);
    (void)atomic_fetch_add(&context->stats->samples_done, (long long)n_done);
    (void)atomic_fetch_add(&context->stats->samples_quarantined,
                           (long long)(part->n_rows - n_done));
    (void)atomic_fetch_add(&context->stats->bytes_committed, (long long)row.written.bytes);
    part_reset(writer);
    return ST_OK;
}

/* Joins the parts to the output, makes it visible, and sweeps the parts. */
static enum status join_parts(struct writer *writer, const struct shard_work *work, int64_t shard,
                              struct error *err)
{
    const struct stage_context *context = writer->stage->context;
    struct arena arena;
    struct byte_buf tail;
    struct catalog_part_row *rows;
    struct object_written written;
    const char **keys;
    size_t n_rows;
    uint64_t bytes = 0;
    char key[64];
    enum status st;

    arena_init(&arena, ROW_ARENA_BYTES);
    byte_buf_init(&tail, 1 << 20);
    st = catalog_parts(writer->stage->catalog, work->lease.job, shard, &arena, &rows, &n_rows, err);
    if (st == ST_OK)
        st = arena_calloc(&arena, n_rows + 1, sizeof *keys, &keys, err);
    for (size_t i = 0; i < n_rows && st == ST_OK; i++) {
        keys[i] = rows[i].object_key;
        bytes += rows[i].bytes;
    }
    if (st == ST_OK)
        st = writer->format->tail(bytes, &tail, err);
    stage_write_output_key(shard, writer->format, key);
    if (st == ST_OK)
        st = object_store_join(context->output, keys, n_rows, byte_buf_view(&tail), key, &written,
                               err);
    if (st == ST_OK)
        st = catalog_shard_commit(writer->stage->catalog, &work->lease, key, &written, err);
    for (size_t i = 0; i < n_rows && st == ST_OK; i++) {
        struct error why;

        if (object_store_remove(context->output, keys[i], &why) !=
            ST_OK) /* `run` sweeps at its end */
            log_at(LOG_WARN, "part_left", "key=%s cause=\"%s\"", keys[i], why.message);
    }
    if (st == ST_OK)
        log_at(LOG_INFO, "shard_done", "shard=%" PRId64 " epoch=%" PRId64 " bytes=%" PRIu64, shard,
               work->lease.epoch, written.bytes);
    byte_buf_release(&tail);
    arena_release(&arena);
    return st;
}

/* All parts of the lease are committed. Where others work on the same shard, the last joins them.
 */
static enum status commit_shard(struct writer *writer, struct shard_work *work, struct error *err)
{
    int64_t shard = work->lease.shard;
    bool is_last = true;
    enum status st = ST_OK;

    if (shard < 0 || work->lease.end_index > 0)
        st = catalog_piece_commit(writer->stage->catalog, &work->lease, &shard, &is_last, err);
    if (st == ST_OK && !is_last)
        log_at(LOG_INFO, "piece_done", "shard=%" PRId64 " piece=%" PRId64 " epoch=%" PRId64, shard,
               work->lease.shard, work->lease.epoch);
    return st == ST_OK && is_last ? join_parts(writer, work, shard, err) : st;
}

static void end_lease(struct writer *writer, const struct sample *sample)
{
    struct shard_work *work = sample->work;
    struct error err = writer->why;
    enum status st = writer->broken ? err.code : ST_OK;

    /* The reader was stopped like a lost one; what is there is committed and the rest goes back. */
    work->outcome = writer->stopped ? WIRE_OUTCOME_RELEASED : sample->end;
    if (st == ST_OK && work->outcome == WIRE_OUTCOME_FAILED) {
        st = error_set(&err, ST_UNAVAILABLE, "%s", sample->detail);
    } else if (st == ST_OK && work->outcome != WIRE_OUTCOME_LOST) {
        st = commit_part(writer, work, &err);
        if (st == ST_OK && work->outcome == WIRE_OUTCOME_DONE)
            st = commit_shard(writer, work, &err);
    }
    if (st != ST_OK) {
        work->outcome = st == ST_CONFLICT ? WIRE_OUTCOME_LOST : WIRE_OUTCOME_FAILED;
        (void)snprintf(work->why, sizeof work->why, "%s%s%s", err.context,
                       err.context[0] ? ": " : "", err.message);
        log_at(LOG_WARN, "lease_failed", "shard=%" PRId64 " epoch=%" PRId64 " cause=\"%s\"",
               work->lease.shard, work->lease.epoch, work->why);
    }
    part_reset(writer);
    writer->broken = writer->stopped = false;
    writer->stage->done(writer->stage->done_ctx, work);
}

static void take_sample(struct writer *writer, struct sample *sample)
{
    struct error err = {0};
    enum status st = ST_OK;

    if (writer->broken || atomic_load(&sample->work->abandoned))
        return;
    if (sample->undone) {
        writer->stopped = true;
        atomic_store(&sample->work->abandoned, true);
        return;
    }
    if (sample->retry) {
        st = error_set(&err, ST_UNAVAILABLE, "sample %" PRId64 ": %s", sample->index,
                       sample->detail);
    } else if (!sample->failed) {
        size_t before = writer->part.body.len;

        st = writer->format->append(&sample->record, &writer->options, &writer->part.body, &err);
        if (st == ST_INVALID) { /* this record cannot be written; the rest can */
            writer->part.body.len = before;
            sample_fail(sample, STAGE_WRITE, "unwritable_record", &err);
            st = ST_OK;
        }
    }
    if (st == ST_OK)
        st = add_row(writer, sample, &err);
    if (st == ST_OK) {
        model_costs_add(&writer->part.costs, &sample->costs);
        writer->part.next = sample->next;
        if ((int64_t)writer->part.n_rows >= writer->stage->context->job->workers.part_samples ||
            writer->part.body.len >= MAX_PART_BYTES ||
            shard_work_ends_probe(sample->work, sample->index))
            st = commit_part(writer, sample->work, &err);
    }
    if (st != ST_OK) {
        /* Stop the reader; what it has sent on is let go until the end of the shard arrives. */
        writer->broken = true;
        writer->why = err;
        atomic_store(&sample->work->abandoned, true);
    }
}

static void take_in_order(struct writer *writer, struct sample *arrived)
{
    assert(writer->ring[arrived->seq % writer->n_ring] == NULL);
    writer->ring[arrived->seq % writer->n_ring] = arrived;
    for (;;) {
        struct sample *sample = writer->ring[writer->next_seq % writer->n_ring];
        int64_t begun;
        enum status st;

        if (sample == NULL || sample->seq != writer->next_seq)
            return;
        begun = stage_begin();
        writer->ring[writer->next_seq++ % writer->n_ring] = NULL;
        if (sample->ends_shard)
            end_lease(writer, sample);
        else
            take_sample(writer, sample);
        if (sample->is_inside)
            isolation_leave(writer->stage->context->isolation, sample->work);
        sample_reset(sample);
        st = queue_push(writer->stage->slots, sample, 0);
        assert(st == ST_OK); /* there is room for every slot, and it is closed after us */
        stage_end(writer->stage->context, STAGE_WRITE, begun);
    }
}

enum status stage_write_run(struct stage_write *stage, struct error *err)
{
    const struct job *job = stage->context->job;
    struct writer writer = {
        .stage = stage,
        .format = dataset_format_by_name(job->output.format),
        .options = {.layout = strcmp(job->output.layout, "legacy") == 0 ? DATASET_LAYOUT_LEGACY
                                                                        : DATASET_LAYOUT_CURRENT,
                    .dtype = job->output.embedding_dtype},
        .n_ring = (size_t)job->workers.queue_items,
    };
    void *item;
    enum status st = ST_OK;

    assert(writer.format != NULL); /* the job file's table allows no other */
    byte_buf_init(&writer.part.body, MAX_PART_BYTES + (size_t)MAX_RECORD_BYTES);
    arena_init(&writer.part.rows_arena, ROW_ARENA_BYTES);
    writer.ring = calloc(writer.n_ring, sizeof(struct sample *));
    if (writer.ring == NULL)
        st = error_set(err, ST_NO_MEMORY, "could not allocate the writer");
    while (st == ST_OK && queue_pop(stage->in, &item) == ST_OK)
        take_in_order(&writer, item);
    free(writer.ring);
    free(writer.part.rows);
    byte_buf_release(&writer.part.body);
    arena_release(&writer.part.rows_arena);
    return st;
}
