#include "coordinator/served_jobs.h"

#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "worker/stored_job.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { JOBS_ARENA_BYTES = 256 << 20, RATE_MS = 5000 };

static const double rate_memory_ms = 60000;

static void destroy_job(struct served_job *job)
{
    failure_window_release(&job->window);
    job_destroy(&job->loaded);
    free(job);
}

static enum status append(struct served_jobs *jobs, int64_t id, struct served_job **out,
                          struct error *err)
{
    struct served_job *job = calloc(1, sizeof *job);

    if (job != NULL && jobs->n == jobs->capacity) {
        size_t capacity = MAX(jobs->capacity * 2, (size_t)8);
        struct served_job **grown = realloc(jobs->list, capacity * sizeof(struct served_job *));

        if (grown == NULL) {
            free(job);
            job = NULL;
        } else {
            jobs->list = grown;
            jobs->capacity = capacity;
        }
    }
    if (job == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a job");
    job->id = id;
    job->rated_ms = clock_monotonic_ms();
    jobs->list[jobs->n++] = job;
    *out = job;
    return ST_OK;
}

enum status served_jobs_init_one(struct served_jobs *jobs, const struct job *job, int64_t id,
                                 struct error *err)
{
    struct served_job *one;
    enum status st;

    memset(jobs, 0, sizeof *jobs);
    st = append(jobs, id, &one, err);
    if (st != ST_OK)
        return st;
    (void)snprintf(one->name, sizeof one->name, "%s", job->name);
    memcpy(one->digest, job->digest, sizeof one->digest);
    one->job = job;
    one->is_running = true;
    return ST_OK;
}

void served_jobs_release(struct served_jobs *jobs)
{
    for (size_t i = 0; i < jobs->n; i++)
        destroy_job(jobs->list[i]);
    free(jobs->list);
    memset(jobs, 0, sizeof *jobs);
}

/* One that is still being planned has shards already, perhaps. */
static bool gives_leases(const struct catalog_job_row *row)
{
    return row->job.state == CATALOG_JOB_RUNNING || row->job.state == CATALOG_JOB_PLANNING;
}

static bool is_served(const struct catalog_job_row *row)
{
    return gives_leases(row) || row->job.state == CATALOG_JOB_PAUSED;
}

static enum status load(struct served_job *job, const struct catalog_job_row *row,
                        struct catalog *catalog, int64_t wall_ms, struct error *err)
{
    struct catalog_job found;
    struct job *loaded;
    enum status st = stored_job_load(catalog, row->job.name, &found, &loaded, err);

    if (st == ST_OK)
        st = catalog_leases_extend(catalog, job->id, wall_ms, loaded->workers.lease_ms, err);
    if (st != ST_OK) {
        job_destroy(&loaded);
        return st;
    }
    job_destroy(&job->loaded);
    job->job = job->loaded = loaded;
    (void)snprintf(job->name, sizeof job->name, "%s", row->job.name);
    memcpy(job->digest, row->job.config_digest, sizeof job->digest);
    failure_window_reset(&job->window);
    return ST_OK;
}

/* Smoothed with a memory of a minute, and stored for whoever asks the catalog. */
static enum status rate(struct served_job *job, struct catalog *catalog, int64_t wall_ms,
                        struct error *err)
{
    int64_t now_ms = clock_monotonic_ms(), elapsed_ms = now_ms - job->rated_ms;
    double weight, now;

    if (elapsed_ms < RATE_MS)
        return ST_OK;
    if (job->rate == 0 && job->window.n_samples == job->n_rated) {
        job->rated_ms = now_ms;
        return ST_OK;
    }
    now = (double)(job->window.n_samples - job->n_rated) * 1000 / (double)elapsed_ms;
    weight = job->rate == 0 ? 1 : 1 - exp(-(double)elapsed_ms / rate_memory_ms);
    job->rate += weight * (now - job->rate);
    job->rate = job->rate < 1e-6 ? 0 : job->rate;
    job->n_rated = job->window.n_samples;
    job->rated_ms = now_ms;
    return catalog_job_set_rate(catalog, job->id, job->rate, wall_ms, err);
}

static enum status update(struct served_jobs *jobs, const struct catalog_job_row *row,
                          struct catalog *catalog, int64_t wall_ms, struct error *err)
{
    struct served_job *job = served_jobs_find(jobs, row->job.job);
    enum status st = job == NULL ? append(jobs, row->job.job, &job, err) : ST_OK;

