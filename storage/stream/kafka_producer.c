#include "reinforce/base/clock.h"
#include "storage/stream/kafka_client.h"

#include <stdlib.h>

enum { MIN_KBYTES = 1024, MAX_KBYTES = 2097151 };

struct producer {
    struct stream_producer base;
    struct kafka_client client;
    stream_delivered_fn *delivered;
    void *ctx;
    bool is_ready; /* for transactions: earlier producers of the name are shut out */
};

static struct producer *self(struct stream_producer *p)
{
    return (struct producer *)(void *)p;
}

static void report(struct producer *own, const rd_kafka_message_t *message)
{
    struct error err = {0};

    if (own->delivered == NULL)
        return;
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        own->delivered(own->ctx, message->_private, NULL);
        return;
    }
    (void)kafka_client_error(&own->client, message->err, NULL, &err);
    if (message->rkt != NULL)
        error_add_context(&err, "topic %s", rd_kafka_topic_name(message->rkt));
    own->delivered(own->ctx, message->_private, &err);
}

/* Takes events for up to timeout_ms, and goes back as soon as there have been any. */
static enum status poll_events(struct stream_producer *p, int timeout_ms, struct error *err)
{
    struct producer *own = self(p);
    rd_kafka_event_t *event = rd_kafka_queue_poll(own->client.queue, timeout_ms);
    enum status st = ST_OK;

    while (event != NULL && st == ST_OK) {
        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR) {
            const rd_kafka_message_t *message;

            while ((message = rd_kafka_event_message_next(event)) != NULL)
                report(own, message);
        } else {
            st = kafka_client_take(&own->client, event, err);
        }
        rd_kafka_event_destroy(event);
        event = st == ST_OK ? rd_kafka_queue_poll(own->client.queue, 0) : NULL;
    }
    return st;
}

static rd_kafka_headers_t *headers_of(const struct stream_message *message)
{
    rd_kafka_headers_t *headers;

    if (message->n_headers == 0)
        return NULL;
    headers = rd_kafka_headers_new(message->n_headers);
    for (size_t i = 0; i < message->n_headers; i++) {
        const struct stream_header *header = &message->headers[i];

        (void)rd_kafka_header_add(headers, header->name, -1, header->value.data,
                                  (ssize_t)header->value.len);
    }
    return headers;
}

/* What is only read may be const; the interface predates that. */
static rd_kafka_vu_t bytes_argument(rd_kafka_vtype_t type, struct bytes_view bytes)
{
    rd_kafka_vu_t argument = {.vtype = type};

    argument.u.mem.ptr = (void *)(uintptr_t)bytes.data;
    argument.u.mem.size = bytes.len;
    return argument;
}

static enum status send_message(struct stream_producer *p, const struct stream_message *message,
                                void *tag, struct error *err)
{
    struct producer *own = self(p);
    rd_kafka_headers_t *headers = headers_of(message);
    const rd_kafka_vu_t arguments[] = {
        {.vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = message->topic},
        {.vtype = RD_KAFKA_VTYPE_PARTITION,
         .u.i32 = message->partition == STREAM_ANY_PARTITION ? RD_KAFKA_PARTITION_UA
                                                             : message->partition},
        {.vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY},
        bytes_argument(RD_KAFKA_VTYPE_KEY, message->key),
        bytes_argument(RD_KAFKA_VTYPE_VALUE, message->value),
        {.vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = tag},
        {.vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers},
    };
    rd_kafka_error_t *failure = rd_kafka_produceva(own->client.rk, arguments, ARRAY_LEN(arguments));
    enum status st;

    if (failure == NULL)
        return ST_OK;
    if (headers != NULL)
        rd_kafka_headers_destroy(headers);
    st = kafka_client_failed(&own->client, failure, err);
    error_add_context(err, "topic %s", message->topic);
    return st;
}

static enum status flush(struct stream_producer *p, int timeout_ms, struct error *err)
{
    struct producer *own = self(p);
    int64_t deadline_ms = clock_monotonic_ms() + timeout_ms;
    enum status st = poll_events(p, 0, err);

