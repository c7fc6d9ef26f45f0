/* Lists of samples: written from where samples came from, and read as a dataset of those alone. */
#include "tests/support/test.h"
#include "worker/sample_list.h"

#include <stdio.h>

/* An input in memory with "a.jsonl" (a0, a1, ... a5; a3 is broken), and "p.jsonl" in the output. */
struct fixture {
    struct object_store *input, *output;
    struct arena arena;
};

static void put(struct object_store *store, const char *key, const char *text)
{
    struct object_written written;
    struct error err = {0};

    assert_ok(object_store_put(store, key, bytes_of_string(text), &written, &err));
}

#define LINE(uid) "{\"uid\": \"" uid "\", \"image\": \"iVBORw0KGgo=\"}\n"

static void setup(struct fixture *f)
{
    struct error err = {0};

    arena_init(&f->arena, 1 << 24);
    assert_ok(object_store_open("mem:list-in", &f->input, &err));
    assert_ok(object_store_open("mem:list-out", &f->output, &err));
    put(f->input, "a.jsonl",
        LINE("a0") LINE("a1") LINE("a2") "{\"uid\": \"a3\"}\n" LINE("a4") LINE("a5"));
    put(f->output, "p.jsonl", LINE("p0") LINE("p1") LINE("p2"));
}

static void teardown(struct fixture *f)
{
    object_store_close(&f->output);
    object_store_close(&f->input);
    arena_release(&f->arena);
}

static void write_list(struct fixture *f, const struct catalog_source *sources, size_t n)
{
    struct object_written written;
    struct byte_buf text;
    struct error err = {0};

    byte_buf_init(&text, 1 << 20);
    assert_ok(sample_list_write(sources, n, &text, &err));
    assert_ok(object_store_put(f->output, "list", byte_buf_view(&text), &written, &err));
    byte_buf_release(&text);
}

static enum status open_list(struct fixture *f, uint64_t index, struct dataset_reader **reader,
                             struct error *err)
{
    const struct dataset_read_options options = {.max_sample_bytes = 1 << 20};
    const struct dataset_position from = {.index = index};

    return sample_list_open(f->input, f->output, "list", &options, &from, reader, err);
}

/* "a1 p0 !a3": what is read from place `index` on, rejects with an exclamation mark. */
static void read_from(struct fixture *f, uint64_t index, const char *want)
{
    struct dataset_reader *reader;
    struct dataset_position position;
    char got[200] = "";
    struct error err = {0};
    uint64_t n = index;

    assert_ok(open_list(f, index, &reader, &err));
    for (;;) {
        struct record record;
        struct dataset_reject reject;
        enum status st = dataset_reader_next(reader, &f->arena, &record, &reject, &err);
        size_t len = strlen(got);

        if (st == ST_END)
            break;
        if (st == ST_CORRUPT)
            (void)snprintf(got + len, sizeof got - len, "%s!%s:%s", len > 0 ? " " : "", reject.uid,
                           reject.reason);
        else
            (void)snprintf(got + len, sizeof got - len, "%s%.*s", len > 0 ? " " : "",
                           (int)record.uid.len, (const char *)record.uid.data);
        assert_true(st == ST_OK || st == ST_CORRUPT);
        record_release(&record);
        dataset_reader_tell(reader, &position);
        assert_int_equal(position.index, ++n);
    }
    dataset_reader_close(&reader);
    assert_string_equal(got, want);
}

static const struct catalog_shard_plan whole_a = {
    .shard = 4, .source = CATALOG_INPUT_JOB, .input_key = "a.jsonl", .input_format = "jsonl"};

