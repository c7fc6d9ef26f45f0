/* Last stage: records in input order to parts, parts to the store and to the committer. */
#ifndef REINFORCE_WORKER_STAGE_WRITE_H
#define REINFORCE_WORKER_STAGE_WRITE_H

#include "worker/stage_commit.h"

struct stage_write {
    const struct stage_context *context;
    struct queue *in;
    struct queue *slots; /* where emptied slots go */
    struct stage_commit *commit;
};

/** Until `in` ends. One thread. */
NODISCARD enum status stage_write_run(struct stage_write *stage, struct error *err);

/** Name of a shard's output: "00000007.tar". */
void stage_write_output_key(int64_t shard, const struct dataset_format *format, char key[64]);

#endif
