#include "coordinator/local_run.h"

#include "coordinator/courier.h"
#include "coordinator/dispatcher.h"
#include "coordinator/extension.h"
#include "coordinator/feed.h"
#include "coordinator/job_site.h"
#include "reinforce/base/clock.h"
#include "reinforce/job/job_stream.h"
#include "storage/catalog/catalog_outbox.h"
#include "worker/model_record.h"
#include "worker/worker_group.h"

#include <errno.h>
#include <inttypes.h>
#include <zmq.h>

#define ENDPOINT "inproc://dispatch"

enum {
    ARENA_BYTES = 64 << 20,
    PROGRESS_MS = 1000,
    CONNECT_MS = 20000,
    PLAN_LOOK_MS = 100,
    PLAN_LOOKS = 50,
    EVENTS_LOOK_MS = 100,
    EVENTS_GRACE_MS = 5000, /* for what still waits when the run is to stop */
};

/* All of one run; released in one place. */
struct run {
    const struct local_run_options *options;
    const struct job *job;
    struct arena arena;
    struct job_site site;
    const char *catalog_url;
    struct catalog *catalog;
    struct catalog_job row;
    struct engine *engine; /* the caller's, or `loaded` */
    struct engine *loaded;
    struct worker_stats stats;
    struct memory_budget budget;
    struct isolation isolation;
    struct stage_context context;
    void *zmq;
    struct feed *feed;       /* of a stream */
    struct courier *courier; /* of a job that tells its results */
    struct dispatcher *dispatcher;
    struct worker_group *workers;
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

/* Runs that share a stream may start at once; another of them is just planning the job, which is
 * soon done. *err says what was in the way, if it is not. */
static enum status await_plan(struct run *run, struct error *err)
{
    struct error conflict = *err;

    for (int i = 0; i < PLAN_LOOKS; i++) {
        const char *config;
        enum status st =
            catalog_job_find(run->catalog, run->job->name, &run->arena, &run->row, &config, err);

        if (st != ST_OK || run->row.state != CATALOG_JOB_PLANNING)
            return st;
        clock_sleep_ms(PLAN_LOOK_MS, run->options->stop);
    }
    *err = conflict;
    return ST_CONFLICT;
}

/* One that was paused or cancelled before all its shards were there goes on with those. */
static enum status resume_planning(struct run *run, struct error *err)
{
    if (run->row.is_planned ||
        (run->row.state != CATALOG_JOB_PAUSED && run->row.state != CATALOG_JOB_CANCELLED))
        return ST_OK;
    run->row.state = CATALOG_JOB_PLANNING;
    return catalog_job_set_state(run->catalog, run->row.job, CATALOG_JOB_PLANNING, err);
}

/* Finds or begins the job in the catalog, and plans it. */
static enum status begin(struct run *run, struct run_summary *summary, struct error *err)
{
    const struct job *job = run->job;
    const char *stored = NULL;
    struct error conflict;
    int64_t n_again;
    enum status st = local_run_catalog_url(job, &run->arena, &run->catalog_url, err);
    /* SQLite means one process or one fleet: with its lock, every lease of an earlier one is dead,
     * and nobody else writes to the output. */
    bool alone = st == ST_OK && is_sqlite(run->catalog_url);

