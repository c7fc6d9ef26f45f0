/* A whole job in one process: planner, dispatcher and workers as in a fleet, joined over inproc. */
#ifndef REINFORCE_COORDINATOR_LOCAL_RUN_H
#define REINFORCE_COORDINATOR_LOCAL_RUN_H

#include "reinforce/job/job.h"
#include "storage/catalog/catalog.h"
#include "worker/stage.h"

/** How far a run is; passed to the progress callback about once a second. */
struct run_progress {
    struct catalog_progress catalog; /* of the whole job, committed */
    int64_t elapsed_ms;              /* of this run, models loaded */
    int64_t samples_this_run;        /* committed by this run, in whatever state */
    double samples_per_second;       /* over this run */
    double eta_seconds;              /* < 0: not known yet */
    enum sample_stage limit;         /* the stage whose threads are busiest */
    double busy[STAGE_COUNT];        /* share of each stage's threads' time, 0..1 */
};

typedef void local_run_progress_fn(void *ctx, const struct run_progress *progress);

struct local_run_options {
    const struct job *job;
    const atomic_bool *stop;         /* set from outside (a signal): drain */
    local_run_progress_fn *progress; /* may be NULL */
    void *progress_ctx;
    int64_t sample_limit;  /* drain after so many samples; 0: none */
    struct engine *engine; /* of this job, and stays the caller's; NULL: loaded if there is work */
};

/** What was found of a model's fidelity, for people. */
struct run_fidelity {
    const char *name; /* the job's */
    char text[VERDICT_TEXT_BYTES];
};

struct run_summary {
    struct run_progress progress;
    bool nothing_to_do; /* the job was done before */
    bool extended;      /* captioners or teachers were added to a finished job */
    bool drained;       /* stopped before the end; run again to go on */
    bool over_budget;   /* paused: too many samples quarantined */
    long long captions, views_embedded, texts_embedded, bytes_committed;
    int64_t captioner_ns[JOB_MAX_CAPTIONERS]; /* thread time in each model, as in the job file */
    int64_t teacher_ns[JOB_MAX_TEACHERS];
    int64_t models_ms; /* spent loading models */
    size_t n_fidelity; /* models whose fidelity was asked for */
    struct run_fidelity fidelity[JOB_MAX_CAPTIONERS + JOB_MAX_TEACHERS];
    bool is_stream; /* the next three are of this run */
    long long records, duplicates, refused;
    bool has_events;
    long long events_published; /* by this run */
    long long events_waiting;   /* run again to publish them */
    size_t peak_pixel_bytes;
};

/**
 * Plans, runs and finishes a job, or goes on where an earlier run stopped. ST_CONFLICT: the catalog
 * or the output belongs to another job, naming each difference. ST_UNAVAILABLE: shards failed
 * max_attempts times.
 */
NODISCARD enum status local_run(const struct local_run_options *options,
                                struct run_summary *summary, struct error *err);

/** The catalog a job uses: its own URL, or the default beside a local output. In `arena`. */
NODISCARD enum status local_run_catalog_url(const struct job *job, struct arena *arena,
                                            const char **url, struct error *err);

#endif
