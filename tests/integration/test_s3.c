/* The S3 store against a real server, which checks signatures and digests: tests/support/ceph.sh
 * starts it and says where it is. */
#include "storage/object/s3_multipart.h"
#include "tests/support/object_store_contract.h"
#include "tests/support/test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MIB = 1 << 20 };

/* A bucket of a test's own. */
static void make_bucket(const char *name, char url[64])
{
    static const struct object_store_options defaults = {.endpoint = NULL};
    const struct s3_request create = {.method = "PUT"};
    struct s3_client client;
    struct error err = {0};
    char bucket[64];

    (void)snprintf(url, 64, "s3://%s-%ld", name, (long)getpid());
    (void)snprintf(bucket, sizeof bucket, "//%s", url + 5);
    assert_ok(s3_client_open(bucket, &defaults, &client, &err));
    assert_ok(s3_tell(&client, &create, &err));
    s3_client_close(&client);
}

static struct object_store *open_with(const char *url, const struct object_store_options *options)
{
    struct object_store *store;
    struct error err = {0};

    assert_ok(object_store_open_with(url, options, &store, &err));
    return store;
}

static uint8_t *make_bytes(size_t n, uint32_t seed)
{
    uint8_t *bytes = malloc(n);

    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++, seed = seed * 1664525u + 1013904223u)
        bytes[i] = (uint8_t)(seed >> 24);
    return bytes;
}

static void expect(struct object_store *store, const char *key, const uint8_t *want, size_t n)
{
    uint8_t *got = malloc(n);
    struct object_info info;
    struct error err = {0};

    assert_non_null(got);
    assert_ok(object_store_head(store, key, &info, &err));
    assert_int_equal(info.bytes, n);
    assert_ok(object_store_read_range(store, key, 0, n, got, &err));
    assert_memory_equal(got, want, n);
    free(got);
}

static void a_bucket_keeps_the_contract(void **state)
{
    char url[64];

    (void)state;
    make_bucket("contract", url);
    object_store_contract(url);
}

struct listing {
    char keys[4096];
    size_t len, n;
};

static enum status add_key(void *ctx, const struct object_info *info, struct error *err)
{
    struct listing *listing = ctx;

    (void)err;
    listing->n++;
    listing->len += (size_t)snprintf(listing->keys + listing->len,
                                     sizeof listing->keys - listing->len, "%s\n", info->key);
    return ST_OK;
}

static void prefixes_of_one_bucket_do_not_see_each_other(void **state)
{
    char url[64], below[80], beside[80];
    struct object_store *a, *b, *whole;
    struct object_written written;
    struct listing listing = {.n = 0};
    struct object_info info;
    struct error err = {0};

    (void)state;
    make_bucket("prefix", url);
    (void)snprintf(below, sizeof below, "%s/data/a b/", url);
    (void)snprintf(beside, sizeof beside, "%s/data/a", url);
    a = open_with(below, NULL);
    b = open_with(beside, NULL);
    whole = open_with(url, NULL);
    assert_ok(object_store_put(a, "x/1", bytes_of_string("1"), &written, &err));
    assert_ok(object_store_put(b, "x/2", bytes_of_string("2"), &written, &err));
    assert_status(object_store_head(b, "x/1", &info, &err), ST_NOT_FOUND);
    assert_ok(object_store_list(a, "", add_key, &listing, &err));
    assert_ok(object_store_list(b, "x/", add_key, &listing, &err));
    assert_ok(object_store_list(whole, "data", add_key, &listing, &err));
    assert_string_equal(listing.keys, "x/1\nx/2\ndata/a b/x/1\ndata/a/x/2\n");
    object_store_close(&a);
    object_store_close(&b);
    object_store_close(&whole);
}

static void a_listing_goes_on_from_page_to_page(void **state)
{
    const struct object_store_options options = {.list_keys = 3};
    char url[64], key[32];
    struct object_store *store;
    struct object_written written;
    struct listing listing = {.n = 0};
    struct error err = {0};

    (void)state;
    make_bucket("pages", url);
    store = open_with(url, &options);
    for (int i = 0; i < 10; i++) {
        (void)snprintf(key, sizeof key, "k+%d &<\n>", i);
        assert_ok(object_store_put(store, key, bytes_of_string("x"), &written, &err));
    }
    assert_ok(object_store_list(store, "k+", add_key, &listing, &err));
    assert_int_equal(listing.n, 10);
    assert_memory_equal(listing.keys, "k+0 &<\n>\nk+1 &<\n>\n", 18);
    object_store_close(&store);
}

