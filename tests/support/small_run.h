/* A job in memory with fake models: its input, the pipeline of one worker, and what came out. */
#ifndef REINFORCE_TESTS_SMALL_RUN_H
#define REINFORCE_TESTS_SMALL_RUN_H

#include "reinforce/base/wake.h"
#include "tests/support/fake_models.h"
#include "tests/support/temp_folder.h"
#include "worker/pipeline.h"

enum { SMALL_RUN_MAX_TEACHERS = 3, SMALL_RUN_MAX_SAMPLES = 128 };

/* Two fake teachers, one of views of 32 and contexts of 16, one of 24 and 48; one captioner. */
struct small_run {
    struct temp_folder folder; /* of the catalog; its path also names the two stores */
    char catalog_url[128];
    struct job *job;
    struct fake_teacher *teachers[SMALL_RUN_MAX_TEACHERS];
    struct fake_captioner *captioner;
    struct engine *engine;
    struct object_store *input, *output;
    struct catalog *catalog; /* the test's own handle */
    struct catalog_job row;
    struct worker_stats stats;
    struct memory_budget budget;
    struct isolation isolation;
    struct stage_context context;
    struct arena arena; /* what is read back lives here */
    json_t *metas;      /* a list that holds the records' other fields */
    struct wake wake;
    atomic_bool drain;
    struct queue *ended; /* struct shard_work *, from the pipeline */
};

/** What became of one sample; strings live in the run's arena. */
struct small_sample {
    int64_t shard;
    const char *uid, *reason, *detail, *stage; /* reason NULL: done */
};

/** `sets` are job overrides, the last one NULL; may be NULL itself. */
void small_run_init(struct small_run *run, const char *const *sets);
void small_run_release(struct small_run *run);

/** Input: PNG i of a pattern under `key`; or a plain grey one. */
void small_run_put_image(struct small_run *run, const char *key, int i);
void small_run_put_grey(struct small_run *run, const char *key, int width, int height, int grey);
void small_run_put_text(struct small_run *run, const char *key, const char *text);
void small_run_put(struct small_run *run, const char *key, struct bytes_view body);

/** n samples "<name>-000"... with one caption each, as `<name>.jsonl` and their images. */
void small_run_put_samples(struct small_run *run, const char *name, int n);

/** Plans the input into the catalog. */
void small_run_plan(struct small_run *run);

/** The next lease, or NULL; give it to pipeline_submit(). `now_ms`: the catalog's time. */
struct shard_work *small_run_lease(struct small_run *run, int64_t now_ms);

/** A pipeline whose finished leases go to run->ended, and one lease's way through it. */
struct pipeline *small_run_pipeline(struct small_run *run, int threads);
enum wire_outcome small_run_pass(struct small_run *run, struct pipeline *pipeline,
                                 struct shard_work *work);

/** Sends every shard through one pipeline of `threads`; outcomes must be `want`. */
void small_run_work(struct small_run *run, int threads, enum wire_outcome want);

/** Records of an output object, in order, while the run lives; returns how many. */
size_t small_run_records(struct small_run *run, const char *key, struct record *records);

/** All samples in (shard, index) order; returns how many. */
size_t small_run_samples(struct small_run *run, struct small_sample *samples);

/** The outcome of `uid`; fails the test when it is not there. */
struct small_sample small_run_sample(struct small_run *run, const char *uid);

/** An object's text, NUL-terminated, in the run's arena. */
const char *small_run_text(struct small_run *run, const char *key);

/** Fails unless the first n_shards tars of both have the same bytes. */
void small_run_assert_same(struct small_run *a, struct small_run *b, int n_shards);

#endif
