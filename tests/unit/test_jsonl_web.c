/* Lines whose image is a URL. */
#include "storage/format/dataset.h"
#include "storage/http/http.h"
#include "tests/support/http_fake.h"
#include "tests/support/test.h"

#include <stdio.h>

/* Reads the one line that names `path` on the fake. */
static enum status read_line(struct http *web, const char *url, const char *path,
                             struct arena *arena, struct record *record,
                             struct dataset_reject *reject)
{
    const struct dataset_read_options options = {.max_sample_bytes = 64, .web = web};
    const struct dataset_position none = {0};
    struct object_written written;
    struct object_store *store;
    struct dataset_reader *reader;
    struct error err = {0};
    char line[256];
    enum status st;

    (void)snprintf(line, sizeof line, "{\"uid\": \"u\", \"image_url\": \"%s%s\"}\n", url, path);
    assert_ok(object_store_open("mem:jsonl-web", &store, &err));
    assert_ok(object_store_put(store, "t.jsonl", bytes_of_string(line), &written, &err));
    assert_ok(dataset_reader_open(dataset_format_by_name("jsonl"), store, "t.jsonl", &options,
                                  &none, &reader, &err));
    st = dataset_reader_next(reader, arena, record, reject, &err);
    dataset_reader_close(&reader);
    object_store_close(&store);
    return st;
}

static struct http *open_web(bool public_only)
{
    struct http_options options;
    struct http *web;
    struct error err = {0};

    http_options_default(&options);
    options.max_tries = 1;
    options.direct = true;
    options.public_only = public_only;
    assert_ok(http_open(&options, &web, &err));
    return web;
}

static void an_image_is_fetched_from_its_url(void **state)
{
    static const struct http_fake_answer answers[] = {
        {.status = 200, .body = "\x89PNG\r\n\x1a\nxx"}};
    struct http_fake *fake = http_fake_create(answers, ARRAY_LEN(answers));
    struct http *web = open_web(false);
    struct dataset_reject reject;
    struct record record;
    struct arena arena;

    (void)state;
    arena_init(&arena, 1 << 20);
    assert_int_equal(read_line(web, http_fake_url(fake), "/a?b=c", &arena, &record, &reject),
                     ST_OK);
    assert_true(bytes_equal(record.image, bytes_of_string(answers[0].body)));
    assert_string_equal(record.image_ext, "png");
    assert_non_null(json_object_get(record.meta, "image_url"));
    assert_non_null(strstr(http_fake_request(fake, 0), "GET /a?b=c "));
    record_release(&record);
    arena_release(&arena);
    http_close(&web);
    http_fake_destroy(&fake);
}

static void what_cannot_be_fetched_costs_its_sample(void **state)
{
    static const struct {
        struct http_fake_answer answer;
        bool public_only;
        const char *reason;
    } cases[] = {
        {{.status = 404, .body = "no"}, false, "missing_image"},
        {{.status = 403, .body = "no"}, false, "fetch_failed"},
        {{.status = 500, .body = "no"}, false, "fetch_failed"},
        {{.status = 0}, false, "fetch_failed"},
        {{.status = 200, .body = ""}, false, "empty_image"},
        {{.status = 200,
          .body = "more bytes than a sample may have, which are sixty-four, and these are more"},
         false,
         "fetch_failed"},
        {{.status = 200, .body = "x"}, true, "fetch_failed"}, /* a private address */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct http_fake *fake = http_fake_create(&cases[i].answer, 1);
        struct http *web = open_web(cases[i].public_only);
        struct dataset_reject reject;
        struct record record;
        struct arena arena;

        arena_init(&arena, 1 << 20);
        assert_int_equal(read_line(web, http_fake_url(fake), "/a", &arena, &record, &reject),
                         ST_CORRUPT);
        if (strcmp(reject.reason, cases[i].reason) != 0)
            fail_msg("case %zu: %s: %s", i, reject.reason, reject.detail);
        arena_release(&arena);
        http_close(&web);
        http_fake_destroy(&fake);
    }
}

static void nothing_is_fetched_where_nothing_is_to_be(void **state)
{
    struct dataset_reject reject;
    struct record record;
    struct arena arena;

    (void)state;
    arena_init(&arena, 1 << 20);
    assert_int_equal(read_line(NULL, "http://127.0.0.1:1", "/a", &arena, &record, &reject),
                     ST_CORRUPT);
    assert_string_equal(reject.reason, "fetch_failed");
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_image_is_fetched_from_its_url),
        cmocka_unit_test(what_cannot_be_fetched_costs_its_sample),
        cmocka_unit_test(nothing_is_fetched_where_nothing_is_to_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
