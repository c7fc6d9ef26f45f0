#include "coordinator/ingest.h"

#include "coordinator/ingest_gather.h"
#include "coordinator/ingest_refused.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "reinforce/base/unique.h"
#include "storage/catalog/catalog.h"

#include <inttypes.h>
#include <stdlib.h>

#define LIST_PREFIX "_reinforce/ingest/"

enum {
    POLL_MS = 200,
    RETRY_MIN_MS = 500,
    RETRY_MAX_MS = 30000,
    MAX_FLOW = 64,
};

/* One partition that is ours. */
struct claim {
    char *topic;
    int32_t partition;
    bool caught_up;
};

struct ingest {
    const struct ingest_options *options;
    const struct job *job;
    struct ingest_stats *stats;
    struct catalog *catalog;
    struct stream_consumer *consumer;
    struct ingest_refused refused;
    struct ingest_gather *gather;
    enum stream_schema schema;
    struct arena arena;  /* of the job's lists and the claims of a look */
    struct arena record; /* scratch */
    struct byte_buf line;
    struct claim *claims;
    size_t n_claims, capacity;
    char name[UNIQUE_TEXT_LEN + 1]; /* of our lists */
    int64_t n_lists;
    const char *list_key; /* of the batch at hand, once it is stored */
    struct object_written list;
    char list_text[64];
    int64_t retry_at_ms, retry_ms; /* a commit that could not be made */
    bool told_down;
};

static bool is_stopped(const struct ingest *in)
{
    return in->options->stop != NULL && atomic_load(in->options->stop);
}

static struct claim *find_claim(struct ingest *in, const struct stream_partition *at)
{
    for (size_t i = 0; i < in->n_claims; i++)
        if (in->claims[i].partition == at->partition && strcmp(in->claims[i].topic, at->topic) == 0)
            return &in->claims[i];
    return NULL;
}

static enum status add_claim(struct ingest *in, const struct stream_partition *at,
                             struct error *err)
{
    struct claim *claim = find_claim(in, at);

    if (claim != NULL) {
        claim->caught_up = false;
        return ST_OK;
    }
    if (in->n_claims == in->capacity) {
        size_t capacity = MAX(2 * in->capacity, (size_t)16);
        struct claim *grown = realloc(in->claims, capacity * sizeof *grown);

        if (grown == NULL)
            return error_set(err, ST_NO_MEMORY, "could not allocate for %zu partitions", capacity);
        in->claims = grown;
        in->capacity = capacity;
    }
    claim = &in->claims[in->n_claims];
    *claim = (struct claim){.topic = strdup(at->topic), .partition = at->partition};
    if (claim->topic == NULL)
        return error_set(err, ST_NO_MEMORY, "could not keep a topic's name");
    in->n_claims++;
    return ST_OK;
}

static void drop_claim(struct ingest *in, const struct stream_partition *at)
{
    struct claim *claim = find_claim(in, at);

    if (claim == NULL)
        return;
    free(claim->topic);
    *claim = in->claims[--in->n_claims];
}

/* Where a partition goes on: where the catalog says; a new one where the job says. */
static enum status begin_partition(struct ingest *in, struct stream_partition *at,
                                   struct error *err)
{
    struct catalog_ingest_position position;
    int64_t window = strcmp(in->job->kafka.duplicates, "none") == 0 ? 0 : in->job->kafka.window;
    struct arena seen;
    enum status st;

    arena_init(&seen, (size_t)1 << 30);
    st = catalog_ingest_read(in->catalog, in->options->job_id, at->topic, at->partition, window,
                             &seen, &position, err);
    if (st == ST_OK) {
        at->offset = position.next_offset;
        if (position.next_offset == CATALOG_INGEST_UNKNOWN)
            at->offset = strcmp(in->job->kafka.start, "latest") == 0 ? STREAM_OFFSET_END
                                                                     : STREAM_OFFSET_BEGINNING;
        st = ingest_gather_begin(in->gather, at, position.next_offset, position.seen,
                                 position.n_seen, err);
    }
    arena_release(&seen);
    return st == ST_OK ? add_claim(in, at, err) : st;
}

