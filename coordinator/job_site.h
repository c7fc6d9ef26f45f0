/* Where a job reads and writes, and what is done there once, whoever coordinates: looking whether
 * the output is ours, planning, finishing. */
#ifndef REINFORCE_COORDINATOR_JOB_SITE_H
#define REINFORCE_COORDINATOR_JOB_SITE_H

#include "reinforce/job/job.h"
#include "storage/catalog/catalog.h"
#include "worker/input.h"

#include <stdatomic.h>

struct job_site {
    const struct job *job; /* borrowed */
    struct arena arena;    /* of keys and plans */
    struct input input;
    struct object_store *output;
    bool is_known;           /* the output holds this job's configuration already */
    const atomic_bool *stop; /* planning ends when it is set: ST_CANCELLED; NULL: never */
};

/** Opens input and output. `sole_writer`: nobody else writes there now. On failure it is released.
 */
NODISCARD enum status job_site_open(struct job_site *site, const struct job *job, bool sole_writer,
                                    struct error *err);
/** Safe on a zeroed one. */
void job_site_close(struct job_site *site);

/**
 * Whether the output may be written into, and, for a remote one, what killed uploads have left in
 * it: that asking needs the rights of the end shows here, before anything is computed. ST_CONFLICT:
 * it holds the dataset of another job, or of another catalog.
 */
NODISCARD enum status job_site_check(struct job_site *site, struct catalog *catalog,
                                     const struct catalog_job *row, const char *catalog_url,
                                     struct error *err);

/** Plans a job in state planning, after job_site_check(), or goes on where another planner died;
 * shards may be leased as they come. It is running then, in *row too. */
NODISCARD enum status job_site_plan(struct job_site *site, struct catalog *catalog,
                                    struct catalog_job *row, struct error *err);

/** After the last shard: side files, leftovers, state done. May be done again. ST_CONFLICT: the job
 * is not running any more, or has got more shards. ST_CORRUPT: its accounts disagree. */
NODISCARD enum status job_site_finish(struct job_site *site, struct catalog *catalog,
                                      const struct catalog_job *row, struct error *err);

/** What fails for good pauses a job that is in `row`'s state, with `why` as its note. Somebody who
 * has moved it meanwhile is left alone. */
NODISCARD enum status job_give_up(struct catalog *catalog, const struct catalog_job *row,
                                  const struct error *why, struct error *err);

#endif
