/* Samples at work in this process, and how one of them comes to be the only one: should the process
 * die then, it is known of what. */
#ifndef REINFORCE_WORKER_ISOLATION_H
#define REINFORCE_WORKER_ISOLATION_H

#include "worker/sample.h"

#include <pthread.h>

struct isolation {
    pthread_mutex_t lock; /* guards all below, and shard_work.n_inside */
    pthread_cond_t changed;
    size_t n_inside;  /* samples at work */
    size_t n_waiting; /* for being alone: nobody passes them */
    bool is_alone;    /* the one that is inside */
};

void isolation_init(struct isolation *isolation);
void isolation_release(struct isolation *isolation);

/**
 * Before a sample of a lease is begun. Waits until no other is at work if this one is to be
 * `alone`, else until nobody wants to be. Samples that are inside must come to their end without
 * another's coming in.
 */
void isolation_enter(struct isolation *isolation, struct shard_work *work, bool alone);

/** When nothing more is done for it: its part is committed, or will be with others. */
void isolation_leave(struct isolation *isolation, struct shard_work *work);

/** Until no sample of the lease is inside. */
void isolation_wait(struct isolation *isolation, const struct shard_work *work);

#endif
