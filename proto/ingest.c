#include "proto/ingest.h"

#include "proto/ingest.pb-c.h"

/* protobuf-c takes char * for strings that it only reads, and its initialisers do the same */
#pragma GCC diagnostic ignored "-Wcast-qual"
#pragma GCC diagnostic ignored "-Wmissing-braces"

/* What protobuf-c allocates goes to an arena, and goes with it. */
struct place {
    struct arena *arena;
    struct error err; /* of an allocation that failed */
    bool failed;
};

static void *place_alloc(void *ctx, size_t size)
{
    struct place *place = ctx;
    void *memory = NULL;

    if (arena_alloc(place->arena, size, &memory, &place->err) != ST_OK) {
        place->failed = true;
        return NULL;
    }
    return memory;
}

static void place_free(void *ctx, void *memory)
{
    (void)ctx;
    (void)memory;
}

static struct bytes_view view_of(ProtobufCBinaryData data)
{
    return bytes_view_of(data.data, data.len);
}

static ProtobufCBinaryData data_of(struct bytes_view bytes)
{
    return (ProtobufCBinaryData){.len = bytes.len, .data = (uint8_t *)bytes.data};
}

static enum status take(const Reinforce__Ingest__Record *from, struct arena *arena,
                        struct ingest_record *out, struct error *err)
{
    struct bytes_view *captions;
    enum status st = arena_calloc(arena, from->n_captions, sizeof *captions, &captions, err);

    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < from->n_captions; i++)
        captions[i] = view_of(from->captions[i]);
    *out = (struct ingest_record){
        .version = from->version,
        .uid = view_of(from->uid),
        .n_captions = from->n_captions,
        .captions = captions,
        .url = view_of(from->url),
        .fields = view_of(from->fields),
    };
    if (from->image_case == REINFORCE__INGEST__RECORD__IMAGE_IMAGE_BYTES) {
        out->kind = INGEST_IMAGE_BYTES;
        out->image = view_of(from->image_bytes);
    } else if (from->image_case == REINFORCE__INGEST__RECORD__IMAGE_IMAGE_URL) {
        out->kind = INGEST_IMAGE_URL;
        out->image = view_of(from->image_url);
    } else if (from->image_case == REINFORCE__INGEST__RECORD__IMAGE_IMAGE_KEY) {
        out->kind = INGEST_IMAGE_KEY;
        out->image = view_of(from->image_key);
    }
    return ST_OK;
}

enum status ingest_decode(struct bytes_view bytes, struct arena *arena, struct ingest_record *out,
                          struct error *err)
{
    struct place place = {.arena = arena};
    ProtobufCAllocator allocator = {
        .alloc = place_alloc, .free = place_free, .allocator_data = &place};
    Reinforce__Ingest__Record *message =
        reinforce__ingest__record__unpack(&allocator, bytes.len, bytes.data);

    memset(out, 0, sizeof *out);
    if (place.failed) {
        *err = place.err;
        return ST_NO_MEMORY;
    }
    if (message == NULL)
        return error_set(err, ST_CORRUPT, "%zu bytes are no reinforce.ingest.Record", bytes.len);
    return take(message, arena, out, err);
}

enum status ingest_encode(const struct ingest_record *record, struct arena *scratch,
                          struct byte_buf *out, struct error *err)
{
    Reinforce__Ingest__Record message = REINFORCE__INGEST__RECORD__INIT;
    ProtobufCBinaryData image = data_of(record->image);
    uint8_t *to;
    enum status st =
        arena_calloc(scratch, record->n_captions, sizeof *message.captions, &message.captions, err);

    if (st != ST_OK)
        return st;
    message.version = record->version;
    message.uid = data_of(record->uid);
    message.n_captions = record->n_captions;
    for (size_t i = 0; i < record->n_captions; i++)
        message.captions[i] = data_of(record->captions[i]);
    message.url = data_of(record->url);
    message.fields = data_of(record->fields);
    switch (record->kind) {
    case INGEST_IMAGE_BYTES:
        message.image_case = REINFORCE__INGEST__RECORD__IMAGE_IMAGE_BYTES;
        message.image_bytes = image;
        break;
    case INGEST_IMAGE_URL:
        message.image_case = REINFORCE__INGEST__RECORD__IMAGE_IMAGE_URL;
        message.image_url = image;
        break;
    case INGEST_IMAGE_KEY:
        message.image_case = REINFORCE__INGEST__RECORD__IMAGE_IMAGE_KEY;
        message.image_key = image;
        break;
    case INGEST_IMAGE_NONE:
        break;
    }
    st = byte_buf_extend(out, reinforce__ingest__record__get_packed_size(&message), &to, err);
    if (st == ST_OK)
        (void)reinforce__ingest__record__pack(&message, to);
    return st;
}
