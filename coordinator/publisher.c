#include "coordinator/publisher.h"

#include "coordinator/absolute_job.h"
#include "coordinator/ingest_stream.h"
#include "coordinator/outbox_event.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define HEADER_ID   "reinforce.id"
#define HEADER_KIND "reinforce.kind"

enum {
    BATCH_EVENTS = 500,
    QUEUE_BYTES = 32 << 20,
    EVENT_MAX_BYTES = 64 << 20,
    ARENA_BYTES = 1 << 30,
    RETRY_MIN_MS = 500,
    RETRY_MAX_MS = 30000,
    OTHER_MS = 1000, /* another publisher is at work */
    WAIT_MS = 50,    /* beside the time that the client takes */
    QUIET_MS = 5000, /* before it is said that brokers do not answer */
};

/* What has been done with the batch at hand. */
enum progress {
    NONE,      /* there is none */
    READ,      /* its rows are here */
    SENDING,   /* and a transaction has begun, if they go by one */
    SENT,      /* all are on their way */
    DELIVERED, /* all are acknowledged */
    PUBLISHED, /* and committed: the rows may go */
};

struct publisher {
    struct publisher_options options;
    struct arena arena; /* of what the job says */
    struct ingest_stream stream;
    struct outbox_source source;
    char transaction[160];
    struct stream_producer *producer; /* NULL: to be opened */
    struct catalog *lock;             /* NULL: others may publish */
    enum progress progress;
    struct arena batch;
    struct catalog_outbox_row *rows;
    size_t n_rows, n_sent;
    struct arena scratch; /* of one event */
    struct byte_buf value;
    struct error failure; /* of the first delivery that failed */
    bool has_failed;
    int64_t waiting_since_ms; /* for brokers; 0: they answer */
    struct error why;         /* what has been heard of them meanwhile */
    bool told_down;           /* that they do not, once until it works again */
    int64_t retry_at_ms, retry_ms;
    int64_t n_published;
};

static void delivered(void *ctx, void *tag, const struct error *err)
{
    struct publisher *p = ctx;

    (void)tag;
    if (err == NULL || p->has_failed)
        return;
    p->failure = *err;
    p->has_failed = true;
}

static enum status open_producer(struct publisher *p, struct error *err)
{
    const struct stream_producer_options options = {
        .client = "reinforce-events",
        .properties = p->stream.properties,
        .n_properties = p->stream.n_properties,
        .max_bytes = QUEUE_BYTES,
        .transaction = p->options.job->events.transactional ? p->transaction : NULL,
        .delivered = delivered,
        .ctx = p,
    };

    p->has_failed = false;
    return stream_producer_open(p->stream.url, &options, &p->producer, err);
}

/* One name per job and output: a second publisher of it shuts out the first, and no other. */
static void name_transaction(struct publisher *p)
{
    char hex[SHA256_HEX_LEN + 1];

    sha256_of(bytes_of_string(p->source.output), hex);
    (void)snprintf(p->transaction, sizeof p->transaction, "reinforce-events-%.100s-%.8s",
                   p->source.job, hex);
}

static enum status prepare(struct publisher *p, struct error *err)
{
    const struct job *job = p->options.job;
    char folder[PATH_MAX];
    enum status st = ingest_stream_of_events(job, &p->arena, &p->stream, err);

    if (st == ST_OK && getcwd(folder, sizeof folder) == NULL)
        st = error_set_errno(err, ST_UNAVAILABLE, "could not tell the current folder");
    if (st == ST_OK) /* readers are elsewhere */
        st = absolute_job_url(job->output.url, "file:", folder, &p->arena, &p->source.output, err);
    if (st != ST_OK)
        return st;
    p->source.job = job->name;
    name_transaction(p);
    st = open_producer(p, err); /* to see whether it can be; whoever steps opens its own */
    stream_producer_close(&p->producer);
    return st;
}

enum status publisher_create(const struct publisher_options *options, struct publisher **out,
                             struct error *err)
{
    struct publisher *p = calloc(1, sizeof *p);
    enum status st;

