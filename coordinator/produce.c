#include "coordinator/produce.h"

#include "coordinator/planner.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "reinforce/record/record_json.h"
#include "storage/format/dataset.h"
#include "storage/format/jsonl.h"

/* Lists of a folder's images, while they are sent. */
#define LIST_STORE "mem:reinforce-produce"

enum {
    ARENA_BYTES = 1 << 30,
    LIST_LINES = 1000,
    LIST_MAX_BYTES = 128 << 20,
    QUEUE_BYTES = 64 << 20,
    POLL_MS = 100,
    FLUSH_MS = 1000,
};

struct produce {
    const struct produce_options *options;
    struct produce_summary *summary;
    struct stream_producer *producer;
    struct object_store *lists;
    struct arena sample;
    struct byte_buf value;
    struct error failure; /* of the first delivery that failed */
    bool failed;
    bool told_down; /* that no broker can be reached, once until it works again */
};

static void delivered(void *ctx, void *tag, const struct error *err)
{
    struct produce *produce = ctx;

    (void)tag;
    produce->told_down = false;
    if (err == NULL) {
        produce->summary->n_delivered++;
    } else if (!produce->failed) {
        produce->failure = *err;
        produce->failed = true;
    }
}

static bool is_over(const struct produce *produce)
{
    const struct produce_options *options = produce->options;

    return (options->stop != NULL && atomic_load(options->stop)) ||
           (options->limit > 0 && produce->summary->n_sent >= options->limit);
}

/* What the brokers say; trouble that may pass is told once, a failed delivery ends all. */
static enum status attend(struct produce *produce, enum status st, struct error *err)
{
    if (produce->failed) {
        *err = produce->failure;
        return err->code;
    }
    if (st == ST_OK || st == ST_TIMEOUT)
        return ST_OK;
    if (!status_is_retryable(st))
        return st;
    if (!produce->told_down)
        log_at(LOG_WARN, "brokers_unreachable", "cause=\"%s\"", err->message);
    produce->told_down = true;
    return ST_OK;
}

static enum status send_value(struct produce *produce, struct bytes_view uid, struct error *err)
{
    const struct stream_message message = {.topic = produce->options->topic,
                                           .partition = STREAM_ANY_PARTITION,
                                           .key = uid,
                                           .value = byte_buf_view(&produce->value)};
    enum status st = attend(produce, stream_producer_poll(produce->producer, 0, err), err);

    while (st == ST_OK) {
        st = stream_producer_send(produce->producer, &message, NULL, err);
        if (st != ST_FULL)
            break;
        st = attend(produce, stream_producer_poll(produce->producer, POLL_MS, err), err);
        if (st == ST_OK && is_over(produce))
            return ST_OK;
    }
    if (st == ST_OK) {
        produce->summary->n_sent++;
        produce->summary->bytes += produce->value.len;
    }
    return st;
}

static void skip(struct produce *produce, const char *uid, const char *reason, const char *detail)
{
    produce->summary->n_skipped++;
    log_at(LOG_WARN, "sample_skipped", "uid=\"%s\" reason=%s detail=\"%s\"", uid, reason, detail);
}

static enum status send_sample(struct produce *produce, const struct record *record,
                               struct error *err)
{
    char uid[64];
    enum status st;

    byte_buf_reset(&produce->value);
    st = stream_record_write(produce->options->schema, record, NULL, &produce->sample,
                             &produce->value, err);
    if (st == ST_OK)
        return send_value(produce, record->uid, err);
    if (st != ST_INVALID)
        return st;
    (void)snprintf(uid, sizeof uid, "%.*s", (int)MIN(record->uid.len, sizeof uid - 1),
                   (const char *)record->uid.data);
    skip(produce, uid, "not_a_record", err->message);
    return ST_OK;
}

static enum status send_samples(struct produce *produce, struct dataset_reader *reader,
                                struct error *err)
{
    enum status st = ST_OK;

    while (st == ST_OK && !is_over(produce)) {
        struct dataset_reject reject;
        struct record record;

        arena_reset(&produce->sample);
        st = dataset_reader_next(reader, &produce->sample, &record, &reject, err);
        if (st == ST_OK) {
            st = send_sample(produce, &record, err);
        } else if (st == ST_CORRUPT) {
            skip(produce, reject.uid, reject.reason, reject.detail);
            st = ST_OK;
        }
        record_release(&record);
    }
    return st == ST_END ? ST_OK : st;
}

static enum status send_shard(struct produce *produce, const struct plan *plan,
                              const struct catalog_shard_plan *shard, struct error *err)
{
    const struct dataset_read_options options = {
        .max_sample_bytes = produce->options->max_sample_bytes,
        .begin_offset = shard->input_begin,
        .end_offset = shard->input_end,
        .references = plan->input.store,
    };
    const struct dataset_position from = {.offset = shard->input_begin};
    struct dataset_reader *reader = NULL;
    enum status st = dataset_reader_open(dataset_format_by_name(shard->input_format),
                                         shard->source == CATALOG_INPUT_PLAN ? produce->lists
                                                                             : plan->input.store,
                                         shard->input_key, &options, &from, &reader, err);

    if (st == ST_OK)
        st = send_samples(produce, reader, err);
    dataset_reader_close(&reader);
    return st;
}

