#include "coordinator/ingest_window.h"

#include <stdlib.h>

enum { FIRST_SLOTS = 64 };

void ingest_window_init(struct ingest_window *window, size_t max_keys)
{
    *window = (struct ingest_window){.max_keys = max_keys};
}

/* Keys are hashes: their low bits are as good as any. 0 marks a free slot. */
static uint64_t stored(uint64_t key)
{
    return key != 0 ? key : 1;
}

/* The key's slot, or the free one where it would be. */
static size_t find(const struct ingest_key_set *set, uint64_t key)
{
    size_t at = (size_t)key & (set->n_slots - 1);

    while (set->slots[at] != 0 && set->slots[at] != key)
        at = (at + 1) & (set->n_slots - 1);
    return at;
}

static bool has(const struct ingest_key_set *set, uint64_t key)
{
    return set->n_slots > 0 && set->slots[find(set, key)] != 0;
}

bool ingest_window_has(const struct ingest_window *window, uint64_t key)
{
    return has(&window->young, stored(key)) || has(&window->old, stored(key));
}

static enum status grow(struct ingest_key_set *set, struct error *err)
{
    struct ingest_key_set larger = {
        .n_slots = set->n_slots > 0 ? 2 * set->n_slots : (size_t)FIRST_SLOTS, .n = set->n};

    larger.slots = calloc(larger.n_slots, sizeof *larger.slots);
    if (larger.slots == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate for %zu keys", set->n + 1);
    for (size_t i = 0; i < set->n_slots; i++)
        if (set->slots[i] != 0)
            larger.slots[find(&larger, set->slots[i])] = set->slots[i];
    free(set->slots);
    *set = larger;
    return ST_OK;
}

enum status ingest_window_add(struct ingest_window *window, uint64_t key, struct error *err)
{
    struct ingest_key_set *young = &window->young;
    size_t at;
    enum status st;

    if (window->max_keys == 0)
        return ST_OK;
    if (young->n >= window->max_keys) {
        struct ingest_key_set empty = window->old;

        window->old = *young;
        if (empty.n_slots > 0)
            memset(empty.slots, 0, empty.n_slots * sizeof *empty.slots);
        empty.n = 0;
        *young = empty;
    }
    if (2 * (young->n + 1) > young->n_slots) {
        st = grow(young, err);
        if (st != ST_OK)
            return st;
    }
    at = find(young, stored(key));
    young->n += young->slots[at] == 0;
    young->slots[at] = stored(key);
    return ST_OK;
}

void ingest_window_release(struct ingest_window *window)
{
    free(window->young.slots);
    free(window->old.slots);
    memset(window, 0, sizeof *window);
}
