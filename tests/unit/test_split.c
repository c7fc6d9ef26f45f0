/* Where a shard is cut in two: any reader can begin there, and finds the sample of that index. */
#include "storage/format/tar.h"
#include "tests/support/test.h"
#include "worker/split.h"

#include <stdio.h>

/* Names that only say their number; what is in a sample does not matter to who passes over it. */
static void make_tar(struct byte_buf *out, int n)
{
    struct error err = {0};

    for (int i = 0; i < n; i++)
        for (int member = 0; member < 2; member++) {
            char name[32];
            size_t mark;

            (void)snprintf(name, sizeof name, "s%d.%s", i, member == 0 ? "jpg" : "txt");
            assert_ok(tar_write_begin(out, name, &mark, &err));
            assert_ok(byte_buf_append(out, name, strlen(name), &err));
            assert_ok(tar_write_end(out, mark, &err));
        }
    assert_ok(tar_write_tail(out->len, out, &err));
}

static void make_jsonl(struct byte_buf *out, int n)
{
    struct error err = {0};

    for (int i = 0; i < n; i++) {
        char line[64];

        (void)snprintf(line, sizeof line, "%s{\"uid\": \"s%d\", \"image_url\": \"nowhere\"}\n",
                       i % 5 == 3 ? "\n" : "", i);
        assert_ok(byte_buf_append(out, line, strlen(line), &err));
    }
}

static const struct {
    const char *format;
    void (*make)(struct byte_buf *out, int n);
} formats[] = {{"webdataset", make_tar}, {"jsonl", make_jsonl}};

static struct dataset_reader *open_at(struct object_store *store, const char *format,
                                      const struct dataset_position *from)
{
    const struct dataset_read_options options = {.max_sample_bytes = 1 << 20};
    struct dataset_reader *reader;
    struct error err = {0};

    assert_ok(dataset_reader_open(dataset_format_by_name(format), store, "x", &options, from,
                                  &reader, &err));
    return reader;
}

/* A reader that begins at `position` reads the sample of that number, or refuses it by name. */
static void assert_sample(struct object_store *store, const char *format,
                          const struct dataset_position *position)
{
    struct dataset_reader *reader = open_at(store, format, position);
    struct dataset_reject reject;
    struct record record;
    struct arena arena;
    struct error err = {0};
    char want[32];
    enum status st;

    arena_init(&arena, 1 << 24);
    st = dataset_reader_next(reader, &arena, &record, &reject, &err);
    assert_true(st == ST_OK || st == ST_CORRUPT);
    (void)snprintf(want, sizeof want, "s%d", (int)position->index);
    if (st == ST_OK)
        assert_true(bytes_equal(record.uid, bytes_of_string(want)));
    else
        assert_string_equal(reject.uid, want);
    record_release(&record);
    arena_release(&arena);
    dataset_reader_close(&reader);
}

static void the_middle_of_what_is_left_is_found_and_can_be_begun_at(void **state)
{
    static const struct {
        int n;
        uint64_t begin, end, middle, left; /* end 0: to the end */
    } cases[] = {{1, 0, 0, 0, 1}, {2, 0, 0, 1, 2},          {9, 0, 0, 4, 9},
                 {9, 3, 0, 6, 6}, {9, 3, 7, 5, 4},          {9, 9, 0, 0, 0},
                 {9, 4, 4, 0, 0}, {8192, 0, 0, 4096, 8192}, {20000, 0, 0, 10000, 20000}};

    (void)state;
    for (size_t f = 0; f < ARRAY_LEN(formats); f++)
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            struct object_store *store;
            struct object_written written;
            struct dataset_position at = {0};
            struct dataset_reader *reader;
            struct split_point point;
            struct byte_buf body;
            struct error err = {0};

            byte_buf_init(&body, 64 << 20);
            formats[f].make(&body, cases[i].n);
            assert_ok(object_store_open("mem:split", &store, &err));
            assert_ok(object_store_put(store, "x", byte_buf_view(&body), &written, &err));
            reader = open_at(store, formats[f].format, &at);
            while (at.index < cases[i].begin) {
                assert_ok(dataset_reader_skip(reader, &err));
                dataset_reader_tell(reader, &at);
            }
            assert_ok(split_find(reader, cases[i].end, &point, &err));
            if (point.index != cases[i].middle || point.n_left != cases[i].left)
                fail_msg("%s, case %zu: %d of %d", formats[f].format, i, (int)point.index,
                         (int)point.n_left);
            at = (struct dataset_position){.offset = point.offset, .index = point.index};
            if (point.n_left > 0)
                assert_sample(store, formats[f].format, &at);
            dataset_reader_close(&reader);
            object_store_close(&store);
            byte_buf_release(&body);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_middle_of_what_is_left_is_found_and_can_be_begun_at),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
