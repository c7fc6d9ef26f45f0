#include "reinforce/base/clock.h"
#include "storage/http/address.h"
#include "storage/http/http.h"
#include "tests/support/http_fake.h"
#include "tests/support/test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

enum { MAX_BODY = 1 << 16 };

/* A client that is soon out of patience. */
static struct http *client(int max_tries, const char *bearer)
{
    struct http_options options;
    struct http *http;
    struct error err = {0};

    http_options_default(&options);
    options.timeout_ms = 500;
    options.backoff_ms = 4;
    options.backoff_max_ms = 20;
    options.max_tries = max_tries;
    options.bearer = bearer;
    assert_ok(http_open(&options, &http, &err));
    return http;
}

static enum status get(struct http *http, const char *url, struct http_response *response,
                       struct error *err)
{
    const struct http_request request = {.method = "GET", .url = url, .follow_redirects = true};

    return http_run(http, &request, MAX_BODY, NULL, NULL, response, err);
}

/* What a client makes of a server's answers. */
static void statuses_become_ours_and_some_are_tried_again(void **state)
{
    static const struct {
        struct http_fake_answer answers[3];
        size_t n;
        enum status want;
        int tries;
        const char *reason;
    } cases[] = {
        {{{.status = 200, .body = "yes"}}, 1, ST_OK, 1, ""},
        {{{.status = 503}, {.status = 0}, {.status = 200, .body = "yes"}}, 3, ST_OK, 3, ""},
        {{{.status = 429, .headers = "Retry-After: 0\r\n"}, {.status = 200, .body = "yes"}},
         2,
         ST_OK,
         2,
         ""},
        {{{.status = 200, .body = "yes", .cut_at = 1}, {.status = 200, .body = "yes"}},
         2,
         ST_OK,
         2,
         ""},
        {{{.status = 404, .body = "no such\nthing"}}, 1, ST_NOT_FOUND, 1, "404, no such thing"},
        {{{.status = 400, .body = "bad image"}}, 1, ST_INVALID, 1, "400, bad image"},
        {{{.status = 401}}, 1, ST_INVALID, 1, "401"},
        {{{.status = 412}}, 1, ST_CONFLICT, 1, "412"},
        {{{.status = 500}}, 1, ST_UNAVAILABLE, 3, "500"},
        {{{.status = 0}}, 1, ST_UNAVAILABLE, 3, ""},
        {{{.status = 200, .body = "late", .delay_ms = 700}}, 1, ST_TIMEOUT, 3, ""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct http_fake *fake = http_fake_create(cases[i].answers, cases[i].n);
        struct http *http = client(3, NULL);
        struct http_response response;
        struct error err = {0};
        char url[128];
        enum status st;

        (void)snprintf(url, sizeof url, "%s/a/b?key=secret", http_fake_url(fake));
        st = get(http, url, &response, &err);
        if (st != cases[i].want || response.tries != cases[i].tries)
            fail_msg("case %zu: status %d after %d tries: %s", i, (int)st, response.tries,
                     err.message);
        if (st == ST_OK)
            assert_true(bytes_equal(byte_buf_view(&response.body), bytes_of_string("yes")));
        else if (strstr(err.message, cases[i].reason) == NULL ||
                 strstr(err.message, "GET 127.0.0.1/a/b") == NULL ||
                 strstr(err.message, "secret") != NULL)
            fail_msg("case %zu: %s", i, err.message);
        http_response_release(&response);
        http_close(&http);
        http_fake_destroy(&fake);
    }
}

static void headers_are_kept_and_a_redirect_keeps_its_own(void **state)
{
    struct http_fake_answer last = {
        .status = 200, .body = "weights", .headers = "ETag: W/\"cdn\"\r\n"};
    struct http_fake *cdn = http_fake_create(&last, 1), *hub;
    char location[256];
    struct http_fake_answer first = {.status = 302, .headers = location};
    struct http *http = client(1, "hf_secret");
    struct http_response response;
    struct error err = {0};
    char url[128];

    (void)state;
    /* the same host under another name: another host to a client */
    (void)snprintf(location, sizeof location,
                   "Location: http://localhost%s/blob\r\nX-Linked-Etag: \"abc\"\r\n"
                   "X-Repo-Commit: 0123\r\n",
                   strrchr(http_fake_url(cdn), ':'));
    hub = http_fake_create(&first, 1);
    (void)snprintf(url, sizeof url, "%s/file", http_fake_url(hub));
    assert_ok(get(http, url, &response, &err));
    assert_string_equal(response.etag, "cdn");
    assert_string_equal(response.linked_etag, "abc");
    assert_string_equal(response.commit, "0123");
    assert_int_equal(response.content_length, 7);
    assert_non_null(strstr(http_fake_request(hub, 0), "Authorization: Bearer hf_secret"));
    assert_null(strstr(http_fake_request(cdn, 0), "hf_secret"));
    http_response_release(&response);
    http_close(&http);
    http_fake_destroy(&hub);
    http_fake_destroy(&cdn);
}

static void a_post_carries_its_headers_and_body(void **state)
{
    static const struct http_header headers[] = {{"Content-Type", "application/json"},
                                                 {"X-One", "1"}};
    static const struct http_fake_answer yes = {.status = 201, .body = "{}"};
    struct http_fake *fake = http_fake_create(&yes, 1);
    struct http *http = client(1, NULL);
    const struct http_request request = {.method = "POST",
                                         .url = http_fake_url(fake),
                                         .headers = headers,
                                         .n_headers = 2,
                                         .body = bytes_of_string("{\"a\": 1}")};
    struct http_response response;
    struct error err = {0};

    (void)state;
    assert_ok(http_run(http, &request, MAX_BODY, NULL, NULL, &response, &err));
    assert_int_equal(response.status, 201);
    assert_non_null(strstr(http_fake_request(fake, 0), "POST / HTTP/1.1"));
    assert_non_null(strstr(http_fake_request(fake, 0), "X-One: 1"));
    assert_non_null(strstr(http_fake_request(fake, 0), "\r\n\r\n{\"a\": 1}"));
    http_response_release(&response);
    http_close(&http);
    http_fake_destroy(&fake);
}

struct sink {
    char text[64];
    size_t len;
    bool refuse;
};

static enum status take(void *ctx, struct bytes_view piece, struct error *err)
{
    struct sink *sink = ctx;

    if (sink->refuse)
        return error_set(err, ST_FULL, "the disk is full");
    assert_true(sink->len + piece.len < sizeof sink->text);
    memcpy(sink->text + sink->len, piece.data, piece.len);
    sink->len += piece.len;
    return ST_OK;
}

static void a_range_is_asked_for_and_a_whole_answer_skipped_into(void **state)
{
    static const struct http_fake_answer answers[] = {{.status = 206, .body = "4567"},
                                                      {.status = 200, .body = "01234567"}};
    struct http *http = client(1, NULL);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct http_fake *fake = http_fake_create(&answers[i], 1);
        const struct http_request request = {
            .method = "GET", .url = http_fake_url(fake), .range_begin = 4};
        struct http_response response;
        struct sink sink = {.len = 0};
        struct error err = {0};

        assert_ok(http_run(http, &request, 0, take, &sink, &response, &err));
        assert_string_equal(sink.text, "4567");
        assert_non_null(strstr(http_fake_request(fake, 0), "Range: bytes=4-"));
        http_response_release(&response);
        http_fake_destroy(&fake);
    }
    http_close(&http);
}

