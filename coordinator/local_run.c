#include "coordinator/local_run.h"

#include "coordinator/dispatcher.h"
#include "coordinator/extension.h"
#include "coordinator/model_record.h"
#include "coordinator/output.h"
#include "coordinator/planner.h"
#include "coordinator/side_objects.h"
#include "coordinator/storage.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/file.h"
#include "reinforce/base/file_lock.h"
#include "reinforce/base/log.h"
#include "reinforce/base/wake.h"
#include "storage/format/dataset.h"
#include "worker/agent.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
#include <zmq.h>

#define ENDPOINT   "inproc://dispatch"
#define JOB_OBJECT "_reinforce/job.json"

enum { ARENA_BYTES = 1 << 30, PROGRESS_MS = 1000, JOB_OBJECT_MAX_BYTES = 16 << 20 };

/* One worker's thread. */
struct local_worker {
    struct agent_options options;
    char name[96];
    struct wake wake;
    pthread_t thread;
    bool started;
    enum status status;
    struct error error;
    struct run *run;
};

/* All of one run; released in one place. */
struct run {
    const struct local_run_options *options;
    const struct job *job;
    struct arena arena;
    struct input input;
    struct object_store *output;
    bool is_known; /* the output holds this job's configuration already */
    const char *catalog_url;
    struct catalog *catalog;
    struct file_lock lock;
    struct catalog_job row;
    struct engine *engine; /* the caller's, or `loaded` */
    struct engine *loaded;
    struct worker_stats stats;
    struct memory_budget budget;
    struct stage_context context;
    void *zmq;
    struct dispatcher *dispatcher;
    struct local_worker *workers;
    size_t n_workers;
    atomic_bool drain;
    pthread_mutex_t lock_ended; /* guards n_ended */
    pthread_cond_t ended;
    size_t n_ended;
    int64_t started_ms;
};

enum status local_run_catalog_url(const struct job *job, struct arena *arena, const char **url,
                                  struct error *err)
{
    const char *folder = job->output.url;
    size_t len;
    char *text;
    enum status st;

    if (job->catalog.url != NULL && job->catalog.url[0] != '\0') {
        *url = job->catalog.url;
        return ST_OK;
    }
    if (strncmp(folder, "file:", 5) == 0)
        folder += 5;
    if (strchr(folder, ':') != NULL)
        return error_set(err, ST_INVALID,
                         "output.url \"%s\" is not a local folder: set catalog.url",
                         job->output.url);
    len = strlen(folder) + sizeof "sqlite:/catalog.sqlite";
    st = arena_alloc(arena, len, &text, err);
    if (st == ST_OK)
        (void)snprintf(text, len, "sqlite:%s/catalog.sqlite", folder);
    *url = text;
    return st;
}

static bool is_sqlite(const char *catalog_url)
{
    return strncmp(catalog_url, "sqlite:", 7) == 0;
}

/* SQLite means one process: it is locked, and with that every lease of an earlier process is dead.
 */
static enum status lock_catalog(struct run *run, struct error *err)
{
    char path[PATH_MAX], *slash;
    enum status st;

    if (!is_sqlite(run->catalog_url))
        return ST_OK;
    if (snprintf(path, sizeof path, "%s.lock", run->catalog_url + 7) >= (int)sizeof path)
        return error_set(err, ST_INVALID, "catalog.url \"%s\" is too long", run->catalog_url);
    slash = strrchr(path, '/');
    if (slash != NULL && slash != path) {
        *slash = '\0';
        st = file_make_dirs(path, err);
        *slash = '/';
        if (st != ST_OK)
            return st;
    }
    st = file_lock_take(path, &run->lock, err);
    if (st == ST_CONFLICT)
        error_add_context(err, "another run of this job is at work; wait for it or stop it");
    return st;
}

/* A shard in the output of a job that has not been planned: another catalog made it. */
static enum status refuse_shard(void *ctx, const struct object_info *info, struct error *err)
{
    const struct run *run = ctx;

