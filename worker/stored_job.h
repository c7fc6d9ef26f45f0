/* A job as its catalog has it: its row, and its configuration loaded. */
#ifndef REINFORCE_WORKER_STORED_JOB_H
#define REINFORCE_WORKER_STORED_JOB_H

#include "reinforce/job/job.h"
#include "storage/catalog/catalog.h"

/** The job of that name, as it was begun or last extended; *job is the caller's. ST_NOT_FOUND: the
 * catalog has none; ST_INVALID: its configuration is not one that this release knows. */
NODISCARD enum status stored_job_load(struct catalog *catalog, const char *name,
                                      struct catalog_job *row, struct job **job, struct error *err);

#endif