    if (st == ST_OK)
        st = job_site_open(&run->site, job, alone, err);
    if (st == ST_OK)
        st = catalog_open(run->catalog_url, &run->catalog, err);
    if (st == ST_OK && alone) {
        st = catalog_coordinate(run->catalog, err);
        if (st == ST_CONFLICT)
            error_add_context(err, "another run of this job is at work; wait for it or stop it");
    }
    if (st != ST_OK)
        return st;
    st = catalog_job_begin(run->catalog, job->name, job->digest, job->effective_json,
                           clock_wall_ms(), &run->arena, &run->row, &stored, &conflict);
    if (st == ST_CONFLICT && stored != NULL) {
        st = extension_begin(job, &run->row, stored, run->catalog, run->site.output, &run->arena,
                             &summary->extended, err);
    } else if (st != ST_OK) {
        *err = conflict;
    }
    if (st == ST_OK)
        st = resume_planning(run, err);
    if (st == ST_OK)
        st = job_site_check(&run->site, run->catalog, &run->row, run->catalog_url, err);
    if (st == ST_OK && run->row.state == CATALOG_JOB_PLANNING) {
        st = job_site_plan(&run->site, run->catalog, &run->row, err);
        if (st == ST_CONFLICT && job_is_stream(job))
            st = await_plan(run, err);
    }
    if (st == ST_OK && job_is_stream(job)) /* there may be more by now */
        run->row.state = CATALOG_JOB_RUNNING;
    if (st == ST_OK && run->row.state != CATALOG_JOB_DONE) /* it may have been paused */
        st = catalog_job_set_state(run->catalog, run->row.job, CATALOG_JOB_RUNNING, err);
    if (st == ST_OK && alone)
        st = catalog_leases_reset(run->catalog, run->row.job, err);
    else if (st == ST_OK)
        st = catalog_shards_retry(run->catalog, run->row.job, &n_again, err);
    return st;
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
    progress->samples_this_run = atomic_load(&run->stats.samples_done) +
                                 atomic_load(&run->stats.samples_quarantined) +
                                 atomic_load(&run->stats.samples_filtered);
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
                                       progress->catalog.samples_quarantined +
                                       progress->catalog.samples_filtered);

        progress->eta_seconds = MAX(left, 0.0) / progress->samples_per_second;
    }
    return ST_OK;
}

/* Watches until every worker has gone. */
static enum status watch(struct run *run, struct error *err)
{
    const struct local_run_options *options = run->options;

    while (!worker_group_wait(run->workers, PROGRESS_MS)) {
        struct run_progress progress;
        enum status st = read_progress(run, &progress, err);

        if (st != ST_OK && !status_is_retryable(st))
            return st;
        if (st == ST_OK && options->progress != NULL)
            options->progress(options->progress_ctx, &progress);
        if (run->feed != NULL && options->stop != NULL && atomic_load(options->stop))
            feed_stop(run->feed);
        if ((options->stop != NULL && atomic_load(options->stop)) ||
            dispatcher_verdict(run->dispatcher) != DISPATCHER_WORKING ||
            (options->sample_limit > 0 && progress.samples_this_run >= options->sample_limit))
            worker_group_drain(run->workers);
    }
    return ST_OK;
}

static enum status start_courier(struct run *run, struct error *err)
{
    const struct job *job = run->job;
    const struct courier_options options = {
        .catalog_url = run->catalog_url, .job = job, .job_id = run->row.job};
    enum status st = courier_enable(run->catalog, run->row.job, job, err);

    return st == ST_OK ? courier_start(&options, &run->courier, err) : st;
}

/* Until all events are published, or, when the run is to stop, for a while. */
static enum status end_courier(struct run *run, struct run_summary *summary, struct error *err)
{
    const atomic_bool *stop = run->options->stop;
    struct catalog_outbox outbox;
    int64_t stopped_ms = 0;
    enum status st;

    if (run->courier == NULL)
        return ST_OK;
    summary->has_events = true;
    for (;;) {
        int64_t now_ms = clock_monotonic_ms();

        st = catalog_outbox_count(run->catalog, run->row.job, &outbox, err);
        if ((st != ST_OK && !status_is_retryable(st)) || (st == ST_OK && outbox.n_waiting == 0))
            break;
        if (stop != NULL && atomic_load(stop) && stopped_ms == 0)
            stopped_ms = now_ms;
        if (stopped_ms != 0 && now_ms - stopped_ms > EVENTS_GRACE_MS)
            break;
        clock_sleep_ms(EVENTS_LOOK_MS, NULL);
    }
    summary->events_published = courier_count(run->courier);
    summary->events_waiting = outbox.n_waiting;
    return st;
}

