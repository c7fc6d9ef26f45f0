#include "storage/format/dataset.h"
#include "storage/stream/dead_letter.h"
#include "storage/stream/stream_record.h"
#include "tests/support/oom.h"
#include "tests/support/test.h"

#include <stdlib.h>

enum { MAX_RECORD = 4096 };

/* What one record becomes. */
struct reading {
    struct arena arena;
    struct byte_buf line;
    struct stream_record record;
    struct stream_refusal refusal;
    struct error err;
    enum status status;
};

static const struct stream_origin origin = {.topic = "images", .partition = 3, .offset = 17};

static void read_value(struct reading *r, enum stream_schema schema, struct bytes_view value)
{
    memset(r, 0, sizeof *r);
    arena_init(&r->arena, 1 << 20);
    byte_buf_init(&r->line, 1 << 20);
    r->status = stream_record_read(schema, value, &origin, MAX_RECORD, &r->arena, &r->line,
                                   &r->record, &r->refusal, &r->err);
}

static void release(struct reading *r)
{
    arena_release(&r->arena);
    byte_buf_release(&r->line);
}

static void a_json_record_becomes_the_line_that_workers_read(void **state)
{
    static const char text[] =
        "{\"uid\": \"a/b\",\n \"image_key\": \"x/1.jpg\", \"text\": [\"one\", "
        "\"two\"],\r\n\"license\": {\"by\": 1.50}}\n ";
    static const char want[] =
        "{\"uid\": \"a/b\",  \"image_key\": \"x/1.jpg\", \"text\": [\"one\", "
        "\"two\"],  \"license\": {\"by\": 1.50}, \"_kafka\": "
        "\"images/3/17\"}\n";
    struct reading r;

    (void)state;
    read_value(&r, STREAM_SCHEMA_AUTO, bytes_of_string(text));
    assert_int_equal(r.status, ST_OK);
    assert_true(bytes_equal(byte_buf_view(&r.line), bytes_of_string(want)));
    assert_string_equal(r.record.key, "a%2Fb");
    assert_int_equal(r.record.kind, INGEST_IMAGE_KEY);
    release(&r);
}

static struct byte_buf encode(const struct ingest_record *record)
{
    struct byte_buf out;
    struct arena scratch;
    struct error err = {0};

    byte_buf_init(&out, 1 << 20);
    arena_init(&scratch, 1 << 20);
    assert_ok(ingest_encode(record, &scratch, &out, &err));
    arena_release(&scratch);
    return out;
}

static void a_protobuf_record_is_the_same_sample_as_its_json(void **state)
{
    const struct bytes_view captions[] = {bytes_of_string("one"), bytes_of_string("two")};
    const struct ingest_record record = {.version = 1,
                                         .uid = bytes_of_string("u1"),
                                         .kind = INGEST_IMAGE_BYTES,
                                         .image = bytes_of_string("pixels"),
                                         .n_captions = 2,
                                         .captions = captions,
                                         .url = bytes_of_string("http://x"),
                                         .fields = bytes_of_string("{\"a\": 1}")};
    struct byte_buf bytes = encode(&record);
    struct reading proto, json;

    (void)state;
    read_value(&proto, STREAM_SCHEMA_AUTO, byte_buf_view(&bytes));
    if (proto.status != ST_OK)
        fail_msg("%s", proto.refusal.detail);
    assert_true(bytes_equal(
        byte_buf_view(&proto.line),
        bytes_of_string("{\"a\": 1, \"uid\": \"u1\", \"text\": [\"one\", \"two\"], \"url\": "
                        "\"http://x\", \"image\": \"cGl4ZWxz\", \"_kafka\": \"images/3/17\"}\n")));
    read_value(&json, STREAM_SCHEMA_JSON,
               bytes_of_string("{\"id\": \"u1\", \"image\": \"cGl4ZWxz\"}"));
    assert_int_equal(json.status, ST_OK);
    assert_int_equal(json.record.uid_hash, proto.record.uid_hash);
    assert_int_equal(json.record.content_hash, proto.record.content_hash);
    release(&proto);
    release(&json);
    byte_buf_release(&bytes);
}

