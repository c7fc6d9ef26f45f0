#include "reinforce/base/deflate.h"
#include "reinforce/base/philox.h"
#include "storage/format/base64.h"
#include "storage/format/jsonl.h"
#include "tests/support/dataset_contract.h"
#include "tests/support/oom.h"
#include "tests/support/test.h"

enum { MAX_BYTES = 64 << 20, MAX_SAMPLES = 32 };

#define IMAGE "\"image\": \"/9j/AAAA\""

/* What a reader gave, sample by sample. */
struct result {
    struct arena arenas[MAX_SAMPLES];
    struct record records[MAX_SAMPLES];
    struct dataset_reject rejects[MAX_SAMPLES];
    enum status status[MAX_SAMPLES];
    struct dataset_position positions[MAX_SAMPLES];
    size_t n;
    enum status end;
    struct error err;
};

static void result_release(struct result *result)
{
    for (size_t i = 0; i < result->n; i++) {
        record_release(&result->records[i]);
        arena_release(&result->arenas[i]);
    }
    memset(result, 0, sizeof *result);
}

static void put(const char *key, struct bytes_view body, struct object_store **store)
{
    struct object_written written;
    struct error err = {0};

    assert_ok(object_store_open("mem:jsonl", store, &err));
    assert_ok(object_store_put(*store, key, body, &written, &err));
}

static void read_bytes(const char *format_name, struct bytes_view bytes,
                       const struct dataset_read_options *options, struct dataset_position from,
                       struct result *result)
{
    const struct dataset_format *format = dataset_format_by_name(format_name);
    struct object_store *store;
    struct dataset_reader *reader;
    struct error err = {0};

    memset(result, 0, sizeof *result);
    put("lines", bytes, &store);
    assert_ok(dataset_reader_open(format, store, "lines", options, &from, &reader, &err));
    for (;;) {
        size_t i = result->n;
        enum status st;

        assert_true(i < MAX_SAMPLES);
        arena_init(&result->arenas[i], MAX_BYTES);
        st = dataset_reader_next(reader, &result->arenas[i], &result->records[i],
                                 &result->rejects[i], &result->err);
        if (st != ST_OK && st != ST_CORRUPT) {
            result->end = st;
            arena_release(&result->arenas[i]);
            break;
        }
        result->status[i] = st;
        dataset_reader_tell(reader, &result->positions[i]);
        result->n++;
    }
    dataset_reader_close(&reader);
    object_store_close(&store);
}

static void read_text(const char *text, struct result *result)
{
    const struct dataset_read_options options = {.max_sample_bytes = 1 << 20};

    read_bytes("jsonl", bytes_of_string(text), &options, (struct dataset_position){0}, result);
}

static void expect_view(struct bytes_view got, const char *want)
{
    if (!bytes_equal(got, bytes_of_string(want)))
        fail_msg("got \"%.*s\", want \"%s\"", (int)got.len, (const char *)got.data, want);
}

static void the_contract_holds_plain(void **state) /* IN-3, DR 11 */
{
    (void)state;
    dataset_contract(dataset_format_by_name("jsonl"));
}

static void the_contract_holds_gzipped(void **state) /* IN-3, DR 11 */
{
    (void)state;
    dataset_contract(dataset_format_by_name("jsonl.gz"));
}

static void the_contract_holds_zstd(void **state) /* IN-3, DR 11 */
{
    (void)state;
    dataset_contract(dataset_format_by_name("jsonl.zst"));
}