static enum status start_feed(struct run *run, struct error *err)
{
    const struct ingest_options options = {.job = run->job,
                                           .job_id = run->row.job,
                                           .catalog_url = run->catalog_url,
                                           .output = run->site.output,
                                           .connect_ms = CONNECT_MS};

    return feed_start(&options, &run->feed, err);
}

static enum status end_feed(struct run *run, struct run_summary *summary, struct error *err)
{
    const struct ingest_stats *stats;
    enum status st;

    if (run->feed == NULL)
        return ST_OK;
    st = feed_join(run->feed, err);
    stats = feed_stats(run->feed);
    summary->is_stream = true;
    summary->records = atomic_load(&stats->n_records);
    summary->duplicates = atomic_load(&stats->n_duplicates);
    summary->refused = atomic_load(&stats->n_refused);
    return st;
}

static void sum_up_fidelity(const struct run *run, struct run_summary *summary)
{
    const struct engine *engine = run->engine;

    for (size_t i = 0; i < engine->n_captioners + engine->n_teachers; i++) {
        bool is_captioner = i < engine->n_captioners;
        size_t t = i - engine->n_captioners;
        const json_t *said = is_captioner ? engine_captioner_fidelity(engine, i)
                                          : engine_teacher_fidelity(engine, t);
        struct run_fidelity *to = &summary->fidelity[summary->n_fidelity];

        if (said == NULL)
            continue;
        to->name = is_captioner ? run->job->captioners[i].name : run->job->teachers[t].name;
        verdict_describe(said, to->text);
        summary->n_fidelity++;
    }
}

static enum status load_engine(struct run *run, struct error *err)
{
    const struct job_place place = {.input = run->site.input.store,
                                    .output = run->site.output,
                                    .catalog_url = run->catalog_url,
                                    .job_id = run->row.job};
    const struct engine_options options = {
        .place = &place,
        .threads = worker_group_threads(run->job->workers.count, run->job->workers.threads),
        .stop = run->options->stop};

    return engine_open(run->job, &options, &run->loaded, err);
}

static enum status work(struct run *run, struct run_summary *summary, struct error *err)
{
    static const char *const endpoint = ENDPOINT;
    struct dispatcher_options dispatch = {.endpoint = ENDPOINT,
                                          .job = run->job,
                                          .job_id = run->row.job,
                                          .catalog_url = run->catalog_url};
    struct agent_options agents = {.addresses = &endpoint,
                                   .n_addresses = 1,
                                   .job_id = run->row.job,
                                   .context = &run->context,
                                   .catalog_url = run->catalog_url,
                                   .threads = run->job->workers.threads};
    int64_t begun = clock_monotonic_ms();
    struct error late;
    enum status st = ST_OK, joined;

    run->engine = run->options->engine;
    if (run->engine == NULL) {
        st = load_engine(run, err);
        run->engine = run->loaded;
    }
    if (st == ST_OK)
        st = model_record_write(run->engine, run->site.output, err);
    if (st != ST_OK)
        return st;
    summary->models_ms = clock_monotonic_ms() - begun;
    sum_up_fidelity(run, summary);
    run->context = (struct stage_context){.job = run->job,
                                          .engine = run->engine,
                                          .input = run->site.input.store,
                                          .output = run->site.output,
                                          .stats = &run->stats,
                                          .budget = &run->budget,
                                          .isolation = &run->isolation};
    run->zmq = zmq_ctx_new();
    if (run->zmq == NULL)
        return error_set(err, ST_NO_MEMORY, "could not create a ZeroMQ context: %s",
                         zmq_strerror(errno));
    dispatch.zmq = agents.zmq = run->zmq;
    if (job_is_stream(run->job)) {
        st = start_feed(run, err);
        if (st != ST_OK)
            return st;
        dispatch.is_fed = feed_is_open(run->feed);
    }
    st = dispatcher_create(&dispatch, &run->dispatcher, err);
    run->started_ms = clock_monotonic_ms();
    if (st == ST_OK)
        st = worker_group_start(&agents, run->job->workers.count, &run->workers, err);
    if (st == ST_OK)
        st = watch(run, err);
    joined = worker_group_join(&run->workers, &late);
    if (st == ST_OK && joined != ST_OK) {
        *err = late;
        st = joined;
    }
    if (run->dispatcher != NULL) {
        enum dispatcher_verdict verdict = dispatcher_verdict(run->dispatcher);

        summary->over_budget = verdict == DISPATCHER_OVER_BUDGET;
        if (st == ST_OK && verdict == DISPATCHER_BROKEN) {
            *err = *dispatcher_error(run->dispatcher);
            st = err->code;
        }
    }
    dispatcher_destroy(&run->dispatcher);
    joined = end_feed(run, summary, &late);
    if (st == ST_OK && joined != ST_OK) {
        *err = late;
        st = joined;
    }
    feed_destroy(&run->feed); /* nobody looks at it any more */
    return st;
}