static void a_range_ends_where_it_was_asked_to(void **state)
{
    static const struct http_fake_answer answers[] = {
        {.status = 206, .body = "234", .headers = "Content-Range: bytes 2-4/8\r\n"},
        {.status = 200, .body = "01234567"}};
    struct http *http = client(1, NULL);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        struct http_fake *fake = http_fake_create(&answers[i], 1);
        const struct http_request request = {
            .method = "GET", .url = http_fake_url(fake), .range_begin = 2, .range_len = 3};
        struct http_response response;
        struct bytes_view value;
        struct error err = {0};

        assert_ok(http_run(http, &request, MAX_BODY, NULL, NULL, &response, &err));
        assert_true(bytes_equal(byte_buf_view(&response.body), bytes_of_string("234")));
        assert_non_null(strstr(http_fake_request(fake, 0), "Range: bytes=2-4\r\n"));
        assert_int_equal(http_response_header(&response, "content-range", &value), i == 0);
        assert_true(i == 1 || bytes_equal(value, bytes_of_string("bytes 2-4/8")));
        assert_false(http_response_header(&response, "Content", &value));
        http_response_release(&response);
        http_fake_destroy(&fake);
    }
    http_close(&http);
}

/* What a callback has taken cannot be taken back: no second try then. */
static void a_body_that_breaks_off_is_not_begun_again(void **state)
{
    static const struct http_fake_answer half = {.status = 200, .body = "01234567", .cut_at = 3};
    struct http_fake *fake = http_fake_create(&half, 1);
    struct http *http = client(3, NULL);
    const struct http_request request = {.method = "GET", .url = http_fake_url(fake)};
    struct http_response response;
    struct sink sink = {.len = 0};
    struct error err = {0};

    (void)state;
    assert_status(http_run(http, &request, 0, take, &sink, &response, &err), ST_UNAVAILABLE);
    assert_int_equal(sink.len, 3);
    assert_int_equal(http_fake_count(fake), 1);
    http_response_release(&response);
    sink.refuse = true;
    assert_status(http_run(http, &request, 0, take, &sink, &response, &err), ST_FULL);
    assert_string_equal(err.message, "the disk is full");
    http_response_release(&response);
    http_close(&http);
    http_fake_destroy(&fake);
}

