/* Records that ingest refuses, on their way to the job's topic of dead letters. */
#ifndef REINFORCE_COORDINATOR_INGEST_REFUSED_H
#define REINFORCE_COORDINATOR_INGEST_REFUSED_H

#include "coordinator/ingest_stream.h"
#include "storage/stream/stream_record.h"

#include <stdatomic.h>

struct ingest_refused {
    struct stream_producer *producer; /* NULL: there is no topic for them */
    const char *topic;
    const atomic_bool *stop; /* may be NULL */
    struct error failure;    /* of the first letter that was lost */
    bool has_failed;         /* until ingest_refused_begin_again() */
};

/** Of a job without kafka.dead_letters: they are logged alone. The handle stays where it is until
 * it is closed. Errors of stream_producer_open(). */
NODISCARD enum status ingest_refused_open(struct ingest_refused *refused, const struct job *job,
                                          const struct ingest_stream *stream, int connect_ms,
                                          const atomic_bool *stop, struct error *err);
void ingest_refused_close(struct ingest_refused *refused);

/** Logs a record and sends it on. Waits for room, but not when stopped: then it was perhaps not
 * sent, and its offset must not move. */
NODISCARD enum status ingest_refused_send(struct ingest_refused *refused,
                                          const struct stream_message *message,
                                          const struct stream_refusal *refusal, struct error *err);

/** Before offsets move: all that was sent is acknowledged. ST_TIMEOUT, ST_UNAVAILABLE: not yet.
 * Else a letter is lost, and its record has to be read again. */
NODISCARD enum status ingest_refused_flush(struct ingest_refused *refused, struct error *err);

/** The records are read again: what was lost is forgotten. */
void ingest_refused_begin_again(struct ingest_refused *refused);

#endif
