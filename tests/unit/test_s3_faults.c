/* What the S3 store makes of servers that fail, throttle, break off, lie and forget; and what the
 * web as a store refuses. */
#include "storage/object/object_store.h"
#include "tests/support/http_fake.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>

#define ERROR(code) "<Error><Code>" code "</Code><Message>said so</Message></Error>"
#define MD5_OF_BODY "841a2d689ad86bd1611447453c22c6fc" /* "body" */
#define ETAG(md5)   "ETag: \"" md5 "\"\r\n"
#define BEGUN                                                                                      \
    "<InitiateMultipartUploadResult><UploadId>u1</UploadId>"                                       \
    "</InitiateMultipartUploadResult>"
#define COMPLETED                                                                                  \
    "<CompleteMultipartUploadResult><ETag>\"x\"</ETag>"                                            \
    "</CompleteMultipartUploadResult>"

/* A store in front of a fake that says `answers`. */
struct fixture {
    struct http_fake *fake;
    struct object_store *store;
};

static void open_at(struct fixture *f, const struct http_fake_answer *answers, size_t n,
                    size_t part_bytes)
{
    struct object_store_options options = {
        .max_tries = 3, .connections = 1, .part_bytes = part_bytes};
    struct error err = {0};

    f->fake = http_fake_create(answers, n);
    options.endpoint = http_fake_url(f->fake);
    assert_ok(object_store_open_with("s3://bucket/p", &options, &f->store, &err));
}

static void close_it(struct fixture *f)
{
    object_store_close(&f->store);
    http_fake_destroy(&f->fake);
}

