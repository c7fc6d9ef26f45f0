#include "coordinator/estimate.h"

#include "coordinator/planner.h"
#include "reinforce/job/job_stream.h"
#include "storage/format/dataset.h"
#include "worker/storage.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

enum { ARENA_BYTES = 1 << 30, SCAN_BYTES = 1 << 20 };

/* Samples in one shard, by reading it through. */
static enum status count_shard(const struct plan *plan, const struct catalog_shard_plan *shard,
                               double *n, struct error *err)
{
    const struct dataset_read_options options = {.max_sample_bytes =
                                                     (size_t)plan->job->workers.max_sample_bytes,
                                                 .begin_offset = shard->input_begin,
                                                 .end_offset = shard->input_end};
    const struct dataset_position from = {.offset = shard->input_begin};
    const struct dataset_format *format = dataset_format_by_name(shard->input_format);
    struct dataset_position end = {0};
    struct dataset_reader *reader;
    struct arena arena;
    enum status st;

    if (format == NULL)
        return error_set(err, ST_INVALID, "no reader for format \"%s\"", shard->input_format);
    st = dataset_reader_open(format,
                             shard->source == CATALOG_INPUT_PLAN ? plan->output : plan->input.store,
                             shard->input_key, &options, &from, &reader, err);
    if (st != ST_OK)
        return st;
    arena_init(&arena, ARENA_BYTES);
    do {
        struct record record = {0};
        struct dataset_reject reject;

        arena_reset(&arena);
        st = dataset_reader_next(reader, &arena, &record, &reject, err);
        record_release(&record);
    } while (st == ST_OK || st == ST_CORRUPT);
    dataset_reader_tell(reader, &end);
    *n = (double)end.index;
    arena_release(&arena);
    dataset_reader_close(&reader);
    return st == ST_END ? ST_OK : st;
}

/* Lines of plain JSONL are counted; tars and compressed shards are scaled up from the first by
 * their size. */
static enum status count_samples(const struct plan *plan, struct estimate *estimate,
                                 struct error *err)
{
    const struct catalog_shard_plan *first = &plan->shards[0];
    double first_samples = 0, first_bytes = 1;
    struct object_info info;
    enum status st = count_shard(plan, first, &first_samples, err);

    estimate->shards = (int64_t)plan->n_shards;
    for (size_t i = 0; i < plan->n_shards && st == ST_OK; i++) {
        const struct catalog_shard_plan *shard = &plan->shards[i];

        if (shard->source == CATALOG_INPUT_PLAN)
            continue;
        st = object_store_head(plan->input.store, shard->input_key, &info, err);
        if (st == ST_OK && shard->input_end > 0)
            info.bytes = shard->input_end - shard->input_begin;
        if (st == ST_OK)
            estimate->input_bytes += info.bytes;
        if (i == 0)
            first_bytes = MAX((double)info.bytes, 1.0);
    }
    if (st != ST_OK)
        return st;
    if (plan->n_samples > 0) {
        estimate->samples = (double)plan->n_samples;
        estimate->samples_exact = true;
    } else {
        estimate->samples = first_samples * (double)estimate->input_bytes / first_bytes;
        estimate->samples_exact = plan->n_shards == 1;
    }
    return ST_OK;
}

static enum status survey(const struct job *job, struct estimate *estimate, struct error *err)
{
    struct arena arena;
    struct plan plan = {.job = job, .arena = &arena};
    enum status st;

    if (job_is_stream(job))
        return error_set(
            err, ST_INVALID,
            "\"%.100s\" is a stream, which has no length; plan a folder of such images",
            job->input.url);
    arena_init(&arena, ARENA_BYTES);
    st = storage_open_input(job, &arena, &plan.input, err);
    if (st == ST_OK)
        st = object_store_open(job->output.url, &plan.output, err);
    if (st == ST_OK)
        st = planner_run(&plan, err);
    if (st == ST_OK)
        st = count_samples(&plan, estimate, err);
    object_store_close(&plan.output);
    input_close(&plan.input);
    arena_release(&arena);
    return st;
}

static void remove_folder(const char *folder)
{
    static const char *const names[] = {"catalog.sqlite", "catalog.sqlite-wal",
                                        "catalog.sqlite-shm", "catalog.sqlite.lock"};
    char path[PATH_MAX];

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(folder);
}

enum status estimate_job(const struct job *job, int64_t trial_samples, const atomic_bool *stop,
                         struct estimate *estimate, struct error *err)
{
    const char *tmp = getenv("TMPDIR"); /* NOLINT(concurrency-mt-unsafe): nobody sets it */
    char folder[PATH_MAX / 2], url[PATH_MAX];
    struct job trial = *job;
    const struct local_run_options options = {
        .job = &trial, .stop = stop, .sample_limit = trial_samples};
    double n;
    enum status st;

    memset(estimate, 0, sizeof *estimate);
    (void)snprintf(folder, sizeof folder, "%s/reinforce-plan-XXXXXX",
                   tmp != NULL && tmp[0] != '\0' ? tmp : "/tmp");
    if (mkdtemp(folder) == NULL)
        return error_set_errno(err, ST_UNAVAILABLE, "could not create a temporary folder \"%s\"",
                               folder);
    (void)snprintf(url, sizeof url, "sqlite:%s/catalog.sqlite", folder);
    trial.output.url = "mem:plan";
    trial.catalog.url = url;
    trial.workers.part_samples = MIN(job->workers.part_samples, MAX(trial_samples / 4, (int64_t)1));
    trial.budget.failure_fraction = 1;
    trial.events.topic = NULL; /* a trial tells nobody */
    st = survey(&trial, estimate, err);
    if (st == ST_OK)
        st = local_run(&options, &estimate->trial, err);
    remove_folder(folder);
    if (st != ST_OK)
        return st;
    n = (double)MAX(estimate->trial.progress.samples_this_run, (int64_t)1);
    estimate->seconds = estimate->samples * (double)estimate->trial.progress.elapsed_ms / 1000 / n;
    estimate->output_bytes = estimate->samples * (double)estimate->trial.bytes_committed / n;
    estimate->quarantined =
        estimate->samples * (double)estimate->trial.progress.catalog.samples_quarantined / n;
    estimate->filtered =
        estimate->samples * (double)estimate->trial.progress.catalog.samples_filtered / n;
    return ST_OK;
}
