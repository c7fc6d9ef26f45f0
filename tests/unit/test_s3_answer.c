#include "storage/object/s3_answer.h"
#include "tests/support/test.h"

static void times_are_read_as_milliseconds(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2026-11-25T19:31:14.500Z", 1795635074500},
        {"2024-02-29T23:59:59.999Z", 1709251199999},
        {"2000-03-01T00:00:00.000Z", 951868800000},
        {"2100-03-01T00:00:00Z", 4107542400000},
        {"2026-11-25", -1},
        {"2026-13-25T19:31:14Z", -1},
        {"2026-11-25T19:31:14", -1},
        {"2026-11-25T24:31:14Z", -1},
        {"x026-11-25T19:31:14Z", -1},
        {"2026-11-25T19:31:14.5Z", -1},
        {"", -1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t ms = -1;
        struct error err = {0};
        enum status st = s3_answer_time(cases[i].text, &ms, &err);

        if ((st == ST_OK) != (cases[i].ms >= 0) || ms != cases[i].ms)
            fail_msg("\"%s\" is %lld", cases[i].text, (long long)ms);
    }
}

static void a_listing_gives_keys_as_they_are(void **state)
{
    static const char encoded[] =
        "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
        "<IsTruncated>true</IsTruncated><NextContinuationToken>t&amp;1</NextContinuationToken>"
        "<Contents><Key>a%2Fb+c%2B%0A</Key><ETag>&quot;e-2&quot;</ETag><Size>5</Size></Contents>"
        "<Contents><Key>z</Key><Size>0</Size></Contents>"
        "<EncodingType>url</EncodingType></ListBucketResult>";
    static const char plain[] = "<ListBucketResult><Contents><Key>a+%2F</Key><Size>1</Size>"
                                "</Contents></ListBucketResult>";
    struct s3_list_page page;
    struct arena arena;
    struct error err = {0};

    (void)state;
    arena_init(&arena, 1 << 20);
    assert_ok(s3_answer_list(bytes_of_string(encoded), &arena, &page, &err));
    assert_int_equal(page.n_entries, 2);
    assert_string_equal(page.entries[0].key, "a/b c+\n");
    assert_string_equal(page.entries[0].etag, "e-2");
    assert_int_equal(page.entries[0].bytes, 5);
    assert_string_equal(page.entries[1].etag, "");
    assert_true(page.truncated);
    assert_string_equal(page.token, "t&1");
    assert_ok(s3_answer_list(bytes_of_string(plain), &arena, &page, &err));
    assert_string_equal(page.entries[0].key, "a+%2F");
    assert_false(page.truncated);
    arena_release(&arena);
}

static void what_is_no_answer_is_refused(void **state)
{
    static const char *const answers[] = {
        "",
        "<html>",
        "<html></html>",
        "{}",
        "<ListBucketResult><Contents></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        "<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>%zz</Key></Contents>"
        "</ListBucketResult>",
        "<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>%00</Key></Contents>"
        "</ListBucketResult>",
        "<!DOCTYPE a><ListBucketResult></ListBucketResult>",
        "<Error><Code>SlowDown</Code></Error>",
    };
    struct s3_list_page page;
    struct arena arena;
    struct error err = {0};

    (void)state;
    arena_init(&arena, 1 << 20);
    for (size_t i = 0; i < ARRAY_LEN(answers); i++)
        if (s3_answer_list(bytes_of_string(answers[i]), &arena, &page, &err) != ST_CORRUPT)
            fail_msg("\"%s\" is read", answers[i]);
    arena_release(&arena);
}

static void a_success_may_be_an_error(void **state)
{
    struct s3_error said;
    char etag[80];
    struct error err = {0};

    (void)state;
    assert_ok(s3_answer_etag(
        bytes_of_string("<CopyPartResult><ETag>\"abc\"</ETag></CopyPartResult>"), etag, &err));
    assert_string_equal(etag, "abc");
    assert_ok(s3_answer_etag(bytes_of_string("\r\n  <?xml version=\"1.0\"?>\n"
                                             "<CopyPartResult><ETag>d</ETag></CopyPartResult>"),
                             etag, &err));
    assert_string_equal(etag, "d");
    assert_status(
        s3_answer_etag(bytes_of_string("<Error><Code>InternalError</Code></Error>"), etag, &err),
        ST_UNAVAILABLE);
    assert_non_null(strstr(err.message, "InternalError"));
    assert_status(s3_answer_etag(bytes_of_string("<a/>"), etag, &err), ST_CORRUPT);
    s3_answer_error(bytes_of_string("<Error><Code>SlowDown</Code><Message>a\nb</Mess"), &said);
    assert_string_equal(said.code, "SlowDown");
    s3_answer_error(bytes_of_string("Bad gateway"), &said);
    assert_string_equal(said.code, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_read_as_milliseconds),
        cmocka_unit_test(a_listing_gives_keys_as_they_are),
        cmocka_unit_test(what_is_no_answer_is_refused),
        cmocka_unit_test(a_success_may_be_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
