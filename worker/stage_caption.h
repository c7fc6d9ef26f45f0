/* Fourth stage: every captioner over every image, several images to a call. */
#ifndef REINFORCE_WORKER_STAGE_CAPTION_H
#define REINFORCE_WORKER_STAGE_CAPTION_H

#include "worker/stage.h"

struct stage_caption {
    const struct stage_context *context;
    struct queue *in, *out;
};

/** Until `in` ends. Any number of threads. The caller closes `out` when all have returned. */
void stage_caption_run(struct stage_caption *stage);

#endif
