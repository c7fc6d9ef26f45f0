/* Which examples a worker computes next: the latest wanted first, as their request is the one that
 * can still be answered in time; and nothing twice that workers die of. */
#ifndef REINFORCE_COORDINATOR_CURATOR_WORK_ORDER_H
#define REINFORCE_COORDINATOR_CURATOR_WORK_ORDER_H

#include "reinforce/base/error.h"

#include <stddef.h>
#include <stdint.h>

enum {
    WORK_ORDER_MAX_WANTED = 1 << 22, /* remembered, the latest; 32 MiB */
    WORK_ORDER_MAX_GIVEN = 512,
};

/** Examples are numbers below n. One thread's. */
struct work_order {
    uint8_t *states; /* [n] */
    uint64_t n, n_wanted;
    uint64_t *stack; /* [capacity]: wanted when their state says so; the next one last */
    size_t n_stack, capacity;
    struct {
        uint64_t example;
        bool has_begun;
    } given[WORK_ORDER_MAX_GIVEN];
    size_t n_given;
};

NODISCARD enum status work_order_init(struct work_order *order, uint64_t n, struct error *err);
/** Safe on a zeroed one. */
void work_order_release(struct work_order *order);

/** Wants an example, once more perhaps; false: two workers have died of it, or there is no memory.
 */
bool work_order_want(struct work_order *order, uint64_t example);

/** Whether it is wanted, or given and not done. */
bool work_order_is_open(const struct work_order *order, uint64_t example);

/** The example to give next while fewer than max_given are: false: none now. What a worker has died
 * at is given alone: if the next one dies, that was it. */
bool work_order_next(struct work_order *order, size_t max_given, uint64_t *example);

/** work_order_next()'s was given; the worker has begun with one, or is done with it, whatever came
 * of it: false: it was not given. */
void work_order_give(struct work_order *order, uint64_t example);
void work_order_begin(struct work_order *order, uint64_t example);
bool work_order_end(struct work_order *order, uint64_t example);

/** The worker has died: what it had not begun with is wanted again, the rest suspect. True:
 * *refused was so already, and is never given again. */
bool work_order_bury(struct work_order *order, uint64_t *refused);

#endif