static void a_put_is_tried_again_and_told_apart(void **state)
{
    static const struct {
        struct http_fake_answer answers[3];
        size_t n;
        enum status want;
        size_t requests;
        const char *story;
    } cases[] = {
        {{{.status = 200, .headers = ETAG(MD5_OF_BODY)}}, 1, ST_OK, 1, ""},
        {{{.status = 503, .body = ERROR("SlowDown"), .headers = "Retry-After: 0\r\n"},
          {.status = 0},
          {.status = 200, .headers = ETAG(MD5_OF_BODY)}},
         3,
         ST_OK,
         3,
         ""},
        {{{.status = 503, .body = ERROR("SlowDown"), .headers = "Retry-After: 0\r\n"}},
         1,
         ST_UNAVAILABLE,
         3,
         "s3://bucket/p/k: PUT answered 503 SlowDown (said so)"},
        {{{.status = 400, .body = ERROR("RequestTimeout")},
          {.status = 200, .headers = ETAG(MD5_OF_BODY)}},
         2,
         ST_OK,
         2,
         ""},
        {{{.status = 403, .body = ERROR("AccessDenied")}},
         1,
         ST_INVALID,
         1,
         "403 AccessDenied (said so); give this key the right"},
        {{{.status = 400,
           .body = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region>"
                   "</Error>"}},
         1,
         ST_INVALID,
         1,
         "the bucket is in eu-west-1: set storage.region"},
        {{{.status = 301, .headers = "x-amz-bucket-region: eu-west-9\r\n"}},
         1,
         ST_INVALID,
         1,
         "the bucket is in eu-west-9"},
        {{{.status = 507, .body = ERROR("XMinioStorageFull")}}, 1, ST_FULL, 1, "free space"},
        {{{.status = 409, .body = ERROR("OperationAborted")}}, 1, ST_UNAVAILABLE, 1, "409"},
        {{{.status = 412, .body = ERROR("PreconditionFailed")}}, 1, ST_CONFLICT, 1, "412"},
        {{{.status = 502, .body = "<html>Bad gateway</html>"}}, 1, ST_UNAVAILABLE, 3, "502"},
        /* the server has other bytes than were sent: they do not stay */
        {{{.status = 200, .headers = ETAG("d41d8cd98f00b204e9800998ecf8427e")}, {.status = 204}},
         2,
         ST_CORRUPT,
         2,
         "other bytes than were sent"},
        /* the server encrypts: its ETag says nothing, a HEAD does */
        {{{.status = 200,
           .headers = ETAG("d41d8cd98f00b204e9800998ecf8427e") "x-amz-server-side-encryption: "
                                                               "aws:kms\r\n"},
          {.status = 200, .body = "body"}},
         2,
         ST_OK,
         2,
         ""},
        {{{.status = 200, .headers = ETAG("opaque")}, {.status = 200, .body = "bod"}},
         2,
         ST_CORRUPT,
         2,
         "has 3 bytes after 4 were written"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;
        struct object_written written;
        struct error err = {0};
        enum status st;

        open_at(&f, cases[i].answers, cases[i].n, 0);
        st = object_store_put(f.store, "k", bytes_of_string("body"), &written, &err);
        if (st != cases[i].want || http_fake_count(f.fake) != cases[i].requests ||
            (st != ST_OK && strstr(err.message, cases[i].story) == NULL))
            fail_msg("case %zu: %s after %zu requests: %s", i, status_name(st),
                     http_fake_count(f.fake), err.message);
        close_it(&f);
    }
}

static void a_request_is_signed_with_digests_and_session(void **state)
{
    static const struct http_fake_answer answer = {.status = 200, .headers = ETAG(MD5_OF_BODY)};
    struct fixture f;
    struct object_written written;
    const char *request;
    struct error err = {0};

    (void)state;
    assert_int_equal(setenv("AWS_SESSION_TOKEN", "the-session", 1), 0);
    open_at(&f, &answer, 1, 0);
    assert_int_equal(unsetenv("AWS_SESSION_TOKEN"), 0);
    assert_ok(object_store_put(f.store, "a b/+", bytes_of_string("body"), &written, &err));
    request = http_fake_request(f.fake, 0);
    assert_non_null(strstr(request, "PUT /bucket/p/a%20b/%2B HTTP/1.1\r\n"));
    assert_non_null(strstr(request, "Content-MD5: hBotaJrYa9FhFEdFPCLG/A==\r\n"));
    assert_non_null(strstr(request, "x-amz-content-sha256: "
                                    "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31ac"
                                    "b5\r\n"));
    assert_non_null(strstr(request, "x-amz-security-token: the-session\r\n"));
    assert_non_null(strstr(request,
                           "SignedHeaders=content-md5;content-type;host;x-amz-content-sha256;"
                           "x-amz-date;x-amz-security-token, Signature="));
    assert_null(strstr(request, "secret"));
    close_it(&f);
}

static void a_clock_that_is_wrong_is_set_by_the_servers(void **state)
{
    static const struct http_fake_answer answers[] = {
        {.status = 403,
         .body = ERROR("RequestTimeTooSkewed"),
         .headers = "Date: Tue, 01 Jan 2030 00:00:30 GMT\r\n"},
        {.status = 200, .headers = ETAG(MD5_OF_BODY)},
    };
    /* A HEAD is refused without a word: a GET is asked why, and mends it. */
    static const struct http_fake_answer silent[] = {
        {.status = 403},
        {.status = 403,
         .body = ERROR("RequestTimeTooSkewed"),
         .headers = "Date: Tue, 01 Jan 2030 00:00:30 GMT\r\n"},
        {.status = 206, .body = "b"},
        {.status = 200, .body = "body"},
    };
    struct fixture f;
    struct object_written written;
    struct object_info info;
    struct error err = {0};

    (void)state;
    open_at(&f, answers, 2, 0);
    assert_ok(object_store_put(f.store, "k", bytes_of_string("body"), &written, &err));
    assert_non_null(strstr(http_fake_request(f.fake, 1), "x-amz-date: 20300101T0000"));
    close_it(&f);
    open_at(&f, silent, ARRAY_LEN(silent), 0);
    assert_ok(object_store_head(f.store, "k", &info, &err));
    assert_int_equal(info.bytes, 4);
    assert_non_null(strstr(http_fake_request(f.fake, 3), "HEAD /bucket/p/k HTTP"));
    close_it(&f);
}

/* The same version is gone on with where an answer broke; another one is no continuation. */
static void a_body_that_breaks_off_is_gone_on_with(void **state)
{
    static const struct http_fake_answer same[] = {
        {.status = 206, .body = "01234567", .cut_at = 3, .headers = ETAG("v1")},
        {.status = 206, .body = "34567", .cut_at = 1, .headers = ETAG("v1")},
        {.status = 206, .body = "4567", .headers = ETAG("v1")},
    };
    static const struct http_fake_answer other[] = {
        {.status = 206, .body = "01234567", .cut_at = 3, .headers = ETAG("v1")},
        {.status = 206, .body = "34567", .headers = ETAG("v2")},
    };
    static const struct http_fake_answer beyond = {.status = 416, .body = ERROR("InvalidRange")};
    static const struct http_fake_answer shorter = {.status = 206, .body = "0123"};
    struct fixture f;
    char bytes[9] = "";
    struct error err = {0};

    (void)state;
    open_at(&f, same, ARRAY_LEN(same), 0);
    assert_ok(object_store_read_range(f.store, "k", 10, 8, bytes, &err));
    assert_string_equal(bytes, "01234567");
    assert_non_null(strstr(http_fake_request(f.fake, 0), "Range: bytes=10-17\r\n"));
    assert_non_null(strstr(http_fake_request(f.fake, 1), "Range: bytes=13-17\r\n"));
    assert_non_null(strstr(http_fake_request(f.fake, 2), "Range: bytes=14-17\r\n"));
    close_it(&f);
    open_at(&f, other, ARRAY_LEN(other), 0);
    assert_status(object_store_read_range(f.store, "k", 10, 8, bytes, &err), ST_CONFLICT);
    assert_non_null(strstr(err.message, "s3://bucket/p/k was replaced while it was read"));
    close_it(&f);
    open_at(&f, &beyond, 1, 0);
    assert_status(object_store_read_range(f.store, "k", 10, 8, bytes, &err), ST_CORRUPT);
    close_it(&f);
    open_at(&f, &shorter, 1, 0);
    assert_status(object_store_read_range(f.store, "k", 10, 8, bytes, &err), ST_CORRUPT);
    assert_non_null(strstr(err.message, "too short: 8 bytes were expected from offset 10"));
    close_it(&f);
}

/* What is there at once, what takes a second request, what is nothing, and what is too much. */
static void an_object_is_got_in_one_request(void **state)
{
    static const struct http_fake_answer answers[] = {
        {.status = 206, .body = "abc", .headers = "Content-Range: bytes 0-2/3\r\n"},
        {.status = 206, .body = "abcd", .headers = "Content-Range: bytes 0-3/6\r\n" ETAG("v")},
        {.status = 206, .body = "ef", .headers = "Content-Range: bytes 4-5/6\r\n" ETAG("v")},
        {.status = 200, .body = "abcdef"}, /* knows no ranges */
        {.status = 200, .body = "abcdef"},
        {.status = 416, .body = ERROR("InvalidRange")},
        {.status = 200},
        {.status = 206, .body = "abcd", .headers = "Content-Range: bytes 0-3/99\r\n"},
        {.status = 404, .body = ERROR("NoSuchKey")},
    };
    static const char *const want[] = {"abc", "abcdef", "abcdef", ""};
    struct fixture f;
    struct arena arena;
    struct bytes_view body;
    struct error err = {0};

    (void)state;
    arena_init(&arena, 1 << 16);
    open_at(&f, answers, ARRAY_LEN(answers), 4);
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        assert_ok(object_store_get(f.store, "k", 50, &arena, &body, &err));
        if (!bytes_equal(body, bytes_of_string(want[i])))
            fail_msg("case %zu: \"%.*s\"", i, (int)body.len, (const char *)body.data);
    }
    assert_status(object_store_get(f.store, "k", 50, &arena, &body, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "has 99 bytes, more than the 50 allowed"));
    assert_status(object_store_get(f.store, "k", 50, &arena, &body, &err), ST_NOT_FOUND);
    assert_int_equal(http_fake_count(f.fake), ARRAY_LEN(answers));
    arena_release(&arena);
    close_it(&f);
}

