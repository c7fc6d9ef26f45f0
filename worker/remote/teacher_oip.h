/* Embeddings from a server of the Open Inference Protocol v2 over HTTP: Triton, KServe, MLServer.
 */
#ifndef REINFORCE_WORKER_TEACHER_OIP_H
#define REINFORCE_WORKER_TEACHER_OIP_H

#include "reinforce/job/job.h"

#include <stdatomic.h>

/**
 * Views are sent as FP32 [n, 3, size, size], normalised here with the job's mean and std; texts as
 * BYTES. With a server that names the extension "binary_tensor_data" the pixels go behind the JSON
 * as they are, which is a tenth of the bytes. Rows are scaled to unit length. See remote.h.
 *
 * Source: Open Inference Protocol, HTTP/REST, and Triton's binary tensor data extension.
 */
NODISCARD enum status teacher_oip_open(const struct job_teacher *spec, const atomic_bool *stop,
                                       struct teacher **out, struct error *err);

#endif
