#include "reinforce/base/file.h"
#include "reinforce/base/sha256.h"
#include "storage/hub/hub.h"
#include "tests/support/http_fake.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <unistd.h>

/* git's id of "{}" */
#define EMPTY_OBJECT_BLOB "9e26dfeeb6e641a33dae4961196235bdb965b21b"

static const char weights[] = "0123456789abcdef";

struct fixture {
    struct temp_folder folder;
    struct hub_options options;
    char listing[2048];
    struct http_fake *fake;
};

static void setup(struct fixture *f, const char *weights_sha256)
{
    char hex[SHA256_HEX_LEN + 1];

    memset(f, 0, sizeof *f);
    temp_folder_init(&f->folder);
    sha256_of(bytes_of_string(weights), hex);
    (void)snprintf(f->listing, sizeof f->listing,
                   "{\"sha\": \"c0ffee\", \"siblings\": ["
                   "{\"rfilename\": \"README.md\", \"size\": 5, \"blobId\": \"00\"},"
                   "{\"rfilename\": \"config.json\", \"size\": 2, \"blobId\": \"%s\"},"
                   "{\"rfilename\": \"onnx/model.safetensors\", \"size\": 9},"
                   "{\"rfilename\": \"pytorch_model.bin\", \"size\": 9},"
                   "{\"rfilename\": \"../model.safetensors\", \"size\": 9},"
                   "{\"rfilename\": \"model.safetensors\", \"size\": 16, \"lfs\": "
                   "{\"size\": 16, \"sha256\": \"%s\"}}]}",
                   EMPTY_OBJECT_BLOB, weights_sha256 != NULL ? weights_sha256 : hex);
}

static void serve(struct fixture *f, const struct http_fake_answer *answers, size_t n)
{
    f->fake = http_fake_create(answers, n);
    f->options = (struct hub_options){
        .endpoint = http_fake_url(f->fake), .token = "hf_secret", .cache = f->folder.path};
}

static void teardown(struct fixture *f)
{
    http_fake_destroy(&f->fake);
    temp_folder_release(&f->folder);
}

static void assert_holds(const char *dir, const char *name, const char *want)
{
    struct byte_buf buf;
    struct error err = {0};
    char path[PATH_MAX + 64];

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    byte_buf_init(&buf, 1 << 16);
    assert_ok(file_read(path, &buf, &err));
    assert_true(bytes_equal(byte_buf_view(&buf), bytes_of_string(want)));
    byte_buf_release(&buf);
}

static void a_pull_fetches_what_a_snapshot_is_read_from(void **state)
{
    struct fixture f;
    struct error err = {0};
    char dir[PATH_MAX], again[PATH_MAX];

    (void)state;
    setup(&f, NULL);
    {
        const struct http_fake_answer answers[] = {{.status = 200, .body = f.listing},
                                                   {.status = 200, .body = "{}"},
                                                   {.status = 200, .body = weights}};

        serve(&f, answers, ARRAY_LEN(answers));
        assert_ok(hub_pull(&f.options, "apple/CLIP-x", dir, &err));
        assert_holds(dir, "config.json", "{}");
        assert_holds(dir, "model.safetensors", weights);
        assert_int_equal(http_fake_count(f.fake), 3);
        assert_non_null(strstr(http_fake_request(f.fake, 0),
                               "GET /api/models/apple/CLIP-x/revision/main?blobs=true "));
        assert_non_null(
            strstr(http_fake_request(f.fake, 1), "GET /apple/CLIP-x/resolve/c0ffee/config.json "));
        assert_non_null(strstr(http_fake_request(f.fake, 2), "Bearer hf_secret"));
        /* what is here costs no request, by name or by commit */
        assert_ok(hub_resolve(&f.options, "hf://apple/CLIP-x", again, &err));
        assert_string_equal(dir, again);
        assert_ok(hub_resolve(&f.options, "hf://apple/CLIP-x@c0ffee", again, &err));
        assert_string_equal(dir, again);
        assert_int_equal(http_fake_count(f.fake), 3);
        assert_ok(hub_resolve(&f.options, "models/here", again, &err));
        assert_string_equal(again, "models/here");
    }
    teardown(&f);
}

