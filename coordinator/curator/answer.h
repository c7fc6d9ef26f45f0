/* Replies as the bytes that are sent, and the latest of them by the name of their request. */
#ifndef REINFORCE_COORDINATOR_CURATOR_ANSWER_H
#define REINFORCE_COORDINATOR_CURATOR_ANSWER_H

#include "proto/curator.h"

/** Why a fallback was given. */
enum answer_cause {
    ANSWER_SELECTED = 0, /* it was not */
    ANSWER_LATE = 1,
    ANSWER_NO_REFERENCE = 2,
    ANSWER_BUSY = 3,
};

/** A message and frames, one behind the other; a zeroed one is released safely. */
struct curator_answer {
    char job[128];
    uint64_t super_batch;
    enum curator_status status;
    enum answer_cause cause;
    uint64_t select_ms, n_without_reference;
    struct byte_buf bytes;
    size_t ends[CURATOR_MAX_FRAMES + 1]; /* of the message, then of every frame */
    size_t n_frames;
};

/** Encodes a reply in at most max_bytes; what `answer` held before is gone. On failure it is empty.
 */
NODISCARD enum status curator_answer_set(struct curator_answer *answer,
                                         const struct curator_reply *reply, size_t max_bytes,
                                         struct error *err);
void curator_answer_release(struct curator_answer *answer);

/** Views live as long as the answer. */
struct bytes_view curator_answer_message(const struct curator_answer *answer);
struct bytes_view curator_answer_frame(const struct curator_answer *answer, size_t frame);

/** The latest answers; the oldest makes room. */
struct answers {
    struct curator_answer *ring; /* [n] */
    size_t n, next;
};

NODISCARD enum status answers_init(struct answers *answers, size_t n, struct error *err);
void answers_release(struct answers *answers);

/** NULL: none is remembered. Lives until the next answers_keep(). */
const struct curator_answer *answers_find(const struct answers *answers, const char *job,
                                          uint64_t super_batch);

/** Takes over the answer and returns where it is now. */
const struct curator_answer *answers_keep(struct answers *answers, struct curator_answer *answer);

#endif
