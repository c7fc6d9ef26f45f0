#include "tests/support/test.h"
#include "worker/input.h"

enum { MAX_KEYS = 5 };

/* What a URL names; keys [NULL-terminated], NULL first: everything. */
struct url_case {
    const char *url;
    const char *keys[MAX_KEYS + 1];
};

static void check_case(const struct url_case *c)
{
    struct arena arena;
    struct input input;
    struct error err = {0};
    size_t n = 0;

    arena_init(&arena, 1 << 20);
    if (input_open(c->url, NULL, &arena, &input, &err) != ST_OK)
        fail_msg("\"%s\": %s", c->url, err.message);
    while (c->keys[n] != NULL)
        n++;
    assert_int_equal(input.n_keys, n);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(input.keys[i], c->keys[i]);
    input_close(&input);
    arena_release(&arena);
}

/* IN-5 */
static void a_url_names_a_folder_an_object_a_pattern_or_a_list(void **state)
{
    static const struct url_case cases[] = {
        {"data", {NULL}},
        {"data/x.tar", {"x.tar"}},
        {"x.jsonl.gz", {"x.jsonl.gz"}},
        {"file:/d/y.jsonl", {"y.jsonl"}},
        {"mem:in/z.jsonl.zst", {"z.jsonl.zst"}},
        {"data/{008..011}.tar", {"008.tar", "009.tar", "010.tar", "011.tar"}},
        {"data/{8..10}.tar", {"10.tar", "8.tar", "9.tar"}},
        {"{a,b}/{0..1}.tar", {"a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"}},
        {"data/x{,-more}.tar", {"x-more.tar", "x.tar"}},
        {"data/b/x.tar::data/a/y.jsonl", {"a/y.jsonl", "b/x.tar"}},
        {"a.tar::b/c.tar", {"a.tar", "b/c.tar"}},
        {"/d/a/1.tar::/d/ab/1.tar", {"a/1.tar", "ab/1.tar"}},
        {"s3://bucket/data/{0..1}.tar", {"0.tar", "1.tar"}},
        {"s3://bucket/1.tar::s3://bucket/b/1.tar", {"1.tar", "b/1.tar"}},
        {"https://host/data/{a,b}.jsonl.gz", {"a.jsonl.gz", "b.jsonl.gz"}},
        {"s3://bucket/data", {NULL}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        check_case(&cases[i]);
}

static void what_cannot_be_read_is_refused_with_the_reason(void **state)
{
    static const struct {
        const char *url, *reason;
    } cases[] = {
        {"data/{0..3.tar", "not closed"},
        {"data/{a,{b,c}}.tar", "one in another"},
        {"data/{5..3}.tar", "must ascend"},
        {"data/{0..99999999}.tar", "at most"},
        {"data/{a..b}.tar", "\"a\""},
        {"data/{..3}.tar", "two numbers"},
        {"a.tar::a.tar", "named twice"},
        {"a.tar::images", "cannot hold folders"},
        {"a.tar::mem:b/b.tar", "different stores"},
        {"x/{a,b}.zip", "no shard"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena arena;
        struct input input;
        struct error err = {0};

        arena_init(&arena, 1 << 20);
        if (input_open(cases[i].url, NULL, &arena, &input, &err) != ST_INVALID)
            fail_msg("\"%s\" was taken: %s", cases[i].url, err.message);
        if (strstr(err.message, cases[i].reason) == NULL)
            fail_msg("\"%s\": %s", cases[i].url, err.message);
        assert_non_null(strstr(err.context, "input.url"));
        assert_null(input.store);
        arena_release(&arena);
    }
}

/* "mem:in" with one object, for as long as the handle is open. */
static struct object_store *store_with(const char *key, const char *body)
{
    struct object_store *store;
    struct object_written written;
    struct error err = {0};

    assert_ok(object_store_open("mem:in", &store, &err));
    assert_ok(object_store_put(store, key, bytes_of_string(body), &written, &err));
    return store;
}

/* IN-5: what an earlier job wrote, ours and RayGen's. */
static void a_manifest_names_its_shards(void **state)
{
    static const struct {
        const char *name, *body;
    } cases[] = {
        {"manifest.jsonl", "{\"shard\": \"00\", \"object\": \"00.tar\"}\n{\"object\": \"01.tar\"}"},
        {"manifest.jsonl", "{\"shard\": \"00\", \"num_uids\": 3}\n\n{\"shard\": \"01\"}\n"},
        {"info.json", "{\"name\": \"x\", \"lengths\": {\"01.tar\": \"4\", \"00.tar\": \"2\"}}"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct url_case c = {.keys = {"00.tar", "01.tar"}};
        struct object_store *store = store_with(cases[i].name, cases[i].body);
        char url[64];

        (void)snprintf(url, sizeof url, "mem:in/%s", cases[i].name);
        c.url = url;
        check_case(&c);
        object_store_close(&store);
    }
}

static void a_broken_manifest_is_refused_by_line(void **state)
{
    static const struct {
        const char *name, *body, *reason, *where;
    } cases[] = {
        {"manifest.jsonl", "{\"shard\": \"00\"}\n{}\n", "no \"object\"", "line 2"},
        {"manifest.jsonl", "{\"shard\": \"00\"\n", "", "line 1"},
        {"manifest.jsonl", "", "names no shards", ""},
        {"manifest.jsonl", "{\"object\": \"00.tar\", \"kept\": \"AQ==\"}\n", "a view", "line 1"},
        {"info.json", "{\"name\": \"x\"}", "no object \"lengths\"", "manifest"},
        {"info.json", "name\nlengths\n", "", "manifest"}, /* as RayGen has released it */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct arena arena;
        struct input input;
        struct error err = {0};
        struct object_store *store = store_with(cases[i].name, cases[i].body);
        char url[64];

        (void)snprintf(url, sizeof url, "mem:in/%s", cases[i].name);
        arena_init(&arena, 1 << 20);
        assert_true(input_open(url, NULL, &arena, &input, &err) != ST_OK);
        if (strstr(err.message, cases[i].reason) == NULL ||
            strstr(err.context, cases[i].where) == NULL)
            fail_msg("case %zu: %s: %s", i, err.context, err.message);
        arena_release(&arena);
        object_store_close(&store);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_url_names_a_folder_an_object_a_pattern_or_a_list),
        cmocka_unit_test(what_cannot_be_read_is_refused_with_the_reason),
        cmocka_unit_test(a_manifest_names_its_shards),
        cmocka_unit_test(a_broken_manifest_is_refused_by_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
