#include "reinforce/base/json.h"
#include "storage/format/dataset.h"
#include "storage/format/folder.h"
#include "tests/support/test.h"

enum { MAX_BYTES = 16 << 20 };

struct fixture {
    struct object_store *store;
    struct byte_buf lines;
    size_t n;
    size_t stop_after; /* 0: never */
};

static enum status take_line(void *ctx, struct bytes_view line, struct error *err)
{
    struct fixture *f = ctx;
    enum status st = byte_buf_append(&f->lines, line.data, line.len, err);

    if (st == ST_OK && ++f->n == f->stop_after)
        return error_set(err, ST_CANCELLED, "enough");
    return st;
}

static void fixture_init(struct fixture *f)
{
    struct error err = {0};

    memset(f, 0, sizeof *f);
    byte_buf_init(&f->lines, MAX_BYTES);
    assert_ok(object_store_open("mem:folder", &f->store, &err));
}

static void fixture_release(struct fixture *f)
{
    byte_buf_release(&f->lines);
    object_store_close(&f->store);
}

static void put(struct fixture *f, const char *key, const char *body)
{
    struct object_written written;
    struct error err = {0};

    assert_ok(object_store_put(f->store, key, bytes_of_string(body), &written, &err));
}

static void expect_lines(struct fixture *f, const char *prefix, const char *want)
{
    struct error err = {0};
    const char *got;

    byte_buf_reset(&f->lines);
    f->n = 0;
    assert_ok(folder_list(f->store, prefix, take_line, f, &err));
    assert_ok(byte_buf_c_str(&f->lines, &got, &err));
    assert_string_equal(got, want);
}

static void images_of_equal_names_get_different_uids(void **state) /* DR 39, IN-5 */
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    put(&f, "a/cat.jpg", "1");
    put(&f, "b/cat.jpg", "2");
    put(&f, "b/cat.PNG", "3");
    put(&f, "b/cat.jpg.png", "4");
    put(&f, "b/cat.jpg.webp", "5");
    put(&f, "b/cat+png.gif", "6");
    put(&f, "a%2Fcat.jpeg", "7");
    put(&f, "b/cat.k.JPEG", "8");
    put(&f, "b/dog", "no extension");
    put(&f, "b/notes.md", "no image");
    put(&f, ".git/x.jpg", "hidden");
    put(&f, "b/._cat.jpg", "hidden");
    put(&f, "_reinforce/plan/x.jpg", "ours");
    expect_lines(&f, "",
                 "{\"uid\": \"a%252Fcat\", \"image_key\": \"a%2Fcat.jpeg\"}\n"
                 "{\"uid\": \"a%2Fcat\", \"image_key\": \"a/cat.jpg\"}\n"
                 "{\"uid\": \"b%2Fcat%2Bpng\", \"image_key\": \"b/cat+png.gif\"}\n"
                 "{\"uid\": \"b%2Fcat%2Ejpg\", \"image_key\": \"b/cat.jpg.png\"}\n"
                 "{\"uid\": \"b%2Fcat%2Ejpg+webp\", \"image_key\": \"b/cat.jpg.webp\"}\n"
                 "{\"uid\": \"b%2Fcat%2Ek\", \"image_key\": \"b/cat.k.JPEG\"}\n"
                 "{\"uid\": \"b%2Fcat\", \"image_key\": \"b/cat.PNG\"}\n"
                 "{\"uid\": \"b%2Fcat+jpg\", \"image_key\": \"b/cat.jpg\"}\n");
    expect_lines(&f, "a/", "{\"uid\": \"cat\", \"image_key\": \"a/cat.jpg\"}\n");
    fixture_release(&f);
}

static void sidecars_are_named_wherever_they_sort(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    put(&f, "a.json", "{}"); /* before its image */
    put(&f, "a.png", "1");
    put(&f, "b.jpg", "2");
    put(&f, "b.k.jpg", "3");
    put(&f, "b.txt", "after b.k.jpg");
    put(&f, "c.TXT", "x");
    put(&f, "c.webp", "4");
    put(&f, "lonely.txt", "no image");
    expect_lines(&f, "",
                 "{\"uid\": \"a\", \"image_key\": \"a.png\", \"json_key\": \"a.json\"}\n"
                 "{\"uid\": \"b%2Ek\", \"image_key\": \"b.k.jpg\"}\n"
                 "{\"uid\": \"b\", \"image_key\": \"b.jpg\", \"text_key\": \"b.txt\"}\n"
                 "{\"uid\": \"c\", \"image_key\": \"c.webp\", \"text_key\": \"c.TXT\"}\n");
    fixture_release(&f);
}

