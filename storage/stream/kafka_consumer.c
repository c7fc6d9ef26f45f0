#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "storage/stream/kafka_client.h"

#include <stdlib.h>

enum {
    CLOSE_MS = 10000,
    DESTROY_FIXED = 0x020200ff, /* librdkafka 2.2.0 */
    WATERMARKS_MS = 5000,
    MAX_HEADERS = 1024,
    MIN_KBYTES = 1024,
    MAX_KBYTES = 2097151
};

struct consumer {
    struct stream_consumer base;
    struct kafka_client client;
    bool was_assigned;       /* anything, even nothing, ever */
    rd_kafka_event_t *event; /* what the last poll() gave points into it */
    struct stream_header *headers;
    size_t n_headers;
    struct stream_partition *partitions;
    size_t n_partitions;
    rd_kafka_topic_partition_list_t *about; /* names the one partition an event is about */
};

static struct consumer *self(struct stream_consumer *c)
{
    return (struct consumer *)(void *)c;
}

static rd_kafka_topic_partition_list_t *list_of(const struct stream_partition *partitions, size_t n)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)n);

    for (size_t i = 0; i < n; i++)
        rd_kafka_topic_partition_list_add(list, partitions[i].topic, partitions[i].partition)
            ->offset = partitions[i].offset;
    return list;
}

static enum status grow(void **array, size_t *capacity, size_t n, size_t size, struct error *err)
{
    void *grown;

    if (n <= *capacity)
        return ST_OK;
    grown = realloc(*array, n * size);
    if (grown == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate for %zu", n);
    *array = grown;
    *capacity = n;
    return ST_OK;
}

static enum status room_for_partitions(struct consumer *own, size_t n, struct error *err)
{
    void *array = own->partitions;
    enum status st = grow(&array, &own->n_partitions, n, sizeof *own->partitions, err);

    own->partitions = array;
    return st;
}

static enum status take_headers(struct consumer *own, const rd_kafka_message_t *from,
                                struct stream_message *to, struct error *err)
{
    rd_kafka_headers_t *headers;
    void *array = own->headers;
    size_t n;
    enum status st;

    if (rd_kafka_message_headers(from, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return ST_OK;
    n = MIN(rd_kafka_header_cnt(headers), (size_t)MAX_HEADERS);
    st = grow(&array, &own->n_headers, n, sizeof *own->headers, err);
    own->headers = array;
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        const void *value;
        size_t len;

        (void)rd_kafka_header_get_all(headers, i, &own->headers[i].name, &value, &len);
        own->headers[i].value = bytes_view_of(value, len);
    }
    to->headers = own->headers;
    to->n_headers = st == ST_OK ? n : 0;
    return st;
}

/* The partition an event is about, as the event's only one. */
static enum status name_partition(struct consumer *own, const rd_kafka_topic_partition_t *where,
                                  enum stream_event_kind kind, struct stream_event *event,
                                  struct error *err)
{
    enum status st = room_for_partitions(own, 1, err);

    if (st != ST_OK)
        return st;
    if (own->about != NULL)
        rd_kafka_topic_partition_list_destroy(own->about);
    own->about = rd_kafka_topic_partition_list_new(1);
    (void)rd_kafka_topic_partition_list_add(own->about, where->topic, where->partition);
    own->partitions[0] = (struct stream_partition){.topic = own->about->elems[0].topic,
                                                   .partition = where->partition};
    event->kind = kind;
    event->partitions = own->partitions;
    event->n_partitions = 1;
    return ST_OK;
}

/* An offset behind retention, or beyond the end of a topic that was made anew. */
static enum status take_gone(struct consumer *own, const rd_kafka_topic_partition_t *where,
                             struct stream_event *event, struct error *err)
{
    rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(
        own->client.rk, where->topic, where->partition, &event->first, &event->end, WATERMARKS_MS);

    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        event->first = event->end = -1;
    return name_partition(own, where, STREAM_GONE, event, err);
}

static enum status take_end(struct consumer *own, const rd_kafka_topic_partition_t *where,
                            struct stream_event *event, struct error *err)
{
    event->end = where->offset;
    return name_partition(own, where, STREAM_CAUGHT_UP, event, err);
}

/* What a partition or the client as a whole had to say. */
static enum status take_error(struct consumer *own, struct stream_event *event, struct error *err)
{
    rd_kafka_topic_partition_t *where = rd_kafka_event_topic_partition(own->event);
    rd_kafka_resp_err_t code = rd_kafka_event_error(own->event);
    enum status st;