static void a_file_that_breaks_off_goes_on_where_it_broke(void **state)
{
    struct fixture f;
    struct error err = {0};
    char dir[PATH_MAX];

    (void)state;
    setup(&f, NULL);
    {
        const struct http_fake_answer answers[] = {{.status = 200, .body = f.listing},
                                                   {.status = 200, .body = "{}"},
                                                   {.status = 200, .body = weights, .cut_at = 5},
                                                   {.status = 206, .body = weights + 5}};

        serve(&f, answers, ARRAY_LEN(answers));
        assert_ok(hub_pull(&f.options, "a/b@v1", dir, &err));
        assert_holds(dir, "model.safetensors", weights);
        assert_non_null(strstr(http_fake_request(f.fake, 3), "Range: bytes=5-"));
    }
    teardown(&f);
}

/* The next run begins with the bytes of the last one. */
static void a_pull_that_was_cut_off_is_taken_up_again(void **state)
{
    struct fixture f;
    struct error err = {0};
    char dir[PATH_MAX];

    (void)state;
    setup(&f, NULL);
    {
        const struct http_fake_answer first[] = {{.status = 200, .body = f.listing},
                                                 {.status = 200, .body = "{}"},
                                                 {.status = 200, .body = weights, .cut_at = 7},
                                                 {.status = 404}};
        const struct http_fake_answer second[] = {{.status = 200, .body = f.listing},
                                                  {.status = 206, .body = weights + 7}};

        serve(&f, first, ARRAY_LEN(first));
        assert_status(hub_pull(&f.options, "a/b", dir, &err), ST_NOT_FOUND);
        http_fake_destroy(&f.fake);
        serve(&f, second, ARRAY_LEN(second));
        assert_ok(hub_pull(&f.options, "a/b", dir, &err));
        assert_int_equal(http_fake_count(f.fake), 2);
        assert_holds(dir, "model.safetensors", weights);
    }
    teardown(&f);
}

static void a_file_with_another_digest_is_refused_and_thrown_away(void **state)
{
    struct fixture f;
    struct error err = {0};
    char dir[PATH_MAX], part[PATH_MAX];

    (void)state;
    setup(&f, "0000000000000000000000000000000000000000000000000000000000000000");
    {
        const struct http_fake_answer answers[] = {{.status = 200, .body = f.listing},
                                                   {.status = 200, .body = "{}"},
                                                   {.status = 200, .body = weights}};

        serve(&f, answers, ARRAY_LEN(answers));
        assert_status(hub_pull(&f.options, "a/b", dir, &err), ST_CORRUPT);
        assert_non_null(strstr(err.message, "model.safetensors"));
        assert_non_null(strstr(err.message, "another digest"));
        (void)snprintf(part, sizeof part, "%s/a--b/c0ffee/model.safetensors.part", f.folder.path);
        assert_int_equal(access(part, F_OK), -1);
        (void)snprintf(part, sizeof part, "%s/a--b/c0ffee/pulled.json", f.folder.path);
        assert_int_equal(access(part, F_OK), -1);
    }
    teardown(&f);
}

