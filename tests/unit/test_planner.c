#include "coordinator/planner.h"
#include "tests/support/test.h"

/* A planner over two stores in memory. */
struct fixture {
    struct job job;
    struct plan plan;
    struct arena arena;
};

static void setup(struct fixture *f, const char *format, int64_t shard_samples)
{
    struct error err = {0};

    memset(f, 0, sizeof *f);
    arena_init(&f->arena, 1 << 24);
    f->job.input.url = "mem:in";
    f->job.input.format = format;
    f->job.input.shard_samples = shard_samples;
    f->plan.job = &f->job;
    f->plan.arena = &f->arena;
    assert_ok(object_store_open("mem:in", &f->plan.input.store, &err));
    assert_ok(object_store_open("mem:out", &f->plan.output, &err));
}

static void teardown(struct fixture *f)
{
    object_store_close(&f->plan.output);
    object_store_close(&f->plan.input.store);
    arena_release(&f->arena);
}

static void put(struct fixture *f, const char *key, const char *body)
{
    struct object_written written;
    struct error err = {0};

    assert_ok(object_store_put(f->plan.input.store, key, bytes_of_string(body), &written, &err));
}

static void each_tar_is_a_shard_in_byte_order(void **state)
{
    struct fixture f;
    struct error err = {0};

    (void)state;
    setup(&f, "auto", 10);
    put(&f, "b/00.tar", "x");
    put(&f, "a/00.tar", "y"); /* DR 39: equal base names stay apart */
    put(&f, "readme.md", "z");
    assert_ok(planner_run(&f.plan, &err));
    assert_int_equal(f.plan.n_shards, 2);
    assert_string_equal(f.plan.shards[0].input_key, "a/00.tar");
    assert_string_equal(f.plan.shards[1].input_key, "b/00.tar");
    assert_string_equal(f.plan.shards[0].input_format, "webdataset");
    assert_int_equal(f.plan.shards[1].shard, 1);
    assert_true(f.plan.shards[0].input_etag[0] != '\0');
    teardown(&f);
}

static void plain_jsonl_is_cut_at_line_starts(void **state)
{
    static const char body[] = "{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n{\"d\":4}\n{\"e\":5}";
    struct fixture f;
    struct error err = {0};
    uint64_t at = 0;

    (void)state;
    setup(&f, "auto", 2);
    put(&f, "x.jsonl", body);
    assert_ok(planner_run(&f.plan, &err));
    assert_int_equal(f.plan.n_shards, 3);
    for (size_t i = 0; i < f.plan.n_shards; i++) {
        assert_int_equal(f.plan.shards[i].input_begin, at);
        at = f.plan.shards[i].input_end;
        assert_true(at == strlen(body) || body[at - 1] == '\n');
    }
    assert_int_equal(at, strlen(body));
    teardown(&f);
}

static void a_folder_becomes_stored_lists(void **state)
{
    struct fixture f;
    struct bytes_view list;
    char text[1024];
    struct error err = {0};

    (void)state;
    setup(&f, "auto", 2);
    put(&f, "a.jpg", "1");
    put(&f, "b.png", "2");
    put(&f, "b.txt", "a caption");
    put(&f, "c.webp", "3");
    assert_ok(planner_run(&f.plan, &err));
    assert_int_equal(f.plan.n_shards, 2);
    assert_int_equal(f.plan.n_samples, 3);
    assert_int_equal(f.plan.shards[0].source, CATALOG_INPUT_PLAN);
    assert_ok(object_store_get(f.plan.output, f.plan.shards[0].input_key, 1 << 16, &f.arena, &list,
                               &err));
    assert_true(list.len < sizeof text);
    memcpy(text, list.data, list.len);
    text[list.len] = '\0';
    assert_non_null(strstr(text, "\"b.png\""));
    teardown(&f);
}

static void nothing_to_read_and_two_kinds_are_refused_with_the_reason(void **state)
{
    struct fixture f;
    struct error err = {0};

    (void)state;
    setup(&f, "auto", 2);
    put(&f, "notes.md", "x");
    assert_status(planner_run(&f.plan, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.message, "nothing to read"));
    put(&f, "a.tar", "x");
    put(&f, "b.jsonl", "{}\n");
    assert_status(planner_run(&f.plan, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "a.tar"));
    assert_non_null(strstr(err.message, "b.jsonl"));
    teardown(&f);
}

static void the_format_chooses_among_several_kinds(void **state)
{
    static const struct {
        const char *format, *key;
    } cases[] = {{"webdataset", "a.tar"}, {"jsonl", "b.jsonl.gz"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;
        struct error err = {0};

        setup(&f, cases[i].format, 2);
        put(&f, "a.tar", "x");
        put(&f, "b.jsonl.gz", "x");
        assert_ok(planner_run(&f.plan, &err));
        assert_int_equal(f.plan.n_shards, 1);
        assert_string_equal(f.plan.shards[0].input_key, cases[i].key);
        teardown(&f);
    }
}

/* What a job has written is a job's input as it is; its side files are no data. */
static void an_earlier_output_can_be_read(void **state)
{
    struct fixture f;
    struct error err = {0};

    (void)state;
    setup(&f, "auto", 10);
    put(&f, "00000000.tar", "x");
    put(&f, "manifest.jsonl", "{}\n");
    put(&f, "info.json", "{}");
    put(&f, "_reinforce/plan/00000000.jsonl", "{}\n");
    assert_ok(planner_run(&f.plan, &err));
    assert_int_equal(f.plan.n_shards, 1);
    teardown(&f);
}

static void named_objects_must_be_there(void **state)
{
    static const char *const keys[] = {"a.tar", "b.tar"};
    struct fixture f;
    struct error err = {0};

    (void)state;
    setup(&f, "auto", 10);
    f.plan.input.keys = keys;
    f.plan.input.n_keys = 2;
    put(&f, "a.tar", "x");
    put(&f, "c.tar", "x");
    assert_status(planner_run(&f.plan, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.message, "b.tar"));
    f.plan.n_shards = 0;
    put(&f, "b.tar", "x");
    assert_ok(planner_run(&f.plan, &err));
    assert_int_equal(f.plan.n_shards, 2);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_tar_is_a_shard_in_byte_order),
        cmocka_unit_test(plain_jsonl_is_cut_at_line_starts),
        cmocka_unit_test(a_folder_becomes_stored_lists),
        cmocka_unit_test(nothing_to_read_and_two_kinds_are_refused_with_the_reason),
        cmocka_unit_test(the_format_chooses_among_several_kinds),
        cmocka_unit_test(an_earlier_output_can_be_read),
        cmocka_unit_test(named_objects_must_be_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
