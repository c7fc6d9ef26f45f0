/* Lists of samples: what opens is read to its end, and its places count up. */
#include "worker/sample_list.h"

#include <assert.h>
#include <stdlib.h>

static const char line[] = "{\"uid\": \"a\", \"image\": \"iVBORw0KGgo=\"}\n{\"uid\": \"b\"}\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(struct dataset_reader *reader)
{
    struct dataset_position position;
    struct arena arena;
    struct error err = {0};
    enum status st = ST_OK;

    arena_init(&arena, 16 << 20);
    for (uint64_t n = 1; st == ST_OK || st == ST_CORRUPT; n++) {
        struct record record;
        struct dataset_reject reject;

        arena_reset(&arena);
        st = dataset_reader_next(reader, &arena, &record, &reject, &err);
        record_release(&record);
        dataset_reader_tell(reader, &position);
        assert((st != ST_OK && st != ST_CORRUPT) || position.index == n);
    }
    arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct dataset_read_options options = {.max_sample_bytes = 1 << 20};
    const struct dataset_position from = {0};
    struct object_store *input = NULL, *output = NULL;
    struct dataset_reader *reader;
    struct object_written written;
    struct error err = {0};
    enum status st;

    if (size > 65536)
        return 0;
    st = object_store_open("mem:fuzz-in", &input, &err);
    if (st == ST_OK)
        st = object_store_open("mem:fuzz-out", &output, &err);
    if (st == ST_OK)
        st = object_store_put(input, "a.jsonl", bytes_of_string(line), &written, &err);
    if (st == ST_OK)
        st = object_store_put(output, "list", bytes_view_of(data, size), &written, &err);
    if (st == ST_OK)
        st = sample_list_open(input, output, "list", &options, &from, &reader, &err);
    if (st == ST_OK) {
        read_all(reader);
        dataset_reader_close(&reader);
    }
    object_store_close(&output);
    object_store_close(&input);
    return 0;
}
