/* The keys a reader has seen, to report the second of one name. */
#ifndef REINFORCE_STORAGE_DATASET_KEYS_H
#define REINFORCE_STORAGE_DATASET_KEYS_H

#include "reinforce/base/bytes.h"

/* Keeps 64 bits of each key's SHA-256, 16 bytes a key or less than twice that: among a million keys
 * a false alarm has odds of 1 to 30 million. A zeroed set is empty. */
struct dataset_keys {
    uint64_t *slots; /* 0: free */
    size_t n_slots;  /* a power of two, at most half full */
    size_t n;
};

/** *added is false when the key was there. ST_NO_MEMORY: the set is as it was. */
NODISCARD enum status dataset_keys_add(struct dataset_keys *keys, struct bytes_view key,
                                       bool *added, struct error *err);
void dataset_keys_release(struct dataset_keys *keys);

#endif
