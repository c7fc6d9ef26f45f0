/* A job as far as one teacher of it goes. */
#ifndef REINFORCE_COORDINATOR_CURATOR_TEACHER_JOB_H
#define REINFORCE_COORDINATOR_CURATOR_TEACHER_JOB_H

#include "reinforce/job/job.h"

/**
 * What is left of a job for one of its teachers, which `name` may leave open when it is the only
 * one: no captioners and no other teachers, but the largest input of all if the views are drawn for
 * that. ST_INVALID: the job has no such teacher. *out is the caller's.
 */
NODISCARD enum status teacher_job(const struct job *job, const char *name, struct job **out,
                                  struct error *err);

#endif