static void long_objects_go_and_come_in_parts(void **state)
{
    const struct object_store_options options = {.part_bytes = 5 * MIB};
    size_t n = 17 * MIB + 3;
    uint8_t *bytes = make_bytes(n, 7), piece[9];
    char url[64];
    struct object_store *store;
    struct object_written written;
    struct object_info info;
    struct error err = {0};

    (void)state;
    make_bucket("parts", url);
    store = open_with(url, &options);
    assert_ok(object_store_put(store, "long", bytes_view_of(bytes, n), &written, &err));
    assert_ok(object_store_head(store, "long", &info, &err));
    assert_string_equal(strchr(info.etag, '-'), "-4");
    expect(store, "long", bytes, n);
    assert_ok(object_store_read_range(store, "long", 5 * MIB - 4, 9, piece, &err));
    assert_memory_equal(piece, bytes + 5 * MIB - 4, 9);
    object_store_close(&store);
    free(bytes);
}

/* Lengths around where a part may be copied, and where it may not. */
static void long_parts_are_joined_on_the_other_side(void **state)
{
    static const size_t cases[][5] = {
        {6 * MIB, 7 * MIB},
        {6 * MIB, 1000, 12 * MIB, 10},
        {10, 11 * MIB, 3 * MIB, 3 * MIB},
        {4 * MIB, 4 * MIB, 5 * MIB, 0, 5 * MIB},
        {5 * MIB, 5 * MIB - 1, 5 * MIB},
        {9 * MIB},
    };
    const struct object_store_options options = {.part_bytes = 5 * MIB};
    uint8_t *bytes = make_bytes(40 * MIB, 9);
    char url[64], hex[SHA256_HEX_LEN + 1];
    struct object_store *store;
    struct object_written written;
    struct error err = {0};

    (void)state;
    make_bucket("join", url);
    store = open_with(url, &options);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *const keys[] = {"p/0", "p/1", "p/2", "p/3", "p/4"};
        size_t n = 0, total = 0;

        for (; n < 5 && (cases[i][n] > 0 || (n < 4 && cases[i][n + 1] > 0)); n++) {
            assert_ok(object_store_put(store, keys[n], bytes_view_of(bytes + total, cases[i][n]),
                                       &written, &err));
            total += cases[i][n];
        }
        assert_ok(object_store_join(store, keys, n, bytes_view_of(bytes + total, 1024), "joined",
                                    &written, &err));
        total += 1024;
        sha256_of(bytes_view_of(bytes, total), hex);
        assert_int_equal(written.bytes, total);
        assert_string_equal(written.sha256, hex);
        expect(store, "joined", bytes, total);
    }
    object_store_close(&store);
    free(bytes);
}