    if (!output_is_shard(info->key, dataset_format_by_name(run->job->output.format)->extension))
        return ST_OK;
    return error_set(err, ST_CONFLICT,
                     "output \"%s\" holds a dataset that catalog \"%s\" does not know; restore the "
                     "catalog or choose another output.url",
                     run->job->output.url, run->catalog_url);
}

/* An output that another job has begun is not ours to write into. */
static enum status check_output(struct run *run, struct error *err)
{
    struct bytes_view body;
    json_t *found = NULL;
    const char *name;
    enum status st =
        object_store_get(run->output, JOB_OBJECT, JOB_OBJECT_MAX_BYTES, &run->arena, &body, err);

    if (st == ST_NOT_FOUND)
        return ST_OK;
    if (st == ST_OK)
        st = json_parse(body, &found, err);
    if (st != ST_OK)
        return st;
    run->is_known = true;
    name = json_string_value(json_object_get(found, "name"));
    if (name == NULL || strcmp(name, run->job->name) != 0)
        st = error_set(
            err, ST_CONFLICT,
            "output \"%s\" holds the dataset of job \"%s\", not \"%s\"; choose another output.url",
            run->job->output.url, name != NULL ? name : "?", run->job->name);
    else if (run->row.state == CATALOG_JOB_PLANNING) /* one killed while it planned has no shards */
        st = object_store_list(run->output, "", refuse_shard, run, err);
    json_decref(found);
    return st;
}

static enum status plan(struct run *run, struct error *err)
{
    struct plan plan = {
        .job = run->job, .input = run->input, .output = run->output, .arena = &run->arena};
    struct object_written written;
    enum status st = planner_run(&plan, err);

    /* Another job may have begun here since check_output() looked. */
    if (st == ST_OK && run->is_known)
        st = object_store_put(run->output, JOB_OBJECT, bytes_of_string(run->job->effective_json),
                              &written, err);
    else if (st == ST_OK)
        st = object_store_put_new(run->output, JOB_OBJECT,
                                  bytes_of_string(run->job->effective_json), &written, err);
    if (st == ST_CONFLICT)
        error_add_context(err, "another job begins in this output");
    if (st == ST_OK)
        st = catalog_plan_commit(run->catalog, run->row.job, plan.shards, plan.n_shards, err);
    if (st == ST_OK)
        run->row.state = CATALOG_JOB_RUNNING;
    return st;
}

/* Finds or begins the job in the catalog, and plans it. */
static enum status begin(struct run *run, struct run_summary *summary, struct error *err)
{
    const struct job *job = run->job;
    const char *stored = NULL;
    struct object_store_options stores;
    struct error conflict;
    size_t n_swept;
    enum status st = local_run_catalog_url(job, &run->arena, &run->catalog_url, err);

    storage_input_options(job, &stores);
    if (st == ST_OK)
        st = input_open(job->input.url, &stores, &run->arena, &run->input, err);
    /* SQLite is locked below: then nobody else writes. */
    storage_output_options(job, st == ST_OK && is_sqlite(run->catalog_url), &stores);
    if (st == ST_OK)
        st = object_store_open_with(job->output.url, &stores, &run->output, err);
    if (st == ST_OK)
        st = lock_catalog(run, err);
    if (st == ST_OK)
        st = catalog_open(run->catalog_url, &run->catalog, err);
    if (st != ST_OK)
        return st;
    st = catalog_job_begin(run->catalog, job->name, job->digest, job->effective_json,
                           clock_wall_ms(), &run->arena, &run->row, &stored, &conflict);
    if (st == ST_CONFLICT && stored != NULL) {
        st = extension_begin(job, &run->row, stored, run->catalog, run->output, &run->arena,
                             &summary->extended, err);
    } else if (st != ST_OK) {
        *err = conflict;
    }
    if (st == ST_OK)
        st = check_output(run, err);
    /* What a killed run has left of uploads costs money; that asking needs the rights of the end
     * shows here, before anything is computed. */
    if (st == ST_OK && object_store_is_remote(run->output))
        st = object_store_sweep(run->output, "", &n_swept, err);
    if (st == ST_OK && run->row.state == CATALOG_JOB_PLANNING)
        st = plan(run, err);
    if (st == ST_OK && run->lock.fd >= 0)
        st = catalog_leases_reset(run->catalog, run->row.job, err);
    return st;
}

