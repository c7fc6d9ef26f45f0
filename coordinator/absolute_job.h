/* A job for processes with other working folders: local paths made absolute. */
#ifndef REINFORCE_COORDINATOR_ABSOLUTE_JOB_H
#define REINFORCE_COORDINATOR_ABSOLUTE_JOB_H

#include "reinforce/job/job.h"

/**
 * A copy of `job` in which relative paths (input, output, catalog, models, tokenizers) begin with
 * `folder`. URLs, hub names and models on servers stay. *out is the caller's.
 */
NODISCARD enum status absolute_job_create(const struct job *job, const char *folder,
                                          struct job **out, struct error *err);

/** The same of one URL or path; `scheme` is what a relative one may begin with, "file:" or
 * "sqlite:". In `arena`, or `url` itself when it is absolute already. */
NODISCARD enum status absolute_job_url(const char *url, const char *scheme, const char *folder,
                                       struct arena *arena, const char **out, struct error *err);

#endif
