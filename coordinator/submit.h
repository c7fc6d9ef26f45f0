/* Handing a job to the coordinators of a catalog. */
#ifndef REINFORCE_COORDINATOR_SUBMIT_H
#define REINFORCE_COORDINATOR_SUBMIT_H

#include "reinforce/job/job.h"
#include "storage/catalog/catalog.h"

struct submission {
    struct catalog_job row;
    bool is_new;      /* the catalog did not know it */
    bool is_extended; /* captioners or teachers were added to a finished one */
};

/**
 * Puts the job into the catalog, where a coordinator plans and serves it. One that is there already
 * stays as it is; `priority` and `max_leases` (NULL: as they are, 0 when new) are set all the
 * same. ST_CONFLICT, ST_INVALID: the catalog knows it with other settings, naming each difference.
 */
NODISCARD enum status submit_job(const struct job *job, const char *catalog_url,
                                 const int32_t *priority, const int64_t *max_leases,
                                 struct submission *out, struct error *err);

#endif
