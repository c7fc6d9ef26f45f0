/* From a request to a reply: what a curator does, without the sockets. */
#ifndef REINFORCE_COORDINATOR_CURATOR_H
#define REINFORCE_COORDINATOR_CURATOR_H

#include "proto/curator.h"

/** Reference embeddings by id, float32 unit rows of D values; borrowed by the curator. */
struct curator_references {
    size_t D;
    float scale, bias;
    const char *version; /* told with every reply; another one is another cache */
    void *ctx;
    /* Fills image [D] and text [D] of an example; false: there are none. Must not block. */
    bool (*row)(void *ctx, const uint8_t id[CURATOR_ID_BYTES], float *image, float *text);
};

struct curator_options {
    const struct curator_references *references; /* NULL: requests bring their own */
    size_t n_threads;                            /* 1..64, of one selection */
    size_t max_bytes;    /* memory of one selection beside the request, and of its reply */
    size_t n_remembered; /* replies kept for requests that come again, 1 at least */
};

struct curator;

/** An answer's message and frames, until the next curator_answer(). */
struct curator_answer {
    enum curator_status status;
    struct bytes_view message;
    struct bytes_view frames[CURATOR_MAX_FRAMES];
    size_t n_frames;
};

/** A curator answers one request at a time, on any thread. */
NODISCARD enum status curator_create(const struct curator_options *options, struct curator **out,
                                     struct error *err);
void curator_destroy(struct curator **curator);

/**
 * Answers a request received at received_ns (clock_monotonic_ns()). A request of a (job,
 * super_batch) that is remembered gets the same bytes again. Past its deadline, or with reference
 * embeddings for fewer than 90 % of its examples, the answer is a seeded permutation; a request
 * that cannot be met is answered with a reason. ST_CORRUPT: no request, nobody can be answered;
 * ST_NO_MEMORY.
 */
NODISCARD enum status curator_answer(struct curator *curator, struct bytes_view message,
                                     const struct bytes_view *frames, size_t n_frames,
                                     int64_t received_ns, struct curator_answer *answer,
                                     struct error *err);

#endif