static void what_the_hub_refuses_is_said(void **state)
{
    static const struct {
        struct http_fake_answer answer;
        enum status want;
        const char *message, *context;
    } cases[] = {
        {{.status = 401}, ST_INVALID, "401", "HF_TOKEN"},
        {{.status = 404}, ST_NOT_FOUND, "404", "a/b"},
        {{.status = 200, .body = "<html>"}, ST_CORRUPT, "", "a/b"},
        {{.status = 200, .body = "{}"}, ST_CORRUPT, "names no commit", "a/b"},
        {{.status = 200, .body = "{\"sha\": \"../..\"}"}, ST_CORRUPT, "names no commit", "a/b"},
        {{.status = 200, .body = "{\"sha\": \"refs\"}"}, ST_CORRUPT, "names no commit", "a/b"},
        {{.status = 200, .body = "{\"sha\": \"1\", \"siblings\": [{\"rfilename\": \"a.md\"}]}"},
         ST_NOT_FOUND,
         "no weights",
         "a/b"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;
        struct error err = {0};
        char dir[PATH_MAX];

        setup(&f, NULL);
        serve(&f, &cases[i].answer, 1);
        assert_status(hub_pull(&f.options, "a/b", dir, &err), cases[i].want);
        if (strstr(err.message, cases[i].message) == NULL ||
            strstr(err.context, cases[i].context) == NULL ||
            strstr(err.message, "hf_secret") != NULL)
            fail_msg("case %zu: %s: %s", i, err.context, err.message);
        teardown(&f);
    }
}

static void a_pulled_folder_is_checked_against_its_mark(void **state)
{
    static const struct {
        const char *mark; /* %s: digest of `weights`; NULL: not pulled */
        enum status want;
        size_t n_files;
        const char *message;
    } cases[] = {
        {NULL, ST_OK, 0, ""},
        {"{\"files\": {\"m\": {\"sha256\": \"%s\"}}}", ST_OK, 1, ""},
        {"{\"files\": {\"m\": {\"sha256\": \"00\"}}}", ST_CORRUPT, 0, "another digest"},
        {"{\"files\": {\"n\": {\"sha256\": \"%s\"}}}", ST_NOT_FOUND, 0, "/n"},
        {"{\"files\": {\"../m\": {\"sha256\": \"%s\"}}}", ST_CORRUPT, 0, "no file"},
        {"{\"files\": {\"m\": {}}}", ST_CORRUPT, 0, "no file and digest"},
        {"{\"files\": {}}", ST_CORRUPT, 0, "names no files"},
        {"[]", ST_CORRUPT, 0, "names no files"},
        {"", ST_CORRUPT, 0, ""},
    };
    char hex[SHA256_HEX_LEN + 1];

    (void)state;
    sha256_of(bytes_of_string(weights), hex);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct temp_folder folder;
        struct error err = {0};
        char path[PATH_MAX], mark[256];
        size_t n_files = 7;
        enum status st;

        temp_folder_init(&folder);
        (void)snprintf(path, sizeof path, "%s/m", folder.path);
        assert_ok(file_write_atomic(path, bytes_of_string(weights), &err));
        if (cases[i].mark != NULL) {
            const char *digest = strstr(cases[i].mark, "%s");
            size_t before = digest != NULL ? (size_t)(digest - cases[i].mark) : 0;

            (void)snprintf(mark, sizeof mark, "%.*s%s%s", (int)before, cases[i].mark,
                           digest != NULL ? hex : "", digest != NULL ? digest + 2 : cases[i].mark);
            (void)snprintf(path, sizeof path, "%s/pulled.json", folder.path);
            assert_ok(file_write_atomic(path, bytes_of_string(mark), &err));
        }
        st = hub_verify(folder.path, &n_files, &err);
        if (st != cases[i].want || n_files != cases[i].n_files ||
            strstr(st == ST_OK ? "" : err.message, cases[i].message) == NULL)
            fail_msg("case %zu: %s: %s", i, status_name(st), err.message);
        temp_folder_release(&folder);
    }
}

static void names_that_are_none_are_refused(void **state)
{
    static const char *const names[] = {"",        "a",    "a/",       "/b",       "a/b/c",
                                        "../b",    "a/..", "a/b@",     "a/b@../c", "a b/c",
                                        "a/b@x/y", "-a/b", "a/.hidden"};
    struct hub_options options = {.endpoint = "http://127.0.0.1:9", .cache = "/nonexistent"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct error err = {0};
        char dir[PATH_MAX];

        if (hub_pull(&options, names[i], dir, &err) != ST_INVALID)
            fail_msg("\"%s\" was taken: %s", names[i], err.message);
        assert_non_null(strstr(err.message, "OWNER/NAME"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pull_fetches_what_a_snapshot_is_read_from),
        cmocka_unit_test(a_file_that_breaks_off_goes_on_where_it_broke),
        cmocka_unit_test(a_pull_that_was_cut_off_is_taken_up_again),
        cmocka_unit_test(a_file_with_another_digest_is_refused_and_thrown_away),
        cmocka_unit_test(what_the_hub_refuses_is_said),
        cmocka_unit_test(a_pulled_folder_is_checked_against_its_mark),
        cmocka_unit_test(names_that_are_none_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
