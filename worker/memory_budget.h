/* A cap on the bytes of decoded pixels in flight: stages reserve before they allocate. */
#ifndef REINFORCE_WORKER_MEMORY_BUDGET_H
#define REINFORCE_WORKER_MEMORY_BUDGET_H

#include "reinforce/base/macros.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct memory_budget {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    size_t max_bytes;
    size_t used_bytes;
    size_t peak_bytes;
    uint64_t next_turn, turn; /* who comes next, and whose turn it is */
};

void memory_budget_init(struct memory_budget *budget, size_t max_bytes);

/**
 * Waits until `bytes` fit, in the order of the calls: a large image is not overtaken for ever by
 * small ones. One larger than the whole budget is let through when nothing else is held. Whoever
 * holds a reservation must not wait for another.
 */
void memory_budget_reserve(struct memory_budget *budget, size_t bytes);
void memory_budget_free(struct memory_budget *budget, size_t bytes);

/** Threads that wait now: stale as soon as read. */
size_t memory_budget_waiting(struct memory_budget *budget);
void memory_budget_release(struct memory_budget *budget);

#endif
