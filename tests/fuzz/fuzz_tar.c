/* Any bytes as a WebDataset shard: what reads as a sample must survive being written and read. */
#include "storage/format/dataset.h"

#include <assert.h>

enum { MAX_INPUT = 1 << 16, MAX_BYTES = 64 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct dataset_read_options read_options = {.max_sample_bytes = 1 << 20,
                                                         .allow_missing_image = true};
static const struct dataset_write_options write_options = {.layout = DATASET_LAYOUT_CURRENT,
                                                           .dtype = RECORD_F32};

static void put(struct object_store *store, const char *key, struct bytes_view bytes)
{
    struct object_written written;
    struct error err;
    enum status st = object_store_put(store, key, bytes, &written, &err);

    assert(st == ST_OK);
}

static struct dataset_reader *open(struct object_store *store, const char *key)
{
    const struct dataset_position none = {0};
    struct dataset_reader *reader;
    struct error err;
    enum status st = dataset_reader_open(dataset_format_by_name("webdataset"), store, key,
                                         &read_options, &none, &reader, &err);

    assert(st == ST_OK);
    return reader;
}

/* Written, read and written again, a record gives the same bytes. */
static void check_record(struct object_store *store, const struct record *record)
{
    const struct dataset_format *format = dataset_format_by_name("webdataset");
    struct byte_buf first, second;
    struct dataset_reader *reader;
    struct dataset_reject reject;
    struct arena arena;
    struct record again;
    struct error err;
    enum status st;

    byte_buf_init(&first, MAX_BYTES);
    byte_buf_init(&second, MAX_BYTES);
    arena_init(&arena, MAX_BYTES);
    if (dataset_append(format, record, &write_options, &first, &err) == ST_OK) {
        put(store, "again", byte_buf_view(&first));
        reader = open(store, "again");
        st = dataset_reader_next(reader, &arena, &again, &reject, &err);
        assert(st == ST_OK);
        st = dataset_append(format, &again, &write_options, &second, &err);
        assert(st == ST_OK);
        assert(bytes_equal(byte_buf_view(&first), byte_buf_view(&second)));
        record_release(&again);
        dataset_reader_close(&reader);
    }
    arena_release(&arena);
    byte_buf_release(&first);
    byte_buf_release(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct object_store *store;
    struct dataset_reader *reader;
    struct dataset_reject reject;
    struct arena arena;
    struct record record;
    struct error err;
    enum status st;

    if (size > MAX_INPUT)
        return 0;
    st = object_store_open("mem:fuzz-tar", &store, &err);
    assert(st == ST_OK);
    put(store, "t", bytes_view_of(data, size));
    reader = open(store, "t");
    arena_init(&arena, MAX_BYTES);
    do {
        arena_reset(&arena);
        st = dataset_reader_next(reader, &arena, &record, &reject, &err);
        assert(st == ST_OK || st == ST_CORRUPT || st == ST_END);
        if (st == ST_OK)
            check_record(store, &record);
        record_release(&record);
    } while (st != ST_END);
    dataset_reader_close(&reader);
    arena_release(&arena);
    object_store_close(&store);
    return 0;
}
