#include "coordinator/ingest_refused.h"

#include "reinforce/base/log.h"
#include "storage/stream/dead_letter.h"

#include <inttypes.h>

enum { POLL_MS = 200, FLUSH_MS = 1000, QUEUE_BYTES = 32 << 20 };

static bool is_stopped(const struct ingest_refused *refused)
{
    return refused->stop != NULL && atomic_load(refused->stop);
}

static void delivered(void *ctx, void *tag, const struct error *err)
{
    struct ingest_refused *refused = ctx;

    (void)tag;
    if (err != NULL && !refused->has_failed) {
        refused->failure = *err;
        refused->has_failed = true;
    }
}

enum status ingest_refused_open(struct ingest_refused *refused, const struct job *job,
                                const struct ingest_stream *stream, int connect_ms,
                                const atomic_bool *stop, struct error *err)
{
    const struct stream_producer_options options = {.client = "reinforce",
                                                    .properties = stream->properties,
                                                    .n_properties = stream->n_properties,
                                                    .max_bytes = QUEUE_BYTES,
                                                    .connect_ms = connect_ms,
                                                    .delivered = delivered,
                                                    .ctx = refused};

    *refused = (struct ingest_refused){.topic = job->kafka.dead_letters, .stop = stop};
    return refused->topic != NULL
               ? stream_producer_open(stream->url, &options, &refused->producer, err)
               : ST_OK;
}

void ingest_refused_close(struct ingest_refused *refused)
{
    stream_producer_close(&refused->producer);
}

enum status ingest_refused_send(struct ingest_refused *refused,
                                const struct stream_message *message,
                                const struct stream_refusal *refusal, struct error *err)
{
    struct dead_letter letter;
    enum status st;

    log_at(LOG_WARN, "record_refused",
           "topic=%s partition=%" PRId32 " offset=%" PRId64 " reason=%s detail=\"%s\"",
           message->topic, message->partition, message->offset, refusal->reason, refusal->detail);
    if (refused->producer == NULL)
        return ST_OK;
    dead_letter_make(message, refused->topic, refusal->reason, refusal->detail, 1, &letter);
    do {
        st = stream_producer_send(refused->producer, &letter.message, NULL, err);
        if (st == ST_FULL)
            st = stream_producer_poll(refused->producer, POLL_MS, err) == ST_OK ? ST_FULL
                                                                                : err->code;
    } while ((st == ST_FULL || (st != ST_OK && status_is_retryable(st))) && !is_stopped(refused));
    return is_stopped(refused) ? ST_OK : st;
}

enum status ingest_refused_flush(struct ingest_refused *refused, struct error *err)
{
    enum status st;

    if (refused->producer == NULL)
        return ST_OK;
    st = stream_producer_flush(refused->producer, FLUSH_MS, err);
    if (!refused->has_failed)
        return st;
    *err = refused->failure;
    error_add_context(err, "kafka.dead_letters");
    return err->code;
}

void ingest_refused_begin_again(struct ingest_refused *refused)
{
    refused->has_failed = false;
}
