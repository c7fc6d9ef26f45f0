/* Reading a view and streaming its shards; writing one is tested end to end (test_curate.py). */
#include "coordinator/curation/view.h"
#include "reinforce/curate/subset.h"
#include "storage/format/tar.h"
#include "tests/support/test.h"

enum { MAX_BYTES = 1 << 20 };

#define ABOUT "{\"dataset\": \"mem:view-dataset\"}"
#define LINE(object, n_records, n_kept, bits)                                                      \
    "{\"shard\": \"0\", \"num_uids\": " #n_kept ", \"object\": \"" object                          \
    "\", \"bytes\": 1, \"sha256\": \"s\", \"n_records\": " #n_records ", \"kept\": \"" bits        \
    "\"}\n"

static void put(struct object_store *store, const char *key, const char *text)
{
    struct object_written written;
    struct error err = {0};

    assert_ok(object_store_put(store, key, bytes_of_string(text), &written, &err));
}

static void put_member(struct byte_buf *tar, const char *name, const char *body)
{
    struct error err = {0};
    size_t mark;

    assert_ok(tar_write_begin(tar, name, &mark, &err));
    assert_ok(byte_buf_append_string(tar, body, &err));
    assert_ok(tar_write_end(tar, mark, &err));
}

/* Five samples of two members; those in `bits` alone. */
static void make_tar(unsigned bits, struct byte_buf *tar)
{
    struct error err = {0};

    byte_buf_reset(tar);
    for (int i = 0; i < 5; i++) {
        char name[140];

        if ((bits >> i & 1) == 0)
            continue;
        (void)snprintf(name, sizeof name, "%d%0120d.txt", i, 7); /* long: with a header before it */
        put_member(tar, name, "a caption");
        (void)snprintf(name, sizeof name, "%d%0120d.syn.json", i, 7);
        put_member(tar, name, "");
    }
    assert_ok(tar_write_tail(tar->len, tar, &err));
}

static enum status collect(void *ctx, struct bytes_view piece, struct error *err)
{
    return byte_buf_append(ctx, piece.data, piece.len, err);
}

static void a_stream_is_the_kept_samples_bytes(void **state)
{
    static const struct {
        const char *bits; /* in base64 */
        unsigned kept;
    } cases[] = {{"AA==", 0}, {"Hw==", 0x1f}, {"EQ==", 0x11}, {"Dg==", 0x0e}, {"Cg==", 0x0a}};
    struct object_store *dataset;
    struct object_written written;
    struct byte_buf tar, got;
    struct error err = {0};

    (void)state;
    byte_buf_init(&tar, MAX_BYTES);
    byte_buf_init(&got, MAX_BYTES);
    assert_ok(object_store_open("mem:view-dataset", &dataset, &err));
    make_tar(0x1f, &tar);
    assert_ok(object_store_put(dataset, "0.tar", byte_buf_view(&tar), &written, &err));
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        char line[512];
        struct view view = {.store = NULL};
        struct view_shard shard;
        size_t at = 0;

        (void)snprintf(line, sizeof line,
                       "{\"shard\": \"0\", \"num_uids\": %d, \"object\": \"0.tar\", \"bytes\": 1, "
                       "\"sha256\": \"s\", \"n_records\": 5, \"kept\": \"%s\"}\n",
                       __builtin_popcount(cases[c].kept), cases[c].bits);
        view.lines = bytes_of_string(line);
        assert_ok(view_next_shard(&view, &at, &shard, &err));
        byte_buf_reset(&got);
        assert_ok(view_stream_shard(&shard, dataset, collect, &got, &err));
        make_tar(cases[c].kept, &tar);
        if (!bytes_equal(byte_buf_view(&got), byte_buf_view(&tar)))
            fail_msg("case %zu: %zu bytes, want %zu", c, got.len, tar.len);
        view_shard_release(&shard);
        assert_status(view_next_shard(&view, &at, &shard, &err), ST_END);
    }
    object_store_close(&dataset);
    byte_buf_release(&got);
    byte_buf_release(&tar);
}

