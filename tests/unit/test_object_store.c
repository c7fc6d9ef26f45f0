#include "storage/object/object_store.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Runs the same behaviour over a folder and over memory. */
static void on_every_kind(void (*behave)(struct object_store *store))
{
    char dir[] = "/tmp/test-object-XXXXXX", url[64], command[96];
    struct object_store *store;
    struct error err = {0};

    assert_non_null(mkdtemp(dir));
    (void)snprintf(url, sizeof url, "file:%s/store", dir);
    assert_ok(object_store_open(url, &store, &err));
    behave(store);
    object_store_close(&store);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0); /* NOLINT: a test's own folder */

    assert_ok(object_store_open("mem:test", &store, &err));
    behave(store);
    object_store_close(&store);
}

static void put(struct object_store *store, const char *key, const char *body)
{
    struct object_written written;
    struct error err = {0};
    char sha256[SHA256_HEX_LEN + 1];

    assert_ok(object_store_put(store, key, bytes_of_string(body), &written, &err));
    sha256_of(bytes_of_string(body), sha256);
    assert_int_equal(written.bytes, strlen(body));
    assert_string_equal(written.sha256, sha256);
}

static void assert_holds(struct object_store *store, const char *key, const char *body)
{
    struct bytes_view found;
    struct arena arena;
    struct error err = {0};

    arena_init(&arena, 1 << 20);
    assert_ok(object_store_get(store, key, 1 << 16, &arena, &found, &err));
    assert_true(bytes_equal(found, bytes_of_string(body)));
    arena_release(&arena);
}

static void check_put_and_get(struct object_store *store)
{
    struct object_info info;
    struct object_written is;
    struct bytes_view body;
    struct arena arena;
    struct error err = {0};
    char middle[3];

    put(store, "a/b.txt", "hello");
    assert_holds(store, "a/b.txt", "hello");
    put(store, "a/b.txt", "goodbye"); /* all the old bytes, then all the new ones */
    assert_holds(store, "a/b.txt", "goodbye");
    put(store, "empty", "");
    assert_holds(store, "empty", "");
    assert_ok(object_store_head(store, "a/b.txt", &info, &err));
    assert_int_equal(info.bytes, 7);
    assert_true(info.etag[0] != '\0');
    assert_ok(object_store_read_range(store, "a/b.txt", 4, 3, middle, &err));
    assert_memory_equal(middle, "bye", 3);
    assert_status(object_store_read_range(store, "a/b.txt", 6, 3, middle, &err), ST_CORRUPT);
    assert_ok(object_store_hash(store, "a/b.txt", &is, &err));
    assert_int_equal(is.bytes, 7);

    arena_init(&arena, 1 << 20);
    assert_status(object_store_get(store, "none", 10, &arena, &body, &err), ST_NOT_FOUND);
    assert_status(object_store_get(store, "a/b.txt", 3, &arena, &body, &err), ST_INVALID);
    assert_status(object_store_head(store, "a", &info, &err), ST_NOT_FOUND);
    arena_release(&arena);
}

static void objects_are_read_as_they_were_put(void **state)
{
    (void)state;
    on_every_kind(check_put_and_get);
}

static enum status add_key(void *ctx, const struct object_info *info, struct error *err)
{
    char *keys = ctx;

    (void)err;
    (void)snprintf(keys + strlen(keys), 256 - strlen(keys), "%s ", info->key);
    return ST_OK;
}

/* "d-x" sorts before "d/e": it is whole keys that are in order, not folders. */
static void check_listing(struct object_store *store)
{
    struct error err = {0};
    char all[256] = "", some[256] = "";

    put(store, "d/e/f", "1");
    put(store, "d-x", "2");
    put(store, "d.y", "3");
    put(store, "d/e.g", "4");
    assert_ok(object_store_list(store, "", add_key, all, &err));
    assert_string_equal(all, "d-x d.y d/e.g d/e/f ");
    assert_ok(object_store_list(store, "d/e", add_key, some, &err));
    assert_string_equal(some, "d/e.g d/e/f ");
}

static void listings_are_in_byte_order_of_whole_keys(void **state)
{
    (void)state;
    on_every_kind(check_listing);
}

static void check_join(struct object_store *store)
{
    static const char *const parts[] = {"p/1", "p/2"};
    struct object_written written;
    struct error err = {0};

    put(store, "p/1", "one ");
    put(store, "p/2", "two ");
    assert_ok(object_store_join(store, parts, 2, bytes_of_string("end"), "whole", &written, &err));
    assert_holds(store, "whole", "one two end");
    assert_int_equal(written.bytes, 11);
    assert_ok(object_store_join(store, NULL, 0, bytes_of_string("tail"), "whole", &written, &err));
    assert_holds(store, "whole", "tail");
    assert_ok(object_store_remove(store, "p/1", &err));
    assert_ok(object_store_remove(store, "p/1", &err)); /* deleting twice is deleting once */
    assert_status(object_store_join(store, parts, 2, bytes_of_string(""), "whole", &written, &err),
                  ST_NOT_FOUND);
    assert_holds(store, "whole", "tail"); /* a join that fails changes nothing */
}

static void parts_are_joined_in_order(void **state)
{
    (void)state;
    on_every_kind(check_join);
}

static void check_keys(struct object_store *store)
{
    static const char *const bad[] = {"", "/a", "a//b", "../a", "a/../b", "a/.", "a/"};
    struct object_written written;
    struct error err = {0};

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (object_store_put(store, bad[i], bytes_of_string("x"), &written, &err) != ST_INVALID)
            fail_msg("key \"%s\" is accepted", bad[i]);
}

static void keys_that_lead_elsewhere_are_refused(void **state)
{
    (void)state;
    on_every_kind(check_keys);
}

static void an_unknown_scheme_is_named(void **state)
{
    struct object_store *store;
    struct error err = {0};

    (void)state;
    assert_status(object_store_open("gopher:x", &store, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "gopher"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_are_read_as_they_were_put),
        cmocka_unit_test(listings_are_in_byte_order_of_whole_keys),
        cmocka_unit_test(parts_are_joined_in_order),
        cmocka_unit_test(keys_that_lead_elsewhere_are_refused),
        cmocka_unit_test(an_unknown_scheme_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
