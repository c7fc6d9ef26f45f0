/* Third stage, of jobs with rules: drops samples before the captioners run. What a rule looks at is
 * the sample's own, so the decision does not depend on what else is at work. */
#ifndef REINFORCE_WORKER_STAGE_CURATE_H
#define REINFORCE_WORKER_STAGE_CURATE_H

#include "worker/stage.h"

struct stage_curate {
    const struct stage_context *context;
    struct queue *in, *out;
    struct queue *dropped; /* the writer's: what is dropped passes the models by */
};

/** Until `in` ends. Any number of threads. The caller closes `out` when all have returned. */
void stage_curate_run(struct stage_curate *stage);

#endif
