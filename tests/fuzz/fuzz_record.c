/* Any bytes as the JSON members of a record and as a sample's key. */
#include "reinforce/record/record_json.h"
#include "reinforce/record/record_key.h"

#include <assert.h>

enum { MAX_INPUT = 1 << 16, MAX_BYTES = 64 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_key(struct bytes_view source)
{
    char key[RECORD_KEY_MAX + 1], again[RECORD_KEY_MAX + 1];
    struct error err;
    size_t len = record_key_make(source, RECORD_KEY_OF_FILE, key);

    assert(len == 0 || record_key_check(bytes_view_of(key, len), &err) == ST_OK);
    len = record_key_make(source, RECORD_KEY_OF_SAMPLE, key);
    assert(len == 0 || record_key_check(bytes_view_of(key, len), &err) == ST_OK);
    /* a key that was made stays as it is: datasets are read again */
    assert(record_key_make(bytes_view_of(key, len), RECORD_KEY_OF_SAMPLE, again) == len);
    assert(memcmp(key, again, len) == 0);
}

static enum status take(json_t *object, struct arena *arena, struct record *record,
                        struct error *err)
{
    enum status st = record_json_take_columns(record, object, arena, err);

    if (st == ST_OK)
        st = record_json_take_views(record, object, arena, err);
    return st == ST_OK ? record_json_take_rest(record, object, err) : st;
}

/* All of a record's JSON as one object. */
static enum status write(const struct record *record, struct byte_buf *out, struct error *err)
{
    enum status st = byte_buf_append_string(out, "{\"param_aug\": ", err);

    if (st == ST_OK)
        st = record_json_write_views(record, out, err);
    for (size_t i = 0; i < record->n_columns && st == ST_OK; i++) {
        st = byte_buf_append_string(out, ", ", err);
        if (st == ST_OK)
            st = json_write_string(bytes_of_string(record->columns[i].name), out, err);
        if (st == ST_OK)
            st = byte_buf_append_string(out, ": ", err);
        if (st == ST_OK)
            st = record_json_write_texts(record->columns[i].texts, record->columns[i].n_texts, out,
                                         err);
    }
    if (st == ST_OK)
        st = byte_buf_append_string(out, ", \"rest\": ", err);
    if (st == ST_OK)
        st = json_write(record->meta, out, err);
    return st == ST_OK ? byte_buf_append_string(out, "}", err) : st;
}

static void check_record(const struct record *record)
{
    struct byte_buf first, second;
    struct arena arena;
    struct record again = {0};
    struct error err;
    json_t *object, *rest;
    enum status st;

    byte_buf_init(&first, MAX_BYTES);
    byte_buf_init(&second, MAX_BYTES);
    arena_init(&arena, MAX_BYTES);
    if (write(record, &first, &err) == ST_OK) { /* else it nests too deep to be written */
        st = record_json_parse(byte_buf_view(&first), &object, &err);
        assert(st == ST_OK);
        rest = json_incref(json_object_get(object, "rest"));
        (void)json_object_del(object, "rest");
        st = take(object, &arena, &again, &err);
        assert(st == ST_OK && json_object_size(again.meta) == 0);
        (void)json_object_update(again.meta, rest);
        st = write(&again, &second, &err);
        assert(st == ST_OK && bytes_equal(byte_buf_view(&first), byte_buf_view(&second)));
        json_decref(object);
        json_decref(rest);
        record_release(&again);
    }
    arena_release(&arena);
    byte_buf_release(&first);
    byte_buf_release(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct record record = {0};
    struct error err;
    json_t *object;

    if (size > MAX_INPUT)
        return 0;
    check_key(bytes_view_of(data, size));
    if (record_json_parse(bytes_view_of(data, size), &object, &err) != ST_OK)
        return 0;
    arena_init(&arena, MAX_BYTES);
    if (take(object, &arena, &record, &err) == ST_OK)
        check_record(&record);
    record_release(&record);
    json_decref(object);
    arena_release(&arena);
    return 0;
}
