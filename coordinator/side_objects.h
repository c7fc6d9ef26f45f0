/* What is written beside the shards when a job is done: manifest.jsonl, info.json, config.json and
 * the like. */
#ifndef REINFORCE_COORDINATOR_SIDE_OBJECTS_H
#define REINFORCE_COORDINATOR_SIDE_OBJECTS_H

#include "reinforce/job/job.h"
#include "storage/catalog/catalog.h"

/**
 * Rebuilds all of them from the catalog's committed shards and the output's record of models, so
 * that a resumed job lists everything, and one without models at hand can be finished. The date in
 * info.json is row->created_ms: the job's, not the moment's, so that the bytes do not depend on
 * when it was finished.
 */
NODISCARD enum status side_objects_write(const struct job *job, const struct catalog_job *row,
                                         struct catalog *catalog, struct object_store *output,
                                         struct error *err);

#endif
