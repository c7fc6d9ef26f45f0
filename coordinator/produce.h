/* Produce: the samples of any input, as records of a topic. */
#ifndef REINFORCE_COORDINATOR_PRODUCE_H
#define REINFORCE_COORDINATOR_PRODUCE_H

#include "storage/object/object_store.h"
#include "storage/stream/stream.h"
#include "storage/stream/stream_record.h"

#include <stdatomic.h>

/** Strings are borrowed for the call. */
struct produce_options {
    const char *stream_url; /* "kafka://HOST:PORT" */
    const char *topic;
    enum stream_schema schema; /* not AUTO */
    bool keys; /* of folders and plain JSONL: lines go along as they are, with keys or URLs of
                  images instead of images; JSON alone */
    const struct stream_property *properties;
    size_t n_properties;
    const char *input_url;                    /* as a job's input.url */
    const char *input_format;                 /* as a job's input.format */
    const struct object_store_options *store; /* may be NULL */
    size_t max_sample_bytes;
    int64_t limit; /* samples; 0: all */
    int connect_ms;
    const atomic_bool *stop; /* true: send no more; may be NULL */
};

struct produce_summary {
    int64_t n_sent, n_delivered;
    int64_t n_skipped; /* samples that could not be read; each is logged with its reason */
    uint64_t bytes;    /* of values */
    int64_t elapsed_ms;
};

/**
 * Sends a record per sample in the input's order, with the uid as its key, so that a sample sent
 * again comes to the same partition; ends when all are delivered. Errors are of input_open(), the
 * planner, the readers and the stream; the first delivery that fails ends it. The summary is filled
 * in any case.
 */
NODISCARD enum status produce_run(const struct produce_options *options,
                                  struct produce_summary *summary, struct error *err);

#endif