/* The line is what storage/format reads. */
static void a_worker_reads_the_sample_from_the_line(void **state)
{
    const struct dataset_read_options options = {.max_sample_bytes = 1 << 20};
    const struct dataset_position none = {0};
    struct object_store *store;
    struct object_written written;
    struct dataset_reader *reader;
    struct dataset_reject reject;
    struct record record;
    struct reading r;
    struct error err = {0};

    (void)state;
    read_value(&r, STREAM_SCHEMA_JSON,
               bytes_of_string("{\"uid\": 5, \"image\": \"cGl4ZWxz\", \"caption\": \"hi\", \"k\": "
                               "[1]}"));
    assert_int_equal(r.status, ST_OK);
    assert_ok(object_store_open("mem:stream-record", &store, &err));
    assert_ok(object_store_put(store, "s.jsonl", byte_buf_view(&r.line), &written, &err));
    assert_ok(dataset_reader_open(dataset_format_by_name("jsonl"), store, "s.jsonl", &options,
                                  &none, &reader, &err));
    assert_ok(dataset_reader_next(reader, &r.arena, &record, &reject, &err));
    assert_true(bytes_equal(record.uid, bytes_of_string("5")));
    assert_true(bytes_equal(record.image, bytes_of_string("pixels")));
    assert_true(bytes_equal(record.captions[0], bytes_of_string("hi")));
    assert_string_equal(json_string_value(json_object_get(record.meta, "_kafka")), "images/3/17");
    assert_true(json_is_array(json_object_get(record.meta, "k")));
    record_release(&record);
    dataset_reader_close(&reader);
    object_store_close(&store);
    release(&r);
}

static void every_refusal_has_its_reason(void **state)
{
    static const struct {
        const char *json, *reason;
    } cases[] = {
        {"", "empty_record"},
        {"{\"uid\": \"a\", \"image_key\": \"k\"", "bad_json"},
        {"{\"uid\": \"a\", \"uid\": \"a\", \"image_key\": \"k\"}", "bad_json"},
        {"[1]", "bad_json"},
        {"{\"image_key\": \"k\"}", "missing_uid"},
        {"{\"uid\": \"\", \"image_key\": \"k\"}", "missing_uid"},
        {"{\"uid\": {}, \"image_key\": \"k\"}", "missing_uid"},
        {"{\"uid\": \"a\"}", "missing_image"},
        {"{\"uid\": \"a\", \"image_key\": null}", "missing_image"},
        {"{\"uid\": \"a\", \"image_key\": \"k\", \"image_url\": \"http://x\"}", "several_images"},
        {"{\"uid\": \"a\", \"image\": 5}", "bad_image"},
        {"{\"uid\": \"a\", \"image\": \"no base64\"}", "bad_image"},
        {"{\"uid\": \"a\", \"image\": \"\"}", "empty_image"},
        {"{\"uid\": \"a\", \"image_url\": \"ftp://x/y\"}", "bad_url"},
        {"{\"uid\": \"a\", \"image_url\": \"http://x/a b\"}", "bad_url"},
        {"{\"uid\": \"a\", \"image_key\": \"k\", \"url\": 7}", "bad_url"},
        {"{\"uid\": \"a\", \"image_key\": \"../k\"}", "bad_key"},
        {"{\"uid\": \"a\", \"image_key\": \"k\\u0000\"}", "bad_key"},
        {"{\"uid\": \"a\", \"image_key\": \"k\", \"text\": 5}", "bad_caption"},
        {"{\"uid\": \"a\", \"image_key\": \"k\", \"text\": [\"ok\", {}]}", "bad_caption"},
        {"{\"uid\": \"a\", \"image_key\": \"k\", \"record_version\": 2}", "bad_version"},
        {"{\"uid\": \"a\", \"image_key\": \"k\", \"_kafka\": 1}", "reserved_field"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct reading r;

        read_value(&r, STREAM_SCHEMA_JSON, bytes_of_string(cases[i].json));
        if (r.status != ST_CORRUPT || strcmp(r.refusal.reason, cases[i].reason) != 0)
            fail_msg("case %zu: %s: %s, %s", i, cases[i].json, r.refusal.reason, r.refusal.detail);
        assert_int_equal(r.line.len, 0);
        assert_true(r.refusal.detail[0] != '\0');
        release(&r);
    }
}

static void a_protobuf_record_is_refused_for_the_same_reasons(void **state)
{
    const struct bytes_view nul = bytes_view_of("a\0b", 3), latin = bytes_of_string("\xe9");
    const struct {
        struct ingest_record record;
        const char *reason;
    } cases[] = {
        {{.kind = INGEST_IMAGE_KEY, .image = bytes_of_string("k")}, "missing_uid"},
        {{.uid = bytes_of_string("a")}, "missing_image"},
        {{.uid = bytes_of_string("a"), .kind = INGEST_IMAGE_BYTES}, "empty_image"},
        {{.uid = bytes_of_string("a"), .kind = INGEST_IMAGE_URL}, "bad_image"},
        {{.uid = bytes_of_string("a"), .kind = INGEST_IMAGE_KEY, .image = latin}, "bad_image"},
        {{.uid = bytes_of_string("a"), .kind = INGEST_IMAGE_KEY, .image = nul}, "bad_key"},
        {{.uid = latin, .kind = INGEST_IMAGE_KEY, .image = bytes_of_string("k")}, "missing_uid"},
        {{.version = 2, .uid = bytes_of_string("a")}, "bad_version"},
        {{.uid = bytes_of_string("a"), .n_captions = 1, .captions = &nul}, "bad_caption"},
        {{.uid = bytes_of_string("a"), .n_captions = 1, .captions = &latin}, "bad_caption"},
        {{.uid = bytes_of_string("a"), .fields = bytes_of_string("[]")}, "bad_fields"},
        {{.uid = bytes_of_string("a"), .fields = bytes_of_string("{\"image\": 1}")}, "bad_fields"},
        {{.uid = bytes_of_string("a"), .fields = bytes_of_string("{\"_kafka\": 1}")},
         "reserved_field"},
    };
    struct reading r;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct byte_buf bytes = encode(&cases[i].record);

        read_value(&r, STREAM_SCHEMA_PROTOBUF, byte_buf_view(&bytes));
        if (r.status != ST_CORRUPT || strcmp(r.refusal.reason, cases[i].reason) != 0)
            fail_msg("case %zu: %s, %s", i, r.refusal.reason, r.refusal.detail);
        release(&r);
        byte_buf_release(&bytes);
    }
    read_value(&r, STREAM_SCHEMA_AUTO, bytes_of_string("\xff\xff"));
    assert_string_equal(r.refusal.reason, "bad_protobuf");
    release(&r);
}

