/* Extension: a job whose file has gained captioners or teachers since it ran. */
#ifndef REINFORCE_COORDINATOR_EXTENSION_H
#define REINFORCE_COORDINATOR_EXTENSION_H

#include "reinforce/job/job.h"
#include "storage/catalog/catalog.h"

/**
 * The catalog knows `job` by another digest; `stored_json` is the effective configuration it has.
 * One of a build that knew fewer keys is the same job when those keys have their defaults: nothing
 * is done. If all that changed is that captioners or teachers were appended, and the job is done,
 * every shard is made ready again with its output as its input, so that only what is missing is
 * computed; *row is refreshed and *extended true. Else ST_CONFLICT (not done yet) or ST_INVALID,
 * naming each difference.
 */
NODISCARD enum status extension_begin(const struct job *job, struct catalog_job *row,
                                      const char *stored_json, struct catalog *catalog,
                                      struct object_store *output, struct arena *arena,
                                      bool *extended, struct error *err);

#endif
