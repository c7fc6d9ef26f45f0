#include "worker/memory_budget.h"

#include <assert.h>
#include <string.h>

void memory_budget_init(struct memory_budget *budget, size_t max_bytes)
{
    memset(budget, 0, sizeof *budget);
    budget->max_bytes = max_bytes;
    (void)pthread_mutex_init(&budget->lock, NULL);
    (void)pthread_cond_init(&budget->changed, NULL);
}

/* Under the lock. */
static bool fits(const struct memory_budget *budget, size_t bytes)
{
    return budget->used_bytes == 0 || (budget->used_bytes <= budget->max_bytes &&
                                       bytes <= budget->max_bytes - budget->used_bytes);
}

void memory_budget_reserve(struct memory_budget *budget, size_t bytes)
{
    uint64_t turn;

    (void)pthread_mutex_lock(&budget->lock);
    turn = budget->next_turn++;
    while (turn != budget->turn || !fits(budget, bytes))
        (void)pthread_cond_wait(&budget->changed, &budget->lock);
    budget->turn++;
    budget->used_bytes += bytes;
    budget->peak_bytes = MAX(budget->peak_bytes, budget->used_bytes);
    (void)pthread_cond_broadcast(&budget->changed); /* there may be room for the next one too */
    (void)pthread_mutex_unlock(&budget->lock);
}

void memory_budget_free(struct memory_budget *budget, size_t bytes)
{
    (void)pthread_mutex_lock(&budget->lock);
    assert(bytes <= budget->used_bytes);
    budget->used_bytes -= bytes;
    (void)pthread_cond_broadcast(&budget->changed);
    (void)pthread_mutex_unlock(&budget->lock);
}

size_t memory_budget_waiting(struct memory_budget *budget)
{
    size_t n;

    (void)pthread_mutex_lock(&budget->lock);
    n = (size_t)(budget->next_turn - budget->turn);
    (void)pthread_mutex_unlock(&budget->lock);
    return n;
}

void memory_budget_release(struct memory_budget *budget)
{
    (void)pthread_cond_destroy(&budget->changed);
    (void)pthread_mutex_destroy(&budget->lock);
}