static void a_captions_file_says_what_is_on_the_images(void **state)
{
    struct fixture f;

    (void)state;
    fixture_init(&f);
    put(&f, "d/a.jpg", "1");
    put(&f, "d/b.jpg", "2");
    put(&f, "captions.tsv",
        "d/b.jpg\tthe second \"b\"\r\n\nd/a.jpg\tcaf\xc3\xa9\twith a tab\nd/a.jpg\tonce more\n");
    expect_lines(&f, "",
                 "{\"uid\": \"d%2Fa\", \"image_key\": \"d/a.jpg\", \"text\": "
                 "\"caf\\u00e9\\twith a tab\"}\n"
                 "{\"uid\": \"d%2Fb\", \"image_key\": \"d/b.jpg\", \"text\": "
                 "\"the second \\\"b\\\"\"}\n");
    fixture_release(&f);
    fixture_init(&f);
    put(&f, "in/a.jpg", "1");
    put(&f, "in/b.jpg", "2");
    put(&f, "in/captions.jsonl",
        "{\"file_name\": \"a.jpg\", \"uid\": \"no\", \"caption\": \"x\", \"license\": {\"by\": "
        "1}}");
    expect_lines(&f, "in/",
                 "{\"uid\": \"a\", \"image_key\": \"in/a.jpg\", \"caption\": \"x\", \"license\": "
                 "{\"by\": 1}}\n"
                 "{\"uid\": \"b\", \"image_key\": \"in/b.jpg\"}\n");
    fixture_release(&f);
}

static void a_captions_file_that_fits_nothing_is_an_error(void **state) /* IN-9 */
{
    static const struct {
        const char *file, *body, *want;
    } cases[] = {
        {"captions.tsv", "a.jpg\tx\nno tab here\n", "captions.tsv: line 2"},
        {"captions.tsv", "a.jpg\t\xff\n", "captions.tsv: line 1"},
        {"captions.jsonl", "{\"image\": \"a.jpg\"}\n", "captions.jsonl: line 1"},
        {"captions.jsonl", "[]\n", "captions.jsonl: line 1"},
        {"captions.tsv", "/abs/a.jpg\tx\n", "such as \"a.jpg\""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;
        struct error err = {0};

        fixture_init(&f);
        put(&f, "a.jpg", "1");
        put(&f, cases[i].file, cases[i].body);
        assert_status(folder_list(f.store, "", take_line, &f, &err), ST_INVALID);
        if (strstr(err.context, cases[i].want) == NULL &&
            strstr(err.message, cases[i].want) == NULL)
            fail_msg("case %zu: %s: %s", i, err.context, err.message);
        fixture_release(&f);
    }
}

static void the_callback_ends_the_listing(void **state)
{
    struct fixture f;
    struct error err = {0};

    (void)state;
    fixture_init(&f);
    f.stop_after = 2;
    for (char c = 'a'; c < 'g'; c++)
        put(&f, (char[]){c, '.', 'j', 'p', 'g', '\0'}, "x");
    assert_status(folder_list(f.store, "", take_line, &f, &err), ST_CANCELLED);
    assert_int_equal(f.n, 2);
    fixture_release(&f);
}

static void the_list_reads_as_samples(void **state)
{
    struct fixture f;
    struct object_store *lists;
    struct object_written written;
    struct dataset_reader *reader;
    struct dataset_reject reject;
    struct dataset_read_options options = {.max_sample_bytes = 1 << 20};
    const struct dataset_position none = {0};
    struct arena arena;
    struct record record;
    struct error err = {0};

    (void)state;
    fixture_init(&f);
    put(&f, "x/a.jpg", "\xff\xd8\xff pixels");
    put(&f, "x/a.txt", "a cat\n");
    put(&f, "x/b.webp", "RIFF....WEBP");
    put(&f, "x/b.json", "{\"text\": \"a dog\", \"license\": \"CC0\"}");
    assert_ok(folder_list(f.store, "", take_line, &f, &err));
    assert_ok(object_store_open("mem:lists", &lists, &err));
    assert_ok(object_store_put(lists, "0.jsonl", byte_buf_view(&f.lines), &written, &err));
    options.references = f.store;
    arena_init(&arena, MAX_BYTES);
    assert_ok(dataset_reader_open(dataset_format_by_name("jsonl"), lists, "0.jsonl", &options,
                                  &none, &reader, &err));
    assert_ok(dataset_reader_next(reader, &arena, &record, &reject, &err));
    assert_true(bytes_equal(record.uid, bytes_of_string("x%2Fa")));
    assert_true(bytes_equal(record.captions[0], bytes_of_string("a cat")));
    assert_true(bytes_equal(record.image, bytes_of_string("\xff\xd8\xff pixels")));
    record_release(&record);
    assert_ok(dataset_reader_next(reader, &arena, &record, &reject, &err));
    assert_true(bytes_equal(record.captions[0], bytes_of_string("a dog")));
    assert_string_equal(json_string_value(json_object_get(record.meta, "license")), "CC0");
    assert_string_equal(record.image_ext, "webp");
    record_release(&record);
    assert_status(dataset_reader_next(reader, &arena, &record, &reject, &err), ST_END);
    dataset_reader_close(&reader);
    arena_release(&arena);
    object_store_close(&lists);
    fixture_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(images_of_equal_names_get_different_uids),
        cmocka_unit_test(sidecars_are_named_wherever_they_sort),
        cmocka_unit_test(a_captions_file_says_what_is_on_the_images),
        cmocka_unit_test(a_captions_file_that_fits_nothing_is_an_error),
        cmocka_unit_test(the_callback_ends_the_listing),
        cmocka_unit_test(the_list_reads_as_samples),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
