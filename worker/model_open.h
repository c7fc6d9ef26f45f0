/* Opens the models that a job names, wherever they are. */
#ifndef REINFORCE_WORKER_MODEL_OPEN_H
#define REINFORCE_WORKER_MODEL_OPEN_H

#include "reinforce/job/job.h"

#include <stdatomic.h>

/**
 * Opens a model in `form`, whatever the job's dtype is; a served one is what its server makes of
 * it. *out is the caller's. `stop` may be NULL: once it is true, what waits for a hub or a server
 * gives up with ST_CANCELLED, here and in every later call of a served model, which it must
 * outlive.
 */
NODISCARD enum status model_open_teacher(const struct job_teacher *spec, enum matrix_form form,
                                         const atomic_bool *stop, struct teacher **out,
                                         struct error *err);
NODISCARD enum status model_open_captioner(const struct job_captioner *spec, enum matrix_form form,
                                           const atomic_bool *stop, struct captioner **out,
                                           struct error *err);

#endif
