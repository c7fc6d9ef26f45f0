/* Planner: a job's input becomes shards, in an order that depends on the input alone. */
#ifndef REINFORCE_COORDINATOR_PLANNER_H
#define REINFORCE_COORDINATOR_PLANNER_H

#include "reinforce/job/job.h"
#include "storage/catalog/catalog.h"
#include "worker/input.h"

/** What a job will read. Strings and the array live in `arena`. */
struct plan {
    const struct job *job;
    struct input input;          /* borrowed */
    struct object_store *output; /* lists of images are written under _reinforce/plan/ */
    struct arena *arena;
    struct catalog_shard_plan *shards;
    size_t n_shards, capacity;
    int64_t n_samples; /* of lists and plain JSONL, whose lines are counted; others add 0 */
};

/**
 * Lists the input and fills plan->shards: a tar is a shard; plain JSONL is cut every
 * input.shard_samples lines; compressed JSONL is a shard; a folder of images becomes lists of
 * input.shard_samples images, stored beside the output. Shards are numbered in byte order of keys.
 * ST_NOT_FOUND: nothing there that we can read; ST_INVALID: several kinds of input in one place, or
 * none we know.
 */
NODISCARD enum status planner_run(struct plan *plan, struct error *err);

#endif
