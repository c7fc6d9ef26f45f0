/* A cap on the bytes of decoded pixels in flight: stages reserve before they allocate. */
#ifndef REINFORCE_WORKER_MEMORY_BUDGET_H
#define REINFORCE_WORKER_MEMORY_BUDGET_H

#include "reinforce/base/macros.h"

#include <pthread.h>

struct memory_budget {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t freed;
    size_t max_bytes;
    size_t used_bytes;
    size_t peak_bytes;
};

void memory_budget_init(struct memory_budget *budget, size_t max_bytes);

/**
 * Waits until `bytes` fit. One reservation larger than the whole budget is let through when nothing
 * else is held, so a large image waits but never blocks for ever. Whoever holds a reservation must
 * not wait for another.
 */
void memory_budget_reserve(struct memory_budget *budget, size_t bytes);
void memory_budget_free(struct memory_budget *budget, size_t bytes);
void memory_budget_release(struct memory_budget *budget);

#endif
