/* Last stage: records in input order to parts, parts to the store and the catalog, the last one to
 * the shard. */
#ifndef REINFORCE_WORKER_STAGE_WRITE_H
#define REINFORCE_WORKER_STAGE_WRITE_H

#include "worker/stage.h"

/** Hands a finished lease back; called on the writer's thread, which no longer touches it. */
typedef void stage_write_done_fn(void *ctx, struct shard_work *work);

struct stage_write {
    const struct stage_context *context;
    struct catalog *catalog; /* the writer's own handle */
    struct queue *in;
    struct queue *slots; /* where emptied slots go */
    stage_write_done_fn *done;
    void *done_ctx;
};

/** Until `in` ends. One thread. */
NODISCARD enum status stage_write_run(struct stage_write *stage, struct error *err);

/** Name of a shard's output: "00000007.tar". */
void stage_write_output_key(int64_t shard, const struct dataset_format *format, char key[64]);

#endif
