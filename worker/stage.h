/* What every stage gets to see, and what they count. */
#ifndef REINFORCE_WORKER_STAGE_H
#define REINFORCE_WORKER_STAGE_H

#include "reinforce/base/queue.h"
#include "worker/engine.h"
#include "worker/isolation.h"
#include "worker/memory_budget.h"
#include "worker/sample.h"

/** Counters of one process; relaxed reads are good enough for progress lines. */
struct worker_stats {
    atomic_llong busy_ns[STAGE_COUNT]; /* summed over a stage's threads, waiting excluded */
    atomic_llong threads[STAGE_COUNT];
    atomic_llong samples_done, samples_quarantined, samples_filtered; /* committed */
    atomic_llong captions, views_embedded, texts_embedded;
    atomic_llong captioner_ns[JOB_MAX_CAPTIONERS], teacher_ns[JOB_MAX_TEACHERS]; /* in the models */
    atomic_llong bytes_committed;                                                /* parts */
    atomic_llong peak_pixel_bytes;
};

/** Immutable while the pipeline runs; everything it points at is shared and thread-safe. */
struct stage_context {
    const struct job *job;
    const struct engine *engine;
    struct object_store *input;  /* the job's input */
    struct object_store *output; /* shards, parts and plans */
    struct worker_stats *stats;
    struct memory_budget *budget;
    struct isolation *isolation; /* of all pipelines of the process */
};

/** Whether a stage has work to do on what it was given: a sample that has not failed, of a lease
 * that somebody wants. */
bool stage_wants(const struct sample *sample);

/** Gives the pixels' memory back; the embed stage does, and whoever ends a sample before. */
void stage_free_pixels(const struct stage_context *context, struct sample *sample);

/** A time span that counts as busy for a stage. */
int64_t stage_begin(void);
void stage_end(const struct stage_context *context, enum sample_stage stage, int64_t begun);

#endif