static void *run_worker(void *arg)
{
    struct local_worker *worker = arg;
    struct run *run = worker->run;

    worker->status = agent_run(&worker->options, &worker->error);
    (void)pthread_mutex_lock(&run->lock_ended);
    run->n_ended++;
    (void)pthread_cond_signal(&run->ended);
    (void)pthread_mutex_unlock(&run->lock_ended);
    return NULL;
}

static enum status start_workers(struct run *run, struct error *err)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    int count = run->job->workers.count, threads = run->job->workers.threads;
    char host[64] = "localhost";
    enum status st = ST_OK;

    if (threads == 0)
        threads = (int)MAX(MAX(processors, 1L) / count, 1L);
    (void)gethostname(host, sizeof host - 1);
    run->workers = calloc((size_t)count, sizeof *run->workers);
    if (run->workers == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate %d workers", count);
    run->n_workers = (size_t)count;
    for (int i = 0; i < count; i++)
        run->workers[i].wake = (struct wake){{-1, -1}};
    for (int i = 0; i < count && st == ST_OK; i++) {
        struct local_worker *worker = &run->workers[i];

        (void)snprintf(worker->name, sizeof worker->name, "%s:%ld:%d", host, (long)getpid(), i);
        worker->run = run;
        st = wake_init(&worker->wake, err);
        if (st != ST_OK)
            break;
        worker->options = (struct agent_options){.zmq = run->zmq,
                                                 .endpoint = ENDPOINT,
                                                 .name = worker->name,
                                                 .context = &run->context,
                                                 .catalog_url = run->catalog_url,
                                                 .threads = threads,
                                                 .drain = &run->drain,
                                                 .wake = &worker->wake};
        if (pthread_create(&worker->thread, NULL, run_worker, worker) != 0)
            st = error_set(err, ST_UNAVAILABLE, "could not start worker %d", i);
        worker->started = st == ST_OK;
    }
    return st;
}

static void drain(struct run *run)
{
    if (atomic_exchange(&run->drain, true))
        return;
    for (size_t i = 0; i < run->n_workers; i++)
        if (run->workers[i].started)
            wake_signal(&run->workers[i].wake);
}

static enum status read_progress(struct run *run, struct run_progress *progress, struct error *err)
{
    int64_t elapsed_ns = 0;
    double done_shards;
    enum status st;

    memset(progress, 0, sizeof *progress);
    st = catalog_read_progress(run->catalog, run->row.job, &progress->catalog, err);
    if (st != ST_OK)
        return st;
    progress->eta_seconds = -1;
    if (run->started_ms == 0)
        return ST_OK;
    progress->elapsed_ms = clock_monotonic_ms() - run->started_ms;
    elapsed_ns = MAX(progress->elapsed_ms, (int64_t)1) * 1000000;
    progress->samples_this_run =
        atomic_load(&run->stats.samples_done) + atomic_load(&run->stats.samples_quarantined);
    progress->samples_per_second = (double)progress->samples_this_run * 1e9 / (double)elapsed_ns;
    for (int stage = 0; stage < STAGE_COUNT; stage++) {
        double threads = (double)MAX(atomic_load(&run->stats.threads[stage]), 1LL);

        progress->busy[stage] =
            (double)atomic_load(&run->stats.busy_ns[stage]) / ((double)elapsed_ns * threads);
        if (progress->busy[stage] > progress->busy[progress->limit])
            progress->limit = (enum sample_stage)stage;
    }
    /* Shards hold about as many samples each: those of the done ones say how many the rest have. */
    done_shards = (double)progress->catalog.shards_done;
    if (progress->catalog.shards_done > 0 && progress->samples_per_second > 0) {
        double in_done = (double)progress->catalog.samples_in_done_shards;
        double total = in_done * (double)progress->catalog.shards_total / done_shards;
        double left = total - (double)(progress->catalog.samples_done +
                                       progress->catalog.samples_quarantined);

        progress->eta_seconds = MAX(left, 0.0) / progress->samples_per_second;
    }
    return ST_OK;
}

