#include "coordinator/planner.h"
#include "tests/support/test.h"

#include <stdio.h>

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

enum { N_MANY = 1000000 };

/* A made-up store of N_MANY objects, 0000000.tar and so on; what is put into it is only counted. */
struct many {
    struct object_store base;
    const char *suffix, *last; /* last: a key behind all others; NULL: none */
    size_t n_listed, n_put;
};

static enum status many_list(struct object_store *s, const char *prefix, object_list_fn *each,
                             void *ctx, struct error *err)
{
    struct many *many = CONTAINER_OF(s, struct many, base);
    char key[32];
    struct object_info info = {.key = key, .bytes = 1};
    enum status st = ST_OK;

    assert_string_equal(prefix, "");
    for (int i = 0; i < N_MANY && st == ST_OK; i++) {
        (void)snprintf(key, sizeof key, "%07d%s", i, many->suffix);
        many->n_listed++;
        st = each(ctx, &info, err);
    }
    info.key = many->last;
    return st == ST_OK && many->last != NULL ? each(ctx, &info, err) : st;
}

static enum status many_put(struct object_store *s, const char *key, struct bytes_view body,
                            bool only_new, struct object_written *written, struct error *err)
{
    (void)key;
    (void)only_new;
    (void)err;
    CONTAINER_OF(s, struct many, base)->n_put++;
    written->bytes = body.len;
    return ST_OK;
}

static enum status many_head(struct object_store *s, const char *key, struct object_info *info,
                             struct error *err)
{
    (void)s;
    (void)info;
    return error_set(err, ST_NOT_FOUND, "no object \"%s\"", key);
}

static const struct object_store_ops many_ops = {
    .scheme = "many", .list = many_list, .put = many_put, .head = many_head};

/* What the planner has handed over. */
struct handed {
    const struct many *many;
    size_t n, n_listed_first; /* how far the listing was when the first came */
};

static enum status take_portion(void *ctx, const struct catalog_shard_plan *shards, size_t n_shards,
                                struct error *err)
{
    struct handed *handed = ctx;

    (void)err;
    assert_in_range(n_shards, 1, 1000);
    for (size_t i = 0; i < n_shards; i++)
        assert_int_equal(shards[i].shard, handed->n + i);
    if (handed->n == 0)
        handed->n_listed_first = handed->many->n_listed;
    handed->n += n_shards;
    return ST_OK;
}

static void a_million_objects_are_handed_over_as_they_are_listed(void **state)
{
    static const struct {
        const char *format, *suffix;
        size_t n_shards, n_listed_first; /* n_listed_first: at most */
    } cases[] = {
        {"auto", ".tar", N_MANY, 12000},        /* after a look at the first */
        {"webdataset", ".tar", N_MANY, 1100},   /* without one */
        {"folder", ".jpg", N_MANY / 50, 50100}, /* 1000 lists of 50 */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct many many = {.base = {&many_ops}, .suffix = cases[i].suffix};
        struct handed handed = {.many = &many};
        struct job job = {
            .input = {.url = "many:", .format = cases[i].format, .shard_samples = 50}};
        struct arena arena;
        struct plan plan = {.job = &job,
                            .input = {.store = &many.base},
                            .output = &many.base,
                            .arena = &arena,
                            .commit = take_portion,
                            .commit_ctx = &handed};
        struct error err = {0};

        arena_init(&arena, 1 << 20); /* of all shards it would be 300 times as much */
        assert_ok(planner_run(&plan, &err));
        assert_int_equal(plan.n_shards, cases[i].n_shards);
        assert_in_range(plan.n_open, 1, 1000);
        assert_int_equal(handed.n + plan.n_open, cases[i].n_shards);
        assert_in_range(handed.n_listed_first, 1, cases[i].n_listed_first);
        assert_int_equal(many.n_put,
                         plan.shards[0].source == CATALOG_INPUT_PLAN ? plan.n_shards : 0);
        arena_release(&arena);
    }
}

/* The kinds are told by the first objects; what contradicts them later is still refused. */
static void a_second_kind_far_behind_is_refused(void **state)
{
    struct many many = {.base = {&many_ops}, .suffix = ".tar", .last = "z.jsonl"};
    struct handed handed = {.many = &many};
    struct job job = {.input = {.url = "many:", .format = "auto", .shard_samples = 50}};
    struct arena arena;
    struct plan plan = {.job = &job,
                        .input = {.store = &many.base},
                        .output = &many.base,
                        .arena = &arena,
                        .commit = take_portion,
                        .commit_ctx = &handed};
    struct error err = {0};

    (void)state;
    arena_init(&arena, 1 << 20);
    assert_status(planner_run(&plan, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "z.jsonl"));
    assert_non_null(strstr(err.message, "input.format"));
    arena_release(&arena);
}

/* Lists of shards that are in the catalog already may be being read: they are not written again. */
static void a_planner_that_goes_on_leaves_the_lists_there(void **state)
{
    struct fixture f;
    struct error err = {0};
    char etag[80];

    (void)state;
    setup(&f, "folder", 1);
    put(&f, "a.jpg", "1");
    put(&f, "b.jpg", "2");
    assert_ok(planner_run(&f.plan, &err));
    (void)snprintf(etag, sizeof etag, "%s", f.plan.shards[0].input_etag);
    assert_ok(object_store_remove(f.plan.output, f.plan.shards[0].input_key, &err));
    f.plan.n_known = 1;
    assert_ok(planner_run(&f.plan, &err));
    assert_int_equal(f.plan.n_shards, 2);
    assert_string_equal(f.plan.shards[0].input_etag, etag);
    assert_true(f.plan.shards[0].input_end > 0);
    assert_status(object_store_head(f.plan.output, f.plan.shards[0].input_key,
                                    &(struct object_info){0}, &err),
                  ST_NOT_FOUND);
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
        cmocka_unit_test(a_million_objects_are_handed_over_as_they_are_listed),
        cmocka_unit_test(a_second_kind_far_behind_is_refused),
        cmocka_unit_test(a_planner_that_goes_on_leaves_the_lists_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
