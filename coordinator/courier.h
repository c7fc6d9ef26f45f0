/* Courier: the publishers of one job or of all jobs of a catalog, on a thread of their own. */
#ifndef REINFORCE_COORDINATOR_COURIER_H
#define REINFORCE_COORDINATOR_COURIER_H

#include "reinforce/job/job.h"
#include "storage/catalog/catalog.h"

struct courier;

/** Shards that are done from now on are told of as the job's file says. */
NODISCARD enum status courier_enable(struct catalog *catalog, int64_t job_id, const struct job *job,
                                     struct error *err);

/** Borrowed until it is stopped. */
struct courier_options {
    const char *catalog_url;
    const struct job *job; /* NULL: every job of the catalog, as it was begun */
    int64_t job_id;        /* of `job` */
};

/** *out is NULL, and nothing is done, when `job` tells nothing. ST_INVALID, ST_NOT_FOUND: where its
 * events go cannot be used as it is said to be. */
NODISCARD enum status courier_start(const struct courier_options *options, struct courier **out,
                                    struct error *err);

/** Events that it has published. */
int64_t courier_count(const struct courier *courier);

/** What is on its way may arrive, and stays in the outbox. *courier may be NULL. */
void courier_stop(struct courier **courier);

#endif
