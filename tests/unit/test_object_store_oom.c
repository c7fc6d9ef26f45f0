/* Every allocation of the object stores fails once: the call says so, and nothing is left half done
 * or unfreed (the asan build looks). */
#include "storage/object/object_store.h"
#include "tests/support/oom.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test.h"

enum { N_ACTIONS = 7, MAX_ALLOCATIONS = 200 };

static enum status count_key(void *ctx, const struct object_info *info, struct error *err)
{
    (void)info;
    (void)err;
    ++*(size_t *)ctx;
    return ST_OK;
}

/* One use of the store, from opening to closing. */
static enum status act(int action, const char *url, struct error *err)
{
    static const char *const parts[] = {"a/1", "a/2"};
    struct object_store *s;
    struct object_written written;
    struct object_info info;
    struct bytes_view body;
    struct arena arena;
    size_t n = 0;
    enum status st = object_store_open(url, &s, err);

    if (st != ST_OK) {
        assert_null(s);
        return st;
    }
    arena_init(&arena, 1 << 20);
    switch (action) {
    case 0:
        st = object_store_put(s, "b/new", bytes_of_string("new"), &written, err);
        break;
    case 1:
        st = object_store_join(s, parts, 2, bytes_of_string("!"), "b/joined", &written, err);
        break;
    case 2:
        st = object_store_get(s, "a/1", 100, &arena, &body, err);
        break;
    case 3:
        st = object_store_hash(s, "a/2", &written, err);
        break;
    case 4:
        st = object_store_list(s, "", count_key, &n, err);
        assert_true(st != ST_OK || n >= 2);
        break;
    case 5:
        st = object_store_sweep(s, "", &n, err);
        break;
    default:
        st = object_store_head(s, "a/1", &info, err);
        break;
    }
    arena_release(&arena);
    object_store_close(&s);
    return st;
}

static void fail_each(const char *url, int action)
{
    bool fired = true;

    for (unsigned n = 1; fired; n++) {
        struct error err = {0};
        enum status st;

        oom_fail_at(n);
        st = act(action, url, &err);
        fired = oom_fired();
        oom_fail_at(0);
        /* What the C library allocates for itself (opendir's buffer, OpenSSL) may be done without.
         */
        if (st != ST_NO_MEMORY && st != ST_OK)
            fail_msg("%s: action %d, allocation %u: %s: %s", url, action, n, status_name(st),
                     err.message);
        if (!fired && st != ST_OK)
            fail_msg("%s: action %d: %s: %s", url, action, status_name(st), err.message);
        assert_true(n < MAX_ALLOCATIONS);
    }
}

static void every_allocation_fails_once(const char *url)
{
    struct object_store *held;
    struct object_written written;
    struct error err = {0};

    assert_ok(object_store_open(url, &held, &err));
    assert_ok(object_store_put(held, "a/1", bytes_of_string("one"), &written, &err));
    assert_ok(object_store_put(held, "a/2", bytes_of_string("two"), &written, &err));
    for (int action = 0; action < N_ACTIONS; action++)
        fail_each(url, action);
    object_store_close(&held);
}

static void a_folder_survives_every_failed_allocation(void **state)
{
    struct temp_folder folder;

    (void)state;
    temp_folder_init(&folder);
    every_allocation_fails_once(folder.path);
    temp_folder_release(&folder);
}

static void memory_survives_every_failed_allocation(void **state)
{
    (void)state;
    every_allocation_fails_once("mem:oom");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_survives_every_failed_allocation),
        cmocka_unit_test(memory_survives_every_failed_allocation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