    if (where != NULL && code == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET)
        st = take_gone(own, where, event, err);
    else if (where != NULL && code == RD_KAFKA_RESP_ERR__PARTITION_EOF)
        st = take_end(own, where, event, err);
    else
        st = kafka_client_take(&own->client, own->event, err);
    if (where != NULL && st != ST_OK)
        error_add_context(err, "topic %s, partition %d", where->topic, (int)where->partition);
    if (where != NULL)
        rd_kafka_topic_partition_destroy(where);
    return st;
}

static enum status take_message(struct consumer *own, struct stream_event *event, struct error *err)
{
    const rd_kafka_message_t *message = rd_kafka_event_message_next(own->event);
    rd_kafka_timestamp_type_t kind;

    if (message == NULL)
        return ST_OK;
    event->kind = STREAM_MESSAGE;
    event->message = (struct stream_message){
        .topic = rd_kafka_topic_name(message->rkt),
        .partition = message->partition,
        .offset = message->offset,
        .timestamp_ms = rd_kafka_message_timestamp(message, &kind),
        .key = bytes_view_of(message->key, message->key_len),
        .value = bytes_view_of(message->payload, message->len),
    };
    return take_headers(own, message, &event->message, err);
}

/* An assignment of nothing is answered here. */
static enum status take_rebalance(struct consumer *own, struct stream_event *event,
                                  struct error *err)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_event_topic_partition_list(own->event);
    bool assigned = rd_kafka_event_error(own->event) == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
    size_t n = list != NULL ? (size_t)list->cnt : 0;
    enum status st = room_for_partitions(own, n, err);

    own->was_assigned = true;
    if (st != ST_OK)
        return st;
    if (n == 0)
        return kafka_client_failed(&own->client,
                                   assigned ? rd_kafka_incremental_assign(own->client.rk, list)
                                            : rd_kafka_incremental_unassign(own->client.rk, list),
                                   err);
    for (size_t i = 0; i < n; i++)
        own->partitions[i] = (struct stream_partition){
            .topic = list->elems[i].topic,
            .partition = list->elems[i].partition,
        };
    event->kind = assigned ? STREAM_ASSIGNED : STREAM_REVOKED;
    event->partitions = own->partitions;
    event->n_partitions = n;
    event->lost = !assigned && rd_kafka_assignment_lost(own->client.rk) != 0;
    return ST_OK;
}

static enum status take_event(struct consumer *own, struct stream_event *event, struct error *err)
{
    switch (rd_kafka_event_type(own->event)) {
    case RD_KAFKA_EVENT_FETCH:
        return take_message(own, event, err);
    case RD_KAFKA_EVENT_REBALANCE:
        return take_rebalance(own, event, err);
    case RD_KAFKA_EVENT_ERROR:
        return take_error(own, event, err);
    case RD_KAFKA_EVENT_OFFSET_COMMIT:
        if (rd_kafka_event_error(own->event) != RD_KAFKA_RESP_ERR_NO_ERROR &&
            rd_kafka_event_error(own->event) != RD_KAFKA_RESP_ERR__NO_OFFSET)
            log_at(LOG_INFO, "offsets_not_told", "cause=\"%s\"",
                   rd_kafka_event_error_string(own->event));
        return ST_OK;
    default:
        return kafka_client_take(&own->client, own->event, err);
    }
}

static enum status poll_event(struct stream_consumer *c, int timeout_ms, struct stream_event *event,
                              struct error *err)
{
    struct consumer *own = self(c);
    int64_t until_ms = 0;
    enum status st = ST_OK;

