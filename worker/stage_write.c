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
    struct arena rows_arena;     /* copies of what the rows point at */
    struct catalog_sample *rows; /* both go to the committer with the part */
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

static bool is_kept(const struct sample *sample)
{
    return !sample->failed && sample->filtered_by == NULL;
}

/* Deep enough that the slot can be reused: names belong to the job, texts are copied. */
static enum status copy_rows(struct arena *arena, const struct sample *sample,
                             struct catalog_sample *row, struct error *err)
{
    struct catalog_caption *captions;
    struct catalog_score *scores;
    enum status st = copy_text(arena, &row->uid, err);

    if (st == ST_OK && !is_kept(sample)) {
        const char *reason = sample->failed ? sample->reason : sample->filtered_by;
        char *copy;

        st = arena_strndup(arena, reason, strlen(reason), &copy, err);
        row->reason = copy;
        if (st == ST_OK)
            st = arena_strndup(arena, sample->detail, strlen(sample->detail), &copy, err);
        row->detail = copy;
    }
    if (st != ST_OK || !is_kept(sample))
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
    enum sample_stage stage = sample->failed ? sample->failed_stage : STAGE_CURATE;
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
        .state = sample->failed     ? CATALOG_SAMPLE_QUARANTINED
                 : !is_kept(sample) ? CATALOG_SAMPLE_FILTERED
                                    : CATALOG_SAMPLE_DONE,
        .stage = is_kept(sample) ? NULL : sample_stage_name(stage),
        .width = image_stored_width(&sample->image),
        .height = image_stored_height(&sample->image),
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

/* The part's object is written, and its rows go to the committer. */
static enum status finish_part(struct writer *writer, struct shard_work *work, struct error *err)
{
    const struct stage_context *context = writer->stage->context;
    struct part *part = &writer->part;
    struct finished_part *f;
    enum status st;

    if (part->n_rows == 0)
        return ST_OK;
    f = calloc(1, sizeof *f);
    if (f == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a part");
    f->item = (struct commit_item){.work = work, .part = f};
    f->lease = work->lease;
    for (size_t c = 0; c < context->job->n_captioners; c++)
        add_cost(&f->part, f->costs, "captioner", context->job->captioners[c].name,
                 &part->costs.captioners[c]);
    for (size_t t = 0; t < context->job->n_teachers; t++)
        add_cost(&f->part, f->costs, "teacher", context->job->teachers[t].name,
                 &part->costs.teachers[t]);
    (void)snprintf(f->key, sizeof f->key, "_reinforce/parts/%08" PRId64 "-%06" PRId64 "-e%" PRId64,
                   work->lease.shard, work->lease.n_parts, work->lease.epoch);
    st = object_store_put(context->output, f->key, byte_buf_view(&part->body), &f->part.written,
                          err);
    if (st != ST_OK) {
        free(f);
        return st;
    }
    f->part.object_key = f->key;
    f->part.next_offset = part->next.offset;
    f->part.next_index = part->next.index;
    f->part.n_samples = part->n_rows;
    f->part.samples = f->rows = part->rows;
    f->part.costs = f->costs;
    f->arena = part->rows_arena;
    part->rows = NULL;
    part->capacity = 0;
    arena_init(&part->rows_arena, ROW_ARENA_BYTES);
    part_reset(writer);
    work->lease.n_parts++;
    work->lease.next_offset = part->next.offset;
    work->lease.next_index = part->next.index;
    stage_commit_push(writer->stage->commit, f);
    return ST_OK;
}

/* The committer knows what has become of the parts, and tells the agent. */
static void end_lease(struct writer *writer, const struct sample *sample)
{
    struct shard_work *work = sample->work;
    struct error err = writer->broken ? writer->why : (struct error){0};
    /* The reader was stopped like a lost one; what is there is committed, the rest goes back. */
    enum wire_outcome outcome = writer->stopped ? WIRE_OUTCOME_RELEASED : sample->end;
    enum status st = err.code;

    if (st == ST_OK && outcome == WIRE_OUTCOME_FAILED)
        st = error_set(&err, ST_UNAVAILABLE, "%s", sample->detail);
    else if (st == ST_OK && outcome != WIRE_OUTCOME_LOST)
        st = finish_part(writer, work, &err);
    part_reset(writer);
    writer->broken = writer->stopped = false;
    work->outcome = outcome;
    if (st != ST_OK)
        work->why_ended = err;
    stage_commit_end(writer->stage->commit, work);
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
    } else if (is_kept(sample)) {
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
            st = finish_part(writer, sample->work, &err);
        if (shard_work_ends_probe(sample->work, sample->index))
            stage_commit_wait(writer->stage->commit);
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