/* "abcdef" in parts of four bytes: MD5 of "abcd", of "ef", and the ETag of both */
#define EF_MD5    "feb78cc258bdc76867354f01c22dbe43"
#define BOTH_ETAG "fa40dffba3d56c6098e0477379f300bd-2"
#define ABCD_MD5  "e2fc714c4727ee9395f324cd2e7f331f"

static void an_upload_that_fails_is_thrown_away(void **state)
{
    static const struct http_fake_answer answers[] = {
        {.status = 200, .body = BEGUN},
        {.status = 200, .headers = ETAG(ABCD_MD5)},
        {.status = 403, .body = ERROR("AccessDenied")},
        {.status = 204},
    };
    struct fixture f;
    struct object_written written;
    struct error err = {0};

    (void)state;
    open_at(&f, answers, ARRAY_LEN(answers), 4);
    assert_status(object_store_put(f.store, "k", bytes_of_string("abcdef"), &written, &err),
                  ST_INVALID);
    assert_int_equal(http_fake_count(f.fake), 4);
    assert_non_null(strstr(http_fake_request(f.fake, 0), "POST /bucket/p/k?uploads= HTTP"));
    assert_non_null(
        strstr(http_fake_request(f.fake, 1), "PUT /bucket/p/k?partNumber=1&uploadId=u1 HTTP"));
    assert_non_null(strstr(http_fake_request(f.fake, 3), "DELETE /bucket/p/k?uploadId=u1 HTTP"));
    close_it(&f);
}

