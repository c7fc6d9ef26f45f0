#include "tests/support/object_store_contract.h"

#include "storage/object/object_store.h"
#include "tests/support/test.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    LARGE_BYTES = (3 << 20) + 17, /* more than one chunk of any copy, and not a multiple of one */
    N_THREADS = 4,
    N_ROUNDS = 40,
    RACE_BYTES = 70000,
};

static void put(struct object_store *s, const char *key, const char *text)
{
    struct object_written written;
    struct error err = {0};

    assert_ok(object_store_put(s, key, bytes_of_string(text), &written, &err));
    assert_int_equal(written.bytes, strlen(text));
}

static void expect(struct object_store *s, const char *key, struct bytes_view want)
{
    struct arena arena;
    struct bytes_view body;
    struct object_written found;
    struct object_info info;
    char hex[SHA256_HEX_LEN + 1];
    struct error err = {0};

    arena_init(&arena, (size_t)LARGE_BYTES * 2);
    assert_ok(object_store_get(s, key, LARGE_BYTES, &arena, &body, &err));
    if (!bytes_equal(body, want))
        fail_msg("\"%s\" holds other bytes (%zu, want %zu)", key, body.len, want.len);
    assert_ok(object_store_head(s, key, &info, &err));
    assert_int_equal(info.bytes, want.len);
    assert_ok(object_store_hash(s, key, &found, &err));
    sha256_of(want, hex);
    assert_int_equal(found.bytes, want.len);
    assert_string_equal(found.sha256, hex);
    arena_release(&arena);
}

/* A listing as text: one key a line. */
struct listing {
    char keys[4096];
    size_t len, n, stop_after;
    struct object_store *remove_from;
};

static enum status add_key(void *ctx, const struct object_info *info, struct error *err)
{
    struct listing *listing = ctx;
    struct object_info head;

    assert_true(listing->len + strlen(info->key) + 2 < sizeof listing->keys);
    listing->len += (size_t)snprintf(listing->keys + listing->len,
                                     sizeof listing->keys - listing->len, "%s\n", info->key);
    listing->n++;
    if (listing->remove_from != NULL) {
        assert_int_equal(object_store_head(listing->remove_from, info->key, &head, err), ST_OK);
        assert_int_equal(head.bytes, info->bytes);
        assert_string_equal(head.etag, info->etag);
        return object_store_remove(listing->remove_from, info->key, err);
    }
    if (listing->n == listing->stop_after)
        return error_set(err, ST_CANCELLED, "enough");
    return ST_OK;
}

static void expect_list(struct object_store *s, const char *prefix, const char *want)
{
    struct listing listing = {.n = 0};
    struct error err = {0};

    assert_ok(object_store_list(s, prefix, add_key, &listing, &err));
    if (strcmp(listing.keys, want) != 0)
        fail_msg("listing \"%s\" gave\n%swant\n%s", prefix, listing.keys, want);
}

static void what_is_not_there_is_not_found(struct object_store *s)
{
    struct object_info info;
    struct object_written written;
    struct bytes_view body;
    struct arena arena;
    char byte;
    struct error err = {0};

    arena_init(&arena, 1024);
    put(s, "there/object", "x");
    assert_status(object_store_head(s, "gone", &info, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.message, "gone"));
    assert_status(object_store_head(s, "there", &info, &err), ST_NOT_FOUND); /* no folders */
    assert_status(object_store_head(s, "there/object2", &info, &err), ST_NOT_FOUND);
    assert_status(object_store_read_range(s, "gone", 0, 1, &byte, &err), ST_NOT_FOUND);
    assert_status(object_store_get(s, "no/such/folder", 9, &arena, &body, &err), ST_NOT_FOUND);
    assert_status(object_store_hash(s, "gone", &written, &err), ST_NOT_FOUND);
    assert_ok(object_store_remove(s, "gone", &err));
    assert_ok(object_store_remove(s, "no/such/folder", &err));
    assert_ok(object_store_remove(s, "there", &err));
    assert_ok(object_store_remove(s, "there/object", &err));
    assert_ok(object_store_remove(s, "there/object", &err));
    arena_release(&arena);
}

