/* Embeddings from a server of OpenAI's /embeddings that takes texts and images. */
#ifndef REINFORCE_WORKER_TEACHER_OPENAI_H
#define REINFORCE_WORKER_TEACHER_OPENAI_H

#include "reinforce/job/job.h"

#include <stdatomic.h>

/** Views are sent as PNG in data URLs, in the form that the job's image_form names. Rows are scaled
 * to unit length. See remote.h. */
NODISCARD enum status teacher_openai_open(const struct job_teacher *spec, const atomic_bool *stop,
                                          struct teacher **out, struct error *err);

#endif