static void limits_and_stops_are_kept(void **state)
{
    static const struct http_fake_answer answers[] = {{.status = 200, .body = "0123456789"},
                                                      {.status = 503}};
    struct http_fake *fake = http_fake_create(answers, 2);
    struct http *http = client(3, NULL);
    const struct http_request request = {.method = "GET", .url = http_fake_url(fake)};
    struct http_options options;
    struct http_response response;
    struct error err = {0};
    atomic_bool stop = true;

    (void)state;
    assert_status(http_run(http, &request, 4, NULL, NULL, &response, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "larger than 4 bytes"));
    http_response_release(&response);
    http_close(&http);
    http_options_default(&options);
    options.stop = &stop;
    assert_ok(http_open(&options, &http, &err));
    assert_status(http_run(http, &request, 4, NULL, NULL, &response, &err), ST_CANCELLED);
    http_response_release(&response);
    http_close(&http);
    http = client(1, NULL);
    assert_status(get(http, "file:///etc/passwd", &response, &err), ST_INVALID);
    http_response_release(&response);
    http_close(&http);
    http_fake_destroy(&fake);
}

static void address_of(const char *text, struct sockaddr_storage *out)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        memcpy(out, &v4, sizeof v4);
    else if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1)
        memcpy(out, &v6, sizeof v6);
    else
        fail_msg("\"%s\" is no address", text);
}

static void private_addresses_are_told_from_public_ones(void **state)
{
    static const char *const private[] = {
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.9.9.9",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.168.0.1",
        "198.19.255.255",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "fd12:3456::1",
        "fec0::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "2001::1",
        "64:ff9b::a00:1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001:db8::1",
        "2002:a00:1::1",
        "64:ff9b:1::1",
        "fd00:ec2::254",
        "3fff::1",
        "100::1",
        "192.0.2.7",
    };
    static const char *const public[] = {
        "1.1.1.1",         "9.255.255.255",    "11.0.0.0",        "100.63.255.255", "100.128.0.0",
        "169.253.255.255", "172.15.0.1",       "172.32.0.1",      "192.0.1.1",      "192.167.0.1",
        "198.17.0.1",      "198.20.0.1",       "223.255.0.1",     "2600::1",        "2a00:1450::1",
        "::ffff:8.8.8.8",  "64:ff9b::808:808", "2002:808:808::1",
    };
    struct sockaddr_storage address;
    char text[ADDRESS_TEXT_BYTES];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(private); i++) {
        address_of(private[i], &address);
        if (!address_is_private((struct sockaddr *)&address))
            fail_msg("%s is let through", private[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(public); i++) {
        address_of(public[i], &address);
        if (address_is_private((struct sockaddr *)&address))
            fail_msg("%s is refused", public[i]);
    }
    address_text((struct sockaddr *)&address, text);
    assert_string_equal(text, "2002:808:808::1");
    memset(&address, 0, sizeof address);
    address.ss_family = AF_UNIX;
    assert_true(address_is_private((struct sockaddr *)&address));
}

/* Checked where the connection is made: also of names, and of what a redirect names. */
static void a_public_client_connects_to_no_private_address(void **state)
{
    static const struct http_fake_answer yes = {.status = 200, .body = "secret"};
    struct http_fake *fake = http_fake_create(&yes, 1);
    struct http_options options;
    struct http *http;
    struct http_response response;
    struct error err = {0};
    char named[64];

    (void)state;
    http_options_default(&options);
    options.public_only = true;
    assert_ok(http_open(&options, &http, &err));
    (void)snprintf(named, sizeof named, "http://localhost%s/", strrchr(http_fake_url(fake), ':'));
    assert_status(get(http, http_fake_url(fake), &response, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "127.0.0.1 is private"));
    http_response_release(&response);
    assert_status(get(http, named, &response, &err), ST_INVALID);
    assert_non_null(strstr(err.message, " is private"));
    assert_int_equal(response.tries, 1);
    http_response_release(&response);
    assert_int_equal(http_fake_count(fake), 0);
    http_close(&http);
    http_fake_destroy(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statuses_become_ours_and_some_are_tried_again),
        cmocka_unit_test(headers_are_kept_and_a_redirect_keeps_its_own),
        cmocka_unit_test(a_post_carries_its_headers_and_body),
        cmocka_unit_test(a_range_is_asked_for_and_a_whole_answer_skipped_into),
        cmocka_unit_test(a_range_ends_where_it_was_asked_to),
        cmocka_unit_test(private_addresses_are_told_from_public_ones),
        cmocka_unit_test(a_public_client_connects_to_no_private_address),
        cmocka_unit_test(a_body_that_breaks_off_is_not_begun_again),
        cmocka_unit_test(limits_and_stops_are_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