    while (st == ST_OK && event->kind == STREAM_NOTHING) {
        int64_t left_ms = timeout_ms;

        if (own->event != NULL)
            rd_kafka_event_destroy(own->event);
        own->event = rd_kafka_queue_poll(own->client.queue, 0); /* often there is one: no clock */
        if (own->event == NULL && timeout_ms > 0) {
            int64_t now_ms = clock_monotonic_ms();

            until_ms = until_ms == 0 ? now_ms + timeout_ms : until_ms;
            left_ms = until_ms - now_ms;
            if (left_ms > 0)
                own->event = rd_kafka_queue_poll(own->client.queue, (int)left_ms);
        }
        if (own->event == NULL)
            return ST_OK;
        st = take_event(own, event, err);
    }
    return st;
}

/* Those of `list` that are assigned already; they have to be let go before they can be moved. */
static enum status let_go(struct consumer *own, const rd_kafka_topic_partition_list_t *list,
                          struct error *err)
{
    rd_kafka_topic_partition_list_t *held = NULL, *both = rd_kafka_topic_partition_list_new(1);
    enum status st = ST_OK;

    if (rd_kafka_assignment(own->client.rk, &held) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        for (int i = 0; i < held->cnt; i++)
            if (rd_kafka_topic_partition_list_find(list, held->elems[i].topic,
                                                   held->elems[i].partition) != NULL)
                (void)rd_kafka_topic_partition_list_add(both, held->elems[i].topic,
                                                        held->elems[i].partition);
        rd_kafka_topic_partition_list_destroy(held);
    }
    if (both->cnt > 0)
        st = kafka_client_failed(&own->client, rd_kafka_incremental_unassign(own->client.rk, both),
                                 err);
    rd_kafka_topic_partition_list_destroy(both);
    return st;
}

static enum status assign(struct stream_consumer *c, const struct stream_partition *partitions,
                          size_t n, struct error *err)
{
    struct consumer *own = self(c);
    rd_kafka_topic_partition_list_t *list = list_of(partitions, n);
    enum status st = let_go(own, list, err);

    if (st == ST_OK)
        st = kafka_client_failed(&own->client, rd_kafka_incremental_assign(own->client.rk, list),
                                 err);
    if (st == ST_OK) /* one that was paused and comes anew is not */
        (void)rd_kafka_resume_partitions(own->client.rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    return st;
}

static enum status unassign(struct stream_consumer *c, const struct stream_partition *partitions,
                            size_t n, struct error *err)
{
    struct consumer *own = self(c);
    rd_kafka_topic_partition_list_t *list = list_of(partitions, n);
    enum status st =
        kafka_client_failed(&own->client, rd_kafka_incremental_unassign(own->client.rk, list), err);

    rd_kafka_topic_partition_list_destroy(list);
    return st;
}

static enum status pause_or_resume(struct stream_consumer *c,
                                   const struct stream_partition *partitions, size_t n, bool paused,
                                   struct error *err)
{
    struct consumer *own = self(c);
    rd_kafka_topic_partition_list_t *list = list_of(partitions, n);
    rd_kafka_resp_err_t code = paused ? rd_kafka_pause_partitions(own->client.rk, list)
                                      : rd_kafka_resume_partitions(own->client.rk, list);

    rd_kafka_topic_partition_list_destroy(list);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR ? ST_OK
                                              : kafka_client_error(&own->client, code, NULL, err);
}

static enum status commit(struct stream_consumer *c, const struct stream_partition *partitions,
                          size_t n, struct error *err)
{
    struct consumer *own = self(c);
    rd_kafka_topic_partition_list_t *list = list_of(partitions, n);
    rd_kafka_resp_err_t code = rd_kafka_commit(own->client.rk, list, 1);

    rd_kafka_topic_partition_list_destroy(list);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR ? ST_OK
                                              : kafka_client_error(&own->client, code, NULL, err);
}

/* The group's last events come while it is left, and want an answer. */
static void leave_group(struct consumer *own)
{
    int64_t deadline_ms = clock_monotonic_ms() + CLOSE_MS;
    rd_kafka_topic_partition_list_t *held = NULL;
    rd_kafka_error_t *failure = rd_kafka_consumer_close_queue(own->client.rk, own->client.queue);

    while (failure == NULL && rd_kafka_consumer_closed(own->client.rk) == 0 &&
           clock_monotonic_ms() < deadline_ms) {
        rd_kafka_event_t *event = rd_kafka_queue_poll(own->client.queue, 100);

        own->was_assigned =
            own->was_assigned || rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE;
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_REBALANCE &&
            rd_kafka_assignment(own->client.rk, &held) == RD_KAFKA_RESP_ERR_NO_ERROR) {
            rd_kafka_error_t *ignored = rd_kafka_incremental_unassign(own->client.rk, held);

            if (ignored != NULL)
                rd_kafka_error_destroy(ignored);
            rd_kafka_topic_partition_list_destroy(held);
        }
        if (event != NULL)
            rd_kafka_event_destroy(event);
    }
    if (failure != NULL)
        rd_kafka_error_destroy(failure);
}

static void close_consumer(struct stream_consumer *c)
{
    struct consumer *own = self(c);

    if (own->event != NULL)
        rd_kafka_event_destroy(own->event);
    if (own->client.rk != NULL)
        leave_group(own);
    /* Before 2.2.0 the library aborts when a member that has joined is destroyed before it was
     * assigned anything (its issue 4312). It has left the group; what is left of it stays until the
     * process ends. */
    if (!own->was_assigned && rd_kafka_version() < DESTROY_FIXED)
        own->client.rk = NULL;
    if (own->about != NULL)
        rd_kafka_topic_partition_list_destroy(own->about);
    kafka_client_release(&own->client);
    free(own->headers);
    free(own->partitions);
    free(own);
}

static const struct stream_consumer_ops consumer_ops = {
    .poll = poll_event,
    .assign = assign,
    .unassign = unassign,
    .pause = pause_or_resume,
    .commit = commit,
    .close = close_consumer,
};

static enum status subscribe(struct consumer *own, const struct stream_consumer_options *options,
                             struct error *err)
{
    rd_kafka_topic_partition_list_t *topics =
        rd_kafka_topic_partition_list_new((int)options->n_topics);
    rd_kafka_resp_err_t code;