/* 200 and an error; then the upload is gone, since the first answer was a success that got lost. */
static void a_completion_is_asked_for_until_it_is_certain(void **state)
{
    static const struct http_fake_answer answers[] = {
        {.status = 200, .body = BEGUN},
        {.status = 200, .headers = ETAG("opaque")},
        {.status = 200, .headers = ETAG("opaque")},
        {.status = 200, .body = ERROR("InternalError")},
        {.status = 200, .body = COMPLETED},
        {.status = 200, .body = "abcdef"},
    };
    static const struct http_fake_answer gone[] = {
        {.status = 200, .body = BEGUN},
        {.status = 200, .headers = ETAG("opaque")},
        {.status = 200, .headers = ETAG("opaque")},
        {.status = 404, .body = ERROR("NoSuchUpload")},
        {.status = 404},
        {.status = 404, .body = ERROR("NoSuchUpload")},
    };
    struct fixture f;
    struct object_written written;
    struct error err = {0};

    (void)state;
    open_at(&f, answers, ARRAY_LEN(answers), 4);
    assert_ok(object_store_put(f.store, "k", bytes_of_string("abcdef"), &written, &err));
    assert_int_equal(http_fake_count(f.fake), ARRAY_LEN(answers));
    assert_non_null(strstr(http_fake_request(f.fake, 4),
                           "<Part><PartNumber>2</PartNumber><ETag>\"opaque\"</ETag></Part>"));
    assert_non_null(strstr(http_fake_request(f.fake, 5), "HEAD /bucket/p/k HTTP"));
    close_it(&f);
    open_at(&f, gone, ARRAY_LEN(gone), 4);
    assert_status(object_store_put(f.store, "k", bytes_of_string("abcdef"), &written, &err),
                  ST_UNAVAILABLE);
    assert_non_null(strstr(err.message, "thrown away by somebody else"));
    close_it(&f);
}

/* The copy is refused for good: the joined object is made again, of bytes that are sent. */
static void a_store_that_cannot_copy_is_sent_the_bytes(void **state)
{
    enum { PART = 5 << 20 };
    static char part[PART + 1];
    static const char *const keys[] = {"part"};
    const struct http_fake_answer head = {.status = 200, .body = part, .headers = ETAG("v")},
                                  begun = {.status = 200, .body = BEGUN},
                                  range = {.status = 206, .body = part, .headers = ETAG("v")},
                                  put = {.status = 200, .headers = ETAG("opaque")},
                                  gone = {.status = 204};
    const struct http_fake_answer answers[] = {
        head,
        begun,
        range,
        put,
        {.status = 501, .body = ERROR("NotImplemented")},
        gone,
        head,
        begun,
        range,
        put,
        put,
        {.status = 200, .body = COMPLETED},
        {.status = 200, .body = part, .body_len = PART + 1},
    };
    struct fixture f;
    struct object_written written;
    struct error err = {0};

    (void)state;
    memset(part, 'p', PART);
    open_at(&f, answers, ARRAY_LEN(answers), PART);
    assert_ok(object_store_join(f.store, keys, 1, bytes_of_string("!"), "k", &written, &err));
    assert_int_equal(written.bytes, PART + 1);
    assert_int_equal(http_fake_count(f.fake), ARRAY_LEN(answers));
    assert_non_null(strstr(http_fake_request(f.fake, 4), "x-amz-copy-source: /bucket/p/part\r\n"));
    assert_non_null(strstr(http_fake_request(f.fake, 4), "x-amz-copy-source-if-match: \"v\"\r\n"));
    assert_non_null(strstr(http_fake_request(f.fake, 9), "PUT /bucket/p/k?partNumber=1&"));
    assert_non_null(strstr(http_fake_request(f.fake, 9), "Content-Length: 5242880\r\n"));
    close_it(&f);
}

