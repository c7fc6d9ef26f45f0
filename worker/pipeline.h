/* A worker's stages, joined by bounded queues: leases in, committed shards out. */
#ifndef REINFORCE_WORKER_PIPELINE_H
#define REINFORCE_WORKER_PIPELINE_H

#include "reinforce/base/wake.h"
#include "worker/stage.h"
#include "worker/stage_write.h"

struct pipeline;

struct pipeline_options {
    const struct stage_context *context; /* must outlive the pipeline */
    const char *catalog_url;             /* the writer opens a handle of its own */
    int threads;                         /* per parallel stage, >= 1 */
    const atomic_bool *drain;            /* true: end the current shard at the next sample */
    stage_commit_done_fn *done;          /* on the committer's thread */
    void *done_ctx;
    int64_t outage_ms;       /* as stage_commit's */
    const struct wake *idle; /* signalled when the reader has read a lease to its end */
};

/** Starts the threads. */
NODISCARD enum status pipeline_create(const struct pipeline_options *options, struct pipeline **out,
                                      struct error *err);

/** Hands a lease in; it comes back through done(). Never waits: at most a few leases are inside. */
void pipeline_submit(struct pipeline *pipeline, struct shard_work *work);

/** Leases not yet read to their end. */
int pipeline_unread(const struct pipeline *pipeline);

/** Lets what is inside finish, joins every thread and frees all. */
void pipeline_destroy(struct pipeline **pipeline);

#endif