    while ((st == ST_OK || status_is_retryable(st)) && rd_kafka_outq_len(own->client.rk) > 0) {
        int64_t left_ms = deadline_ms - clock_monotonic_ms();
        enum status polled;

        if (left_ms <= 0)
            return st != ST_OK
                       ? st
                       : error_set(err, ST_TIMEOUT, "%d messages were not delivered in %d ms",
                                   rd_kafka_outq_len(own->client.rk), timeout_ms);
        polled = poll_events(p, (int)left_ms, err);
        st = polled != ST_OK ? polled : st; /* what was wrong says more than that time was up */
    }
    return rd_kafka_outq_len(own->client.rk) == 0 ? ST_OK : st;
}

static enum status begin(struct stream_producer *p, int timeout_ms, struct error *err)
{
    struct producer *own = self(p);
    enum status st = ST_OK;

    if (!own->is_ready) {
        st = poll_events(p, 0, err); /* a refused login, for one */
        if (st == ST_OK)
            st = kafka_client_failed(&own->client,
                                     rd_kafka_init_transactions(own->client.rk, timeout_ms), err);
    }
    if (st != ST_OK)
        return st;
    own->is_ready = true;
    return kafka_client_failed(&own->client, rd_kafka_begin_transaction(own->client.rk), err);
}

static enum status commit(struct stream_producer *p, int timeout_ms, struct error *err)
{
    struct producer *own = self(p);

    return kafka_client_failed(&own->client,
                               rd_kafka_commit_transaction(own->client.rk, timeout_ms), err);
}

static void close_producer(struct stream_producer *p)
{
    struct producer *own = self(p);
    struct error ignored;

    if (rd_kafka_outq_len(own->client.rk) > 0) {
        (void)rd_kafka_purge(own->client.rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        if (flush(p, 1000, &ignored) != ST_OK)
            own->delivered = NULL;
    }
    kafka_client_release(&own->client);
    free(own);
}

static const struct stream_producer_ops producer_ops = {
    .send = send_message,
    .poll = poll_events,
    .flush = flush,
    .begin = begin,
    .commit = commit,
    .close = close_producer,
};

enum status kafka_producer_open(const char *address, const struct stream_producer_options *options,
                                struct stream_producer **out, struct error *err)
{
    char kbytes[24];
    const struct kafka_default defaults[] = {
        {"enable.idempotence", "true"},
        {"partitioner", "murmur2_random"}, /* as Java's: one key, one partition, whoever sends */
        {"queue.buffering.max.kbytes", kbytes},
        {"queue.buffering.max.messages", "10000000"}, /* bytes are what limits */
        {"message.max.bytes", "16777216"},            /* the broker's limit is what counts */
        {"transactional.id", options->transaction != NULL ? options->transaction : ""},
    };
    const struct kafka_client_options client = {
        .type = RD_KAFKA_PRODUCER,
        .events = RD_KAFKA_EVENT_DR,
        .address = address,
        .client = options->client,
        .defaults = defaults,
        .n_defaults = ARRAY_LEN(defaults) - (options->transaction == NULL),
        .properties = options->properties,
        .n_properties = options->n_properties,
    };
    struct producer *own = calloc(1, sizeof *own);
    enum status st;

    if (own == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a producer");
    own->base.ops = &producer_ops;
    own->delivered = options->delivered;
    own->ctx = options->ctx;
    (void)snprintf(kbytes, sizeof kbytes, "%zu",
                   MIN(MAX(options->max_bytes >> 10, (size_t)MIN_KBYTES), (size_t)MAX_KBYTES));
    st = kafka_client_init(&client, &own->client, err);
    if (st == ST_OK && options->connect_ms > 0)
        st = kafka_client_connect(&own->client, NULL, 0, options->connect_ms, err);
    if (st != ST_OK) {
        error_add_context(err, "kafka://%.100s", address);
        kafka_client_release(&own->client);
        free(own);
        return st;
    }
    *out = &own->base;
    return ST_OK;
}
