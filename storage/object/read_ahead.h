/* The next block of an object, fetched while the one before is worked on. */
#ifndef REINFORCE_STORAGE_READ_AHEAD_H
#define REINFORCE_STORAGE_READ_AHEAD_H

#include "storage/object/object_store.h"

struct read_ahead;

/** For blocks of up to `capacity` bytes of `key`; store and key are borrowed until destroy. Starts
 * a thread. */
NODISCARD enum status read_ahead_create(struct object_store *store, const char *key,
                                        size_t capacity, struct read_ahead **out,
                                        struct error *err);

/** Begins to fetch `len` bytes from `offset`. What was fetched before and not taken is dropped;
 * waits while that is still coming. */
void read_ahead_begin(struct read_ahead *ahead, uint64_t offset, size_t len);

/**
 * Waits for the block at `offset` and gives it: swaps *buffer, which must hold `capacity` bytes
 * too, for the one with the block, and sets *len. *found false: that block was not asked for, and
 * nothing has changed. Otherwise as object_store_read_range().
 */
NODISCARD enum status read_ahead_take(struct read_ahead *ahead, uint64_t offset, uint8_t **buffer,
                                      size_t *len, bool *found, struct error *err);

/** Waits for what is still coming; ignores NULL. */
void read_ahead_destroy(struct read_ahead **ahead);

#endif
