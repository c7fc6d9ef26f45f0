#include "coordinator/waiting.h"

#include <assert.h>

bool waiting_is_full(const struct waiting *waiting)
{
    return waiting->n == CATALOG_BATCH_MAX;
}

void waiting_add(struct waiting *waiting, const struct waiting_one *one)
{
    assert(!waiting_is_full(waiting));
    waiting->list[waiting->n++] = *one;
}

bool waiting_has(const struct waiting *waiting, const struct peer *peer)
{
    for (size_t i = 0; i < waiting->n; i++)
        if (waiting->list[i].peer == peer)
            return true;
    return false;
}

size_t waiting_take(struct waiting *waiting, struct waiting_one out[CATALOG_BATCH_MAX])
{
    int64_t job = waiting->list[0].job;
    size_t n_out = 0, n_left = 0;

    for (size_t i = 0; i < waiting->n; i++) {
        if (waiting->list[i].job == job)
            out[n_out++] = waiting->list[i];
        else
            waiting->list[n_left++] = waiting->list[i];
    }
    waiting->n = n_left;
    return n_out;
}
