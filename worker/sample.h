/* What travels through a worker's pipeline: a sample in its slot, and the lease it belongs to. */
#ifndef REINFORCE_WORKER_SAMPLE_H
#define REINFORCE_WORKER_SAMPLE_H

#include "proto/wire.h"
#include "reinforce/job/job.h"
#include "reinforce/record/record.h"
#include "storage/catalog/catalog.h"
#include "storage/format/dataset.h"

#include <stdatomic.h>

enum sample_stage {
    STAGE_READ = 0,
    STAGE_DECODE = 1,
    STAGE_CURATE = 2,
    STAGE_CAPTION = 3,
    STAGE_EMBED = 4,
    STAGE_WRITE = 5,
    STAGE_COUNT = 6,
    STAGE_ANY = STAGE_COUNT, /* of a sample that killed its worker: nobody knows which */
};

/** "read", "decode", "curate", "caption", "embed", "write", "any": stored in the catalog. */
const char *sample_stage_name(enum sample_stage stage);

/** What a model has done. */
struct model_cost {
    int64_t ns; /* of threads */
    int64_t images, texts, tokens;
};

/** What a job's models have done, in the job file's order. */
struct model_costs {
    struct model_cost captioners[JOB_MAX_CAPTIONERS], teachers[JOB_MAX_TEACHERS];
};

/** A teacher's embeddings of a sample, float32 [views, dim] and [real captions, dim]; NULL: they
 * are not there yet. */
struct teacher_rows {
    const float *views, *captions;
};

struct shard_work;
struct finished_part; /* stage_commit.h */

/** What the writer hands to the committer: a part of a lease, or, without one, the lease's end. */
struct commit_item {
    struct shard_work *work;
    struct finished_part *part;
};

/** One lease inside the pipeline: made by the agent, ended by the writer, which tells the agent. */
struct shard_work {
    struct catalog_lease lease; /* strings point into `grant` */
    struct wire_message grant;
    uint64_t begin_index;    /* lease.next_index as it was when the work began */
    size_t n_inside;         /* of its samples; isolation.h */
    atomic_bool abandoned;   /* lost: nobody wants its samples any more */
    atomic_ullong end_index; /* samples from there on are another lease's; 0: all are ours */
    atomic_bool split;       /* the reader should give a part of what it has not begun to others */
    atomic_ullong samples_left; /* about, not begun; UINT64_MAX: not known */
    /* Committed, carried by heartbeats; what is filtered counts as done. */
    atomic_ullong samples_done, samples_quarantined;
    struct commit_item end;
    struct error why_ended;    /* the writer's; code ST_OK: as `outcome` says */
    struct error why_broken;   /* the committer's: its parts are not committed any more */
    enum wire_outcome outcome; /* set by the writer, and in the end by the committer */
    char why[256];
};

/**
 * A slot: allocated once, reused. Owned by one stage at a time; a sample's buffers are its arenas'.
 * A slot with `ends_shard` carries no sample: it says that the reader has no more of this shard,
 * and why.
 */
struct sample {
    uint64_t seq; /* order in which the writer takes them */
    struct shard_work *work;
    bool ends_shard;
    bool is_inside;        /* isolation.h */
    enum wire_outcome end; /* with ends_shard */

    struct arena arena;    /* record: encoded bytes, texts, embeddings */
    struct arena pixels;   /* decoded image and views; emptied after the embed stage */
    size_t reserved_bytes; /* of the memory budget, for `pixels` */
    struct record record;
    int64_t index;
    struct dataset_position next; /* where the following sample begins */

    struct image image;  /* decoded, RGB */
    struct image *views; /* [n_sizes, A] */

    struct teacher_rows
        *ready; /* [teachers] what the curate stage needed, in `arena`; may be NULL */

    size_t n_captions; /* catalog rows, in `arena` */
    struct catalog_caption *captions;
    size_t n_scores;
    struct catalog_score *scores;

    struct model_costs costs; /* for this sample */

    const char *filtered_by; /* the rule's name, the job's; NULL: it is not dropped */

    bool failed; /* this sample is quarantined */
    bool retry;  /* not its fault: the lease must be tried again */
    bool undone; /* its work was stopped: the lease ends in front of it */
    enum sample_stage failed_stage;
    char reason[48];
    char detail[256]; /* of a failure, or of the rule */
};

void sample_init(struct sample *sample, size_t max_bytes);

/** Empties the slot for the next sample; arenas keep their memory. */
void sample_reset(struct sample *sample);
void sample_release(struct sample *sample);

/** Whether sample `index` is one of those that may have killed a worker, and is worked on alone. */
bool shard_work_probes_alone(const struct shard_work *work, int64_t index);

/** Whether all up to sample `index` is committed before the next one is begun. */
bool shard_work_ends_probe(const struct shard_work *work, int64_t index);

/** Adds to *sum. */
void model_costs_add(struct model_costs *sum, const struct model_costs *costs);

/** Records why this sample ends here: quarantined, or (retryable causes) that the whole lease must
 * be tried again, or (ST_CANCELLED) that it was stopped and nothing is known of it. */
void sample_fail(struct sample *sample, enum sample_stage stage, const char *reason,
                 const struct error *err);

#endif