    if (st != ST_OK)
        return st;
    job->seen = true;
    if (strcmp(job->digest, row->job.config_digest) != 0) {
        st = load(job, row, catalog, wall_ms, err);
        if (st != ST_OK && !status_is_retryable(st)) { /* the others are served all the same */
            log_at(LOG_ERROR, "job_not_served", "job=\"%s\" at=\"%s\" cause=\"%s\"", row->job.name,
                   err->context, err->message);
            memcpy(job->digest, row->job.config_digest, sizeof job->digest);
            st = ST_OK;
        }
    }
    job->priority = row->priority;
    job->max_leases = row->max_leases;
    job->n_ready = row->n_ready;
    job->is_running = gives_leases(row);
    if (!job->is_running && job->is_spent) { /* paused by now; when it is resumed it starts anew */
        job->is_spent = false;
        failure_window_reset(&job->window);
    }
    if (st == ST_OK && job->is_spent)
        st = served_job_pause(job, catalog, err);
    return st == ST_OK && job->job != NULL ? rate(job, catalog, wall_ms, err) : st;
}

/* In the rows' order; what is not among them is no longer served. */
static void arrange(struct served_jobs *jobs, const struct catalog_job_row *rows, size_t n_rows)
{
    size_t n = 0;

    for (size_t i = 0; i < n_rows; i++)
        for (size_t k = n; k < jobs->n && is_served(&rows[i]); k++)
            if (jobs->list[k]->id == rows[i].job.job) {
                struct served_job *job = jobs->list[k];

                jobs->list[k] = jobs->list[n];
                jobs->list[n++] = job;
                break;
            }
    for (size_t k = n; k < jobs->n; k++)
        destroy_job(jobs->list[k]);
    jobs->n = n;
}

enum status served_jobs_refresh(struct served_jobs *jobs, struct catalog *catalog, int64_t wall_ms,
                                struct error *err)
{
    struct catalog_job_row *rows;
    struct arena arena;
    size_t n;
    enum status st;

    arena_init(&arena, JOBS_ARENA_BYTES);
    st = catalog_read_jobs(catalog, wall_ms, &arena, &rows, &n, err);
    if (st == ST_OK) {
        for (size_t i = 0; i < n && st == ST_OK; i++)
            if (is_served(&rows[i]))
                st = update(jobs, &rows[i], catalog, wall_ms, err);
        arrange(jobs, rows, n);
    }
    arena_release(&arena);
    return st;
}

struct served_job *served_jobs_find(const struct served_jobs *jobs, int64_t id)
{
    for (size_t i = 0; i < jobs->n; i++)
        if (jobs->list[i]->id == id)
            return jobs->list[i];
    return NULL;
}

struct served_job *served_jobs_pick(const struct served_jobs *jobs, const int64_t *except,
                                    size_t n_except)
{
    for (size_t i = 0; i < jobs->n; i++) {
        struct served_job *job = jobs->list[i];
        bool is_open = job->job != NULL && job->is_running && !job->is_spent && job->n_ready > 0;

        for (size_t k = 0; k < n_except && is_open; k++)
            is_open = except[k] != job->id;
        if (is_open)
            return job;
    }
    return NULL;
}

bool served_job_count(struct served_job *job, int64_t shard, int64_t epoch, uint64_t done,
                      uint64_t quarantined)
{
    bool full = failure_window_add(&job->window, shard, epoch, done, quarantined,
                                   (uint64_t)job->job->budget.failure_window,
                                   job->job->budget.failure_fraction);

    if (!full || job->is_spent) /* said once; workers are finishing what they hold */
        return false;
    job->is_spent = true;
    log_at(LOG_ERROR, "failure_budget_spent", "job=\"%s\" quarantined=%" PRIu64 " of=%" PRIu64,
           job->name, job->window.quarantined, job->window.done + job->window.quarantined);
    return true;
}

/* What most samples are quarantined for. */
struct diagnosis {
    char reason[64], stage[32];
    int64_t n;
};

static enum status keep_most(void *ctx, const char *reason, const char *stage, int64_t n,
                             struct error *err)
{
    struct diagnosis *diagnosis = ctx;

    (void)err;
    if (n > diagnosis->n) {
        diagnosis->n = n;
        (void)snprintf(diagnosis->reason, sizeof diagnosis->reason, "%s", reason);
        (void)snprintf(diagnosis->stage, sizeof diagnosis->stage, "%s", stage);
    }
    return ST_OK;
}

enum status served_job_pause(const struct served_job *job, struct catalog *catalog,
                             struct error *err)
{
    struct diagnosis diagnosis = {0};
    char note[512];
    enum status st =
        catalog_reasons(catalog, job->id, CATALOG_SAMPLE_QUARANTINED, keep_most, &diagnosis, err);

    if (st != ST_OK)
        return st;
    (void)snprintf(
        note, sizeof note,
        "%" PRIu64 " of %" PRIu64
        " samples were quarantined, more than budget.failure_fraction %g; of all %" PRId64
        " are \"%s\" in stage %s",
        job->window.quarantined, job->window.done + job->window.quarantined,
        job->job->budget.failure_fraction, diagnosis.n, diagnosis.reason, diagnosis.stage);
    st = catalog_job_move(catalog, job->id, CATALOG_JOB_RUNNING, CATALOG_JOB_PAUSED, note, err);
    if (st == ST_CONFLICT)
        st =
            catalog_job_move(catalog, job->id, CATALOG_JOB_PLANNING, CATALOG_JOB_PAUSED, note, err);
    return st == ST_CONFLICT ? ST_OK : st; /* somebody else was faster */
}