static void a_wrong_digest_is_refused_by_the_server(void **state)
{
    static const struct object_store_options defaults = {.endpoint = NULL};
    static const struct http_header wrong_md5 = {"Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg=="};
    const struct s3_request by_sha256 = {
        .method = "PUT",
        .key = "x",
        .body = bytes_of_string("body"),
        .body_sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"};
    const struct s3_request by_md5 = {.method = "PUT",
                                      .key = "x",
                                      .headers = &wrong_md5,
                                      .n_headers = 1,
                                      .body = bytes_of_string("body")};
    struct s3_client client;
    struct error err = {0};
    char url[64];

    (void)state;
    make_bucket("digest", url);
    assert_ok(s3_client_open(url + 3, &defaults, &client, &err));
    assert_status(s3_tell(&client, &by_sha256, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "400 XAmzContentSHA256Mismatch"));
    assert_status(s3_tell(&client, &by_md5, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "400 BadDigest"));
    s3_client_close(&client);
}

/* With another key in the environment, puts and gives the story. */
static void try_as(const char *variable, const char *value, const char *url, enum status want,
                   const char *story)
{
    char *before = strdup(getenv(variable)); /* NOLINT(concurrency-mt-unsafe) */
    struct object_store *store;
    struct object_written written;
    struct error err = {0};

    assert_int_equal(setenv(variable, value, 1), 0); /* NOLINT(concurrency-mt-unsafe) */
    store = open_with(url, NULL);
    assert_status(object_store_put(store, "a/key", bytes_of_string("x"), &written, &err), want);
    if (strstr(err.message, story) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.message, story);
    object_store_close(&store);
    assert_int_equal(setenv(variable, before, 1), 0); /* NOLINT(concurrency-mt-unsafe) */
    free(before);
}

static void refusals_name_bucket_key_status_code_and_what_to_do(void **state)
{
    static const struct object_store_options anonymous = {.anonymous = true};
    char url[64], story[160];
    struct object_store *store;
    struct object_info info;
    struct listing listing = {.n = 0};
    struct error err = {0};

    (void)state;
    make_bucket("refused", url);
    (void)snprintf(story, sizeof story, "%s/a/key: PUT answered 403 SignatureDoesNotMatch", url);
    try_as("AWS_SECRET_ACCESS_KEY", "wrong", url, ST_INVALID, story);
    try_as("AWS_SECRET_ACCESS_KEY", "wrong", url, ST_INVALID, "check AWS_SECRET_ACCESS_KEY");
    try_as("AWS_ACCESS_KEY_ID", "nobody", url, ST_INVALID, "403 InvalidAccessKeyId");
    store = open_with("s3://no-such-bucket-here", NULL);
    assert_status(object_store_list(store, "", add_key, &listing, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.message, "404 NoSuchBucket; create the bucket"));
    object_store_close(&store);
    store = open_with(url, &anonymous);
    assert_status(object_store_head(store, "a/key", &info, &err), ST_INVALID);
    assert_non_null(
        strstr(err.message, "GET answered 403 AccessDenied")); /* a HEAD would not say */
    object_store_close(&store);
}

static void buckets_may_be_named_by_the_host(void **state)
{
    const char *endpoint = getenv("AWS_ENDPOINT_URL_S3"); /* NOLINT(concurrency-mt-unsafe) */
    char url[64], host[96];
    struct object_store_options options = {.endpoint = host, .addressing = "virtual"};
    struct object_store *store;
    struct object_written written;
    struct listing listing = {.n = 0};
    struct error err = {0};

    (void)state;
    make_bucket("virtual", url);
    (void)snprintf(host, sizeof host, "http://s3.localhost%s", strrchr(endpoint, ':'));
    store = open_with(url, &options);
    assert_ok(object_store_put(store, "a b/c", bytes_of_string("x"), &written, &err));
    expect(store, "a b/c", (const uint8_t *)"x", 1);
    assert_ok(object_store_list(store, "", add_key, &listing, &err));
    assert_string_equal(listing.keys, "a b/c\n");
    object_store_close(&store);
}

static size_t sweep(const char *url, const struct object_store_options *options)
{
    struct object_store *store = open_with(url, options);
    struct object_info info;
    size_t n = 99;
    struct error err = {0};

    assert_ok(object_store_sweep(store, "", &n, &err));
    assert_status(object_store_head(store, "shard", &info, &err), ST_NOT_FOUND);
    object_store_close(&store);
    return n;
}

/* Begins an upload, sends a part, and dies as by kill -9. */
static void die_in_an_upload(const char *url)
{
    static const struct object_store_options defaults = {.endpoint = NULL};
    struct s3_client client;
    struct s3_multipart upload;
    struct error err = {0};
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        if (s3_client_open(url + 3, &defaults, &client, &err) == ST_OK &&
            s3_multipart_begin(&client, "shard", 3, &upload, &err) == ST_OK &&
            s3_multipart_put(&upload, 0, bytes_of_string("first"), &err) == ST_OK)
            (void)raise(SIGKILL);
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void a_writer_killed_in_an_upload_leaves_no_object_and_is_swept(void **state)
{
    const struct object_store_options sole = {.sole_writer = true}, patient = {.stale_ms = 0},
                                      hasty = {.stale_ms = 1};
    char url[64];

    (void)state;
    make_bucket("killed", url);
    die_in_an_upload(url);
    assert_int_equal(sweep(url, &patient), 0); /* may be somebody's who is at work */
    assert_int_equal(sweep(url, &sole), 1);
    assert_int_equal(sweep(url, &sole), 0);
    die_in_an_upload(url);
    while (sweep(url, &hasty) == 0) /* the server's clock tells seconds: soon */
        ;
    assert_int_equal(sweep(url, &sole), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_keeps_the_contract),
        cmocka_unit_test(prefixes_of_one_bucket_do_not_see_each_other),
        cmocka_unit_test(a_listing_goes_on_from_page_to_page),
        cmocka_unit_test(long_objects_go_and_come_in_parts),
        cmocka_unit_test(long_parts_are_joined_on_the_other_side),
        cmocka_unit_test(a_wrong_digest_is_refused_by_the_server),
        cmocka_unit_test(refusals_name_bucket_key_status_code_and_what_to_do),
        cmocka_unit_test(buckets_may_be_named_by_the_host),
        cmocka_unit_test(a_writer_killed_in_an_upload_leaves_no_object_and_is_swept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
