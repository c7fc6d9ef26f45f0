/* Publisher: the outbox of one job, in order, to the topic its events go to. At least once: a batch
 * leaves the outbox when the brokers have acknowledged all of it. */
#ifndef REINFORCE_COORDINATOR_PUBLISHER_H
#define REINFORCE_COORDINATOR_PUBLISHER_H

#include "reinforce/job/job.h"
#include "storage/catalog/catalog_outbox.h"

struct publisher;

struct publisher_options {
    const struct job *job; /* that passes job_has_events() */
    int64_t job_id;
    const char *catalog_url;
    struct catalog *catalog; /* of the thread that steps */
};

/** What options point at outlives it. Looks for no broker yet. ST_INVALID, ST_NOT_FOUND: topic,
 * brokers or properties cannot be used as they are said to be. */
NODISCARD enum status publisher_create(const struct publisher_options *options,
                                       struct publisher **out, struct error *err);
void publisher_destroy(struct publisher **publisher);

/**
 * Goes on for up to about timeout_ms. Returns after how many ms to call it again, 0: at once; -1:
 * nothing waits. Whatever fails is logged and tried again after a growing pause: brokers that are
 * away, topics that are not there, another publisher of the same job, a catalog that does not
 * answer.
 */
int64_t publisher_step(struct publisher *publisher, int timeout_ms);

/** Events that have left the outbox. */
int64_t publisher_count(const struct publisher *publisher);

#endif
