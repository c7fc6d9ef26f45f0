#include "worker/worker_group.h"

#include "reinforce/base/clock.h"
#include "reinforce/base/unique.h"
#include "reinforce/base/wake.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct member {
    struct worker_group *group;
    struct agent_options options;
    char name[96];
    struct wake wake;
    pthread_t thread;
    bool started;
    enum status status;
    struct error error;
};

struct worker_group {
    struct member *members;
    size_t n;
    atomic_bool drain;
    pthread_mutex_t lock; /* guards n_ended */
    pthread_cond_t ended;
    size_t n_ended;
};

void worker_group_name(const char *label, char name[96])
{
    char host[64] = "localhost";
    char unique[UNIQUE_TEXT_LEN + 1];

    (void)gethostname(host, sizeof host - 1);
    unique_text(unique);
    (void)snprintf(name, 96, "%s:%ld:%s-%.4s", host, (long)getpid(), label, unique);
}

static void *run(void *arg)
{
    struct member *member = arg;
    struct worker_group *group = member->group;

    member->status = agent_run(&member->options, &member->error);
    (void)pthread_mutex_lock(&group->lock);
    group->n_ended++;
    (void)pthread_cond_signal(&group->ended);
    (void)pthread_mutex_unlock(&group->lock);
    return NULL;
}

static enum status start_member(struct worker_group *group, int i, const struct agent_options *like,
                                struct error *err)
{
    struct member *member = &group->members[i];
    char label[16];
    enum status st = wake_init(&member->wake, err);

    if (st != ST_OK)
        return st;
    (void)snprintf(label, sizeof label, "%d", i);
    worker_group_name(label, member->name);
    member->group = group;
    member->options = *like;
    member->options.name = member->name;
    member->options.drain = &group->drain;
    member->options.wake = &member->wake;
    if (pthread_create(&member->thread, NULL, run, member) != 0)
        return error_set(err, ST_UNAVAILABLE, "could not start worker %d", i);
    member->started = true;
    return ST_OK;
}

/* Of one worker. */
static int threads_each(int count, int threads)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    return threads > 0 ? threads : (int)MAX(MAX(processors, 1L) / count, 1L);
}

size_t worker_group_threads(int count, int threads)
{
    return (size_t)count * (size_t)threads_each(count, threads);
}

enum status worker_group_start(const struct agent_options *like, int count,
                               struct worker_group **out, struct error *err)
{
    struct worker_group *group = calloc(1, sizeof *group);
    struct agent_options options = *like;
    struct error ignored;
    enum status st = ST_OK;

    *out = NULL;
    if (group != NULL)
        group->members = calloc((size_t)count, sizeof *group->members);
    if (group == NULL || group->members == NULL) {
        free(group);
        return error_set(err, ST_NO_MEMORY, "could not allocate %d workers", count);
    }
    (void)pthread_mutex_init(&group->lock, NULL);
    (void)pthread_cond_init(&group->ended, NULL);
    group->n = (size_t)count;
    for (int i = 0; i < count; i++)
        group->members[i].wake = (struct wake){{-1, -1}};
    options.threads = threads_each(count, options.threads);
    for (int i = 0; i < count && st == ST_OK; i++)
        st = start_member(group, i, &options, err);
    if (st != ST_OK) {
        enum status joined = worker_group_join(&group, &ignored);

        (void)joined;
        return st;
    }
    *out = group;
    return ST_OK;
}

bool worker_group_wait(struct worker_group *group, int64_t timeout_ms)
{
    int64_t until_ms = clock_wall_ms() + timeout_ms;
    const struct timespec until = {.tv_sec = (time_t)(until_ms / 1000),
                                   .tv_nsec = (long)(until_ms % 1000) * 1000000};
    int rc = 0;
    bool all;

    (void)pthread_mutex_lock(&group->lock);
    while (group->n_ended < group->n && rc == 0)
        rc = pthread_cond_timedwait(&group->ended, &group->lock, &until);
    all = group->n_ended == group->n;
    (void)pthread_mutex_unlock(&group->lock);
    return all;
}

void worker_group_drain(struct worker_group *group)
{
    if (atomic_exchange(&group->drain, true))
        return;
    for (size_t i = 0; i < group->n; i++)
        if (group->members[i].started)
            wake_signal(&group->members[i].wake);
}

enum status worker_group_join(struct worker_group **group, struct error *err)
{
    struct worker_group *g = *group;
    enum status st = ST_OK;

    if (g == NULL)
        return ST_OK;
    worker_group_drain(g);
    for (size_t i = 0; i < g->n; i++) {
        if (g->members[i].started)
            (void)pthread_join(g->members[i].thread, NULL);
        if (g->members[i].started && st == ST_OK && g->members[i].status != ST_OK) {
            *err = g->members[i].error;
            st = g->members[i].status;
        }
        wake_release(&g->members[i].wake);
    }
    (void)pthread_cond_destroy(&g->ended);
    (void)pthread_mutex_destroy(&g->lock);
    free(g->members);
    free(g);
    *group = NULL;
    return st;
}
