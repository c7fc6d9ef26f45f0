#include "coordinator/curator/work_order.h"

#include "reinforce/base/macros.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum state {
    IDLE = 0,
    WANTED = 1,
    GIVEN = 2,
    REFUSED = 3,
    STATE_MASK = 7,
    SUSPECT = 8, /* a bit: a worker has died while it was at it */
};

static unsigned state_of(const struct work_order *order, uint64_t example)
{
    assert(example < order->n);
    return order->states[example] & (unsigned)STATE_MASK;
}

static bool is_suspect(const struct work_order *order, uint64_t example)
{
    return (order->states[example] & (unsigned)SUSPECT) != 0;
}

static void set_state(struct work_order *order, uint64_t example, enum state state)
{
    order->n_wanted -= state_of(order, example) == WANTED;
    order->n_wanted += state == WANTED;
    order->states[example] =
        (uint8_t)((order->states[example] & (unsigned)SUSPECT) | (unsigned)state);
}

enum status work_order_init(struct work_order *order, uint64_t n, struct error *err)
{
    *order = (struct work_order){.n = n, .states = calloc(n, 1)};
    return order->states != NULL
               ? ST_OK
               : error_set(err, ST_NO_MEMORY, "could not allocate the states of %llu examples",
                           (unsigned long long)n);
}

void work_order_release(struct work_order *order)
{
    free(order->states);
    free(order->stack);
    *order = (struct work_order){0};
}

/* The older half is not wanted any more. */
static void forget_half(struct work_order *order)
{
    size_t half = order->n_stack / 2;

    for (size_t i = 0; i < half; i++)
        if (state_of(order, order->stack[i]) == WANTED)
            set_state(order, order->stack[i], IDLE);
    memmove(order->stack, order->stack + half, (order->n_stack - half) * sizeof *order->stack);
    order->n_stack -= half;
}

static bool make_room(struct work_order *order)
{
    size_t capacity = 2 * order->capacity + 1024;
    uint64_t *grown;

    if (order->n_stack == WORK_ORDER_MAX_WANTED)
        forget_half(order);
    if (order->n_stack < order->capacity)
        return true;
    grown = realloc(order->stack, capacity * sizeof *grown);
    if (grown == NULL)
        return false;
    order->stack = grown;
    order->capacity = capacity;
    return true;
}

bool work_order_want(struct work_order *order, uint64_t example)
{
    if (state_of(order, example) == GIVEN)
        return true;
    if (state_of(order, example) == REFUSED || !make_room(order))
        return false;
    order->stack[order->n_stack++] = example;
    set_state(order, example, WANTED);
    return true;
}

bool work_order_is_open(const struct work_order *order, uint64_t example)
{
    return state_of(order, example) == WANTED || state_of(order, example) == GIVEN;
}

bool work_order_next(struct work_order *order, size_t max_given, uint64_t *example)
{
    /* One that was wanted again stands further up, too. */
    while (order->n_stack > 0 && state_of(order, order->stack[order->n_stack - 1]) != WANTED)
        order->n_stack--;
    if (order->n_stack == 0 || order->n_given >= MIN(max_given, (size_t)WORK_ORDER_MAX_GIVEN))
        return false;
    *example = order->stack[order->n_stack - 1];
    return order->n_given == 0 ||
           !(is_suspect(order, *example) || is_suspect(order, order->given[0].example));
}

void work_order_give(struct work_order *order, uint64_t example)
{
    assert(order->n_given < WORK_ORDER_MAX_GIVEN && state_of(order, example) == WANTED);
    set_state(order, example, GIVEN);
    order->given[order->n_given].example = example;
    order->given[order->n_given++].has_begun = false;
}

static size_t find_given(const struct work_order *order, uint64_t example)
{
    size_t g = 0;

    while (g < order->n_given && order->given[g].example != example)
        g++;
    return g;
}

void work_order_begin(struct work_order *order, uint64_t example)
{
    size_t g = find_given(order, example);

    if (g < order->n_given)
        order->given[g].has_begun = true;
}

bool work_order_end(struct work_order *order, uint64_t example)
{
    size_t g = find_given(order, example);

    if (g == order->n_given)
        return false;
    order->given[g] = order->given[--order->n_given];
    order->states[example] = IDLE; /* nor is it a suspect any more */
    return true;
}

bool work_order_bury(struct work_order *order, uint64_t *refused)
{
    bool any = false;

    for (size_t g = 0; g < order->n_given; g++) {
        uint64_t example = order->given[g].example;

        set_state(order, example, IDLE);
        if (!order->given[g].has_begun) {
            (void)work_order_want(order, example);
        } else if (is_suspect(order, example)) { /* it was alone */
            set_state(order, example, REFUSED);
            *refused = example;
            any = true;
        } else {
            order->states[example] |= SUSPECT;
        }
    }
    order->n_given = 0;
    return any;
}
