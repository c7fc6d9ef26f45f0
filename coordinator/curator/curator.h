/* From a request to a reply: what a curator does, without the sockets. */
#ifndef REINFORCE_COORDINATOR_CURATOR_H
#define REINFORCE_COORDINATOR_CURATOR_H

#include "coordinator/curator/answer.h"
#include "coordinator/curator/inputs.h"
#include "proto/curator_probe.h"

struct curator_options {
    const struct curator_references *references; /* NULL: requests bring their own; borrowed */
    size_t n_threads;                            /* 1..64, of one selection */
    size_t max_bytes; /* memory of one selection beside the request, and of its reply */
};

struct curator;

/** A curator answers one request at a time, on any thread. */
NODISCARD enum status curator_create(const struct curator_options *options, struct curator **out,
                                     struct error *err);
void curator_destroy(struct curator **curator);

/** Uniform fallbacks that the caller has decided on. */
struct curator_fallback {
    enum answer_cause cause; /* ANSWER_SELECTED: none, select */
    const char *reason;
};

/**
 * Answers a request received at received_ns (clock_monotonic_ns()); `answer` is the caller's to
 * release. Past its deadline, with reference embeddings for fewer than 90 % of its examples, or
 * without the memory it takes, the answer is a seeded permutation; a request that cannot be met is
 * answered with a reason. ST_NO_MEMORY: not even that.
 */
NODISCARD enum status curator_answer(struct curator *curator, const struct curator_request *request,
                                     int64_t received_ns, struct curator_fallback fallback,
                                     struct curator_answer *answer, struct error *err);

/**
 * Compares a learner's scores of some steps ago with its present ones: one by one, not as a batch.
 * Examples that cannot be scored are left out. ST_INVALID: it cannot be done, and why.
 */
NODISCARD enum status curator_probe(struct curator *curator,
                                    const struct curator_probe_request *request,
                                    struct curator_probe_reply *reply, struct error *err);

#endif
