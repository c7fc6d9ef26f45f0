/* The SQLite catalog: the contract of every catalog, and what is its own. */
#include "reinforce/base/file.h"
#include "storage/catalog/catalog.h"
#include "tests/support/catalog_contract.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test.h"

#include <sqlite3.h>
#include <stdio.h>

/* A folder with a catalog that nobody has open. */
struct fixture {
    struct temp_folder folder;
    char path[128], url[160];
};

static void setup(struct fixture *f)
{
    struct catalog *catalog;
    struct error err = {0};

    temp_folder_init(&f->folder);
    temp_folder_name(&f->folder, "c.sqlite", f->path, sizeof f->path);
    (void)snprintf(f->url, sizeof f->url, "sqlite:%s", f->path);
    assert_ok(catalog_open(f->url, &catalog, &err));
    catalog_close(&catalog);
}

static void teardown(struct fixture *f)
{
    temp_folder_release(&f->folder);
}

static void the_contract_is_kept(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f);
    catalog_contract(&(struct catalog_target){.url = f.url});
    catalog_leases_contract(&(struct catalog_target){.url = f.url});
    catalog_accounts_contract(&(struct catalog_target){.url = f.url});
    catalog_filtered_contract(&(struct catalog_target){.url = f.url});
    catalog_ingest_contract(&(struct catalog_target){.url = f.url});
    catalog_outbox_contract(&(struct catalog_target){.url = f.url});
    teardown(&f);
}

static void a_file_that_is_no_catalog_is_refused_by_name(void **state)
{
    struct fixture f;
    struct catalog *other;
    char path[128], url[160];
    struct error err = {0};

    (void)state;
    setup(&f);
    temp_folder_name(&f.folder, "text", path, sizeof path);
    (void)snprintf(url, sizeof url, "sqlite:%s", path);
    assert_ok(file_write_atomic(
        path, bytes_of_string("this is not a database, but long enough to be read as one"), &err));
    assert_status(catalog_open(url, &other, &err), ST_CORRUPT);
    assert_non_null(strstr(err.message, path));
    assert_status(catalog_open("oracle:x", &other, &err), ST_INVALID);
    teardown(&f);
}

/* Another program's hand in the file. */
static void execute(const char *path, const char *text)
{
    sqlite3 *handle = NULL;

    assert_int_equal(sqlite3_open(path, &handle), SQLITE_OK);
    assert_int_equal(sqlite3_exec(handle, text, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(handle), SQLITE_OK);
}

static void a_newer_schema_is_refused_by_name(void **state)
{
    struct fixture f;
    struct catalog *catalog;
    struct error err = {0};

    (void)state;
    setup(&f);
    execute(f.path, "pragma user_version = 1000");
    assert_status(catalog_open(f.url, &catalog, &err), ST_INVALID);
    assert_null(catalog);
    assert_non_null(strstr(err.message, f.path));
    assert_non_null(strstr(err.message, "1000"));
    teardown(&f);
}

static void the_database_of_another_program_is_left_as_it_is(void **state)
{
    struct fixture f;
    struct catalog *other;
    char path[128], url[160];
    struct byte_buf before, after;
    struct error err = {0};

    (void)state;
    byte_buf_init(&before, 1 << 20);
    byte_buf_init(&after, 1 << 20);
    setup(&f);
    temp_folder_name(&f.folder, "other", path, sizeof path);
    (void)snprintf(url, sizeof url, "sqlite:%s", path);
    execute(path, "create table recipes (name text)");
    assert_ok(file_read(path, &before, &err));
    assert_status(catalog_open(url, &other, &err), ST_INVALID);
    assert_null(other);
    assert_non_null(strstr(err.message, path));
    assert_ok(file_read(path, &after, &err));
    assert_true(bytes_equal(byte_buf_view(&before), byte_buf_view(&after)));
    assert_status(catalog_open("sqlite:", &other, &err), ST_INVALID);
    byte_buf_release(&before);
    byte_buf_release(&after);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_contract_is_kept),
        cmocka_unit_test(a_file_that_is_no_catalog_is_refused_by_name),
        cmocka_unit_test(a_newer_schema_is_refused_by_name),
        cmocka_unit_test(the_database_of_another_program_is_left_as_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
