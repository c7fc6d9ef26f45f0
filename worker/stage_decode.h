/* Second stage: every image is decoded once, and its views are drawn and cut. */
#ifndef REINFORCE_WORKER_STAGE_DECODE_H
#define REINFORCE_WORKER_STAGE_DECODE_H

#include "worker/stage.h"

struct stage_decode {
    const struct stage_context *context;
    struct queue *in, *out;
};

/** Until `in` ends. Any number of threads. The caller closes `out` when all have returned. */
void stage_decode_run(struct stage_decode *stage);

#endif
