#include "coordinator/feed.h"

#include <pthread.h>
#include <stdlib.h>

struct feed {
    struct ingest_options options;
    struct ingest_stats stats;
    atomic_bool stop, is_open;
    pthread_t thread;
    enum status status; /* the thread's, until it is joined */
    struct error error;
};

static void *run(void *arg)
{
    struct feed *feed = arg;

    feed->status = ingest_run(&feed->options, &feed->stats, &feed->error);
    atomic_store(&feed->is_open, false);
    return NULL;
}

enum status feed_start(const struct ingest_options *options, struct feed **out, struct error *err)
{
    struct feed *feed = calloc(1, sizeof *feed);

    *out = NULL;
    if (feed == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a feed");
    feed->options = *options;
    feed->options.stop = &feed->stop;
    atomic_init(&feed->is_open, true);
    if (pthread_create(&feed->thread, NULL, run, feed) != 0) {
        free(feed);
        return error_set(err, ST_UNAVAILABLE, "could not start a thread");
    }
    *out = feed;
    return ST_OK;
}

const atomic_bool *feed_is_open(const struct feed *feed)
{
    return &feed->is_open;
}

const struct ingest_stats *feed_stats(const struct feed *feed)
{
    return &feed->stats;
}

void feed_stop(struct feed *feed)
{
    atomic_store(&feed->stop, true);
}

enum status feed_join(struct feed *feed, struct error *err)
{
    feed_stop(feed);
    (void)pthread_join(feed->thread, NULL);
    if (feed->status != ST_OK)
        *err = feed->error;
    return feed->status;
}

void feed_destroy(struct feed **feed)
{
    free(*feed);
    *feed = NULL;
}
