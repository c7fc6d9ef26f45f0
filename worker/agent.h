/* The agent of a worker: takes leases from a coordinator, keeps them alive, and feeds the pipeline.
 */
#ifndef REINFORCE_WORKER_AGENT_H
#define REINFORCE_WORKER_AGENT_H

#include "worker/stage.h"

struct agent_options {
    void *zmq;            /* ZeroMQ context */
    const char *endpoint; /* of the dispatcher: "inproc://dispatch" */
    const char *name;     /* unique among live workers */
    const struct stage_context *context;
    const char *catalog_url;
    int threads;              /* compute threads per parallel stage */
    const atomic_bool *drain; /* set from outside: finish or hand back, then return */
    const struct wake *wake;  /* signalled with `drain`; the agent owns its reading end */
};

/**
 * Runs until the job has no more work for us, or until drained. One thread; starts and ends the
 * pipeline's. ST_INVALID: refused by the coordinator, and why. ST_TIMEOUT: no answer from it.
 */
NODISCARD enum status agent_run(const struct agent_options *options, struct error *err);

#endif