/* Watches until every worker has gone. */
static enum status watch(struct run *run, struct error *err)
{
    const struct local_run_options *options = run->options;
    size_t ended = 0;

    while (ended < run->n_workers) {
        struct timespec until;
        struct run_progress progress;
        int64_t wake_ms = clock_wall_ms() + PROGRESS_MS;
        enum status st;

        until.tv_sec = (time_t)(wake_ms / 1000);
        until.tv_nsec = (long)(wake_ms % 1000) * 1000000;
        (void)pthread_mutex_lock(&run->lock_ended);
        if (run->n_ended < run->n_workers)
            (void)pthread_cond_timedwait(&run->ended, &run->lock_ended, &until);
        ended = run->n_ended;
        (void)pthread_mutex_unlock(&run->lock_ended);
        if (ended == run->n_workers)
            break;
        st = read_progress(run, &progress, err);
        if (st != ST_OK && !status_is_retryable(st))
            return st;
        if (st == ST_OK && options->progress != NULL)
            options->progress(options->progress_ctx, &progress);
        if ((options->stop != NULL && atomic_load(options->stop)) ||
            dispatcher_verdict(run->dispatcher) != DISPATCHER_WORKING ||
            (options->sample_limit > 0 && progress.samples_this_run >= options->sample_limit))
            drain(run);
    }
    return ST_OK;
}

static enum status work(struct run *run, struct run_summary *summary, struct error *err)
{
    const struct dispatcher_options dispatch = {.endpoint = ENDPOINT,
                                                .job = run->job,
                                                .job_id = run->row.job,
                                                .catalog_url = run->catalog_url};
    struct dispatcher_options options = dispatch;
    int64_t begun = clock_monotonic_ms();
    enum status st = ST_OK;

    run->engine = run->options->engine;
    if (run->engine == NULL) {
        st = engine_open(run->job, run->options->stop, &run->loaded, err);
        run->engine = run->loaded;
    }
    if (st == ST_OK)
        st = model_record_write(run->engine, run->output, err);
    if (st != ST_OK)
        return st;
    summary->models_ms = clock_monotonic_ms() - begun;
    run->context = (struct stage_context){.job = run->job,
                                          .engine = run->engine,
                                          .input = run->input.store,
                                          .output = run->output,
                                          .stats = &run->stats,
                                          .budget = &run->budget};
    run->zmq = zmq_ctx_new();
    if (run->zmq == NULL)
        return error_set(err, ST_NO_MEMORY, "could not create a ZeroMQ context: %s",
                         zmq_strerror(errno));
    options.zmq = run->zmq;
    st = dispatcher_create(&options, &run->dispatcher, err);
    run->started_ms = clock_monotonic_ms();
    if (st == ST_OK)
        st = start_workers(run, err);
    if (st == ST_OK)
        st = watch(run, err);
    drain(run);
    for (size_t i = 0; i < run->n_workers; i++)
        if (run->workers[i].started)
            (void)pthread_join(run->workers[i].thread, NULL);
    for (size_t i = 0; i < run->n_workers && st == ST_OK; i++) {
        if (run->workers[i].status != ST_OK) {
            *err = run->workers[i].error;
            st = run->workers[i].status;
        }
    }
    summary->over_budget = dispatcher_verdict(run->dispatcher) == DISPATCHER_OVER_BUDGET;
    if (st == ST_OK && dispatcher_verdict(run->dispatcher) == DISPATCHER_BROKEN) {
        *err = *dispatcher_error(run->dispatcher);
        st = err->code;
    }
    dispatcher_destroy(&run->dispatcher);
    return st;
}

/* A part that may not be removed costs room and nothing else: the job is done all the same. */
static enum status sweep_part(void *ctx, const struct object_info *info, struct error *err)
{
    enum status st = object_store_remove(ctx, info->key, err);

