/* A region whose allocations live and die together: one per batch or sample, reset at the start of
 * the next round. */
#ifndef REINFORCE_BASE_ARENA_H
#define REINFORCE_BASE_ARENA_H

#include "reinforce/base/error.h"

#include <stdint.h>

#define ARENA_ALIGN 64 /* a cache line, and the widest vector */

struct arena_chunk;

/** One owner thread at a time. A zeroed arena is released safely; plain data, but its fields are
 * for arena.c. */
struct arena {
    struct arena_chunk *first; /* grows by chunks; arena_reset keeps them */
    struct arena_chunk *current;
    size_t max_bytes;   /* all chunks together never pass this */
    size_t total_bytes; /* of all chunks */
    size_t used_bytes;  /* since the last reset */
    size_t chunk_used;  /* of `current` */
    size_t peak_bytes;  /* largest used_bytes ever: what to configure next time */
};

/** Prepares an arena that will never hold more than `max_bytes` (> 0). Allocates nothing yet;
 * cannot fail. */
void arena_init(struct arena *arena, size_t max_bytes);

/**
 * `size` bytes (0 gives a valid pointer), aligned to ARENA_ALIGN, not zeroed, valid until reset or
 * release. ST_NO_MEMORY when max_bytes would be passed or the system has none; the arena stays
 * usable.
 */
NODISCARD enum status arena_alloc(struct arena *arena, size_t size, void *out_ptr,
                                  struct error *err);

/** `count * size` zeroed bytes; the product is checked. */
NODISCARD enum status arena_calloc(struct arena *arena, size_t count, size_t size, void *out_ptr,
                                   struct error *err);

/** Copies `len` bytes and adds a NUL. */
NODISCARD enum status arena_strndup(struct arena *arena, const char *text, size_t len, char **out,
                                    struct error *err);

/**
 * Forgets every allocation since `mark`, a copy of *arena taken earlier (since the last reset), and
 * keeps the memory.
 */
void arena_rewind(struct arena *arena, const struct arena *mark);

/** Forgets every allocation and keeps the memory. */
void arena_reset(struct arena *arena);

/** Frees everything; the arena is zeroed. */
void arena_release(struct arena *arena);

#endif
