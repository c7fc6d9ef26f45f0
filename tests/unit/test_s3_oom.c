/* Every allocation of the S3 store fails once: the call says so, and nothing is left unfreed (the
 * asan build looks). The fake's own may be hit too; it then hangs up. */
#include "storage/object/object_store.h"
#include "tests/support/http_fake.h"
#include "tests/support/oom.h"
#include "tests/support/test.h"

#include <stdlib.h>

enum { MAX_ANSWERS = 6, MAX_ALLOCATIONS = 400 };

#define OPAQUE_ETAG "ETag: \"v\"\r\n"
#define BEGUN                                                                                      \
    "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"

static enum status ignore_key(void *ctx, const struct object_info *info, struct error *err)
{
    (void)ctx, (void)info, (void)err;
    return ST_OK;
}

static enum status put(struct object_store *s, struct error *err)
{
    struct object_written written;

    return object_store_put(s, "k", bytes_of_string("abcdef"), &written, err);
}

static enum status get(struct object_store *s, struct error *err)
{
    struct arena arena;
    struct bytes_view body;
    enum status st;

    arena_init(&arena, 1 << 16);
    st = object_store_get(s, "k", 100, &arena, &body, err);
    arena_release(&arena);
    return st;
}

static enum status join(struct object_store *s, struct error *err)
{
    static const char *const parts[] = {"1", "2"};
    struct object_written written;

    return object_store_join(s, parts, 2, bytes_of_string("!"), "k", &written, err);
}

static enum status list(struct object_store *s, struct error *err)
{
    return object_store_list(s, "", ignore_key, NULL, err);
}

static enum status sweep(struct object_store *s, struct error *err)
{
    size_t n;

    return object_store_sweep(s, "", &n, err);
}

static const struct {
    const char *name;
    enum status (*act)(struct object_store *s, struct error *err);
    struct http_fake_answer answers[MAX_ANSWERS];
} actions[] = {
    {"put in parts",
     put,
     {{.status = 200, .body = BEGUN},
      {.status = 200, .headers = OPAQUE_ETAG},
      {.status = 200, .headers = OPAQUE_ETAG},
      {.status = 200, .body = "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"},
      {.status = 200, .body = "abcdef"}}},
    {"get",
     get,
     {{.status = 206, .body = "abcd", .headers = "Content-Range: bytes 0-3/6\r\n"},
      {.status = 206, .body = "ef"}}},
    {"join",
     join,
     {{.status = 200, .body = "a", .headers = OPAQUE_ETAG},
      {.status = 200, .body = "b", .headers = OPAQUE_ETAG},
      {.status = 206, .body = "a", .headers = OPAQUE_ETAG},
      {.status = 206, .body = "b", .headers = OPAQUE_ETAG},
      {.status = 200, .headers = OPAQUE_ETAG},
      {.status = 200, .body = "ab!"}}},
    {"list",
     list,
     {{.status = 200,
       .body = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t"
               "</NextContinuationToken><Contents><Key>p/a</Key><Size>1</Size></Contents>"
               "</ListBucketResult>"},
      {.status = 200, .body = "<ListBucketResult></ListBucketResult>"}}},
    {"sweep",
     sweep,
     {{.status = 200,
       .body = "<ListMultipartUploadsResult><Upload><Key>p/a</Key><UploadId>u</UploadId>"
               "<Initiated>2026-01-01T00:00:00Z</Initiated></Upload></ListMultipartUploadsResult>"},
      {.status = 204}}},
    {"refused", put, {{.status = 403, .body = "<Error><Code>AccessDenied</Code></Error>"}}},
};

/* One use of a store, from opening to closing, with allocation `n` failing; true when it came. */
static bool act(size_t action, unsigned n, enum status *st, struct error *err)
{
    struct object_store_options options = {
        .max_tries = 1, .connections = 1, .part_bytes = 4, .sole_writer = true};
    struct object_store *store;
    struct http_fake *fake;
    size_t n_answers = MAX_ANSWERS;
    bool fired;

    while (actions[action].answers[n_answers - 1].status == 0)
        n_answers--;
    fake = http_fake_create(actions[action].answers, n_answers);
    options.endpoint = http_fake_url(fake);
    oom_fail_at(n);
    *st = object_store_open_with("s3://bucket/p", &options, &store, err);
    if (*st == ST_OK) {
        *st = actions[action].act(store, err);
        object_store_close(&store);
    }
    fired = oom_fired();
    oom_fail_at(0);
    http_fake_destroy(&fake);
    return fired;
}

static void every_allocation_fails_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
        bool refused = strcmp(actions[i].name, "refused") == 0, fired = true;

        for (unsigned n = 1; fired; n++) {
            enum status st;
            struct error err = {0};

            fired = act(i, n, &st, &err);
            if (fired ? st != ST_NO_MEMORY && st != ST_OK && st != ST_UNAVAILABLE &&
                            !(refused && st == ST_INVALID)
                      : st != (refused ? ST_INVALID : ST_OK))
                fail_msg("%s, allocation %u: %s: %s", actions[i].name, n, status_name(st),
                         err.message);
            assert_true(n < MAX_ALLOCATIONS);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_fails_once),
    };

    /* NOLINTBEGIN(concurrency-mt-unsafe): before any thread */
    (void)setenv("AWS_ACCESS_KEY_ID", "key", 1);
    (void)setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
    (void)setenv("AWS_CONFIG_FILE", "/dev/null", 1);
    (void)setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null", 1);
    (void)unsetenv("AWS_PROFILE");
    /* NOLINTEND(concurrency-mt-unsafe) */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
