/* Planner: a job's input becomes shards, in an order that depends on the input alone. */
#ifndef REINFORCE_COORDINATOR_PLANNER_H
#define REINFORCE_COORDINATOR_PLANNER_H

#include "reinforce/job/job.h"
#include "storage/catalog/catalog.h"
#include "worker/input.h"

/** Takes a portion of the shards; they live until it returns. */
typedef enum status plan_commit_fn(void *ctx, const struct catalog_shard_plan *shards,
                                   size_t n_shards, struct error *err);

/** What a job will read. Strings and the array live in `arena`. */
struct plan {
    const struct job *job;
    struct input input;          /* borrowed */
    struct object_store *output; /* lists of images are written under _reinforce/plan/ */
    struct arena *arena;
    struct catalog_shard_plan *shards; /* [n_open]: those that were not handed over */
    size_t n_open, capacity;
    size_t n_shards;
    plan_commit_fn *commit; /* NULL: nothing is handed over; else `arena` is emptied each time */
    void *commit_ctx;
    size_t n_known;     /* lists of the first ones are there: by a planner that died */
    int64_t handed_ms;  /* monotonic: when a portion was handed over last */
    uint8_t *scan;      /* room for a piece of JSONL */
    const char *family; /* the only kind of shard that may come; NULL: any */
    int64_t n_samples;  /* of lists and plain JSONL, whose lines are counted; others add 0 */
};

/**
 * Lists the input and fills plan->shards: a tar is a shard; plain JSONL is cut every
 * input.shard_samples lines; compressed JSONL is a shard; a folder of images becomes lists of
 * input.shard_samples images, stored beside the output. Shards are numbered in byte order of keys.
 * While the listing runs they are handed to `commit`, at most 1000 at a time and every second; the
 * last of them stay in plan->shards. What kind an input of format "auto" is, is told by its first
 * 10,000 objects, or, as long as they hold neither tars nor JSONL, by all.
 * ST_NOT_FOUND: nothing there that we can read; ST_INVALID: several kinds of input in one place, or
 * none we know.
 */
NODISCARD enum status planner_run(struct plan *plan, struct error *err);

#endif
