#include "coordinator/readers.h"

#include "coordinator/feed.h"
#include "coordinator/job_site.h"
#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "reinforce/job/job_stream.h"
#include "worker/stored_job.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

enum { LOOK_MS = 1000, RETRY_MS = 10000, CONNECT_MS = 20000, JOBS_ARENA_BYTES = 256 << 20 };

/* A job that runs, as we have seen it. */
struct reader {
    struct reader *next;
    int64_t job_id;
    char digest[SHA256_HEX_LEN + 1];
    struct job *job;      /* NULL: it reads no stream */
    struct job_site site; /* while there is a feed */
    struct feed *feed;
    int64_t retry_at_ms; /* monotonic; without a feed: when to begin again */
    bool seen;           /* by the look under way */
};

struct readers {
    const char *catalog_url;
    struct catalog *catalog;
    struct arena arena; /* of the look under way */
    struct reader *first;
    pthread_t thread;
    atomic_bool stopping;
};

static struct reader *find(const struct readers *readers, const struct catalog_job *row)
{
    struct reader *reader = readers->first;

    while (reader != NULL &&
           (reader->job_id != row->job || strcmp(reader->digest, row->config_digest) != 0))
        reader = reader->next;
    return reader;
}

static enum status add(struct readers *readers, const struct catalog_job *row, struct reader **out,
                       struct error *err)
{
    struct reader *reader = calloc(1, sizeof *reader);
    struct catalog_job found;
    enum status st;

    if (reader == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a reader");
    st = stored_job_load(readers->catalog, row->name, &found, &reader->job, err);
    if (st != ST_OK) {
        free(reader);
        return st;
    }
    if (!job_is_stream(reader->job))
        job_destroy(&reader->job);
    reader->job_id = row->job;
    memcpy(reader->digest, row->config_digest, sizeof reader->digest);
    reader->next = readers->first;
    readers->first = reader;
    *out = reader;
    return ST_OK;
}

static enum status begin(struct readers *readers, struct reader *reader, struct error *err)
{
    struct ingest_options options = {.job = reader->job,
                                     .job_id = reader->job_id,
                                     .catalog_url = readers->catalog_url,
                                     .connect_ms = CONNECT_MS,
                                     .stays = true};
    enum status st = job_site_open(&reader->site, reader->job, false, err);

    if (st != ST_OK)
        return st;
    options.output = reader->site.output;
    st = feed_start(&options, &reader->feed, err);
    if (st != ST_OK)
        job_site_close(&reader->site);
    return st;
}

static enum status end(struct reader *reader, struct error *err)
{
    enum status st = ST_OK;

    if (reader->feed == NULL)
        return ST_OK;
    st = feed_join(reader->feed, err);
    feed_destroy(&reader->feed);
    job_site_close(&reader->site);
    return st;
}

static void release(struct reader *reader)
{
    struct error ignored;

    (void)end(reader, &ignored);
    job_destroy(&reader->job);
    free(reader);
}

/* A feed that is at its end was stopped, or could not go on. */
static enum status look_after(struct readers *readers, struct reader *reader,
                              const struct catalog_job *row, struct error *err)
{
    enum status st = ST_OK;
    struct error why = {0};

    if (reader->job == NULL)
        return ST_OK;
    if (reader->feed == NULL && clock_monotonic_ms() >= reader->retry_at_ms)
        st = begin(readers, reader, &why);
    else if (reader->feed != NULL && !atomic_load(feed_is_open(reader->feed)))
        st = end(reader, &why);
    if (st == ST_OK || st == ST_CANCELLED)
        return ST_OK;
    reader->retry_at_ms = clock_monotonic_ms() + RETRY_MS;
    if (!status_is_retryable(st))
        return job_give_up(readers->catalog, row, &why, err);
    log_at(LOG_WARN, "stream_read_later", "job=\"%s\" at=\"%s\" cause=\"%s\"", row->name,
           why.context, why.message);
    return ST_OK;
}

/* Jobs that run no longer, or are others by now: all are told before the first is waited for. */
static void drop_unseen(struct readers *readers)
{
    struct reader **link = &readers->first;

    for (struct reader *r = readers->first; r != NULL; r = r->next)
        if (!r->seen && r->feed != NULL)
            feed_stop(r->feed);
    while (*link != NULL) {
        struct reader *reader = *link;

        if (reader->seen) {
            link = &reader->next;
        } else {
            *link = reader->next;
            release(reader);
        }
    }
}

static enum status look(struct readers *readers, struct error *err)
{
    struct catalog_job_row *rows;
    size_t n;
    enum status st;

    arena_reset(&readers->arena);
    st = catalog_read_jobs(readers->catalog, clock_wall_ms(), &readers->arena, &rows, &n, err);
    if (st != ST_OK)
        return st;
    for (struct reader *r = readers->first; r != NULL; r = r->next)
        r->seen = false;
    for (size_t i = 0; i < n; i++) {
        struct reader *reader = find(readers, &rows[i].job);
        enum status one = ST_OK;

        if (rows[i].job.state != CATALOG_JOB_RUNNING)
            continue;
        if (reader == NULL)
            one = add(readers, &rows[i].job, &reader, err);
        if (one == ST_OK) {
            reader->seen = true;
            one = look_after(readers, reader, &rows[i].job, err);
        }
        if (one != ST_OK) /* the others are read all the same */
            log_at(LOG_WARN, "stream_not_read", "job=\"%s\" cause=\"%s\"", rows[i].job.name,
                   err->message);
    }
    drop_unseen(readers);
    return ST_OK;
}

static void *run(void *arg)
{
    struct readers *readers = arg;

    while (!atomic_load(&readers->stopping)) {
        struct error err;

        if (look(readers, &err) != ST_OK)
            log_at(LOG_WARN, "jobs_not_read", "cause=\"%s\"", err.message);
        clock_sleep_ms(LOOK_MS, &readers->stopping);
    }
    for (struct reader *r = readers->first; r != NULL; r = r->next)
        r->seen = false;
    drop_unseen(readers);
    return NULL;
}

enum status readers_start(const char *catalog_url, struct readers **out, struct error *err)
{
    struct readers *readers = calloc(1, sizeof *readers);
    enum status st;

    *out = NULL;
    if (readers == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate the readers");
    readers->catalog_url = catalog_url;
    arena_init(&readers->arena, JOBS_ARENA_BYTES);
    st = catalog_open(catalog_url, &readers->catalog, err);
    if (st == ST_OK && pthread_create(&readers->thread, NULL, run, readers) != 0)
        st = error_set(err, ST_UNAVAILABLE, "could not start a thread");
    if (st == ST_OK) {
        *out = readers;
        return ST_OK;
    }
    catalog_close(&readers->catalog);
    arena_release(&readers->arena);
    free(readers);
    return st;
}

void readers_stop(struct readers **out)
{
    struct readers *readers = *out;

    if (readers == NULL)
        return;
    atomic_store(&readers->stopping, true);
    (void)pthread_join(readers->thread, NULL);
    catalog_close(&readers->catalog);
    arena_release(&readers->arena);
    free(readers);
    *out = NULL;
}