static void a_record_beyond_the_limit_is_refused_unread(void **state)
{
    static char text[MAX_RECORD + 1];
    struct reading r;

    (void)state;
    memset(text, ' ', sizeof text);
    read_value(&r, STREAM_SCHEMA_AUTO, bytes_view_of(text, sizeof text));
    assert_string_equal(r.refusal.reason, "too_large");
    release(&r);
}

/* Written by `reinforce produce`, read by the job. */
static void a_sample_survives_being_written_and_read(void **state)
{
    static const enum stream_schema schemas[] = {STREAM_SCHEMA_JSON, STREAM_SCHEMA_PROTOBUF};
    const struct bytes_view captions[] = {bytes_of_string("caption")};
    struct record record = {.uid = bytes_of_string("k1"),
                            .image = bytes_of_string("pixels"),
                            .image_ext = "jpg",
                            .url = bytes_of_string("http://from"),
                            .n_captions = 1,
                            .captions = captions};
    struct error err = {0};

    (void)state;
    record.meta = json_object();
    assert_int_equal(json_object_set_new(record.meta, "a", json_integer(1)), 0);
    assert_int_equal(json_object_set_new(record.meta, "_kafka", json_string("old/0/0")), 0);
    assert_int_equal(json_object_set_new(record.meta, "image_key", json_string("old.jpg")), 0);
    for (size_t i = 0; i < 2 * ARRAY_LEN(schemas); i++) {
        const char *key = i % 2 == 1 ? "x/y.jpg" : NULL;
        struct byte_buf value;
        struct arena arena;
        struct reading r;
        json_t *line;

        byte_buf_init(&value, 1 << 20);
        arena_init(&arena, 1 << 20);
        assert_ok(stream_record_write(schemas[i / 2], &record, key, &arena, &value, &err));
        read_value(&r, schemas[i / 2], byte_buf_view(&value));
        if (r.status != ST_OK)
            fail_msg("case %zu: %s", i, r.refusal.detail);
        assert_string_equal(r.record.key, "k1");
        assert_int_equal(r.record.kind, key != NULL ? INGEST_IMAGE_KEY : INGEST_IMAGE_BYTES);
        assert_ok(json_parse(byte_buf_view(&r.line), &line, &err));
        assert_int_equal(json_integer_value(json_object_get(line, "a")), 1);
        assert_string_equal(json_string_value(json_object_get(line, "_kafka")), "images/3/17");
        assert_string_equal(json_string_value(json_object_get(line, "url")), "http://from");
        json_decref(line);
        release(&r);
        arena_release(&arena);
        byte_buf_release(&value);
    }
    record_release(&record);
}