static void fields_find_their_place_under_either_name(void **state) /* DR 9, 11 */
{
    struct result r;
    const struct record *record;

    (void)state;
    read_text("\xef\xbb\xbf{\"uid\": \"a/b.jpg\", \"caption\": \"c\", \"url\": null, " IMAGE
              ", \"syn_text\": [\"x\"], \"param_aug\": [[[1, 2, 3, 4], null]], "
              "\"member_emb\": \"H4sIcorrupt\", \"december\": {\"b\": 1, \"a\": 2}}\r\n"
              "\n"
              "{\"id\": 17, \"text\": [\"one\", \"two\"], \"caption\": \"kept\", " IMAGE "}\n"
              "{\"uid\": \"u\", \"id\": 5, \"text\": null, " IMAGE "}",
              &r);
    assert_int_equal(r.n, 3);
    for (size_t i = 0; i < 3; i++)
        if (r.status[i] != ST_OK)
            fail_msg("%zu: %s: %s", i, r.rejects[i].reason, r.rejects[i].detail);
    record = &r.records[0];
    expect_view(record->uid, "a%2Fb%2Ejpg");
    assert_string_equal(json_string_value(json_object_get(record->meta, "source_key")), "a/b.jpg");
    expect_view(record->captions[0], "c");
    assert_int_equal(record->image.len, 6);
    assert_string_equal(record->image_ext, "jpg");
    assert_int_equal(record->n_columns, 1);
    assert_int_equal(record->views[0].width, 4);
    assert_null(record->url.data);
    assert_string_equal(json_string_value(json_object_get(record->meta, "member_emb")),
                        "H4sIcorrupt");
    assert_int_equal(json_object_size(record->meta), 3); /* null says absent */
    record = &r.records[1];
    expect_view(record->uid, "17");
    assert_int_equal(record->n_captions, 2);
    expect_view(record->captions[1], "two");
    assert_string_equal(json_string_value(json_object_get(record->meta, "caption")), "kept");
    record = &r.records[2];
    assert_int_equal(record->n_captions, 0);
    assert_int_equal(json_integer_value(json_object_get(record->meta, "id")), 5);
    result_release(&r);
}

