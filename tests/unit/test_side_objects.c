/* The files beside the shards of a dataset so large that their lists are written in parts. */
#include "coordinator/side_objects.h"
#include "reinforce/base/json.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test.h"
#include "worker/model_record.h"

#include <sqlite3.h>
#include <stdio.h>

enum { N_SHARDS = 70000, MAX_BYTES = 1 << 26 };

/* One job whose shards are all done, of 1 to 9 samples. */
static void fill(const char *path)
{
    char text[1000];
    sqlite3 *handle = NULL;

    (void)snprintf(text, sizeof text,
                   "insert into jobs (job, name, state, config_digest, config, created_ms) values "
                   "(1, 'many', 2, 'd', '{}', 0);"
                   "with recursive n(i) as (select 0 union all select i + 1 from n where i < %d) "
                   "insert into shards (job, shard, state, input_source, input_key, input_format, "
                   "input_begin, input_end, input_etag, next_index) "
                   "select 1, i, 3, 1, 'a', 'webdataset', 0, 0, '', 1 from n;"
                   "insert into outputs (job, shard, object_key, bytes, sha256, n_done, "
                   "n_quarantined) select 1, shard, printf('%%08d.tar', shard), shard, "
                   "printf('%%064d', shard), 1 + shard %% 9, 0 from shards",
                   N_SHARDS - 1);
    assert_int_equal(sqlite3_open(path, &handle), SQLITE_OK);
    if (sqlite3_exec(handle, text, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s", sqlite3_errmsg(handle));
    assert_int_equal(sqlite3_close(handle), SQLITE_OK);
}

static struct bytes_view read(struct object_store *store, const char *key, struct arena *arena)
{
    struct bytes_view body;
    struct error err = {0};

    assert_ok(object_store_get(store, key, MAX_BYTES, arena, &body, &err));
    return body;
}

static json_t *read_json(struct object_store *store, const char *key, struct arena *arena)
{
    json_t *value;
    struct error err = {0};

    assert_ok(json_parse(read(store, key, arena), &value, &err));
    return value;
}

static void expect_manifest(struct bytes_view text)
{
    const char *at = (const char *)text.data;
    char want[300];

    for (int i = 0; i < N_SHARDS; i++) {
        int n = snprintf(want, sizeof want,
                         "{\"shard\": \"%08d\", \"num_uids\": %d, \"object\": \"%08d.tar\", "
                         "\"bytes\": %d, \"sha256\": \"%064d\", \"n_done\": %d, "
                         "\"n_quarantined\": 0, \"n_filtered\": 0, \"config_digest\": \"%s\", "
                         "\"gap_before\": 0}\n",
                         i, 1 + i % 9, i, i, i, 1 + i % 9, "digest");

        assert_true((size_t)n <= text.len && memcmp(at, want, (size_t)n) == 0);
        at += n;
        text.len -= (size_t)n;
    }
    assert_int_equal(text.len, 0);
}

static enum status expect_no_part(void *ctx, const struct object_info *info, struct error *err)
{
    (void)ctx;
    (void)err;
    fail_msg("\"%s\" is left", info->key);
    return ST_OK;
}

static void lists_longer_than_a_part_are_whole(void **state) /* DR 12 */
{
    static const char models[] = "{\"captioners\": [], \"teachers\": []}";
    struct job job = {.name = "many", .digest = "digest", .output = {.format = "webdataset"}};
    const struct catalog_job row = {.job = 1, .name = "many"};
    struct temp_folder folder;
    struct catalog *catalog;
    struct object_store *output;
    struct object_written written;
    struct arena arena;
    struct error err = {0};
    char path[128], url[160];
    json_t *sizes, *info;

    (void)state;
    temp_folder_init(&folder);
    temp_folder_name(&folder, "c.sqlite", path, sizeof path);
    (void)snprintf(url, sizeof url, "sqlite:%s", path);
    assert_ok(catalog_open(url, &catalog, &err));
    fill(path);
    assert_ok(object_store_open("mem:side-objects", &output, &err));
    assert_ok(object_store_put(output, MODEL_RECORD_KEY, bytes_of_string(models), &written, &err));
    assert_ok(side_objects_write(&job, &row, catalog, output, &err));

    arena_init(&arena, 4 * (size_t)MAX_BYTES);
    expect_manifest(read(output, "manifest.jsonl", &arena));
    sizes = read_json(output, "sizes.json", &arena);
    info = read_json(output, "info.json", &arena);
    assert_int_equal(json_object_size(sizes), N_SHARDS);
    assert_int_equal(json_integer_value(json_object_get(sizes, "00069999.tar")), 1 + 69999 % 9);
    assert_int_equal(json_object_size(json_object_get(info, "lengths")), N_SHARDS);
    assert_ok(object_store_list(output, "_reinforce/parts/", expect_no_part, NULL, &err));
    json_decref(sizes);
    json_decref(info);
    arena_release(&arena);
    object_store_close(&output);
    catalog_close(&catalog);
    temp_folder_release(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_longer_than_a_part_are_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