    if (st != ST_OK)
        log_at(LOG_WARN, "part_left", "key=%s cause=\"%s\"", info->key, err->message);
    return st == ST_INVALID ? ST_OK : st;
}

/* After the last shard: side files, leftovers, the job's last state. */
static enum status finish(struct run *run, struct run_summary *summary, struct error *err)
{
    const struct catalog_progress *done = &summary->progress.catalog;
    size_t n_swept = 0;
    enum status st = read_progress(run, &summary->progress, err);

    if (st != ST_OK)
        return st;
    if (summary->over_budget)
        return catalog_job_set_state(run->catalog, run->row.job, CATALOG_JOB_PAUSED, err);
    if (done->shards_done + done->shards_failed < done->shards_total) {
        summary->drained = true;
        return ST_OK;
    }
    if (done->shards_failed > 0)
        return error_set(err, ST_UNAVAILABLE,
                         "%" PRId64 " of %" PRId64 " shards failed %" PRId64
                         " times; the log says why; run again to "
                         "retry them",
                         done->shards_failed, done->shards_total, run->job->workers.max_attempts);
    if (run->row.state == CATALOG_JOB_DONE)
        return ST_OK;
    st = side_objects_write(run->engine, run->row.created_ms, run->row.job, run->catalog,
                            run->output, err);
    if (st ==
        ST_OK) /* what killed runs have left: parts nobody committed, writes nobody finished */
        st = object_store_list(run->output, "_reinforce/parts/", sweep_part, run->output, err);
    if (st == ST_OK)
        st = object_store_sweep(run->output, "", &n_swept, err);
    if (st == ST_OK)
        st = catalog_job_set_state(run->catalog, run->row.job, CATALOG_JOB_DONE, err);
    return st;
}

static void release(struct run *run)
{
    for (size_t i = 0; i < run->n_workers; i++)
        wake_release(&run->workers[i].wake);
    free(run->workers);
    if (run->zmq != NULL)
        (void)zmq_ctx_term(run->zmq);
    engine_close(&run->loaded);
    catalog_close(&run->catalog);
    object_store_close(&run->output);
    input_close(&run->input);
    file_lock_release(&run->lock);
    memory_budget_release(&run->budget);
    (void)pthread_cond_destroy(&run->ended);
    (void)pthread_mutex_destroy(&run->lock_ended);
    arena_release(&run->arena);
}

enum status local_run(const struct local_run_options *options, struct run_summary *summary,
                      struct error *err)
{
    struct run run = {.options = options, .job = options->job, .lock = {.fd = -1}};
    enum status st;

    memset(summary, 0, sizeof *summary);
    arena_init(&run.arena, ARENA_BYTES);
    (void)pthread_mutex_init(&run.lock_ended, NULL);
    (void)pthread_cond_init(&run.ended, NULL);
    memory_budget_init(&run.budget,
                       (size_t)run.job->workers.memory_bytes * (size_t)run.job->workers.count);
    st = begin(&run, summary, err);
    if (st == ST_OK)
        st = read_progress(&run, &summary->progress, err);
    summary->nothing_to_do = st == ST_OK && run.row.state == CATALOG_JOB_DONE;
    if (st == ST_OK && !summary->nothing_to_do)
        st = work(&run, summary, err);
    if (st == ST_OK)
        st = finish(&run, summary, err);
    summary->captions = atomic_load(&run.stats.captions);
    summary->views_embedded = atomic_load(&run.stats.views_embedded);
    summary->texts_embedded = atomic_load(&run.stats.texts_embedded);
    summary->bytes_committed = atomic_load(&run.stats.bytes_committed);
    for (size_t c = 0; c < run.job->n_captioners; c++)
        summary->captioner_ns[c] = atomic_load(&run.stats.captioner_ns[c]);
    for (size_t t = 0; t < run.job->n_teachers; t++)
        summary->teacher_ns[t] = atomic_load(&run.stats.teacher_ns[t]);
    summary->peak_pixel_bytes = run.budget.peak_bytes;
    release(&run);
    return st;
}