static void bad_lines_are_rejects_with_their_number(void **state) /* DR 35 */
{
    static const struct {
        const char *line, *reason, *uid, *detail;
    } cases[] = {
        {"{\"uid\": \"b\"", "bad_json", "line 2", "at byte 34"},
        {"[1, 2]", "bad_json", "line 2", "not an object"},
        {"{\"uid\": \"b\", \"uid\": \"c\"}", "bad_json", "line 2", "duplicate"},
        {"{\"name\": \"b\", \"photo\": 1}", "missing_uid", "line 2", "found name, photo"},
        {"{\"uid\": \"\", " IMAGE "}", "missing_uid", "line 2", ""},
        {"{\"uid\": [1], " IMAGE "}", "missing_uid", "line 2", ""},
        {"{\"uid\": \"b\", \"photo\": 1}", "missing_image", "b", "found photo"},
        {"{\"uid\": \"b\", \"image\": \"!\"}", "bad_image", "b", "field image"},
        {"{\"uid\": \"b\", \"image\": 7}", "bad_image", "b", "field image"},
        {"{\"uid\": \"b\", \"image\": \"\"}", "empty_image", "b", ""},
        {"{\"uid\": \"b\", \"image_key\": \"x.jpg\"}", "missing_image", "b", "image_key"},
        {"{\"uid\": \"b\", \"text\": 7, " IMAGE "}", "bad_caption", "b", "field text"},
        {"{\"uid\": \"b\", \"url\": 7, " IMAGE "}", "bad_url", "b", "field url"},
        {"{\"uid\": \"b\", \"syn_text\": \"x\", " IMAGE "}", "bad_captions", "b",
         "list of strings"},
        {"{\"uid\": \"b\", \"param_aug\": [[1]], " IMAGE "}", "bad_param_aug", "b", "param_aug[0]"},
        {"{\"uid\": \"b\", \"image_emb\": [[1.0]], " IMAGE "}", "bad_embedding", "b", "image_emb"},
        {"{\"uid\": \"b\", \"text_emb\": \"H4sIxx\", " IMAGE "}", "bad_embedding", "b", "text_emb"},
        {"{\"uid\": \"b\", \"tar_members\": {\"cls\": 1}, " IMAGE "}", "bad_member", "b", "cls"},
        {"{\"uid\": \"a\", " IMAGE "}", "repeated_key", "a", "line 2"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[512];
        struct result r;

        (void)snprintf(text, sizeof text,
                       "{\"uid\": \"a\", " IMAGE "}\n%s\n{\"uid\": \"c\", " IMAGE "}\n",
                       cases[i].line);
        read_text(text, &r);
        assert_int_equal(r.n, 3);
        assert_int_equal(r.status[0], ST_OK);
        assert_int_equal(r.status[1], ST_CORRUPT);
        assert_int_equal(r.status[2], ST_OK);
        if (strcmp(r.rejects[1].reason, cases[i].reason) != 0 ||
            strcmp(r.rejects[1].uid, cases[i].uid) != 0 ||
            strstr(r.rejects[1].detail, cases[i].detail) == NULL)
            fail_msg("case %zu: %s: %s: %s", i, r.rejects[1].uid, r.rejects[1].reason,
                     r.rejects[1].detail);
        result_release(&r);
    }
}

static void references_are_read_from_their_store(void **state) /* IN-3 */
{
    static const char list[] =
        "{\"uid\": \"a\", \"image_key\": \"x/a.PNG\", \"text_key\": \"x/a.txt\"}\n"
        "{\"uid\": \"b\", \"image_key\": \"x/b\", \"json_key\": \"x/b.json\", \"width\": 1}\n"
        "{\"uid\": \"c\", \"image_key\": \"x/gone.jpg\"}\n"
        "{\"uid\": \"d\", \"image_key\": \"x/a.PNG\", \"json_key\": \"x/a.txt\"}\n"
        "{\"uid\": \"e\", \"image_key\": \"../a.PNG\"}\n"
        "{\"uid\": \"f\", \"image_key\": \"x/large.jpg\"}\n";
    static const char *const want[] = {
        "", "", "missing_image", "bad_sidecar", "missing_image", "sample_too_large"};
    struct dataset_read_options options = {.max_sample_bytes = 1000};
    struct object_store *images;
    struct object_written written;
    struct result r;
    struct error err = {0};
    char large[2000] = "x";

    (void)state;
    assert_ok(object_store_open("mem:images", &images, &err));
    assert_ok(object_store_put(images, "x/a.PNG", bytes_of_string("pixels"), &written, &err));
    assert_ok(object_store_put(images, "x/a.txt", bytes_of_string("a cat\r\n"), &written, &err));
    assert_ok(object_store_put(images, "x/b", bytes_of_string("\xff\xd8\xff"), &written, &err));
    assert_ok(object_store_put(
        images, "x/b.json",
        bytes_of_string("{\"caption\": \"a dog\", \"uid\": \"no\", \"width\": 9, \"url\": \"u\"}"),
        &written, &err));
    assert_ok(object_store_put(images, "x/large.jpg", bytes_view_of(large, sizeof large), &written,
                               &err));
    options.references = images;
    read_bytes("jsonl", bytes_of_string(list), &options, (struct dataset_position){0}, &r);
    assert_int_equal(r.n, ARRAY_LEN(want));
    for (size_t i = 0; i < r.n; i++)
        if (strcmp(r.rejects[i].reason, want[i]) != 0)
            fail_msg("%zu: %s: %s", i, r.rejects[i].reason, r.rejects[i].detail);
    expect_view(r.records[0].image, "pixels");
    assert_string_equal(r.records[0].image_ext, "png");
    expect_view(r.records[0].captions[0], "a cat");
    assert_string_equal(json_string_value(json_object_get(r.records[0].meta, "image_key")),
                        "x/a.PNG");
    assert_null(json_object_get(r.records[0].meta, "text_key"));
    assert_string_equal(r.records[1].image_ext, "jpg"); /* by its first bytes */
    expect_view(r.records[1].captions[0], "a dog");
    expect_view(r.records[1].url, "u");
    expect_view(r.records[1].uid, "b");
    assert_int_equal(json_integer_value(json_object_get(r.records[1].meta, "width")), 1);
    result_release(&r);
    object_store_close(&images);
}

static void lines_longer_than_a_sample_are_rejects(void **state)
{
    const struct dataset_read_options options = {.max_sample_bytes = 100};
    struct byte_buf text;
    struct error err = {0};
    struct result r;

    (void)state;
    byte_buf_init(&text, MAX_BYTES);
    assert_ok(byte_buf_append_string(&text, "{\"uid\": \"a\", " IMAGE "}\n{\"uid\": \"", &err));
    for (size_t i = 0; i < 100000; i++) /* more than a chunk */
        assert_ok(byte_buf_append_string(&text, "0123456789012345678901234567890123456789", &err));
    assert_ok(byte_buf_append_string(&text, "\"}\n{\"uid\": \"c\", " IMAGE "}\n", &err));
    read_bytes("jsonl", byte_buf_view(&text), &options, (struct dataset_position){0}, &r);
    assert_int_equal(r.n, 3);
    assert_string_equal(r.rejects[1].reason, "sample_too_large");
    assert_string_equal(r.rejects[1].uid, "line 2");
    assert_int_equal(r.status[2], ST_OK);
    result_release(&r);
    byte_buf_release(&text);
}

static void damaged_compression_costs_what_is_behind_it(void **state)
{
    static const char *const formats[] = {"jsonl.gz", "jsonl.zst"};
    const struct dataset_read_options options = {.max_sample_bytes = 1000};
    struct error err = {0};

    (void)state;
    for (size_t f = 0; f < ARRAY_LEN(formats); f++) {
        const struct dataset_format *format = dataset_format_by_name(formats[f]);
        const struct dataset_write_options write = {.layout = DATASET_LAYOUT_CURRENT,
                                                    .dtype = RECORD_F32};
        struct record record = {.uid = bytes_of_string("a"),
                                .image = bytes_of_string("\xff\xd8\xff"),
                                .image_ext = "jpg"};
        struct byte_buf bytes;
        struct result r, again;
        size_t first;

        byte_buf_init(&bytes, MAX_BYTES);
        assert_ok(dataset_append(format, &record, &write, &bytes, &err));
        first = bytes.len;
        record.uid = bytes_of_string("b");
        assert_ok(dataset_append(format, &record, &write, &bytes, &err));
        for (size_t keep = first + 1; keep < bytes.len; keep++) {
            read_bytes(formats[f], bytes_view_of(bytes.data, keep), &options,
                       (struct dataset_position){0}, &r);
            assert_true(r.n >= 2 && r.n <= 3); /* a cut checksum: the text is there, and reported */
            assert_int_equal(r.status[0], ST_OK);
            assert_string_equal(r.rejects[r.n - 1].reason, "damaged_archive");
            assert_int_equal(r.end, ST_END);
            read_bytes(formats[f], bytes_view_of(bytes.data, keep), &options, r.positions[r.n - 1],
                       &again);
            assert_int_equal(again.n, 0); /* resuming does not report it twice */
            result_release(&again);
            result_release(&r);
        }
        byte_buf_release(&bytes);
    }
}

static void gzip_written_by_others_is_read(void **state) /* IN-3 */
{
    static const char text[] = "{\"uid\": \"a\", " IMAGE "}\n{\"uid\": \"b\", " IMAGE "}\n";
    const struct dataset_read_options options = {.max_sample_bytes = 1000};
    struct byte_buf bytes;
    struct error err = {0};
    struct result r;

    (void)state;
    byte_buf_init(&bytes, MAX_BYTES);
    /* members cut inside a line, an empty one, and zeros behind the last as some tools pad */
    assert_ok(gzip_compress(bytes_view_of(text, 10), &bytes, &err));
    assert_ok(gzip_compress(bytes_view_of(text, 0), &bytes, &err));
    assert_ok(gzip_compress(bytes_view_of(text + 10, strlen(text) - 10), &bytes, &err));
    assert_ok(byte_buf_append(&bytes, "\0\0\0\0\0\0\0", 7, &err));
    read_bytes("jsonl.gz", byte_buf_view(&bytes), &options, (struct dataset_position){0}, &r);
    assert_int_equal(r.n, 2);
    assert_int_equal(r.status[0], ST_OK);
    assert_int_equal(r.status[1], ST_OK);
    assert_int_equal(r.end, ST_END);
    result_release(&r);
    byte_buf_release(&bytes);
}

static void a_repeated_uid_is_found_in_the_slice_and_after_resuming(void **state)
{
    static const char text[] = "{\"uid\": \"a\", " IMAGE "}\n"
                               "{\"uid\": \"b\", " IMAGE "}\n"
                               "{\"uid\": \"a\", " IMAGE "}\n"
                               "{\"uid\": \"b\", " IMAGE "}\n";
    struct dataset_read_options options = {.max_sample_bytes = 1000};
    struct result all, rest;

    (void)state;
    read_text(text, &all);
    assert_int_equal(all.n, 4);
    assert_string_equal(all.rejects[2].reason, "repeated_key");
    assert_string_equal(all.rejects[3].reason, "repeated_key");
    read_bytes("jsonl", bytes_of_string(text), &options, all.positions[0], &rest);
    assert_int_equal(rest.n, 3);
    assert_int_equal(rest.status[0], ST_OK);
    assert_string_equal(rest.rejects[1].reason, "repeated_key");
    assert_string_equal(rest.rejects[1].detail, all.rejects[2].detail);
    result_release(&rest);
    options.begin_offset = all.positions[1].offset; /* another slice, another shard */
    read_bytes("jsonl", bytes_of_string(text), &options, all.positions[1], &rest);
    assert_int_equal(rest.n, 2);
    assert_int_equal(rest.status[0], ST_OK);
    assert_int_equal(rest.status[1], ST_OK);
    result_release(&rest);
    result_release(&all);
}

static void formats_are_told_by_bytes_then_by_name(void **state)
{
    static const struct {
        const char *key, *head, *want;
    } cases[] = {
        {"x.bin", " \n {\"uid\"", "jsonl"},
        {"x.jsonl.gz", "\x1f\x8b\x08\x04", "jsonl.gz"},
        {"x.jsonl.gz", "{\"not\": \"compressed\"}", "jsonl"},
        {"x.tar.gz", "\x1f\x8b\x08\x04", NULL},
        {"x", "\x28\xb5\x2f\xfd", "jsonl.zst"},
        {"x.jsonl", "[1, 2]", NULL},
        {"a/x.json.zstd", "", "jsonl.zst"},
        {"x.ndjson", "", "jsonl"},
        {"x.tar", "", "webdataset"},
        {"x.parquet", "PAR1", NULL},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct dataset_format *format =
            dataset_format_detect(cases[i].key, bytes_of_string(cases[i].head));
        const struct dataset_format *want =
            cases[i].want != NULL ? dataset_format_by_name(cases[i].want) : NULL;

        if (format != want)
            fail_msg("case %zu: %s", i, format != NULL ? format->name : "none");
    }
    assert_null(dataset_format_by_name("tfrecord"));
}

static void a_thousand_mutated_lines_do_no_harm(void **state)
{
    const struct dataset_read_options options = {.max_sample_bytes = 1 << 20};
    const struct dataset_write_options write = {.layout = DATASET_LAYOUT_CURRENT,
                                                .dtype = RECORD_F32};
    struct byte_buf bytes;
    struct arena arena;
    struct philox rng;
    struct error err = {0};
    size_t n_rejects = 0;

    (void)state;
    byte_buf_init(&bytes, MAX_BYTES);
    arena_init(&arena, MAX_BYTES);
    for (size_t i = 0; i < 4; i++) {
        struct record record;

        dataset_contract_record(i, &arena, &record);
        record.image.len = 32;
        assert_ok(jsonl_write_line(&record, &write, &bytes, &err));
        record_release(&record);
    }
    philox_init(&rng, 4, bytes_of_string("lines"), PHILOX_STAGE_SELECT, 0);
    for (size_t i = 0; i < 1000; i++) {
        static const char likely[] = "{}[]\",:\\01e-\n \x80";
        uint32_t n = 1 + philox_below(&rng, 6), len = (uint32_t)bytes.len;
        uint8_t *copy = malloc(bytes.len);
        struct result r;

        assert_non_null(copy);
        memcpy(copy, bytes.data, bytes.len);
        for (uint32_t m = 0; m < n; m++)
            copy[philox_below(&rng, len)] = (uint8_t)likely[philox_below(&rng, sizeof likely - 1)];
        if (philox_below(&rng, 4) == 0)
            len = philox_below(&rng, len);
        read_bytes("jsonl", bytes_view_of(copy, len), &options, (struct dataset_position){0}, &r);
        assert_int_equal(r.end, ST_END);
        for (size_t s = 0; s < r.n; s++) {
            n_rejects += r.status[s] == ST_CORRUPT;
            assert_true(r.status[s] == ST_OK || r.rejects[s].detail[0] != '\0');
        }
        result_release(&r);
        free(copy);
    }
    assert_true(n_rejects > 300);
    byte_buf_release(&bytes);
    arena_release(&arena);
}

static void every_allocation_may_fail(void **state)
{
    static const char *const formats[] = {"jsonl", "jsonl.gz", "jsonl.zst"};
    const struct dataset_read_options options = {.max_sample_bytes = 1 << 20};
    const struct dataset_write_options write = {.layout = DATASET_LAYOUT_CURRENT,
                                                .dtype = RECORD_BF16};
    const struct dataset_position none = {0};
    struct arena arena;
    struct error err = {0};

    (void)state;
    arena_init(&arena, MAX_BYTES);
    for (size_t f = 0; f < ARRAY_LEN(formats); f++) {
        const struct dataset_format *format = dataset_format_by_name(formats[f]);
        struct object_store *store;
        struct byte_buf bytes;
        struct record record;
        bool fired = true;

        arena_reset(&arena);
        byte_buf_init(&bytes, MAX_BYTES);
        dataset_contract_record(1, &arena, &record);
        for (unsigned n = 1; fired; n++) {
            enum status st;

            byte_buf_release(&bytes);
            byte_buf_init(&bytes, MAX_BYTES);
            oom_fail_at(n);
            st = dataset_append(format, &record, &write, &bytes, &err);
            fired = oom_fired();
            oom_fail_at(0);
            if (st != ST_NO_MEMORY && fired)
                fail_msg("%s: append: allocation %u: %s", formats[f], n, status_name(st));
        }
        record_release(&record);
        put("t", byte_buf_view(&bytes), &store);
        fired = true;
        for (unsigned n = 1; fired; n++) {
            struct dataset_reader *reader;
            struct dataset_reject reject;
            enum status st;

            arena_release(&arena);
            arena_init(&arena, MAX_BYTES);
            oom_fail_at(n);
            st = dataset_reader_open(format, store, "t", &options, &none, &reader, &err);
            if (st == ST_OK)
                st = dataset_reader_next(reader, &arena, &record, &reject, &err);
            fired = oom_fired();
            oom_fail_at(0);
            if (st != (fired ? ST_NO_MEMORY : ST_OK))
                fail_msg("%s: next: allocation %u: %s: %s", formats[f], n, status_name(st),
                         err.message);
            if (st == ST_OK)
                record_release(&record);
            dataset_reader_close(&reader);
        }
        object_store_close(&store);
        byte_buf_release(&bytes);
    }
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_contract_holds_plain),
        cmocka_unit_test(the_contract_holds_gzipped),
        cmocka_unit_test(the_contract_holds_zstd),
        cmocka_unit_test(fields_find_their_place_under_either_name),
        cmocka_unit_test(bad_lines_are_rejects_with_their_number),
        cmocka_unit_test(references_are_read_from_their_store),
        cmocka_unit_test(lines_longer_than_a_sample_are_rejects),
        cmocka_unit_test(damaged_compression_costs_what_is_behind_it),
        cmocka_unit_test(gzip_written_by_others_is_read),
        cmocka_unit_test(a_repeated_uid_is_found_in_the_slice_and_after_resuming),
        cmocka_unit_test(formats_are_told_by_bytes_then_by_name),
        cmocka_unit_test(a_thousand_mutated_lines_do_no_harm),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
