/* How a job's stores are reached. */
#ifndef REINFORCE_WORKER_STORAGE_H
#define REINFORCE_WORKER_STORAGE_H

#include "reinforce/job/job.h"
#include "storage/object/object_store.h"

/** Options of the store a job reads from. Strings are the job's. */
void storage_input_options(const struct job *job, struct object_store_options *options);

/** Options of the store it writes to. `sole_writer`: nobody else writes there now. */
void storage_output_options(const struct job *job, bool sole_writer,
                            struct object_store_options *options);

#endif
