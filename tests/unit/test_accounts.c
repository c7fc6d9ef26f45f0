/* Whose books are wrong is said by shard; and a catalog of an earlier release gets books. */
#include "coordinator/accounts.h"
#include "storage/catalog/migrations.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test.h"

#include <sqlite3.h>
#include <stdio.h>

struct fixture {
    struct temp_folder folder;
    char path[128], url[160];
};

static void setup(struct fixture *f)
{
    temp_folder_init(&f->folder);
    temp_folder_name(&f->folder, "c.sqlite", f->path, sizeof f->path);
    (void)snprintf(f->url, sizeof f->url, "sqlite:%s", f->path);
}

static void teardown(struct fixture *f)
{
    temp_folder_release(&f->folder);
}

static void execute(struct fixture *f, const char *text)
{
    sqlite3 *handle = NULL;

    assert_int_equal(sqlite3_open(f->path, &handle), SQLITE_OK);
    if (sqlite3_exec(handle, text, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", text, sqlite3_errmsg(handle));
    assert_int_equal(sqlite3_close(handle), SQLITE_OK);
}

/* Shard 0 with samples 0, 1, 2 (1 is quarantined), shard 1 with one. */
static void fill(struct fixture *f)
{
    execute(f, "insert into jobs (job, name, state, config_digest, config, created_ms) values "
               "(1, 'j', 2, 'd', '{}', 0);"
               "insert into shards (job, shard, state, input_source, input_key, input_format, "
               "input_begin, input_end, input_etag, next_index) values "
               "(1, 0, 3, 1, 'a.tar', 'webdataset', 0, 0, '', 3), "
               "(1, 1, 3, 1, 'b.tar', 'webdataset', 0, 0, '', 1);"
               "insert into samples (job, shard, sample_index, uid, state, stage, reason, width, "
               "height) values (1, 0, 0, 'a0', 1, null, null, 1, 1), "
               "(1, 0, 1, 'a1', 2, 'decode', 'bad', 0, 0), (1, 0, 2, 'a2', 1, null, null, 1, 1), "
               "(1, 1, 0, 'b0', 1, null, null, 1, 1);"
               "insert into outputs (job, shard, object_key, bytes, sha256, n_done, n_quarantined) "
               "values (1, 0, '0.tar', 1, 's', 2, 1), "
               "(1, 1, '1.tar', 1, 's', 1, 0)");
}

static struct accounts read(struct fixture *f)
{
    struct accounts accounts;
    struct catalog *catalog;
    struct error err = {0};

    assert_ok(catalog_open(f->url, &catalog, &err));
    assert_ok(accounts_read(catalog, 1, &accounts, &err));
    catalog_close(&catalog);
    return accounts;
}

static void begin(struct fixture *f)
{
    struct catalog *catalog;
    struct error err = {0};

    setup(f);
    assert_ok(catalog_open(f->url, &catalog, &err));
    catalog_close(&catalog);
    fill(f);
    execute(f, "update shards set samples_read = next_index");
}

static void a_complete_job_accounts_for_every_sample(void **state)
{
    struct fixture f;
    struct accounts accounts;

    (void)state;
    begin(&f);
    accounts = read(&f);
    assert_true(accounts.agree && accounts.is_complete);
    assert_int_equal(accounts.read, 4);
    assert_int_equal(accounts.done, 3);
    assert_int_equal(accounts.quarantined, 1);
    execute(&f, "update samples set state = 4 where uid = 'a1';"
                "update outputs set n_quarantined = 0, n_filtered = 1 where shard = 0");
    accounts = read(&f);
    assert_true(accounts.agree && accounts.is_complete);
    assert_int_equal(accounts.filtered, 1);
    execute(&f, "update shards set state = 2, samples_read = null where shard = 1");
    accounts = read(&f);
    assert_true(accounts.agree);
    assert_false(accounts.is_complete);
    teardown(&f);
}

static void the_first_shard_that_disagrees_is_named(void **state)
{
    static const struct {
        const char *change, *why;
    } cases[] = {
        {"delete from samples where uid = 'a2'", "3 samples were read; 1 are done"},
        {"update samples set sample_index = 7 where uid = 'a2'", "the last is sample 7"},
        {"update samples set state = 3 where uid = 'a1'", "its output's row says 2, 1 and 0"},
        {"update samples set state = 4 where uid = 'a1'", "0 quarantined and 1 filtered"},
        {"update outputs set n_filtered = 1 where shard = 0", "its output's row says 2, 1 and 1"},
        {"update outputs set n_done = 1 where shard = 0", "its output's row says 1, 1 and 0"},
        {"delete from outputs where shard = 0", "it has no output"},
        {"update shards set samples_read = null where shard = 0", "nobody knows"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;
        struct accounts accounts;

        begin(&f);
        execute(&f, cases[i].change);
        accounts = read(&f);
        if (accounts.agree || accounts.shard != 0 || strstr(accounts.why, cases[i].why) == NULL)
            fail_msg("%s: shard %lld: %s", cases[i].change, (long long)accounts.shard,
                     accounts.why);
        teardown(&f);
    }
}

static void a_sample_that_was_tried_again_must_be_somewhere(void **state)
{
    struct fixture f;
    struct accounts accounts;

    (void)state;
    begin(&f);
    execute(&f, "update samples set state = 3 where uid = 'a1';"
                "update outputs set n_quarantined = 0 where shard = 0");
    accounts = read(&f);
    assert_false(accounts.agree);
    assert_int_equal(accounts.shard, -1);
    assert_non_null(
        strstr(accounts.why, "4 samples were read, 3 are done, 0 quarantined and 0 filtered"));
    teardown(&f);
}

static void a_catalog_of_an_earlier_release_has_books_too(void **state)
{
    struct fixture f;
    struct accounts accounts;
    struct catalog *catalog;
    struct catalog_lease lease;
    struct arena arena;
    struct error err = {0};
    int64_t wait;
    const struct catalog_terms terms = {
        .lease_ms = 1000, .max_attempts = 3, .part_samples = 4, .samples_at_work = 8};

    (void)state;
    setup(&f);
    execute(&f, sqlite_migrations[0]);
    execute(&f, sqlite_migrations[1]);
    execute(&f, "pragma user_version = 2");
    fill(&f);
    /* Shard 1 was being extended. */
    execute(&f, "update shards set state = 1, input_source = 3, input_key = '1.tar', "
                "next_index = 0 where shard = 1");
    accounts = read(&f);
    assert_true(accounts.agree);
    assert_false(accounts.is_complete);
    assert_int_equal(accounts.read, 4);
    arena_init(&arena, 1 << 20);
    assert_ok(catalog_open(f.url, &catalog, &err));
    assert_ok(catalog_lease_take(catalog, 1, "w", 0, &terms, &arena, &lease, &wait, &err));
    assert_int_equal(lease.plan.source, CATALOG_INPUT_PREVIOUS);
    assert_string_equal(lease.plan.input_key, "1.tar");
    catalog_close(&catalog);
    arena_release(&arena);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_complete_job_accounts_for_every_sample),
        cmocka_unit_test(the_first_shard_that_disagrees_is_named),
        cmocka_unit_test(a_sample_that_was_tried_again_must_be_somewhere),
        cmocka_unit_test(a_catalog_of_an_earlier_release_has_books_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
