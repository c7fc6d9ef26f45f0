/* The agent of a worker: takes leases from a coordinator, keeps them alive, and feeds the pipeline.
 */
#ifndef REINFORCE_WORKER_AGENT_H
#define REINFORCE_WORKER_AGENT_H

#include "proto/keys.h"
#include "worker/stage.h"

struct agent_options {
    void *zmq; /* ZeroMQ context */
    const char *const
        *addresses; /* of coordinators, of which one is at work: "inproc://dispatch" */
    size_t n_addresses;
    const struct keys *keys; /* NULL: plain */
    const char *name;        /* unique among live workers; the owner of its leases */
    int64_t job_id;
    const struct stage_context *context; /* of that job */
    const char *catalog_url;
    int threads;              /* compute threads per parallel stage */
    const atomic_bool *drain; /* set from outside: finish or hand back, then return */
    const struct wake *wake;  /* signalled with `drain`; the agent owns its reading end */
    int64_t answer_ms;        /* a request without an answer is made again then; 0: 10 s */
};

/**
 * Runs until the job has no more work for us, or until drained. While the coordinator is away, what
 * is held is finished and committed, and asking goes on for ever. One thread; starts and ends the
 * pipeline's. ST_INVALID: refused by the coordinator, and why.
 */
NODISCARD enum status agent_run(const struct agent_options *options, struct error *err);

#endif
