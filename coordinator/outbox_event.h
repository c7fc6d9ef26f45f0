/* What a row of the outbox tells, as bytes of a topic; docs/kafka.md describes them. */
#ifndef REINFORCE_COORDINATOR_OUTBOX_EVENT_H
#define REINFORCE_COORDINATOR_OUTBOX_EVENT_H

#include "proto/event.h"
#include "storage/catalog/catalog_outbox.h"

/** Whose events they are. */
struct outbox_source {
    const char *job;    /* its name */
    const char *output; /* URL or absolute path of the output */
};

/**
 * Borrows from the row and the source; what is made besides lives in `arena`. The id is a function
 * of what is told alone: of job and output, shard, sample, and of the digest of the object or the
 * reason. Texts become valid UTF-8.
 */
NODISCARD enum status outbox_event_make(const struct catalog_outbox_row *row,
                                        const struct outbox_source *source, struct arena *arena,
                                        struct event *out, struct error *err);

/** The record's key, by which a compacted topic keeps the last event: a sample's uid, or
 * "JOB/SHARD", which no uid is, for they have no "/". In `arena`. */
NODISCARD enum status outbox_event_key(const struct event *event, struct arena *arena,
                                       struct bytes_view *out, struct error *err);

/** Its name, as JSON has it. */
const char *outbox_event_kind_name(enum event_kind kind);

/** Appends the event as one line of JSON, without the newline. */
NODISCARD enum status outbox_event_write_json(const struct event *event, struct byte_buf *out,
                                              struct error *err);

#endif
