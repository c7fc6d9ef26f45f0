/* What is written beside the shards when a job is done: manifest.jsonl, info.json, config.json and
 * the like. */
#ifndef REINFORCE_COORDINATOR_SIDE_OBJECTS_H
#define REINFORCE_COORDINATOR_SIDE_OBJECTS_H

#include "storage/catalog/catalog.h"
#include "worker/engine.h"

/**
 * Rebuilds all of them from the catalog's committed shards, so that a resumed job lists everything.
 * `created_ms` is the date in info.json: the job's, not the moment's, so that the bytes do not
 * depend on when it was finished.
 */
NODISCARD enum status side_objects_write(const struct engine *engine, int64_t created_ms,
                                         int64_t job_id, struct catalog *catalog,
                                         struct object_store *output, struct error *err);

#endif
