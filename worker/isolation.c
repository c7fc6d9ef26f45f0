#include "worker/isolation.h"

#include <assert.h>
#include <string.h>

void isolation_init(struct isolation *isolation)
{
    memset(isolation, 0, sizeof *isolation);
    (void)pthread_mutex_init(&isolation->lock, NULL);
    (void)pthread_cond_init(&isolation->changed, NULL);
}

void isolation_release(struct isolation *isolation)
{
    (void)pthread_cond_destroy(&isolation->changed);
    (void)pthread_mutex_destroy(&isolation->lock);
}

void isolation_enter(struct isolation *isolation, struct shard_work *work, bool alone)
{
    (void)pthread_mutex_lock(&isolation->lock);
    isolation->n_waiting += alone;
    while (alone ? isolation->n_inside > 0 : isolation->is_alone || isolation->n_waiting > 0)
        (void)pthread_cond_wait(&isolation->changed, &isolation->lock);
    isolation->n_waiting -= alone;
    isolation->is_alone = alone;
    isolation->n_inside++;
    work->n_inside++;
    (void)pthread_mutex_unlock(&isolation->lock);
}

void isolation_leave(struct isolation *isolation, struct shard_work *work)
{
    (void)pthread_mutex_lock(&isolation->lock);
    assert(isolation->n_inside > 0 && work->n_inside > 0);
    isolation->is_alone = false;
    isolation->n_inside--;
    work->n_inside--;
    (void)pthread_cond_broadcast(&isolation->changed);
    (void)pthread_mutex_unlock(&isolation->lock);
}

void isolation_wait(struct isolation *isolation, const struct shard_work *work)
{
    (void)pthread_mutex_lock(&isolation->lock);
    while (work->n_inside > 0)
        (void)pthread_cond_wait(&isolation->changed, &isolation->lock);
    (void)pthread_mutex_unlock(&isolation->lock);
}