static void bytes_come_back_whole_and_in_ranges(struct object_store *s)
{
    struct object_written written;
    struct arena arena;
    struct bytes_view body;
    uint8_t *large = malloc(LARGE_BYTES), piece[8] = "unhurt";
    struct error err = {0};

    assert_non_null(large);
    for (uint32_t i = 0, x = 1; i < LARGE_BYTES; i++, x = x * 1664525u + 1013904223u)
        large[i] = (uint8_t)(x >> 24);
    arena_init(&arena, 1 << 20);
    assert_ok(object_store_put(s, "large", bytes_view_of(large, LARGE_BYTES), &written, &err));
    expect(s, "large", bytes_view_of(large, LARGE_BYTES));
    assert_ok(object_store_read_range(s, "large", LARGE_BYTES - 5, 5, piece, &err));
    assert_memory_equal(piece, large + LARGE_BYTES - 5, 5);
    assert_ok(object_store_read_range(s, "large", LARGE_BYTES, 0, piece, &err));
    assert_status(object_store_read_range(s, "large", LARGE_BYTES - 5, 6, piece, &err), ST_CORRUPT);
    assert_status(object_store_read_range(s, "large", LARGE_BYTES + 1, 0, piece, &err), ST_CORRUPT);
    assert_status(object_store_read_range(s, "large", UINT64_MAX, 8, piece, &err), ST_CORRUPT);
    assert_status(object_store_get(s, "large", LARGE_BYTES - 1, &arena, &body, &err), ST_INVALID);
    assert_status(object_store_get(s, "large", LARGE_BYTES, &arena, &body, &err), ST_NO_MEMORY);
    assert_null(body.data);
    assert_ok(object_store_put(s, "empty", bytes_view_of(NULL, 0), &written, &err));
    expect(s, "empty", bytes_view_of(NULL, 0));
    assert_ok(object_store_remove(s, "large", &err));
    assert_ok(object_store_remove(s, "empty", &err));
    arena_release(&arena);
    free(large);
}

static void a_put_replaces_the_whole_object_and_its_etag(struct object_store *s)
{
    struct object_info before, after;
    struct error err = {0};

    put(s, "k/replaced", "the first and longer one");
    assert_ok(object_store_head(s, "k/replaced", &before, &err));
    put(s, "k/replaced", "second");
    assert_ok(object_store_head(s, "k/replaced", &after, &err));
    assert_string_not_equal(before.etag, after.etag);
    expect(s, "k/replaced", bytes_of_string("second"));
    assert_ok(object_store_remove(s, "k/replaced", &err));
}

static void a_new_object_is_not_written_over(struct object_store *s)
{
    struct object_written written;
    struct error err = {0};

    assert_ok(object_store_put_new(s, "new/object", bytes_of_string("first"), &written, &err));
    assert_int_equal(written.bytes, 5);
    assert_status(object_store_put_new(s, "new/object", bytes_of_string("second"), &written, &err),
                  ST_CONFLICT);
    assert_non_null(strstr(err.message, "new/object"));
    expect(s, "new/object", bytes_of_string("first"));
    assert_ok(object_store_remove(s, "new/object", &err));
    assert_ok(object_store_put_new(s, "new/object", bytes_of_string("third"), &written, &err));
    expect(s, "new/object", bytes_of_string("third"));
    assert_ok(object_store_remove(s, "new/object", &err));
}

static void keys_are_bytes_within_rules(struct object_store *s)
{
    static const char *const good[] = {
        " leading blank", "a b/c%2Fd?x=1&y#z", "new\nline", "...",
        ".hidden",        "a..b/..c/d..",      "UPPER",     "upper",
        "\\back\\slash",  "e\xcc\x81",
    };
    static const char *const bad[] = {
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/..",
        "../a",
        "./a",
        "a/./b",
        "a/../b",
        "a/.",
        OBJECT_TEMPORARY_PREFIX "x",
        "a/" OBJECT_TEMPORARY_PREFIX "1/b",
    };
    struct object_written written;
    struct object_info info;
    char longest[OBJECT_KEY_MAX + 2], byte;
    struct listing all = {.n = 0};
    enum status st;
    struct error err = {0};

    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        put(s, good[i], good[i]);
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        expect(s, good[i], bytes_of_string(good[i]));
    assert_ok(object_store_list(s, "", add_key, &all, &err));
    assert_int_equal(all.n, ARRAY_LEN(good));
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_ok(object_store_remove(s, good[i], &err));
    /* What is no UTF-8 is kept byte for byte, or refused where names must be UTF-8. */
    st = object_store_put(s, "\xff\xfe not utf-8", bytes_of_string("x"), &written, &err);
    if (st == ST_OK)
        assert_ok(object_store_remove(s, "\xff\xfe not utf-8", &err));
    else if (st != ST_INVALID || strstr(err.message, "UTF-8") == NULL)
        fail_msg("a key that is no UTF-8: %s", err.message);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (object_store_put(s, bad[i], bytes_view_of("x", 1), &written, &err) != ST_INVALID ||
            object_store_head(s, bad[i], &info, &err) != ST_INVALID ||
            object_store_read_range(s, bad[i], 0, 1, &byte, &err) != ST_INVALID ||
            object_store_join(s, &bad[i], 1, bytes_view_of(NULL, 0), "ok", &written, &err) !=
                ST_INVALID ||
            object_store_join(s, NULL, 0, bytes_view_of(NULL, 0), bad[i], &written, &err) !=
                ST_INVALID ||
            object_store_remove(s, bad[i], &err) != ST_INVALID)
            fail_msg("key \"%s\" is let through", bad[i]);
    }
    /* Parts of 255 bytes and a last one of 2: 1024 in all, the longest key there is. */
    memset(longest, 'k', sizeof longest);
    for (size_t i = OBJECT_KEY_PART_MAX; i < OBJECT_KEY_MAX - 3; i += OBJECT_KEY_PART_MAX + 1)
        longest[i] = '/';
    longest[OBJECT_KEY_MAX - 3] = '/';
    longest[OBJECT_KEY_MAX] = '\0';
    put(s, longest, "far down");
    expect(s, longest, bytes_of_string("far down"));
    assert_ok(object_store_remove(s, longest, &err));
    longest[OBJECT_KEY_MAX] = 'k';
    longest[OBJECT_KEY_MAX + 1] = '\0';
    assert_status(object_key_check(longest, &err), ST_INVALID);
    longest[OBJECT_KEY_PART_MAX] = 'k';
    longest[OBJECT_KEY_PART_MAX + 1] = '\0';
    assert_status(object_key_check(longest, &err), ST_INVALID);
}

