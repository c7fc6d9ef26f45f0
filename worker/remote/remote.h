/* Models served elsewhere, behind the ops tables of teacher.h and captioner.h. */
#ifndef REINFORCE_WORKER_REMOTE_H
#define REINFORCE_WORKER_REMOTE_H

#include "reinforce/job/job.h"

#include <stdatomic.h>

/**
 * Asks the server that `spec` names for its model, and for one answer about a grey image (and a
 * short text): what cannot work is refused before any sample. info->weights_digest is a SHA-256
 * over protocol, model name and what the server says of the model, but not over where it is.
 *
 * *out is the caller's, and reads `spec` and `stop` (may be NULL) while it lives: once that is
 * true, every call ends with ST_CANCELLED within a second. ST_INVALID: the server does not have the
 * model, or refuses what it is sent, or the token's variable is not set; ST_UNAVAILABLE and
 * ST_TIMEOUT: no answer, or none that this protocol knows.
 *
 * Later calls: a request that the server finds wrong (400, 413, 415, 422) and an answer that is no
 * good are ST_INVALID and ST_CORRUPT, the sample's fault; everything else (no connection, 401, 404,
 * 429 and 5xx after all tries, rows of another length) is ST_UNAVAILABLE or ST_TIMEOUT.
 */
NODISCARD enum status remote_captioner_open(const struct job_captioner *spec,
                                            const atomic_bool *stop, struct captioner **out,
                                            struct error *err);
NODISCARD enum status remote_teacher_open(const struct job_teacher *spec, const atomic_bool *stop,
                                          struct teacher **out, struct error *err);

#endif
