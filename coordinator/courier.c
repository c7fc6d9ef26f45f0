#include "coordinator/courier.h"

#include "coordinator/publisher.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "reinforce/job/job_stream.h"
#include "worker/stored_job.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    LOOK_MS = 250, /* until an event is found */
    JOBS_MS = 1000,
    STEP_MS = 200,
    RETRY_MS = 30000,
    JOBS_ARENA_BYTES = 256 << 20,
};

/* A job whose events wait. */
struct delivery {
    int64_t job_id;
    struct job *loaded;          /* NULL: the caller's */
    struct publisher *publisher; /* NULL: there can be none, for now */
    int64_t next_ms;
};

struct courier {
    struct courier_options options;
    struct catalog *catalog;
    struct delivery *list;
    size_t n, capacity;
    struct arena arena; /* of a look at the jobs */
    int64_t look_at_ms;
    int64_t n_before; /* published for deliveries that are over */
    atomic_llong n_published;
    atomic_bool stop;
    pthread_t thread;
};

static enum status add(struct courier *c, int64_t job_id, struct delivery **out, struct error *err)
{
    if (c->n == c->capacity) {
        size_t capacity = MAX(2 * c->capacity, (size_t)8);
        struct delivery *grown = realloc(c->list, capacity * sizeof *grown);

        if (grown == NULL)
            return error_set(err, ST_NO_MEMORY, "could not allocate for %zu jobs", capacity);
        c->list = grown;
        c->capacity = capacity;
    }
    *out = &c->list[c->n++];
    **out = (struct delivery){.job_id = job_id};
    return ST_OK;
}

static enum status open_publisher(struct courier *c, const struct job *job,
                                  struct delivery *delivery, struct error *err)
{
    const struct publisher_options options = {.job = job,
                                              .job_id = delivery->job_id,
                                              .catalog_url = c->options.catalog_url,
                                              .catalog = c->catalog};

    return publisher_create(&options, &delivery->publisher, err);
}

static bool is_known(const struct courier *c, int64_t job_id)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->list[i].job_id == job_id)
            return true;
    return false;
}

/* A job that cannot be told of is looked at again after a while; the others go on. */
static enum status begin(struct courier *c, const struct catalog_job_row *row, struct error *err)
{
    struct delivery *delivery;
    struct catalog_job found;
    struct error why = {0};
    enum status st = add(c, row->job.job, &delivery, err);

    if (st != ST_OK)
        return st;
    st = stored_job_load(c->catalog, row->job.name, &found, &delivery->loaded, &why);
    if (st == ST_OK && !job_has_events(delivery->loaded))
        st = error_set(&why, ST_INVALID, "its job file names no topic any more");
    if (st == ST_OK)
        st = open_publisher(c, delivery->loaded, delivery, &why);
    if (st != ST_OK)
        log_at(LOG_ERROR, "events_wait", "job=\"%s\" at=\"%s\" cause=\"%s\"", row->job.name,
               why.context, why.message);
    delivery->next_ms = clock_monotonic_ms() + (st == ST_OK ? 0 : RETRY_MS);
    return ST_OK;
}

static void look(struct courier *c)
{
    struct catalog_job_row *rows;
    struct error err = {0};
    size_t n;
    enum status st;

    arena_reset(&c->arena);
    st = catalog_read_jobs(c->catalog, clock_wall_ms(), &c->arena, &rows, &n, &err);
    for (size_t i = 0; st == ST_OK && i < n; i++)
        if (rows[i].has_waiting_events && !is_known(c, rows[i].job.job))
            st = begin(c, &rows[i], &err);
    if (st != ST_OK)
        log_at(LOG_WARN, "jobs_not_read", "cause=\"%s\"", err.message);
}

static void end(struct courier *c, size_t i)
{
    if (c->list[i].publisher != NULL)
        c->n_before += publisher_count(c->list[i].publisher);
    publisher_destroy(&c->list[i].publisher);
    job_destroy(&c->list[i].loaded);
    c->list[i] = c->list[--c->n];
}

/* One step of every delivery whose time has come. Returns when to come again. */
static int64_t step_all(struct courier *c)
{
    int64_t now_ms = clock_monotonic_ms(), wait_ms = LOOK_MS, n_published;

    for (size_t i = 0; i < c->n;) {
        struct delivery *delivery = &c->list[i];
        int64_t next_ms = delivery->next_ms - now_ms;

        if (next_ms <= 0 && delivery->publisher != NULL)
            next_ms = publisher_step(delivery->publisher, STEP_MS);
        else if (next_ms <= 0)
            next_ms = -1; /* to be tried anew */
        if (next_ms < 0 && c->options.job == NULL) {
            end(c, i);
            continue;
        }
        if (next_ms < 0)
            next_ms = LOOK_MS;
        delivery->next_ms = now_ms + next_ms;
        wait_ms = MIN(wait_ms, next_ms);
        i++;
    }
    n_published = c->n_before;
    for (size_t i = 0; i < c->n; i++)
        if (c->list[i].publisher != NULL)
            n_published += publisher_count(c->list[i].publisher);
    atomic_store(&c->n_published, n_published);
    return wait_ms;
}

static void *run(void *arg)
{
    struct courier *c = arg;

    while (!atomic_load(&c->stop)) {
        int64_t wait_ms;

        if (c->options.job == NULL && clock_monotonic_ms() >= c->look_at_ms) {
            look(c);
            c->look_at_ms = clock_monotonic_ms() + JOBS_MS;
        }
        wait_ms = step_all(c);
        if (wait_ms > 0)
            clock_sleep_ms(wait_ms, &c->stop);
    }
    while (c->n > 0) /* their producers are this thread's */
        end(c, c->n - 1);
    return NULL;
}

static void release(struct courier **courier)
{
    struct courier *c = *courier;

    while (c->n > 0)
        end(c, c->n - 1);
    free(c->list);
    catalog_close(&c->catalog);
    arena_release(&c->arena);
    free(c);
    *courier = NULL;
}

enum status courier_enable(struct catalog *catalog, int64_t job_id, const struct job *job,
                           struct error *err)
{
    enum catalog_events events = CATALOG_EVENTS_NONE;

    if (job_has_events(job))
        events = job->events.samples ? CATALOG_EVENTS_SAMPLES : CATALOG_EVENTS_SHARDS;
    return catalog_job_set_events(catalog, job_id, events, err);
}

enum status courier_start(const struct courier_options *options, struct courier **out,
                          struct error *err)
{
    struct delivery *delivery;
    struct courier *c;
    enum status st;

    *out = NULL;
    if (options->job != NULL && !job_has_events(options->job))
        return ST_OK;
    c = calloc(1, sizeof *c);
    if (c == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a courier");
    c->options = *options;
    arena_init(&c->arena, JOBS_ARENA_BYTES);
    st = catalog_open(options->catalog_url, &c->catalog, err);
    if (st == ST_OK && options->job != NULL) {
        st = add(c, options->job_id, &delivery, err);
        if (st == ST_OK)
            st = open_publisher(c, options->job, delivery, err);
    }
    if (st == ST_OK && pthread_create(&c->thread, NULL, run, c) != 0)
        st = error_set(err, ST_UNAVAILABLE, "could not start a thread");
    if (st == ST_OK)
        *out = c;
    else
        release(&c);
    return st;
}

int64_t courier_count(const struct courier *courier)
{
    return atomic_load(&courier->n_published);
}

void courier_stop(struct courier **courier)
{
    struct courier *c = *courier;

    if (c == NULL)
        return;
    atomic_store(&c->stop, true);
    (void)pthread_join(c->thread, NULL);
    release(courier);
}
