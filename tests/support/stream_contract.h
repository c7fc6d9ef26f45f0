/* What every kind of stream does, checked against a running one. */
#ifndef REINFORCE_TESTS_SUPPORT_STREAM_CONTRACT_H
#define REINFORCE_TESTS_SUPPORT_STREAM_CONTRACT_H

#include "storage/stream/stream.h"

struct stream_target {
    const char *url;
    /* Makes a topic that was not there. */
    void (*create_topic)(void *ctx, const char *topic, int n_partitions);
    void *ctx;
};

/** Fails the running cmocka test on the first promise of stream.h that is broken. */
void stream_contract(const struct stream_target *target);

/** For tests of single kinds: helpers that fail the test when a minute passes. */
struct stream_producer *stream_open_producer(const char *url);
struct stream_consumer *stream_open_consumer(const char *url, const char *group, const char *topic);
/** "NNN" into partition `partition`, for every number in [from, to). */
void stream_produce(struct stream_producer *p, const char *topic, int partition, int from, int to);
/** Polls until an event of that kind, passing over nothing else than messages. */
void stream_wait(struct stream_consumer *c, enum stream_event_kind kind,
                 struct stream_event *event);
/** Waits for an assignment of n partitions and begins all of them at `offset`. */
void stream_join(struct stream_consumer *c, size_t n, int64_t offset);
/** Of a producer for transactions, the first of which has begun. */
struct stream_producer *stream_open_transactions(const char *url, const char *name);
/** The next messages have the values "000" to below n; between them there may be gaps. */
void stream_expect_values(struct stream_consumer *c, int n);
/** The next message has this offset and value "NNN". */
void stream_expect(struct stream_consumer *c, int64_t offset, int number);

#endif
