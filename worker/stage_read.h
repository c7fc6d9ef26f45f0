/* First stage: leases in, samples out, in input order. */
#ifndef REINFORCE_WORKER_STAGE_READ_H
#define REINFORCE_WORKER_STAGE_READ_H

#include "reinforce/base/wake.h"
#include "worker/stage.h"

struct stage_read {
    const struct stage_context *context;
    const char *catalog_url;
    struct catalog *catalog;  /* our own handle, opened when a sample is probed */
    struct queue *leases;     /* struct shard_work *, from the agent */
    struct queue *slots;      /* empty struct sample *, given back by the writer */
    struct queue *out;        /* struct sample * */
    const atomic_bool *drain; /* true: end the shard at the next sample */
    struct http *web;         /* for images that are URLs; opened with the first shard */
    uint64_t next_seq;
    atomic_int *n_unread;    /* leases taken and not yet read to their end */
    const struct wake *idle; /* signalled when a lease has been read to its end */
};

/** Reads until `leases` is closed, then closes `out`. One thread. */
void stage_read_run(struct stage_read *stage);

#endif