static void listings_are_in_byte_order_of_whole_keys(struct object_store *s)
{
    static const char *const keys[] = {"a0",    "a/z",  "a/b/c", "a-b", "a.b",  "a/b.c",
                                       "a/b-c", "a/b0", "b",     "B",   "aa/a", "\xc3\xa9"};
    struct listing stopped = {.stop_after = 2}, removing = {.remove_from = s};
    struct error err = {0};

    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        put(s, keys[i], keys[i]);
    expect_list(s, "", "B\na-b\na.b\na/b-c\na/b.c\na/b/c\na/b0\na/z\na0\naa/a\nb\n\xc3\xa9\n");
    expect_list(s, "a", "a-b\na.b\na/b-c\na/b.c\na/b/c\na/b0\na/z\na0\naa/a\n");
    expect_list(s, "a/", "a/b-c\na/b.c\na/b/c\na/b0\na/z\n");
    expect_list(s, "a/b", "a/b-c\na/b.c\na/b/c\na/b0\n");
    expect_list(s, "a/b/", "a/b/c\n");
    expect_list(s, "a/b/c", "a/b/c\n");
    expect_list(s, "a/b/c/", "");
    expect_list(s, "a/b/cc", "");
    expect_list(s, "no/such/folder/", "");
    assert_status(object_store_list(s, "../", add_key, &stopped, &err), ST_INVALID);
    assert_status(object_store_list(s, "a/", add_key, &stopped, &err), ST_CANCELLED);
    assert_string_equal(err.message, "enough");
    assert_int_equal(stopped.n, 2);
    /* As a sweep does it. */
    assert_ok(object_store_list(s, "", add_key, &removing, &err));
    assert_int_equal(removing.n, ARRAY_LEN(keys));
    expect_list(s, "", "");
}

static void joining_appends_parts_in_order_and_keeps_them(struct object_store *s)
{
    static const char *const keys[] = {"parts/2", "parts/1", "parts/empty", "parts/2"};
    static const char *const missing[] = {"parts/1", "parts/9"};
    struct object_written written;
    char hex[SHA256_HEX_LEN + 1];
    struct error err = {0};

    put(s, "parts/1", "one ");
    put(s, "parts/2", "two ");
    put(s, "parts/empty", "");
    assert_ok(object_store_join(s, keys, ARRAY_LEN(keys), bytes_of_string("tail"), "out/joined",
                                &written, &err));
    sha256_of(bytes_of_string("two one two tail"), hex);
    assert_int_equal(written.bytes, 16);
    assert_string_equal(written.sha256, hex);
    expect(s, "out/joined", bytes_of_string("two one two tail"));
    expect(s, "parts/1", bytes_of_string("one "));
    assert_status(
        object_store_join(s, missing, 2, bytes_of_string("x"), "out/joined", &written, &err),
        ST_NOT_FOUND);
    expect(s, "out/joined", bytes_of_string("two one two tail"));
    /* Into one of its own parts. */
    assert_ok(object_store_join(s, keys, 2, bytes_view_of(NULL, 0), "parts/1", &written, &err));
    expect(s, "parts/1", bytes_of_string("two one "));
    assert_ok(object_store_join(s, NULL, 0, bytes_view_of(NULL, 0), "out/none", &written, &err));
    expect(s, "out/none", bytes_view_of(NULL, 0));
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        assert_ok(object_store_remove(s, keys[i], &err));
    assert_ok(object_store_remove(s, "out/joined", &err));
    assert_ok(object_store_remove(s, "out/none", &err));
}

