/* Behind the last stage: what the writer has finished goes into the catalog, in order. Usually the
 * writer waits for that; while the catalog is away it goes on, and what is finished is kept here,
 * up to a limit: parts are in the store already, their rows in memory. */
#ifndef REINFORCE_WORKER_STAGE_COMMIT_H
#define REINFORCE_WORKER_STAGE_COMMIT_H

#include "worker/stage.h"

/** Hands a finished lease back; called on the committer's thread, which no longer touches it. */
typedef void stage_commit_done_fn(void *ctx, struct shard_work *work);

/** A part whose object is written. From the heap. */
struct finished_part {
    struct commit_item item;
    struct catalog_lease lease; /* as it was: n_parts is the part's number */
    char key[96];
    struct catalog_part part; /* rows and what they point at are owned */
    struct catalog_sample *rows;
    struct catalog_cost costs[JOB_MAX_CAPTIONERS + JOB_MAX_TEACHERS];
    struct arena arena;
};

struct stage_commit {
    const struct stage_context *context;
    const struct dataset_format *format;
    struct catalog *catalog; /* the committer's own handle; of little patience */
    const atomic_bool *drain;
    stage_commit_done_fn *done;
    void *done_ctx;
    int64_t outage_ms;    /* how long to wait for the catalog; 0: a quarter of an hour */
    struct queue *in;     /* struct commit_item * */
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    size_t n_pending;
    bool is_away;
};

NODISCARD enum status stage_commit_init(struct stage_commit *stage, struct error *err);
/** After stage_commit_run() has ended, or instead of it. Safe on a zeroed one. */
void stage_commit_release(struct stage_commit *stage);

/** Until `in` is closed and empty. One thread. */
void stage_commit_run(struct stage_commit *stage);

/** For the writer. Takes *part, and waits until it is committed, or the catalog is away and there
 * is room to keep it. */
void stage_commit_push(struct stage_commit *stage, struct finished_part *part);
/** The same for a lease whose outcome is set: all its parts were pushed. It is not the writer's any
 * more. */
void stage_commit_end(struct stage_commit *stage, struct shard_work *work);
/** Until all that was pushed is in the catalog, or has failed. */
void stage_commit_wait(struct stage_commit *stage);

#endif