    *out = NULL;
    if (p == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a publisher");
    p->options = *options;
    arena_init(&p->arena, 16 << 20);
    arena_init(&p->batch, ARENA_BYTES);
    arena_init(&p->scratch, ARENA_BYTES);
    byte_buf_init(&p->value, EVENT_MAX_BYTES);
    st = prepare(p, err);
    if (st == ST_OK) {
        *out = p;
        return ST_OK;
    }
    error_add_context(err, "events");
    publisher_destroy(&p);
    return st;
}

void publisher_destroy(struct publisher **publisher)
{
    struct publisher *p = *publisher;

    if (p == NULL)
        return;
    stream_producer_close(&p->producer);
    catalog_close(&p->lock);
    byte_buf_release(&p->value);
    arena_release(&p->scratch);
    arena_release(&p->batch);
    arena_release(&p->arena);
    free(p);
    *publisher = NULL;
}

int64_t publisher_count(const struct publisher *publisher)
{
    return publisher->n_published;
}

/* ST_END: nothing waits, and the lock is given back. */
static enum status read_batch(struct publisher *p, struct error *err)
{
    const struct publisher_options *options = &p->options;
    struct catalog_outbox outbox;
    enum status st = ST_OK;

    if (p->lock == NULL) {
        st = catalog_outbox_count(options->catalog, options->job_id, &outbox, err);
        if (st == ST_OK && outbox.n_waiting == 0)
            return ST_END;
        if (st == ST_OK)
            st = catalog_open(options->catalog_url, &p->lock, err);
    }
    if (st == ST_OK)
        st = catalog_outbox_claim(p->lock, options->job_id, err);
    if (st != ST_OK)
        return st;
    arena_reset(&p->batch);
    st = catalog_outbox_read(options->catalog, options->job_id, BATCH_EVENTS, &p->batch, &p->rows,
                             &p->n_rows, err);
    if (st != ST_OK || p->n_rows > 0) {
        p->n_sent = 0;
        p->progress = st == ST_OK ? READ : NONE;
        return st;
    }
    catalog_close(&p->lock);
    return ST_END;
}

static enum status begin(struct publisher *p, int timeout_ms, struct error *err)
{
    enum status st = p->producer == NULL ? open_producer(p, err) : ST_OK;

    if (st == ST_OK && p->options.job->events.transactional)
        st = stream_producer_begin(p->producer, timeout_ms, err);
    if (st == ST_OK)
        p->progress = SENDING;
    return st;
}

static enum status send_event(struct publisher *p, const struct catalog_outbox_row *row,
                              struct error *err)
{
    struct stream_header headers[] = {{.name = HEADER_ID}, {.name = HEADER_KIND}};
    struct stream_message message = {.topic = p->options.job->events.topic,
                                     .partition = STREAM_ANY_PARTITION,
                                     .headers = headers,
                                     .n_headers = ARRAY_LEN(headers)};
    struct event event;
    enum status st;

    arena_reset(&p->scratch);
    byte_buf_reset(&p->value);
    st = outbox_event_make(row, &p->source, &p->scratch, &event, err);
    if (st == ST_OK)
        st = outbox_event_key(&event, &p->scratch, &message.key, err);
    if (st == ST_OK && strcmp(p->options.job->events.format, "protobuf") == 0)
        st = event_encode(&event, &p->scratch, &p->value, err);
    else if (st == ST_OK)
        st = outbox_event_write_json(&event, &p->value, err);
    if (st != ST_OK)
        return st;
    headers[0].value = bytes_of_string(event.id);
    headers[1].value = bytes_of_string(outbox_event_kind_name(event.kind));
    message.value = byte_buf_view(&p->value);
    return stream_producer_send(p->producer, &message, NULL, err);
}

/* As many as there is room for; the rest when these are delivered. */
static enum status send_batch(struct publisher *p, struct error *err)
{
    while (p->n_sent < p->n_rows) {
        enum status st = send_event(p, &p->rows[p->n_sent], err);

        if (st == ST_FULL && p->n_sent > 0)
            break;
        if (st != ST_OK)
            return st;
        p->n_sent++;
    }
    p->progress = SENT;
    return ST_OK;
}

static enum status flush(struct publisher *p, int timeout_ms, struct error *err)
{
    enum status st = stream_producer_flush(p->producer, timeout_ms, err);

    if (p->has_failed) {
        *err = p->failure;
        return err->code;
    }
    if (st == ST_OK)
        p->progress = p->n_sent < p->n_rows ? SENDING : DELIVERED;
    return st;
}

static enum status commit(struct publisher *p, int timeout_ms, struct error *err)
{
    enum status st = p->options.job->events.transactional
                         ? stream_producer_commit(p->producer, timeout_ms, err)
                         : ST_OK;

