/* A planner finds another input than the one before it. Private to storage/catalog. */
#ifndef REINFORCE_STORAGE_PLAN_DIFFERS_H
#define REINFORCE_STORAGE_PLAN_DIFFERS_H

#include "storage/catalog/catalog.h"

#include <inttypes.h>

static inline enum status plan_differs(const struct catalog_shard_plan *found, struct error *err)
{
    return error_set(err, ST_CONFLICT,
                     "the input has changed since the job began to be planned: shard %" PRId64
                     " would be \"%.100s\" now; cancel it, and give the input as it is now another "
                     "job name and output.url",
                     found->shard, found->input_key);
}

#endif