/* A line goes along as it is, if it has a uid to be its key. */
static enum status send_line(struct produce *produce, struct bytes_view line, struct error *err)
{
    struct jsonl_uid uid = {0};
    json_t *object = NULL;
    enum status st = record_json_parse(line, &object, err);

    byte_buf_reset(&produce->value);
    if (st == ST_OK && jsonl_read_uid(object, &uid)) {
        st = byte_buf_append(&produce->value, line.data, line.len, err);
        if (st == ST_OK)
            st = send_value(produce, bytes_of_string(uid.key), err);
    } else if (st == ST_OK) {
        skip(produce, "", "missing_uid", "no field uid, or one that names nothing");
    } else if (st == ST_CORRUPT) {
        skip(produce, "", "bad_json", err->message);
        st = ST_OK;
    }
    json_decref(object);
    return st;
}

/* The lines of a folder's list, and those of plain JSONL, are records as they are. */
static enum status read_lines(struct produce *produce, const struct plan *plan,
                              const struct catalog_shard_plan *shard, struct bytes_view *body,
                              struct error *err)
{
    uint64_t len = shard->input_end - shard->input_begin;
    uint8_t *text;
    enum status st;

    if (shard->source == CATALOG_INPUT_PLAN)
        return object_store_get(produce->lists, shard->input_key, LIST_MAX_BYTES, &produce->sample,
                                body, err);
    if (strcmp(shard->input_format, "jsonl") != 0 || len > LIST_MAX_BYTES)
        return error_set(err, ST_INVALID,
                         "\"%s\" cannot be sent as keys: only folders of images can, and plain "
                         "JSONL with at most %d bytes in %d lines",
                         shard->input_key, (int)LIST_MAX_BYTES, (int)LIST_LINES);
    st = arena_alloc(&produce->sample, (size_t)len, &text, err);
    if (st == ST_OK)
        st = object_store_read_range(plan->input.store, shard->input_key, shard->input_begin,
                                     (size_t)len, text, err);
    *body = bytes_view_of(text, st == ST_OK ? (size_t)len : 0);
    return st;
}

static enum status send_keys(struct produce *produce, const struct plan *plan,
                             const struct catalog_shard_plan *shard, struct error *err)
{
    struct bytes_view body = {0};
    enum status st;

    arena_reset(&produce->sample);
    st = read_lines(produce, plan, shard, &body, err);
    for (size_t at = 0; at < body.len && st == ST_OK && !is_over(produce);) {
        const uint8_t *end = memchr(body.data + at, '\n', body.len - at);
        size_t len = end != NULL ? (size_t)(end - body.data) - at : body.len - at;

        if (len > 0)
            st = send_line(produce, bytes_view_of(body.data + at, len), err);
        at += len + 1;
    }
    return st;
}

static enum status send_plan(struct produce *produce, const struct plan *plan, struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < plan->n_shards && st == ST_OK && !is_over(produce); i++)
        st =
            (produce->options->keys ? send_keys : send_shard)(produce, plan, &plan->shards[i], err);
    return st;
}

static enum status wait_for_deliveries(struct produce *produce, struct error *err)
{
    enum status st, why;

    do {
        why = stream_producer_flush(produce->producer, FLUSH_MS, err);
        st = attend(produce, why, err);
    } while (st == ST_OK && why != ST_OK);
    return st;
}

static enum status open_producer(struct produce *produce, struct error *err)
{
    const struct produce_options *options = produce->options;
    const struct stream_producer_options producer = {
        .client = "reinforce-produce",
        .properties = options->properties,
        .n_properties = options->n_properties,
        .max_bytes = QUEUE_BYTES,
        .connect_ms = options->connect_ms,
        .delivered = delivered,
        .ctx = produce,
    };

    return stream_producer_open(options->stream_url, &producer, &produce->producer, err);
}

enum status produce_run(const struct produce_options *options, struct produce_summary *summary,
                        struct error *err)
{
    struct produce produce = {.options = options, .summary = summary};
    const struct job job = {
        .input = {.url = options->input_url,
                  .format = options->input_format,
                  .shard_samples = LIST_LINES},
    };
    struct arena arena;
    struct plan plan = {.job = &job, .arena = &arena};
    int64_t begun_ms = clock_monotonic_ms();
    enum status st;

    memset(summary, 0, sizeof *summary);
    arena_init(&arena, ARENA_BYTES);
    arena_init(&produce.sample, 4 * options->max_sample_bytes + LIST_MAX_BYTES);
    byte_buf_init(&produce.value, 2 * options->max_sample_bytes);
    st = object_store_open(LIST_STORE, &produce.lists, err);
    plan.output = produce.lists;
    if (st == ST_OK)
        st = open_producer(&produce, err); /* first: it fails sooner than a listing */
    if (st == ST_OK)
        st = input_open(options->input_url, options->store, &arena, &plan.input, err);
    if (st == ST_OK)
        st = planner_run(&plan, err);
    if (st == ST_OK)
        st = send_plan(&produce, &plan, err);
    if (st == ST_OK)
        st = wait_for_deliveries(&produce, err);
    stream_producer_close(&produce.producer);
    input_close(&plan.input);
    object_store_close(&produce.lists);
    byte_buf_release(&produce.value);
    arena_release(&produce.sample);
    arena_release(&arena);
    summary->elapsed_ms = clock_monotonic_ms() - begun_ms;
    return st;
}