    if (st == ST_OK)
        p->progress = PUBLISHED;
    return st;
}

static enum status forget(struct publisher *p, struct error *err)
{
    enum status st =
        catalog_outbox_remove(p->options.catalog, p->options.job_id, p->rows, p->n_rows, err);

    if (st != ST_OK)
        return st;
    log_at(LOG_DEBUG, "events_published", "job=\"%s\" n=%zu", p->source.job, p->n_rows);
    p->n_published += (int64_t)p->n_rows;
    p->progress = NONE;
    p->retry_ms = 0;
    p->waiting_since_ms = 0;
    p->told_down = false;
    return ST_OK;
}

static enum status advance(struct publisher *p, int timeout_ms, struct error *err)
{
    switch (p->progress) {
    case NONE:
        return read_batch(p, err);
    case READ:
        return begin(p, timeout_ms, err);
    case SENDING:
        return send_batch(p, err);
    case SENT:
        return flush(p, timeout_ms, err);
    case DELIVERED:
        return commit(p, timeout_ms, err);
    case PUBLISHED:
        return forget(p, err);
    }
    return ST_OK;
}

/* Brokers that are away are asked on by the client itself: what is on its way stays on its way. */
static bool is_waiting(const struct publisher *p, enum status st)
{
    switch (p->progress) {
    case SENT:
        return !p->has_failed && (st == ST_TIMEOUT || st == ST_UNAVAILABLE);
    case READ:
    case DELIVERED:
        return st == ST_TIMEOUT;
    case NONE:
    case SENDING:
    case PUBLISHED:
        break;
    }
    return false;
}

/* Everything anew after a pause, from what the outbox says then; of what is published already only
 * the end is tried again. */
static int64_t pause_after(struct publisher *p, enum status st, const struct error *err)
{
    bool is_other = p->progress == NONE && st == ST_CONFLICT;

    p->retry_ms = is_other
                      ? OTHER_MS
                      : MIN(MAX(2 * p->retry_ms, (int64_t)RETRY_MIN_MS), (int64_t)RETRY_MAX_MS);
    p->retry_at_ms = clock_monotonic_ms() + p->retry_ms;
    log_at(is_other ? LOG_INFO : LOG_WARN, "events_wait",
           "job=\"%s\" topic=%s at=\"%s\" cause=\"%s\" retry_ms=%" PRId64, p->source.job,
           p->options.job->events.topic, err->context, err->message, p->retry_ms);
    catalog_close(&p->lock);
    if (p->progress != PUBLISHED) {
        stream_producer_close(&p->producer);
        p->progress = NONE;
    }
    return p->retry_ms;
}

/* The lock is kept alive; who has lost it leaves what is on its way to the next. */
static int64_t wait_on(struct publisher *p, enum status st, const struct error *err)
{
    int64_t now_ms = clock_monotonic_ms();
    struct error why;
    enum status claimed = catalog_outbox_claim(p->lock, p->options.job_id, &why);

    if (claimed != ST_OK)
        return pause_after(p, claimed, &why);
    if (p->waiting_since_ms == 0 || st == ST_UNAVAILABLE)
        p->why = *err;
    if (p->waiting_since_ms == 0)
        p->waiting_since_ms = now_ms;
    if (!p->told_down && now_ms - p->waiting_since_ms > QUIET_MS) {
        log_at(LOG_WARN, "events_wait", "job=\"%s\" topic=%s at=\"%s\" cause=\"%s\"", p->source.job,
               p->options.job->events.topic, p->why.context, p->why.message);
        p->told_down = true;
    }
    return WAIT_MS;
}

int64_t publisher_step(struct publisher *p, int timeout_ms)
{
    int64_t now_ms = clock_monotonic_ms();
    struct error err = {0};
    enum status st;

    if (now_ms < p->retry_at_ms)
        return p->retry_at_ms - now_ms;
    st = advance(p, timeout_ms, &err);
    if (st == ST_OK)
        return 0;
    if (st == ST_END)
        return -1;
    return is_waiting(p, st) ? wait_on(p, st, &err) : pause_after(p, st, &err);
}
