/* A coordinator process: serves every job of a catalog, or stands by until it may; reads the
 * streams of all running jobs, be it serving or not. All it knows is in the catalog, so it may be
 * killed at any moment. */
#ifndef REINFORCE_COORDINATOR_COORDINATOR_H
#define REINFORCE_COORDINATOR_COORDINATOR_H

#include "proto/keys.h"

#include <stdatomic.h>

/** What a coordinator tells as it happens; `address` is what it has bound, NULL: it stands by. */
typedef void coordinator_told_fn(void *ctx, const char *address);

struct coordinator_options {
    const char *catalog_url;
    const char *address;     /* to bind: "tcp://127.0.0.1:7600" */
    const struct keys *keys; /* CURVE; NULL: plain */
    const char *allow_path;  /* with keys: public keys of workers */
    const atomic_bool *stop;
    coordinator_told_fn *told; /* may be NULL */
    void *told_ctx;
};

/**
 * Runs until *stop. One coordinator of a catalog serves; the others wait for its lock and take over
 * within seconds. ST_INVALID, ST_UNAVAILABLE: the catalog, the address or the list cannot be used;
 * but one that has served or stood by tries again what may work later.
 */
NODISCARD enum status coordinator_run(const struct coordinator_options *options, struct error *err);

#endif