/* Failed shards need somebody to look: the job is paused, and `status` says why. */
static enum status give_up(struct run *run, const struct catalog_progress *done, struct error *err)
{
    struct error why;
    enum status st;

    (void)error_set(&why, ST_UNAVAILABLE,
                    "%" PRId64 " of %" PRId64 " shards failed %" PRId64
                    " times; the log says why; run again to retry them",
                    done->shards_failed, done->shards_total, run->job->workers.max_attempts);
    st = catalog_job_move(run->catalog, run->row.job, CATALOG_JOB_RUNNING, CATALOG_JOB_PAUSED,
                          why.message, err);
    if (st != ST_OK && st != ST_CONFLICT)
        return st;
    *err = why;
    return why.code;
}

/* After the last shard: side files, leftovers, the job's last state. */
static enum status finish(struct run *run, struct run_summary *summary, struct error *err)
{
    const struct catalog_progress *done = &summary->progress.catalog;
    enum status st = read_progress(run, &summary->progress, err);

    if (st != ST_OK)
        return st;
    if (summary->over_budget) { /* the dispatcher has said so, unless the catalog was away */
        st = catalog_job_move(run->catalog, run->row.job, CATALOG_JOB_RUNNING, CATALOG_JOB_PAUSED,
                              "the failure budget is spent", err);
        return st == ST_CONFLICT ? ST_OK : st;
    }
    if (done->shards_done + done->shards_failed < done->shards_total) {
        summary->drained = true;
        return ST_OK;
    }
    if (done->shards_failed > 0)
        return give_up(run, done, err);
    if (run->row.state == CATALOG_JOB_DONE)
        return ST_OK;
    st = job_site_finish(&run->site, run->catalog, &run->row, err);
    /* of runs that share a stream another may have been faster */
    return st == ST_CONFLICT && job_is_stream(run->job) ? ST_OK : st;
}

static void release(struct run *run)
{
    if (run->zmq != NULL)
        (void)zmq_ctx_term(run->zmq);
    courier_stop(&run->courier);
    engine_close(&run->loaded);
    job_site_close(&run->site);
    catalog_close(&run->catalog);
    memory_budget_release(&run->budget);
    isolation_release(&run->isolation);
    arena_release(&run->arena);
}

enum status local_run(const struct local_run_options *options, struct run_summary *summary,
                      struct error *err)
{
    struct run run = {.options = options, .job = options->job};
    enum status st;

    memset(summary, 0, sizeof *summary);
    arena_init(&run.arena, ARENA_BYTES);
    isolation_init(&run.isolation);
    memory_budget_init(&run.budget,
                       (size_t)run.job->workers.memory_bytes * (size_t)run.job->workers.count);
    st = begin(&run, summary, err);
    if (st == ST_OK)
        st = read_progress(&run, &summary->progress, err);
    summary->nothing_to_do = st == ST_OK && run.row.state == CATALOG_JOB_DONE;
    if (st == ST_OK)
        st = start_courier(&run, err);
    if (st == ST_OK && !summary->nothing_to_do)
        st = work(&run, summary, err);
    if (st == ST_OK)
        st = finish(&run, summary, err);
    if (st == ST_OK)
        st = end_courier(&run, summary, err);
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
