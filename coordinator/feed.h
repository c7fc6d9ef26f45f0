/* Feed: ingest on a thread of its own, beside the dispatcher of its job. */
#ifndef REINFORCE_COORDINATOR_FEED_H
#define REINFORCE_COORDINATOR_FEED_H

#include "coordinator/ingest.h"

struct feed;

/** `options->stop` is not looked at: feed_stop() says it. What options point at outlives the feed.
 */
NODISCARD enum status feed_start(const struct ingest_options *options, struct feed **out,
                                 struct error *err);

/** True while more shards may come. Lives as long as the feed. */
const atomic_bool *feed_is_open(const struct feed *feed);

const struct ingest_stats *feed_stats(const struct feed *feed);

/** Asks it to come to an end; safe to say again. */
void feed_stop(struct feed *feed);

/** Stops it, waits, and tells how it ended. Once. */
NODISCARD enum status feed_join(struct feed *feed, struct error *err);

/** After feed_join(); *feed may be NULL. */
void feed_destroy(struct feed **feed);

#endif
