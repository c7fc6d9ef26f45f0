/* What one value cannot show: combinations that make no sense. Private to reinforce/job. */
#ifndef REINFORCE_JOB_JOB_CHECK_H
#define REINFORCE_JOB_JOB_CHECK_H

#include "reinforce/base/yaml.h"
#include "reinforce/job/job.h"

/**
 * Refuses a job that could not be done or would not be read, with the reason and what to do
 * instead. `root` is the tree the job was read from: errors point at the value in question, or at
 * the nearest heading when it is a default.
 */
NODISCARD enum status job_check(const struct job *job, const struct yaml_tree *root,
                                struct error *err);

/** True for names that are safe in paths, logs and SQL on every system: letters, digits, "_", "-"
 * and ".", not beginning with one of the last two, at most 64. */
bool job_name_is_safe(const char *name);

#endif