/* A condition the store does not know is left out; one that our own earlier try has broken holds.
 */
static void a_new_object_is_put_on_a_condition(void **state)
{
    static const struct http_fake_answer unknown[] = {
        {.status = 404},
        {.status = 501, .body = ERROR("NotImplemented")},
        {.status = 200, .headers = ETAG(MD5_OF_BODY)},
    };
    static const struct http_fake_answer lost[] = {
        {.status = 404},
        {.status = 0},
        {.status = 412, .body = ERROR("PreconditionFailed")},
        {.status = 200, .headers = ETAG(MD5_OF_BODY)},
    };
    static const struct http_fake_answer theirs[] = {
        {.status = 404},
        {.status = 412, .body = ERROR("PreconditionFailed")},
    };
    struct fixture f;
    struct object_written written;
    struct error err = {0};

    (void)state;
    open_at(&f, unknown, ARRAY_LEN(unknown), 0);
    assert_ok(object_store_put_new(f.store, "k", bytes_of_string("body"), &written, &err));
    assert_non_null(strstr(http_fake_request(f.fake, 1), "If-None-Match: *\r\n"));
    assert_null(strstr(http_fake_request(f.fake, 2), "If-None-Match"));
    close_it(&f);
    open_at(&f, lost, ARRAY_LEN(lost), 0);
    assert_ok(object_store_put_new(f.store, "k", bytes_of_string("body"), &written, &err));
    assert_int_equal(http_fake_count(f.fake), 4);
    close_it(&f);
    open_at(&f, theirs, ARRAY_LEN(theirs), 0);
    assert_status(object_store_put_new(f.store, "k", bytes_of_string("body"), &written, &err),
                  ST_CONFLICT);
    close_it(&f);
}

static enum status ignore_key(void *ctx, const struct object_info *info, struct error *err)
{
    (void)info, (void)err;
    ++*(size_t *)ctx;
    return ST_OK;
}

/* The ETag of an object in parts is known beforehand; Ceph says it to a HEAD alone. */
static void an_object_of_parts_has_the_etag_of_its_bytes(void **state)
{
    const struct http_fake_answer begun = {.status = 200, .body = BEGUN},
                                  abcd = {.status = 200, .headers = ETAG(ABCD_MD5)},
                                  ef = {.status = 200, .headers = ETAG(EF_MD5)};
    const struct {
        struct http_fake_answer answers[5];
        enum status want;
    } cases[] = {
        {{begun,
          abcd,
          ef,
          {.status = 200, .body = "<AResult><ETag>\"" BOTH_ETAG "\"</ETag></AResult>"},
          {.status = 200, .body = "abcdef"}},
         ST_OK},
        {{begun,
          abcd,
          ef,
          {.status = 200, .body = "<AResult><ETag>\"" ABCD_MD5 "-2\"</ETag></AResult>"}},
         ST_CORRUPT},
        {{begun,
          abcd,
          ef,
          {.status = 200, .body = "<AResult><ETag></ETag></AResult>"},
          {.status = 200, .body = "abcdef", .headers = ETAG(BOTH_ETAG)}},
         ST_OK},
        {{begun,
          abcd,
          ef,
          {.status = 200, .body = "<AResult></AResult>"},
          {.status = 200, .body = "abcdef", .headers = ETAG(ABCD_MD5 "-2")}},
         ST_CORRUPT},
        {{begun,
          abcd,
          ef,
          {.status = 200, .body = "<AResult></AResult>"},
          {.status = 200, .body = "abcde"}},
         ST_CORRUPT},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;
        struct object_written written;
        struct error err = {0};
        enum status st;

        open_at(&f, cases[i].answers, cases[i].answers[4].status != 0 ? 5 : 4, 4);
        st = object_store_put(f.store, "k", bytes_of_string("abcdef"), &written, &err);
        if (st != cases[i].want)
            fail_msg("case %zu: %s: %s", i, status_name(st), err.message);
        close_it(&f);
    }
}