    for (size_t i = 0; i < options->n_topics; i++)
        (void)rd_kafka_topic_partition_list_add(topics, options->topics[i], RD_KAFKA_PARTITION_UA);
    code = rd_kafka_subscribe(own->client.rk, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    if (code == RD_KAFKA_RESP_ERR__INVALID_ARG)
        return error_set(err, ST_INVALID,
                         "the topics cannot be subscribed to: a name is empty, said twice, or a "
                         "pattern that is no regular expression");
    return code == RD_KAFKA_RESP_ERR_NO_ERROR ? ST_OK
                                              : kafka_client_error(&own->client, code, NULL, err);
}

enum status kafka_consumer_open(const char *address, const struct stream_consumer_options *options,
                                struct stream_consumer **out, struct error *err)
{
    char kbytes[24];
    const struct kafka_default defaults[] = {
        {"partition.assignment.strategy", "cooperative-sticky"},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "error"}, /* a gap is to be seen */
        {"queued.max.messages.kbytes", kbytes},
        {"queued.min.messages", "1000000"}, /* bytes are what limits */
        {"allow.auto.create.topics", "false"},
        {"topic.metadata.refresh.interval.ms", "30000"}, /* new topics of a pattern */
        {"enable.partition.eof", "true"},
    };
    const struct kafka_client_options client = {
        .type = RD_KAFKA_CONSUMER,
        .events = RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_OFFSET_COMMIT | RD_KAFKA_EVENT_FETCH,
        .address = address,
        .client = options->client,
        .group = options->group,
        .defaults = defaults,
        .n_defaults = ARRAY_LEN(defaults),
        .properties = options->properties,
        .n_properties = options->n_properties,
    };
    struct consumer *own = calloc(1, sizeof *own);
    enum status st;

    if (own == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a consumer");
    own->base.ops = &consumer_ops;
    (void)snprintf(kbytes, sizeof kbytes, "%zu",
                   MIN(MAX(options->max_bytes >> 10, (size_t)MIN_KBYTES), (size_t)MAX_KBYTES));
    st = kafka_client_init(&client, &own->client, err);
    if (st == ST_OK)
        st = kafka_client_connect(&own->client, options->topics, options->n_topics,
                                  options->connect_ms, err);
    if (st == ST_OK)
        st = subscribe(own, options, err);
    if (st != ST_OK) {
        error_add_context(err, "kafka://%.100s", address);
        kafka_client_release(&own->client);
        free(own);
        return st;
    }
    *out = &own->base;
    return ST_OK;
}
