/* The same work on n things, some at a time: ranges of one object, tiles of one product. */
#ifndef REINFORCE_BASE_PARALLEL_H
#define REINFORCE_BASE_PARALLEL_H

#include "reinforce/base/error.h"

/** Called with every i below n, in that order but from several threads at once. */
typedef enum status parallel_fn(void *ctx, size_t i, struct error *err);

/** Runs `each` for 0..n-1 on up to `max_threads` threads, this one among them, and returns when all
 * have ended. The first failure keeps new ones from beginning and is what is returned. A system
 * that gives no threads makes it slower, not fail. */
NODISCARD enum status parallel_run(size_t n, size_t max_threads, parallel_fn *each, void *ctx,
                                   struct error *err);

#endif