static void another_handle_sees_the_same_and_sweeping_spares_it(struct object_store *s,
                                                                const char *url)
{
    struct object_store *other;
    size_t n_removed = 7;
    struct error err = {0};

    assert_ok(object_store_open(url, &other, &err));
    put(s, "shared/x", "seen");
    expect(other, "shared/x", bytes_of_string("seen"));
    assert_ok(object_store_sweep(other, "", &n_removed, &err));
    assert_int_equal(n_removed, 0);
    assert_ok(object_store_remove(other, "shared/x", &err));
    expect_list(s, "", "");
    object_store_close(&other);
    assert_null(other);
    object_store_close(&other);
}

struct racer {
    struct object_store *store;
    int id;
    atomic_int *n_counted;
};

/* Writes one shared key as a block of its own letter, and objects of its own in a folder that keeps
 * appearing and vanishing; reads the shared one all the while. */
static void *race(void *arg)
{
    struct racer *racer = arg;
    uint8_t *block = malloc(RACE_BYTES);
    struct arena arena;
    bool failed = block == NULL;

    arena_init(&arena, 1 << 20);
    for (int round = 0; round < N_ROUNDS && !failed; round++) {
        struct object_written written;
        struct bytes_view body = {.len = 0};
        struct error err;
        char own[32];

        (void)snprintf(own, sizeof own, "race/deep/er/%d", racer->id);
        memset(block, 'a' + racer->id, RACE_BYTES);
        arena_reset(&arena);
        failed =
            object_store_put(racer->store, "race/shared", bytes_view_of(block, RACE_BYTES),
                             &written, &err) != ST_OK ||
            object_store_put(racer->store, own, bytes_of_string(own), &written, &err) != ST_OK ||
            object_store_get(racer->store, "race/shared", RACE_BYTES, &arena, &body, &err) !=
                ST_OK ||
            object_store_remove(racer->store, own, &err) != ST_OK || body.len != RACE_BYTES;
        for (size_t i = 1; i < body.len && !failed; i++)
            failed = body.data[i] != body.data[0];
    }
    if (failed)
        (void)atomic_fetch_add(racer->n_counted, 1);
    arena_release(&arena);
    free(block);
    return NULL;
}

static void *be_first(void *arg)
{
    struct racer *racer = arg;
    struct object_written written;
    struct error err;
    char own[32];
    enum status st;

    (void)snprintf(own, sizeof own, "of %d", racer->id);
    st = object_store_put_new(racer->store, "race/first", bytes_of_string(own), &written, &err);
    if (st == ST_OK)
        (void)atomic_fetch_add(racer->n_counted, 1);
    return NULL;
}

static void of_many_that_write_a_new_object_one_is_first(struct object_store *s)
{
    struct racer racers[N_THREADS];
    pthread_t threads[N_THREADS];
    atomic_int n_first = 0;
    struct error err = {0};

    for (int i = 0; i < N_THREADS; i++) {
        racers[i] = (struct racer){.store = s, .id = i, .n_counted = &n_first};
        assert_int_equal(pthread_create(&threads[i], NULL, be_first, &racers[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&n_first), 1);
    assert_ok(object_store_remove(s, "race/first", &err));
}

static void many_threads_never_see_half_an_object(struct object_store *s)
{
    struct racer racers[N_THREADS];
    pthread_t threads[N_THREADS];
    atomic_int n_counted = 0;
    struct error err = {0};

    for (int i = 0; i < N_THREADS; i++) {
        racers[i] = (struct racer){.store = s, .id = i, .n_counted = &n_counted};
        assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (int i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&n_counted), 0);
    expect_list(s, "", "race/shared\n");
    assert_ok(object_store_remove(s, "race/shared", &err));
}

void object_store_contract(const char *url)
{
    struct object_store *s;
    struct error err = {0};

    assert_ok(object_store_open(url, &s, &err));
    what_is_not_there_is_not_found(s);
    bytes_come_back_whole_and_in_ranges(s);
    a_put_replaces_the_whole_object_and_its_etag(s);
    a_new_object_is_not_written_over(s);
    keys_are_bytes_within_rules(s);
    listings_are_in_byte_order_of_whole_keys(s);
    joining_appends_parts_in_order_and_keeps_them(s);
    another_handle_sees_the_same_and_sweeping_spares_it(s, url);
    of_many_that_write_a_new_object_one_is_first(s);
    many_threads_never_see_half_an_object(s);
    expect_list(s, "", "");
    object_store_close(&s);
}
