#include "storage/format/dataset_stream.h"

#include <assert.h>

enum { JUMP_BYTES = 64 << 10 };

enum status dataset_stream_open(struct dataset_stream *stream, struct object_store *store,
                                const char *key, size_t capacity, struct error *err)
{
    struct object_info info;
    size_t key_bytes = strlen(key) + 1;
    enum status st = object_store_head(store, key, &info, err);

    memset(stream, 0, sizeof *stream);
    if (st != ST_OK)
        return st;
    stream->store = store;
    stream->size = info.bytes;
    stream->capacity = (size_t)MIN((uint64_t)MAX(capacity, (size_t)1), MAX(info.bytes, 1u));
    stream->buffer = malloc(stream->capacity);
    stream->key = malloc(key_bytes);
    if (stream->buffer == NULL || stream->key == NULL) {
        dataset_stream_close(stream);
        return error_set(err, ST_NO_MEMORY, "could not allocate %zu bytes to read \"%s\"", capacity,
                         key);
    }
    memcpy(stream->key, key, key_bytes);
    return ST_OK;
}

/* Asks for the block at `offset`. Without memory or threads to spare it is read when it is needed.
 */
static void ask_ahead(struct dataset_stream *stream, uint64_t offset)
{
    struct error why;

    if (offset == stream->size || !object_store_is_remote(stream->store))
        return;
    if (stream->ahead != NULL || read_ahead_create(stream->store, stream->key, stream->capacity,
                                                   &stream->ahead, &why) == ST_OK)
        read_ahead_begin(stream->ahead, offset,
                         (size_t)MIN((uint64_t)stream->capacity, stream->size - offset));
}

/* The next block, and the one behind it asked for: but not yet behind the first, which may be all
 * that somebody wants to see. */
static enum status step_on(struct dataset_stream *stream, uint64_t offset, struct error *err)
{
    size_t want = (size_t)MIN((uint64_t)stream->capacity, stream->size - offset);
    bool found = false, is_first = stream->len == 0 && stream->ahead == NULL;
    enum status st = ST_OK;

    if (stream->ahead != NULL)
        st = read_ahead_take(stream->ahead, offset, &stream->buffer, &want, &found, err);
    if (st == ST_OK && !found)
        st = object_store_read_range(stream->store, stream->key, offset, want, stream->buffer, err);
    if (st != ST_OK)
        return st;
    stream->begin = offset;
    stream->len = want;
    if (!is_first)
        ask_ahead(stream, offset + want);
    return ST_OK;
}

static enum status fill(struct dataset_stream *stream, uint64_t offset, size_t at_least,
                        struct error *err)
{
    size_t want = MAX(at_least, (size_t)JUMP_BYTES);
    enum status st;

    if (offset == stream->begin + stream->len) {
        st = step_on(stream, offset, err);
        if (st != ST_OK)
            stream->len = 0;
        return st;
    }
    want = (size_t)MIN((uint64_t)MIN(want, stream->capacity), stream->size - offset);
    stream->len = 0;
    st = object_store_read_range(stream->store, stream->key, offset, want, stream->buffer, err);
    if (st != ST_OK)
        return st;
    stream->begin = offset;
    stream->len = want;
    return ST_OK;
}

enum status dataset_stream_read(struct dataset_stream *stream, uint64_t offset, size_t len,
                                void *out, struct error *err)
{
    uint8_t *to = out;
    enum status st = ST_OK;

    assert(offset <= stream->size && len <= stream->size - offset);
    while (len > 0 && st == ST_OK) {
        if (offset >= stream->begin && offset - stream->begin < stream->len) {
            size_t at = (size_t)(offset - stream->begin), n = MIN(len, stream->len - at);

            memcpy(to, stream->buffer + at, n);
            to += n;
            offset += n;
            len -= n;
        } else if (len >= stream->capacity) {
            st = object_store_read_range(stream->store, stream->key, offset, len, to, err);
            stream->begin = offset + len; /* the next step goes on from here */
            stream->len = 0;
            len = 0;
        } else {
            st = fill(stream, offset, len, err);
        }
    }
    return st;
}

enum status dataset_stream_view(struct dataset_stream *stream, uint64_t offset,
                                struct bytes_view *view, struct error *err)
{
    enum status st = ST_OK;

    assert(offset < stream->size);
    if (offset < stream->begin || offset - stream->begin >= stream->len)
        st = fill(stream, offset, 1, err);
    if (st == ST_OK) {
        size_t at = (size_t)(offset - stream->begin);

        *view = bytes_view_of(stream->buffer + at, stream->len - at);
    }
    return st;
}

void dataset_stream_close(struct dataset_stream *stream)
{
    read_ahead_destroy(&stream->ahead);
    free(stream->buffer);
    free(stream->key);
    memset(stream, 0, sizeof *stream);
}