/* Begins partitions, however long the catalog takes: without it there is nothing to do. */
static enum status begin_partitions(struct ingest *in, const struct stream_partition *partitions,
                                    size_t n, struct error *err)
{
    struct stream_partition *at = calloc(n, sizeof *at);
    enum status st = ST_OK;

    if (at == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate for %zu partitions", n);
    for (size_t i = 0; i < n && st == ST_OK;) {
        at[i] = partitions[i];
        st = begin_partition(in, &at[i], err);
        if (st == ST_OK) {
            log_at(LOG_INFO, "partition_begun", "topic=%s partition=%" PRId32 " offset=%" PRId64,
                   at[i].topic, at[i].partition, at[i].offset);
            i++;
        } else if (status_is_retryable(st) && !is_stopped(in)) {
            log_at(LOG_WARN, "offsets_not_read", "cause=\"%s\"", err->message);
            clock_sleep_ms(RETRY_MIN_MS, in->options->stop);
            st = ST_OK;
        }
    }
    if (st == ST_OK)
        st = stream_consumer_assign(in->consumer, at, n, err);
    free(at);
    return st;
}

/* Everything anew from the catalog, which knows better than we do. */
static enum status begin_again(struct ingest *in, struct error *err)
{
    size_t n = in->n_claims;
    struct stream_partition *at = calloc(MAX(n, (size_t)1), sizeof *at);
    enum status st;

    if (at == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate for %zu partitions", n);
    for (size_t i = 0; i < n; i++)
        at[i] = (struct stream_partition){.topic = in->claims[i].topic,
                                          .partition = in->claims[i].partition};
    ingest_gather_reset(in->gather);
    st = n > 0 ? begin_partitions(in, at, n, err) : ST_OK;
    free(at);
    return st;
}

static enum status take_message(struct ingest *in, const struct stream_message *message,
                                struct error *err)
{
    const struct stream_origin origin = {
        .topic = message->topic, .partition = message->partition, .offset = message->offset};
    const struct stream_partition at = {.topic = message->topic, .partition = message->partition};
    struct claim *claim = find_claim(in, &at);
    struct stream_record record;
    struct stream_refusal refusal;
    enum status st;

    if (claim != NULL)
        claim->caught_up = false;
    arena_reset(&in->record);
    byte_buf_reset(&in->line);
    st = stream_record_read(in->schema, message->value, &origin,
                            (size_t)in->job->kafka.max_record_bytes, &in->record, &in->line,
                            &record, &refusal, err);
    if (st == ST_CORRUPT) {
        st = ingest_refused_send(&in->refused, message, &refusal, err);
        if (st == ST_OK)
            st = ingest_gather_add(in->gather, &origin, NULL, (struct bytes_view){0},
                                   clock_monotonic_ms(), err);
    } else if (st == ST_OK) {
        st = ingest_gather_add(in->gather, &origin, &record, byte_buf_view(&in->line),
                               clock_monotonic_ms(), err);
    }
    return st;
}

/* The batch's list, under a name that no other has. */
static enum status store_list(struct ingest *in, const struct ingest_batch *batch,
                              struct error *err)
{
    enum status st;

    if (in->list_key != NULL || batch->n_records == 0)
        return ST_OK;
    (void)snprintf(in->list_text, sizeof in->list_text, LIST_PREFIX "%s-%08" PRId64 ".jsonl",
                   in->name, in->n_lists);
    st = object_store_put(in->options->output, in->list_text, batch->lines, &in->list, err);
    if (st != ST_OK)
        return st;
    in->n_lists++;
    in->list_key = in->list_text;
    return ST_OK;
}

static void count(struct ingest *in, const struct ingest_batch *batch, int64_t shard)
{
    int64_t waited_ms = clock_monotonic_ms() - batch->first_ms;
    int64_t target_ms = in->job->kafka.latency_ms;

    for (size_t i = 0; i < batch->n_ranges; i++) {
        (void)atomic_fetch_add(&in->stats->n_records, batch->ranges[i].n_records);
        (void)atomic_fetch_add(&in->stats->n_duplicates, batch->ranges[i].n_duplicates);
        (void)atomic_fetch_add(&in->stats->n_refused, batch->ranges[i].n_refused);
    }
    (void)atomic_fetch_add(&in->stats->n_shards, shard >= 0);
    atomic_store(&in->stats->waited_ms, waited_ms);
    log_at(LOG_INFO, "shard_gathered",
           "shard=%" PRId64 " records=%" PRId64 " bytes=%zu partitions=%zu waited_ms=%" PRId64,
           shard, batch->n_records, batch->lines.len, batch->n_ranges, waited_ms);
    if (target_ms > 0 && waited_ms > target_ms) {
        (void)atomic_fetch_add(&in->stats->n_late, 1);
        log_at(LOG_WARN, "latency_target_missed",
               "shard=%" PRId64 " waited_ms=%" PRId64 " target_ms=%" PRId64, shard, waited_ms,
               target_ms);
    }
}

/* For those who watch the lag; nothing depends on it. */
static void tell_offsets(struct ingest *in, const struct ingest_batch *batch)
{
    struct error err;

    for (size_t i = 0; i < batch->n_ranges; i++) {
        const struct stream_partition at = {.topic = batch->ranges[i].topic,
                                            .partition = batch->ranges[i].partition,
                                            .offset = batch->ranges[i].end};

        if (find_claim(in, &at) != NULL &&
            stream_consumer_commit(in->consumer, &at, 1, &err) != ST_OK)
            log_at(LOG_INFO, "offsets_not_told", "cause=\"%s\"", err.message);
    }
}

/* Somebody else was here, or the job is over. */
static enum status give_way(struct ingest *in, struct error *err)
{
    struct error why = *err, ignored;
    struct catalog_job row;
    struct arena arena;
    const char *config;
    enum status st;

    if (in->list_key != NULL &&
        object_store_remove(in->options->output, in->list_key, &ignored) != ST_OK)
        log_at(LOG_WARN, "list_left", "key=%s cause=\"%s\"", in->list_key, ignored.message);
    in->list_key = NULL;
    (void)atomic_fetch_add(&in->stats->n_conflicts, 1);
    log_at(LOG_WARN, "batch_dropped", "cause=\"%s\"", why.message);
    arena_init(&arena, 64 << 20);
    st = catalog_job_find(in->catalog, in->job->name, &arena, &row, &config, err);
    arena_release(&arena);
    if (st == ST_OK && row.state == CATALOG_JOB_CANCELLED)
        return error_set(err, ST_CANCELLED, "the job was cancelled");
    if (st != ST_OK && !status_is_retryable(st))
        return st;
    return begin_again(in, err);
}

/* One try. ST_CONFLICT and what is retryable leave the batch as it is. */
static enum status try_commit(struct ingest *in, struct error *err)
{
    const struct ingest_batch *batch;
    struct catalog_ingest ingest;
    int64_t shard = -1;
    enum status st = ingest_gather_cut(in->gather, &batch, err);

    if (st == ST_OK)
        st = ingest_refused_flush(&in->refused, err);
    if (st == ST_OK)
        st = store_list(in, batch, err);
    if (st != ST_OK)
        return st;
    ingest = (struct catalog_ingest){.input_key = in->list_key,
                                     .input_bytes = in->list_key != NULL ? in->list.bytes : 0,
                                     .input_etag = in->list_key != NULL ? in->list.sha256 : "",
                                     .waited_ms = clock_monotonic_ms() - batch->first_ms,
                                     .ranges = batch->ranges,
                                     .n_ranges = batch->n_ranges};
    st = catalog_ingest_commit(in->catalog, in->options->job_id, &ingest, clock_wall_ms(), &shard,
                               err);
    if (st != ST_OK)
        return st;
    count(in, batch, shard);
    tell_offsets(in, batch);
    in->list_key = NULL;
    ingest_gather_committed(in->gather);
    return ST_OK;
}

/* What became of a commit. What fails for now is tried again later; meanwhile records wait, and
 * partitions are paused when too many do. */
static enum status settle(struct ingest *in, enum status st, struct error *err)
{
    if (st == ST_OK) {
        in->retry_ms = 0;
        return ST_OK;
    }
    if (st == ST_CONFLICT)
        return give_way(in, err);
    if (!status_is_retryable(st))
        return st;
    in->retry_ms = MIN(MAX(2 * in->retry_ms, (int64_t)RETRY_MIN_MS), (int64_t)RETRY_MAX_MS);
    in->retry_at_ms = clock_monotonic_ms() + in->retry_ms;
    log_at(LOG_WARN, "batch_waits", "at=\"%s\" cause=\"%s\" retry_ms=%" PRId64, err->context,
           err->message, in->retry_ms);
    if (!in->refused.has_failed)
        return ST_OK;
    ingest_refused_begin_again(&in->refused);
    return begin_again(in, err);
}

/* Before partitions go: what is read of them is worth one try to commit it, after that it is the
 * next reader's to read again. */
static enum status give_back(struct ingest *in, const struct stream_event *event, struct error *err)
{
    struct error why = {0};
    enum status st, tried = ST_OK;

    while (tried == ST_OK && !event->lost && ingest_gather_is_due(in->gather, INT64_MAX / 2))
        tried = try_commit(in, &why);
    for (size_t i = 0; i < event->n_partitions; i++) {
        ingest_gather_end(in->gather, event->partitions[i].topic, event->partitions[i].partition);
        drop_claim(in, &event->partitions[i]);
        log_at(LOG_INFO, "partition_given_back", "topic=%s partition=%" PRId32,
               event->partitions[i].topic, event->partitions[i].partition);
    }
    st = stream_consumer_unassign(in->consumer, event->partitions, event->n_partitions, err);
    if (st != ST_OK)
        return st;
    *err = why;
    return settle(in, tried, err);
}

/* Records that retention took are gone for everybody; a topic that is shorter than what was read of
 * it is another topic, or has lost its end, and somebody has to look. */
static enum status pass_gap(struct ingest *in, const struct stream_event *event, struct error *err)
{
    struct stream_partition at = event->partitions[0];
    struct catalog_ingest_position position;
    struct arena arena;
    enum status st;

    arena_init(&arena, 1 << 20);
    st = catalog_ingest_read(in->catalog, in->options->job_id, at.topic, at.partition, 0, &arena,
                             &position, err);
    arena_release(&arena);
    if (st != ST_OK && !status_is_retryable(st))
        return st;
    if (st != ST_OK || event->first < 0) { /* asked again, in a while */
        clock_sleep_ms(RETRY_MIN_MS, in->options->stop);
        return begin_partitions(in, &at, 1, err);
    }
    if (position.next_offset > event->end)
        return error_set(err, ST_CORRUPT,
                         "topic %s, partition %" PRId32 " ends at offset %" PRId64
                         ", but has been read up to %" PRId64
                         ": it has lost its end or was made anew; read it by another job",
                         at.topic, at.partition, event->end, position.next_offset);
    (void)atomic_fetch_add(&in->stats->n_gone,
                           MAX(event->first - MAX(position.next_offset, (int64_t)0), (int64_t)0));
    log_at(LOG_ERROR, "records_gone",
           "topic=%s partition=%" PRId32 " from=%" PRId64 " to=%" PRId64
           " cause=\"retention was shorter than the lag\"",
           at.topic, at.partition, position.next_offset, event->first);
    at.offset = event->first;
    return stream_consumer_assign(in->consumer, &at, 1, err);
}

static enum status take_event(struct ingest *in, const struct stream_event *event,
                              struct error *err)
{
    struct claim *claim;

    switch (event->kind) {
    case STREAM_MESSAGE:
        return take_message(in, &event->message, err);
    case STREAM_ASSIGNED:
        return begin_partitions(in, event->partitions, event->n_partitions, err);
    case STREAM_REVOKED:
        return give_back(in, event, err);
    case STREAM_GONE:
        return pass_gap(in, event, err);
    case STREAM_CAUGHT_UP:
        claim = find_claim(in, &event->partitions[0]);
        if (claim != NULL)
            claim->caught_up = true;
        return ingest_gather_pass(in->gather, event->partitions[0].topic,
                                  event->partitions[0].partition, event->end, clock_monotonic_ms(),
                                  err);
    case STREAM_NOTHING:
        break;
    }
    return ST_OK;
}

/* Trouble with brokers goes away by itself, or is told once and waited for. */
static enum status poll(struct ingest *in, int timeout_ms, struct error *err)
{
    struct stream_event event;
    enum status st = stream_consumer_poll(in->consumer, timeout_ms, &event, err);

    if (st == ST_OK) {
        in->told_down = in->told_down && event.kind == STREAM_NOTHING;
        return take_event(in, &event, err);
    }
    if (!status_is_retryable(st) && st != ST_CONFLICT && st != ST_NOT_FOUND)
        return st;
    if (!in->told_down)
        log_at(LOG_WARN, "stream_waits", "at=\"%s\" cause=\"%s\"", err->context, err->message);
    in->told_down = true;
    return ST_OK;
}

static enum status control_flow(struct ingest *in, struct error *err)
{
    struct stream_partition at[MAX_FLOW];
    enum status st = ST_OK;

    for (int paused = 0; paused < 2 && st == ST_OK; paused++) {
        size_t n = ingest_gather_flow(in->gather, paused, at, MAX_FLOW);

        if (n > 0)
            log_at(LOG_INFO, paused ? "partitions_paused" : "partitions_resumed", "n=%zu", n);
        st = stream_consumer_pause(in->consumer, at, n, paused, err);
    }
    return st;
}

/* A job that does not follow: every partition has been read to its end. */
static bool is_all_read(const struct ingest *in)
{
    for (size_t i = 0; i < in->n_claims; i++)
        if (!in->claims[i].caught_up)
            return false;
    return !in->job->kafka.follow && in->n_claims > 0;
}

static enum status read_stream(struct ingest *in, struct error *err)
{
    enum status st = ST_OK;

    while (st == ST_OK && !is_stopped(in)) {
        int64_t now_ms = clock_monotonic_ms();
        int64_t wait_ms = ingest_gather_wait_ms(in->gather, now_ms);
        bool is_due = ingest_gather_is_due(in->gather, now_ms) || (is_all_read(in) && wait_ms >= 0);
        bool may_try = now_ms >= in->retry_at_ms;

        if (is_due && may_try) {
            enum status tried = try_commit(in, err);

            st = settle(in, tried, err);
        } else {
            if (is_all_read(in) && wait_ms < 0 && !is_due && !in->options->stays)
                return ST_OK;
            st = poll(in, (int)(wait_ms < 0 || is_due ? POLL_MS : MIN(wait_ms, (int64_t)POLL_MS)),
                      err);
        }
        if (st == ST_OK)
            st = control_flow(in, err);
    }
    return st;
}

static enum status open_stream(struct ingest *in, struct error *err)
{
    const struct job *job = in->job;
    int connect_ms = in->options->connect_ms;
    struct stream_consumer_options options = {.group = job->kafka.group,
                                              .client = "reinforce",
                                              .max_bytes = (size_t)job->kafka.memory_bytes / 4,
                                              .connect_ms = connect_ms};
    struct ingest_stream stream;
    enum status st = ingest_stream_of(job, &in->arena, &stream, err);

    if (st != ST_OK)
        return st;
    options.topics = stream.topics;
    options.n_topics = stream.n_topics;
    options.properties = stream.properties;
    options.n_properties = stream.n_properties;
    st = stream_consumer_open(stream.url, &options, &in->consumer, err);
    return st == ST_OK
               ? ingest_refused_open(&in->refused, job, &stream, connect_ms, in->options->stop, err)
               : st;
}

static enum status open_all(struct ingest *in, struct error *err)
{
    const struct job *job = in->job;
    const char *duplicates = job->kafka.duplicates;
    const struct ingest_limits limits = {
        .max_records = job->input.shard_samples,
        .max_bytes = (size_t)job->kafka.shard_bytes,
        .max_age_ms = job->kafka.shard_age_ms,
        .max_queued_bytes = (size_t)job->kafka.memory_bytes / 2,
        .window = strcmp(duplicates, "none") == 0 ? 0 : (size_t)job->kafka.window,
        .by_uid = strcmp(duplicates, "uid") == 0 || strcmp(duplicates, "both") == 0,
        .by_content = strcmp(duplicates, "content") == 0 || strcmp(duplicates, "both") == 0,
    };
    size_t record_bytes = (size_t)job->kafka.max_record_bytes;
    enum status st;

    arena_init(&in->arena, 16 << 20);
    arena_init(&in->record, 32 * record_bytes + (16 << 20));
    byte_buf_init(&in->line, 4 * record_bytes + (64 << 10));
    unique_text(in->name);
    in->schema = strcmp(job->kafka.schema, "json") == 0       ? STREAM_SCHEMA_JSON
                 : strcmp(job->kafka.schema, "protobuf") == 0 ? STREAM_SCHEMA_PROTOBUF
                                                              : STREAM_SCHEMA_AUTO;
    st = ingest_gather_create(&limits, &in->gather, err);
    if (st == ST_OK)
        st = catalog_open(in->options->catalog_url, &in->catalog, err);
    return st == ST_OK ? open_stream(in, err) : st;
}

static void close_all(struct ingest *in)
{
    stream_consumer_close(&in->consumer);
    ingest_refused_close(&in->refused);
    catalog_close(&in->catalog);
    ingest_gather_destroy(&in->gather);
    for (size_t i = 0; i < in->n_claims; i++)
        free(in->claims[i].topic);
    free(in->claims);
    byte_buf_release(&in->line);
    arena_release(&in->record);
    arena_release(&in->arena);
}

enum status ingest_run(const struct ingest_options *options, struct ingest_stats *stats,
                       struct error *err)
{
    struct ingest in = {.options = options, .job = options->job, .stats = stats};
    enum status st = open_all(&in, err);

    if (st == ST_OK)
        st = read_stream(&in, err);
    if (st != ST_OK && status_is_retryable(st) && is_stopped(&in))
        st = ST_OK; /* it was waiting for something to come back */
    if (st != ST_OK)
        error_add_context(err, "input %s", options->job->input.url);
    close_all(&in);
    return st;
}
