/* Fifth stage: every teacher over every view and text, and the scores that follow from their
 * products. */
#ifndef REINFORCE_WORKER_STAGE_EMBED_H
#define REINFORCE_WORKER_STAGE_EMBED_H

#include "worker/stage.h"

struct stage_embed {
    const struct stage_context *context;
    struct queue *in, *out;
};

/** Until `in` ends. Any number of threads. The caller closes `out` when all have returned. */
void stage_embed_run(struct stage_embed *stage);

/**
 * How many of the engine's first teachers a stored row of `dim` columns holds; n_teachers + 1 if it
 * fits none. A dataset is extended by appending teachers, so what is there is always a prefix.
 */
size_t stage_embed_teachers_in(const struct engine *engine, size_t dim);

#endif
