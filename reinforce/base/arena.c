#include "reinforce/base/arena.h"

#include "reinforce/base/memory.h"

#include <stdlib.h>
#include <string.h>

enum { MIN_CHUNK_BYTES = 64 * 1024 };

struct arena_chunk {
    struct arena_chunk *next;
    unsigned char *data; /* behind the header, aligned */
    size_t capacity;
};

void arena_init(struct arena *arena, size_t max_bytes)
{
    memset(arena, 0, sizeof *arena);
    arena->max_bytes = max_bytes;
}

static enum status chunk_create(struct arena *arena, size_t size, struct arena_chunk **out,
                                struct error *err)
{
    size_t capacity = arena->total_bytes; /* doubling: few chunks, no copying */
    size_t room = arena->max_bytes - arena->total_bytes;
    struct arena_chunk *chunk;
    void *memory;

    if (size > room)
        return error_set(err, ST_NO_MEMORY,
                         "arena of %zu bytes is full: %zu more are needed, %zu are left",
                         arena->max_bytes, size, room);
    capacity = MIN(MAX(MAX(capacity, size), (size_t)MIN_CHUNK_BYTES), room);
    memory = memory_alloc(ARENA_ALIGN + capacity + ARENA_ALIGN);
    if (memory == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate %zu bytes", capacity);
    chunk = memory;
    chunk->next = NULL;
    chunk->data = (unsigned char *)memory + sizeof *chunk;
    chunk->data += (ARENA_ALIGN - (uintptr_t)chunk->data % ARENA_ALIGN) % ARENA_ALIGN;
    chunk->capacity = capacity;
    arena->total_bytes += capacity;
    *out = chunk;
    return ST_OK;
}

/* Moves to a chunk with room for `size`: one kept from before, or a new one behind the last. */
static enum status next_chunk(struct arena *arena, size_t size, struct error *err)
{
    struct arena_chunk **link = arena->current != NULL ? &arena->current->next : &arena->first;

    while (*link != NULL && (*link)->capacity < size)
        link = &(*link)->next; /* too small: left empty this round */
    if (*link == NULL) {
        struct arena_chunk *chunk = NULL;
        enum status st = chunk_create(arena, MAX(size, (size_t)ARENA_ALIGN), &chunk, err);

        if (st != ST_OK)
            return st;
        *link = chunk;
    }
    arena->current = *link;
    arena->chunk_used = 0;
    return ST_OK;
}

enum status arena_alloc(struct arena *arena, size_t size, void *out_ptr, struct error *err)
{
    size_t rounded;
    void *ptr;

    memset(out_ptr, 0, sizeof ptr);
    if (__builtin_add_overflow(size, (size_t)ARENA_ALIGN - 1, &rounded))
        return error_set(err, ST_NO_MEMORY, "allocation of %zu bytes is impossible", size);
    rounded -= rounded % ARENA_ALIGN;
    if (arena->current == NULL || arena->current->capacity - arena->chunk_used < rounded) {
        enum status st = next_chunk(arena, rounded, err);

        if (st != ST_OK)
            return st;
    }
    ptr = arena->current->data + arena->chunk_used;
    arena->chunk_used += rounded;
    arena->used_bytes += rounded;
    arena->peak_bytes = MAX(arena->peak_bytes, arena->used_bytes);
    memcpy(out_ptr, &ptr, sizeof ptr);
    return ST_OK;
}

enum status arena_calloc(struct arena *arena, size_t count, size_t size, void *out_ptr,
                         struct error *err)
{
    size_t bytes;
    enum status st;
    void *ptr;

    if (__builtin_mul_overflow(count, size, &bytes)) {
        memset(out_ptr, 0, sizeof ptr);
        return error_set(err, ST_NO_MEMORY, "allocation of %zu times %zu bytes is impossible",
                         count, size);
    }
    st = arena_alloc(arena, bytes, &ptr, err);
    if (st == ST_OK)
        memset(ptr, 0, bytes);
    memcpy(out_ptr, &ptr, sizeof ptr);
    return st;
}

enum status arena_strndup(struct arena *arena, const char *text, size_t len, char **out,
                          struct error *err)
{
    enum status st = arena_alloc(arena, len + 1, out, err);

    if (st != ST_OK)
        return st;
    memcpy(*out, text, len);
    (*out)[len] = '\0';
    return ST_OK;
}

void arena_rewind(struct arena *arena, const struct arena *mark)
{
    arena->current = mark->current;
    arena->chunk_used = mark->chunk_used;
    arena->used_bytes = mark->used_bytes;
    if (arena->current == NULL)
        arena_reset(arena);
}

void arena_reset(struct arena *arena)
{
    arena->current = arena->first;
    arena->chunk_used = 0;
    arena->used_bytes = 0;
}

void arena_release(struct arena *arena)
{
    for (struct arena_chunk *chunk = arena->first, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    memset(arena, 0, sizeof *arena);
}
