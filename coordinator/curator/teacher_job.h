/* A job as far as one teacher of it goes. */
#ifndef REINFORCE_COORDINATOR_CURATOR_TEACHER_JOB_H
#define REINFORCE_COORDINATOR_CURATOR_TEACHER_JOB_H

#include "reinforce/job/job.h"

/**
 * What is left of a job for one of its teachers, which `name` may leave open when it is the only
 * one: no captioners and no other teachers. views.size 0 is then this teacher's. ST_INVALID: the
 * job has no such teacher, or no views. *out is the caller's.
 */
NODISCARD enum status teacher_job(const struct job *job, const char *name, struct job **out,
                                  struct error *err);

#endif
