/* A TCP proxy on loopback that answers late and cuts connections. */
#ifndef REINFORCE_BENCH_PROXY_H
#define REINFORCE_BENCH_PROXY_H

#include "reinforce/base/error.h"

#include <stdint.h>

struct proxy_options {
    int listener, port; /* the port is that of the server */
    int delay_ms;       /* of what the server says */
    double cuts;        /* connections cut each second */
    uint64_t seed;
};

/** Listens on a free port and puts it in the place of the one behind "127.0.0.1:" in `url` [size],
 * which is the server's. */
NODISCARD enum status proxy_place(char *url, size_t size, int *listener, int *port,
                                  struct error *err);

/** Serves for ever. */
NODISCARD enum status proxy_run(const struct proxy_options *options, struct error *err);

#endif