static void a_list_is_read_from_any_place_in_it(void **state)
{
    const struct catalog_shard_plan plan = {
        .shard = 7, .source = CATALOG_INPUT_PLAN, .input_key = "p.jsonl", .input_format = "jsonl"};
    const struct catalog_source sources[] = {
        {.source_shard = 4, .source_index = 1, .source = whole_a},
        {.source_shard = 4, .source_index = 3, .source = whole_a},
        {.source_shard = 4, .source_index = 5, .source = whole_a},
        {.source_shard = 7, .source_index = 0, .source = plan},
        {.source_shard = 7, .source_index = 2, .source = plan}};
    static const char *const want[] = {"a1 !a3:missing_image a5 p0 p2",
                                       "!a3:missing_image a5 p0 p2",
                                       "a5 p0 p2",
                                       "p0 p2",
                                       "p2",
                                       ""};
    struct fixture f;

    (void)state;
    setup(&f);
    write_list(&f, sources, ARRAY_LEN(sources));
    for (size_t i = 0; i < ARRAY_LEN(want); i++)
        read_from(&f, i, want[i]);
    teardown(&f);
}

static void a_source_may_be_a_slice_whose_samples_count_from_its_beginning(void **state)
{
    struct catalog_source sources[] = {{.source_shard = 4, .source_index = 1, .source = whole_a}};
    struct fixture f;

    (void)state;
    setup(&f);
    sources[0].source.input_begin = strlen(LINE("a0"));
    sources[0].source.input_end = 3 * strlen(LINE("a0"));
    write_list(&f, sources, 1);
    read_from(&f, 0, "a2");
    teardown(&f);
}

static void a_sample_that_is_gone_costs_itself_alone(void **state)
{
    const struct catalog_source sources[] = {
        {.source_shard = 4, .source_index = 5, .source = whole_a},
        {.source_shard = 4, .source_index = 6, .source = whole_a},
        {.source_shard = 4, .source_index = 9, .source = whole_a}};
    struct fixture f;

    (void)state;
    setup(&f);
    write_list(&f, sources, ARRAY_LEN(sources));
    read_from(&f, 0, "a5 !sample 6:missing_sample !sample 9:missing_sample");
    write_list(&f, sources, 0);
    read_from(&f, 0, "");
    teardown(&f);
}

static void what_is_no_list_is_refused_by_name(void **state)
{
    static const char *const texts[] = {
        "",
        "[]",
        "{\"version\": 2, \"sources\": []}",
        "{\"version\": 1}",
        "{\"version\": 1, \"sources\": [{\"from\": \"input\", \"key\": \"a.jsonl\", \"format\": "
        "\"jsonl\", \"begin\": 0, \"end\": 0, \"samples\": []}]}",
        "{\"version\": 1, \"sources\": [{\"from\": \"input\", \"key\": \"a.jsonl\", \"format\": "
        "\"jsonl\", \"begin\": 0, \"end\": 0, \"samples\": [2, 2]}]}",
        "{\"version\": 1, \"sources\": [{\"from\": \"else\", \"key\": \"a.jsonl\", \"format\": "
        "\"jsonl\", \"begin\": 0, \"end\": 0, \"samples\": [2]}]}",
        "{\"version\": 1, \"sources\": [{\"from\": \"input\", \"key\": \"a.jsonl\", \"format\": "
        "\"jsonl\", \"begin\": -1, \"end\": 0, \"samples\": [2]}]}",
        "{\"version\": 1, \"sources\": [{\"from\": \"input\", \"key\": \"a.jsonl\", \"format\": "
        "\"nonsense\", \"begin\": 0, \"end\": 0, \"samples\": [2]}]}",
        "{\"version\": 1, \"sources\": [{\"from\": \"input\", \"key\": \"../a.jsonl\", \"format\": "
        "\"jsonl\", \"begin\": 0, \"end\": 0, \"samples\": [2]}]}",
    };
    struct dataset_reader *reader;
    struct fixture f;

    (void)state;
    setup(&f);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct error err = {0};

        put(f.output, "list", texts[i]);
        if (open_list(&f, 0, &reader, &err) == ST_OK)
            fail_msg("text %zu was taken", i);
        assert_null(reader);
        assert_non_null(strstr(err.context, "list \"list\""));
    }
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_is_read_from_any_place_in_it),
        cmocka_unit_test(a_source_may_be_a_slice_whose_samples_count_from_its_beginning),
        cmocka_unit_test(a_sample_that_is_gone_costs_itself_alone),
        cmocka_unit_test(what_is_no_list_is_refused_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
