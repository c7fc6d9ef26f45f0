#include "worker/memory_budget.h"

#include <string.h>

void memory_budget_init(struct memory_budget *budget, size_t max_bytes)
{
    memset(budget, 0, sizeof *budget);
    budget->max_bytes = max_bytes;
    (void)pthread_mutex_init(&budget->lock, NULL);
    (void)pthread_cond_init(&budget->freed, NULL);
}

void memory_budget_reserve(struct memory_budget *budget, size_t bytes)
{
    (void)pthread_mutex_lock(&budget->lock);
    while (budget->used_bytes > 0 && (budget->used_bytes > budget->max_bytes ||
                                      bytes > budget->max_bytes - budget->used_bytes))
        (void)pthread_cond_wait(&budget->freed, &budget->lock);
    budget->used_bytes += bytes;
    budget->peak_bytes = MAX(budget->peak_bytes, budget->used_bytes);
    (void)pthread_mutex_unlock(&budget->lock);
}

void memory_budget_free(struct memory_budget *budget, size_t bytes)
{
    (void)pthread_mutex_lock(&budget->lock);
    budget->used_bytes -= bytes;
    (void)pthread_cond_broadcast(&budget->freed);
    (void)pthread_mutex_unlock(&budget->lock);
}

void memory_budget_release(struct memory_budget *budget)
{
    (void)pthread_cond_destroy(&budget->freed);
    (void)pthread_mutex_destroy(&budget->lock);
}
