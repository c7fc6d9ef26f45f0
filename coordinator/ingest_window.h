/* The keys of the last records of a partition: what a second one is told by. */
#ifndef REINFORCE_COORDINATOR_INGEST_WINDOW_H
#define REINFORCE_COORDINATOR_INGEST_WINDOW_H

#include "reinforce/base/error.h"

#include <stdint.h>

/* Two sets of keys; when the younger has a window's worth, it becomes the older, whose keys are
 * forgotten. So a key is known for one to two windows. 32 bytes a key at most. */
struct ingest_window {
    struct ingest_key_set {
        uint64_t *slots; /* 0: free */
        size_t n_slots;  /* a power of two, at most half full */
        size_t n;
    } young, old;
    size_t max_keys;
};

/** Remembers at least the last `max_keys` keys; 0: none. Allocates nothing yet. */
void ingest_window_init(struct ingest_window *window, size_t max_keys);
bool ingest_window_has(const struct ingest_window *window, uint64_t key);
NODISCARD enum status ingest_window_add(struct ingest_window *window, uint64_t key,
                                        struct error *err);
void ingest_window_release(struct ingest_window *window);

#endif