static void a_dataset_that_has_changed_is_not_streamed(void **state)
{
    struct object_store *dataset, *store;
    struct object_written written;
    struct byte_buf tar;
    struct error err = {0};
    struct view view;
    struct view_shard shard;
    size_t at = 0;

    (void)state;
    byte_buf_init(&tar, MAX_BYTES);
    assert_ok(object_store_open("mem:view-dataset", &dataset, &err));
    assert_ok(object_store_open("mem:view", &store, &err));
    make_tar(0x0f, &tar);
    assert_ok(object_store_put(dataset, "0.tar", byte_buf_view(&tar), &written, &err));
    put(store, VIEW_KEY, ABOUT);
    put(store, VIEW_MANIFEST_KEY, LINE("0.tar", 5, 1, "AQ==") LINE("0.jsonl", 5, 1, "AQ=="));
    assert_ok(view_open("mem:view", NULL, &view, &err));
    assert_string_equal(view.dataset, "mem:view-dataset");
    assert_ok(view_next_shard(&view, &at, &shard, &err));
    byte_buf_reset(&tar);
    assert_status(view_stream_shard(&shard, dataset, collect, &tar, &err), ST_CORRUPT);
    assert_non_null(strstr(err.message, "holds 4 records, the view says 5"));
    view_shard_release(&shard);
    assert_ok(view_next_shard(&view, &at, &shard, &err));
    assert_status(view_stream_shard(&shard, dataset, collect, &tar, &err), ST_INVALID);
    view_shard_release(&shard);
    view_close(&view);
    object_store_close(&store);
    object_store_close(&dataset);
    byte_buf_release(&tar);
}

static void a_broken_view_is_told(void **state)
{
    static const struct {
        const char *line, *message;
    } cases[] = {
        {"{}\n", "lacks one of"},
        {"[1]\n", "lacks one of"},
        {LINE("0.tar", 5, 2, "AQ=="), "keeps 1 records, num_uids says 2"},
        {LINE("0.tar", 9, 1, "AQ=="), "bits for 1 bytes"},
        {LINE("0.tar", -1, 1, "AQ=="), "lacks one of"},
        {LINE("0.tar", 5, 1, "AQ"), ""},
        {"{\"shard\": \n", ""},
    };
    struct object_store *store;
    struct error err = {0};
    struct view view;

    (void)state;
    assert_ok(object_store_open("mem:view", &store, &err));
    assert_status(view_open("mem:view", NULL, &view, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.message, "is no view"));
    put(store, VIEW_KEY, "{}");
    assert_status(view_open("mem:view", NULL, &view, &err), ST_CORRUPT);
    put(store, VIEW_KEY, ABOUT);
    assert_status(view_open("mem:view", NULL, &view, &err), ST_CORRUPT);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct view_shard shard;
        size_t at = 0;

        put(store, VIEW_MANIFEST_KEY, cases[i].line);
        assert_ok(view_open("mem:view", NULL, &view, &err));
        if (view_next_shard(&view, &at, &shard, &err) != ST_CORRUPT ||
            strstr(err.message, cases[i].message) == NULL)
            fail_msg("case %zu: %s", i, err.message);
        view_close(&view);
    }
    object_store_close(&store);
}

static void a_sample_is_found_among_kept_or_dropped(void **state)
{
    struct example_id ids[] = {{0x0123456789abcdef, 1}};
    size_t n = ARRAY_LEN(ids);
    struct byte_buf npy;
    struct object_store *store;
    struct object_written written;
    struct error err = {0};
    struct view view;
    json_t *drop;
    bool kept;

    (void)state;
    assert_ok(object_store_open("mem:view", &store, &err));
    put(store, VIEW_KEY, ABOUT);
    put(store, VIEW_MANIFEST_KEY, "");
    put(store, VIEW_DROPS_KEY,
        "{\"uid\": \"ab\", \"rule\": \"r\"}\n{\"uid\": \"a\", \"rule\": \"s\"}\n");
    byte_buf_init(&npy, MAX_BYTES);
    assert_ok(subset_encode(ids, &n, &npy, &err));
    assert_ok(object_store_put(store, VIEW_IDS_KEY, byte_buf_view(&npy), &written, &err));
    byte_buf_release(&npy);
    assert_ok(view_open("mem:view", NULL, &view, &err));
    assert_ok(
        view_find(&view, bytes_of_string("0123456789abcdef0000000000000001"), &kept, &drop, &err));
    assert_true(kept && drop == NULL);
    assert_ok(view_find(&view, bytes_of_string("a"), &kept, &drop, &err));
    assert_false(kept);
    assert_string_equal(json_string_value(json_object_get(drop, "rule")), "s");
    json_decref(drop);
    assert_ok(view_find(&view, bytes_of_string("b"), &kept, &drop, &err));
    assert_true(!kept && drop == NULL);
    view_close(&view);
    object_store_close(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_is_the_kept_samples_bytes),
        cmocka_unit_test(a_dataset_that_has_changed_is_not_streamed),
        cmocka_unit_test(a_broken_view_is_told),
        cmocka_unit_test(a_sample_is_found_among_kept_or_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
