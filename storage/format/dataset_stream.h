/* An object read mostly forwards, through one buffer that is filled ahead. */
#ifndef REINFORCE_STORAGE_DATASET_STREAM_H
#define REINFORCE_STORAGE_DATASET_STREAM_H

#include "storage/object/read_ahead.h"

struct dataset_stream {
    struct object_store *store; /* borrowed */
    char *key;
    uint64_t size; /* of the object when it was opened */
    uint8_t *buffer;
    size_t capacity;
    uint64_t begin; /* offset of buffer[0] */
    size_t len;
    struct read_ahead *ahead; /* of remote stores, from the first step on; NULL: none */
};

enum { DATASET_STREAM_BYTES = 4 << 20 };

/** Asks for the object's size and allocates min(size, capacity) bytes. The store must outlive it.
 * On failure there is nothing to close. */
NODISCARD enum status dataset_stream_open(struct dataset_stream *stream, struct object_store *store,
                                          const char *key, size_t capacity, struct error *err);

/**
 * Exactly `len` bytes from `offset`; the caller keeps offset + len <= size. A step on from the last
 * read fills the whole buffer, a jump fills little, so that a walk over headers does not read the
 * bodies between them; what is as large as the buffer goes straight to `out`.
 */
NODISCARD enum status dataset_stream_read(struct dataset_stream *stream, uint64_t offset,
                                          size_t len, void *out, struct error *err);

/** The bytes at hand from `offset` (< size), at least one, without copying; until the next call. */
NODISCARD enum status dataset_stream_view(struct dataset_stream *stream, uint64_t offset,
                                          struct bytes_view *view, struct error *err);

/** Safe on a zeroed stream. */
void dataset_stream_close(struct dataset_stream *stream);

#endif