static void a_listing_that_lies_is_refused(void **state)
{
    static const struct http_fake_answer answers[] = {
        {.status = 200,
         .body = "<ListBucketResult><Contents><Key>elsewhere/x</Key><Size>1</Size></Contents>"
                 "</ListBucketResult>"},
        {.status = 200, .body = "<html></html>"},
    };
    struct fixture f;
    size_t n = 0;
    struct error err = {0};

    (void)state;
    open_at(&f, answers, 2, 0);
    assert_status(object_store_list(f.store, "", ignore_key, &n, &err), ST_CORRUPT);
    assert_status(object_store_list(f.store, "", ignore_key, &n, &err), ST_CORRUPT);
    assert_int_equal(n, 0);
    close_it(&f);
}

static void the_web_is_read_and_nothing_else(void **state)
{
    static const struct http_fake_answer answers[] = {
        {.status = 200, .body = "0123456789", .headers = "Last-Modified: then\r\n"},
        {.status = 200, .body = "0123456789"}, /* knows no ranges */
        {.status = 206, .body = "345"},
        {.status = 404},
    };
    struct http_fake *fake = http_fake_create(answers, ARRAY_LEN(answers));
    const struct object_store_options allowed = {.allow_private = true, .connections = 1};
    struct object_store *store;
    struct object_info info;
    struct object_written written;
    char url[96], bytes[4] = "";
    size_t n = 0;
    struct error err = {0};

    (void)state;
    (void)snprintf(url, sizeof url, "%s/data/", http_fake_url(fake));
    assert_ok(object_store_open(url, &store, &err));
    assert_status(object_store_head(store, "a.tar", &info, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "127.0.0.1 is private"));
    assert_non_null(strstr(err.context, "storage.allow_private"));
    object_store_close(&store);
    assert_int_equal(http_fake_count(fake), 0);
    assert_ok(object_store_open_with(url, &allowed, &store, &err));
    assert_ok(object_store_head(store, "a b.tar", &info, &err));
    assert_int_equal(info.bytes, 10);
    assert_string_equal(info.etag, "then");
    for (int i = 0; i < 2; i++) {
        assert_ok(object_store_read_range(store, "a b.tar", 3, 3, bytes, &err));
        assert_string_equal(bytes, "345");
    }
    assert_non_null(strstr(http_fake_request(fake, 0), "HEAD /data/a%20b.tar HTTP"));
    assert_status(object_store_head(store, "b", &info, &err), ST_NOT_FOUND);
    assert_status(object_store_list(store, "", ignore_key, &n, &err), ST_INVALID);
    assert_status(object_store_put(store, "b", bytes_of_string("x"), &written, &err), ST_INVALID);
    assert_status(object_store_remove(store, "b", &err), ST_INVALID);
    object_store_close(&store);
    assert_status(object_store_open("https://user:word@host/", &store, &err), ST_INVALID);
    assert_status(object_store_open("https://host/x?sig=1", &store, &err), ST_INVALID);
    http_fake_destroy(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_put_is_tried_again_and_told_apart),
        cmocka_unit_test(a_request_is_signed_with_digests_and_session),
        cmocka_unit_test(a_clock_that_is_wrong_is_set_by_the_servers),
        cmocka_unit_test(a_body_that_breaks_off_is_gone_on_with),
        cmocka_unit_test(an_object_is_got_in_one_request),
        cmocka_unit_test(an_upload_that_fails_is_thrown_away),
        cmocka_unit_test(a_completion_is_asked_for_until_it_is_certain),
        cmocka_unit_test(a_store_that_cannot_copy_is_sent_the_bytes),
        cmocka_unit_test(an_object_of_parts_has_the_etag_of_its_bytes),
        cmocka_unit_test(a_new_object_is_put_on_a_condition),
        cmocka_unit_test(a_listing_that_lies_is_refused),
        cmocka_unit_test(the_web_is_read_and_nothing_else),
    };

    /* NOLINTBEGIN(concurrency-mt-unsafe): before any thread */
    (void)setenv("AWS_ACCESS_KEY_ID", "key", 1);
    (void)setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
    (void)setenv("AWS_CONFIG_FILE", "/dev/null", 1);
    (void)setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null", 1);
    (void)unsetenv("AWS_REGION");
    (void)unsetenv("AWS_PROFILE");
    /* NOLINTEND(concurrency-mt-unsafe) */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
