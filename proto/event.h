/* What a job tells of its results: one event as a plain struct, and its bytes in protobuf. What is
 * told when is coordinator/outbox_event.h's to say. */
#ifndef REINFORCE_PROTO_EVENT_H
#define REINFORCE_PROTO_EVENT_H

#include "reinforce/base/arena.h"
#include "reinforce/base/bytes.h"

enum { EVENT_VERSION = 1, EVENT_ID_LEN = 32 };

/** Stored values; those of event.proto. */
enum event_kind {
    EVENT_SHARD_DONE = 1,
    EVENT_SAMPLE_DONE = 2,
    EVENT_SAMPLE_QUARANTINED = 3,
    EVENT_SAMPLE_FILTERED = 4,
};

struct event_score {
    const char *teacher;
    double cosine;
};

struct event_caption {
    const char *column;
    int32_t index;
    struct bytes_view text;
    double log_probability; /* NaN: not known */
    size_t n_scores;
    const struct event_score *scores;
};

/** Texts are UTF-8; NULL and 0 where a kind has no such field. */
struct event {
    char id[EVENT_ID_LEN + 1];
    enum event_kind kind;
    const char *job;
    int64_t shard, time_ms;
    const char *object, *sha256;
    uint64_t bytes;
    int64_t samples_done, samples_quarantined, samples_filtered;
    struct bytes_view uid;
    int64_t index;
    int32_t width, height;
    size_t n_captions;
    const struct event_caption *captions;
    const char *stage, *reason, *detail;
};

/** Appends the event's bytes. ST_NO_MEMORY past the buffer's or the arena's limit; `scratch` may be
 * reset afterwards. */
NODISCARD enum status event_encode(const struct event *event, struct arena *scratch,
                                   struct byte_buf *out, struct error *err);

#endif
