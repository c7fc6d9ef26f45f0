/* A log is read whatever its bytes are; what a record's parts say is read, too, and parts that are
 * written as a record come back. Input: a log, or, behind a first byte below 16, that many parts:
 * 16 bits for the length of each, and their bytes. */
#include "coordinator/curator/selection_log.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_log(struct bytes_view log)
{
    struct selection_record record;
    struct error err;
    size_t at = 0, before;
    bool is_cut;

    do
        before = at;
    while (selection_log_next(log, &at, &record, &is_cut, &err) == ST_OK && at > before);
    assert(at <= log.len || at == 0);
}

static void check_parts(const struct selection_record *record)
{
    struct logged_selection logged;
    struct selection_record again;
    struct byte_buf log;
    struct arena arena;
    struct error err;
    size_t at = 0;
    bool is_cut;
    enum status st;

    arena_init(&arena, 1 << 26);
    byte_buf_init(&log, 1 << 20);
    st = selection_record_read(record, &logged, &arena, &err);
    assert(st == ST_OK || st == ST_CORRUPT || st == ST_NO_MEMORY);
    st = byte_buf_append(&log, "RCURLOG1", 8, &err);
    if (st == ST_OK)
        st = selection_record_head(record, &log, &err);
    for (size_t p = 0; p < record->n_parts && st == ST_OK; p++)
        st = byte_buf_append(&log, record->parts[p].data, record->parts[p].len, &err);
    assert(st == ST_OK);
    st = selection_log_next(byte_buf_view(&log), &at, &again, &is_cut, &err);
    assert(st == ST_OK && at == log.len && again.n_parts == record->n_parts);
    for (size_t p = 0; p < record->n_parts; p++)
        assert(bytes_equal(again.parts[p], record->parts[p]));
    arena_release(&arena);
    byte_buf_release(&log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct selection_record record = {0};
    size_t at;

    if (size == 0 || size > 1 << 16)
        return 0;
    if (data[0] >= 16) {
        check_log(bytes_view_of(data, size));
        return 0;
    }
    record.n_parts = SELECTION_LOG_FRAME + data[0] % (CURATOR_MAX_FRAMES + 1);
    at = 1 + 2 * record.n_parts;
    if (size < at)
        return 0;
    for (size_t p = 0; p < record.n_parts; p++) {
        size_t len = MIN(data[1 + 2 * p] | (size_t)data[2 + 2 * p] << 8, size - at);

        record.parts[p] = bytes_view_of(data + at, len);
        at += len;
    }
    check_parts(&record);
    return 0;
}
