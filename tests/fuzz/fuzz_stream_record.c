/* Any bytes as a record, JSON or protobuf: one that is taken is a line of JSON, and that line
 * without its origin is the same record. One that is refused says why. */
#include "reinforce/base/json.h"
#include "storage/stream/stream_record.h"

#include <assert.h>

enum { MAX_INPUT = 1 << 16, MAX_BYTES = 64 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum status read_record(struct bytes_view value, struct byte_buf *line,
                               struct stream_record *record)
{
    const struct stream_origin origin = {.topic = "t", .partition = 1, .offset = 2};
    struct stream_refusal refusal;
    struct arena arena;
    struct error err;
    enum status st;

    arena_init(&arena, MAX_BYTES);
    st = stream_record_read(STREAM_SCHEMA_AUTO, value, &origin, MAX_INPUT, &arena, line, record,
                            &refusal, &err);
    assert(st == ST_OK || st == ST_CORRUPT);
    assert((st == ST_OK) == (refusal.reason[0] == '\0'));
    arena_release(&arena);
    return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct stream_record first, second;
    struct byte_buf line, again, stripped;
    json_t *object;
    struct error err;
    enum status st;

    if (size > MAX_INPUT / 8) /* a line may be longer than what it was made of */
        return 0;
    byte_buf_init(&line, MAX_BYTES);
    byte_buf_init(&again, MAX_BYTES);
    byte_buf_init(&stripped, MAX_BYTES);
    if (read_record(bytes_view_of(data, size), &line, &first) == ST_OK) {
        assert(line.len > 0 &&
               (uint8_t *)memchr(line.data, '\n', line.len) == line.data + line.len - 1);
        st = json_parse(byte_buf_view(&line), &object, &err);
        assert(st == ST_OK);
        assert(json_object_del(object, STREAM_RECORD_ORIGIN) == 0);
        st = json_write(object, &stripped, &err);
        assert(st == ST_OK);
        json_decref(object);
        st = read_record(byte_buf_view(&stripped), &again, &second);
        assert(st == ST_OK && memcmp(&first, &second, sizeof first) == 0);
    }
    byte_buf_release(&line);
    byte_buf_release(&again);
    byte_buf_release(&stripped);
    return 0;
}
