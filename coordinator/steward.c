#include "coordinator/steward.h"

#include "coordinator/ingest_lag.h"
#include "coordinator/job_site.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "reinforce/base/wake.h"
#include "reinforce/job/job_stream.h"
#include "worker/stored_job.h"

#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    LOOK_MS = 500,
    RETRY_MS = 10000,
    BROKERS_MS = 2000,
    JOBS_ARENA_BYTES = 256 << 20,
    LAG_ARENA_BYTES = 64 << 20
};

struct steward {
    const char *catalog_url;
    struct catalog *catalog;
    struct wake stop;
    atomic_bool stopping;
    pthread_t thread;
    bool started;
    struct arena arena;     /* of the look under way */
    int64_t ask_brokers_ms; /* monotonic; not before */
};

static bool wants_us(const struct catalog_job_row *row)
{
    return row->job.state == CATALOG_JOB_PLANNING ||
           (row->job.state == CATALOG_JOB_RUNNING && row->is_over);
}

static enum status keep_error(void *ctx, const struct catalog_shard_row *row, struct error *err)
{
    char *last_error = ctx;

    (void)err;
    if (last_error[0] == '\0' && row->last_error != NULL)
        (void)snprintf(last_error, 256, "%s", row->last_error);
    return ST_OK;
}

/* Failed shards need somebody to look; with none, the side files are written. */
static enum status finish(struct steward *s, struct job_site *site, const struct catalog_job *row,
                          struct error *err)
{
    struct catalog_progress progress;
    char last_error[256] = "";
    enum status st = catalog_read_progress(s->catalog, row->job, &progress, err);

    if (st != ST_OK)
        return st;
    if (progress.shards_failed == 0)
        return job_site_finish(site, s->catalog, row, err);
    st = catalog_shards(s->catalog, row->job, CATALOG_SHARD_FAILED, clock_wall_ms(), keep_error,
                        last_error, err);
    if (st != ST_OK)
        return st;
    return error_set(
        err, ST_INVALID, "%" PRId64 " of %" PRId64 " shards failed %" PRId64 " times: %s",
        progress.shards_failed, progress.shards_total, site->job->workers.max_attempts, last_error);
}

/* A stream that is followed goes on for ever; another is over when all that the brokers have is in
 * shards. */
static enum status stream_is_over(struct steward *s, const struct job *job,
                                  const struct catalog_job *row, bool *over, struct error *err)
{
    struct ingest_lag lag;
    struct arena arena;
    enum status st;

    *over = false;
    if (job->kafka.follow || clock_monotonic_ms() < s->ask_brokers_ms)
        return ST_OK;
    s->ask_brokers_ms = clock_monotonic_ms() + BROKERS_MS;
    arena_init(&arena, LAG_ARENA_BYTES);
    st = ingest_lag_read(job, s->catalog, row->job, &arena, &lag, err);
    if (st == ST_OK && lag.asked != ST_OK) {
        *err = lag.why;
        st = lag.asked;
    }
    *over = st == ST_OK && ingest_lag_is_none(&lag);
    arena_release(&arena);
    return st;
}

static enum status look_after(struct steward *s, struct catalog_job *row, struct error *err)
{
    struct job_site site = {0};
    struct catalog_job found;
    struct job *job;
    bool is_new = row->state == CATALOG_JOB_PLANNING, over = true;
    enum status st = stored_job_load(s->catalog, row->name, &found, &job, err);

    if (st == ST_OK && job_is_stream(job) && !is_new)
        st = stream_is_over(s, job, row, &over, err);
    if (st == ST_OK && !over) {
        job_destroy(&job);
        return ST_OK;
    }
    if (st == ST_OK)
        st = job_site_open(&site, job, false, err);
    site.stop = &s->stopping;
    if (st == ST_OK && is_new)
        st = job_site_check(&site, s->catalog, &found, s->catalog_url, err);
    if (st == ST_OK)
        st = is_new ? job_site_plan(&site, s->catalog, &found, err) : finish(s, &site, row, err);
    if (st == ST_OK)
        log_at(LOG_INFO, is_new ? "job_planned" : "job_done", "job=\"%s\"", row->name);
    if (site.job != NULL)
        job_site_close(&site);
    job_destroy(&job);
    return st;
}

/* How long to wait until the next look. */
static int look(struct steward *s)
{
    struct catalog_job_row *rows;
    struct error err = {0};
    int wait_ms = LOOK_MS;
    size_t n;
    enum status st;

    arena_reset(&s->arena);
    st = catalog_read_jobs(s->catalog, clock_wall_ms(), &s->arena, &rows, &n, &err);
    if (st != ST_OK) {
        log_at(LOG_WARN, "jobs_not_read", "cause=\"%s\"", err.message);
        return RETRY_MS;
    }
    for (size_t i = 0; i < n && !atomic_load(&s->stopping); i++) {
        struct catalog_job row = rows[i].job;
        struct error why = {0};

        if (!wants_us(&rows[i]))
            continue;
        st = look_after(s, &row, &why);
        if (st == ST_CANCELLED) /* we are stopped; the next coordinator goes on */
            break;
        if (st != ST_OK && !status_is_retryable(st))
            st = job_give_up(s->catalog, &rows[i].job, &why, &why);
        if (st != ST_OK) {
            log_at(LOG_WARN, "job_tried_again", "job=\"%s\" at=\"%s\" cause=\"%s\"", row.name,
                   why.context, why.message);
            wait_ms = RETRY_MS;
        }
    }
    return wait_ms;
}

static void *run(void *arg)
{
    struct steward *s = arg;

    while (!atomic_load(&s->stopping)) {
        struct pollfd item = {.fd = s->stop.fds[0], .events = POLLIN};
        int wait_ms = look(s);

        (void)poll(&item, 1, wait_ms);
    }
    return NULL;
}

enum status steward_start(const char *catalog_url, struct steward **out, struct error *err)
{
    struct steward *s = calloc(1, sizeof *s);
    enum status st;

    *out = NULL;
    if (s == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate the steward");
    s->catalog_url = catalog_url;
    arena_init(&s->arena, JOBS_ARENA_BYTES);
    s->stop = (struct wake){{-1, -1}};
    st = wake_init(&s->stop, err);
    if (st == ST_OK)
        st = catalog_open(catalog_url, &s->catalog, err);
    if (st == ST_OK && pthread_create(&s->thread, NULL, run, s) != 0)
        st = error_set(err, ST_UNAVAILABLE, "could not start a thread");
    s->started = st == ST_OK;
    *out = s;
    if (st != ST_OK)
        steward_stop(out);
    return st;
}

void steward_stop(struct steward **steward)
{
    struct steward *s = *steward;

    if (s == NULL)
        return;
    if (s->started) {
        atomic_store(&s->stopping, true);
        wake_signal(&s->stop);
        (void)pthread_join(s->thread, NULL);
    }
    catalog_close(&s->catalog);
    arena_release(&s->arena);
    wake_release(&s->stop);
    free(s);
    *steward = NULL;
}
