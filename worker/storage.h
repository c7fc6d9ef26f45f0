/* How a job's stores are reached. */
#ifndef REINFORCE_WORKER_STORAGE_H
#define REINFORCE_WORKER_STORAGE_H

#include "reinforce/job/job.h"
#include "storage/http/http.h"
#include "storage/object/object_store.h"
#include "worker/input.h"

/** Options of the store a job reads from. Strings are the job's. */
void storage_input_options(const struct job *job, struct object_store_options *options);

/** Opens what a job reads: input_open() of its input.url; of a stream the store that records name
 * objects in, if there is one. */
NODISCARD enum status storage_open_input(const struct job *job, struct arena *arena,
                                         struct input *out, struct error *err);

/** Options of the store it writes to. `sole_writer`: nobody else writes there now. */
void storage_output_options(const struct job *job, bool sole_writer,
                            struct object_store_options *options);

/**
 * Opens what fetches images that are URLs: from the addresses of the world alone, unless the job
 * says otherwise, as a URL in somebody's data must not reach into the network where the job runs;
 * and with few tries, as a host may be gone for good, and other samples wait.
 */
NODISCARD enum status storage_open_web(const struct job *job, int max_connections,
                                       const atomic_bool *stop, struct http **out,
                                       struct error *err);

#endif