static void a_dead_letter_is_the_record_with_its_story(void **state)
{
    const struct stream_header theirs[] = {{"trace", bytes_of_string("t")}};
    const struct stream_message message = {.topic = "images",
                                           .partition = 3,
                                           .offset = 17,
                                           .timestamp_ms = 5,
                                           .key = bytes_of_string("k"),
                                           .value = bytes_view_of("\0{", 2),
                                           .headers = theirs,
                                           .n_headers = 1};
    static const char *const want[][2] = {
        {DEAD_LETTER_REASON, "bad_json"}, {DEAD_LETTER_DETAIL, "line 1"},
        {DEAD_LETTER_TOPIC, "images"},    {DEAD_LETTER_PARTITION, "3"},
        {DEAD_LETTER_OFFSET, "17"},       {DEAD_LETTER_TIMESTAMP, "5"},
        {DEAD_LETTER_ATTEMPTS, "2"},      {"trace", "t"},
    };
    struct dead_letter letter;

    (void)state;
    dead_letter_make(&message, "images.dead", "bad_json", "line 1", 2, &letter);
    assert_string_equal(letter.message.topic, "images.dead");
    assert_int_equal(letter.message.partition, STREAM_ANY_PARTITION);
    assert_true(bytes_equal(letter.message.key, message.key));
    assert_true(bytes_equal(letter.message.value, message.value));
    assert_int_equal(letter.message.n_headers, ARRAY_LEN(want));
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_string_equal(letter.message.headers[i].name, want[i][0]);
        assert_true(bytes_equal(letter.message.headers[i].value, bytes_of_string(want[i][1])));
    }
}

/* A record is never refused because there was no memory for it. */
static void running_out_of_memory_refuses_nothing(void **state)
{
    static const char json[] =
        "{\"uid\": \"u\", \"image\": \"cGl4ZWxz\", \"text\": [\"a\", \"b\"], "
        "\"k\": {\"x\": [1, 2.5]}}";
    const struct bytes_view captions[] = {bytes_of_string("one"), bytes_of_string("two")};
    const struct ingest_record record = {.uid = bytes_of_string("u1"),
                                         .kind = INGEST_IMAGE_BYTES,
                                         .image = bytes_of_string("pixels"),
                                         .n_captions = 2,
                                         .captions = captions,
                                         .url = bytes_of_string("http://x"),
                                         .fields = bytes_of_string("{\"a\": 1}")};
    struct byte_buf bytes = encode(&record);
    const struct bytes_view values[] = {bytes_of_string(json), byte_buf_view(&bytes)};

    (void)state;
    for (size_t v = 0; v < ARRAY_LEN(values); v++) {
        bool fired = true;

        for (unsigned n = 1; fired; n++) {
            struct reading r;

            oom_fail_at(n);
            read_value(&r, STREAM_SCHEMA_AUTO, values[v]);
            fired = oom_fired();
            oom_fail_at(0);
            if (r.status != (fired ? ST_NO_MEMORY : ST_OK))
                fail_msg("value %zu, allocation %u: %s: %s", v, n, status_name(r.status),
                         r.err.message);
            assert_int_equal(r.line.len > 0, !fired);
            release(&r);
        }
    }
    byte_buf_release(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_json_record_becomes_the_line_that_workers_read),
        cmocka_unit_test(a_protobuf_record_is_the_same_sample_as_its_json),
        cmocka_unit_test(a_worker_reads_the_sample_from_the_line),
        cmocka_unit_test(every_refusal_has_its_reason),
        cmocka_unit_test(a_protobuf_record_is_refused_for_the_same_reasons),
        cmocka_unit_test(a_record_beyond_the_limit_is_refused_unread),
        cmocka_unit_test(a_sample_survives_being_written_and_read),
        cmocka_unit_test(a_dead_letter_is_the_record_with_its_story),
        cmocka_unit_test(running_out_of_memory_refuses_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
