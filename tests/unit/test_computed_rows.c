/* The files of references that are computed: where examples are, and their rows. Numbers are those
 * of the specification's checklist. */
#include "coordinator/curator/computed_rows.h"
#include "coordinator/curator/example_index.h"
#include "reinforce/base/file.h"
#include "reinforce/nn/convert.h"
#include "tests/support/pairs.h"
#include "tests/support/temp_folder.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { N = 200, D = 12 };

static struct temp_folder folder;
static char path[128], key[SHA256_HEX_LEN + 1], other_key[SHA256_HEX_LEN + 1];
static struct arena arena;

static int make_folder(void **state)
{
    (void)state;
    temp_folder_init(&folder);
    temp_folder_name(&folder, "x", path, sizeof path);
    sha256_of(bytes_of_string("key"), key);
    sha256_of(bytes_of_string("another"), other_key);
    arena_init(&arena, 1 << 20);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    arena_release(&arena);
    temp_folder_release(&folder);
    return 0;
}

/* Turns one bit round. */
static void flip(size_t at)
{
    FILE *file = fopen(path, "r+b");
    int byte;

    assert_non_null(file);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    byte = fgetc(file);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    assert_int_equal(fputc(byte ^ 0x40, file), byte ^ 0x40);
    assert_int_equal(fclose(file), 0);
}

/* In no order. */
static struct example_id id_of(uint64_t i)
{
    return (struct example_id){.low = i * 0x9e3779b97f4a7c15u, .high = i % 5};
}

static void write_index(uint64_t n, uint64_t *n_twice)
{
    struct example_index_builder builder;
    struct error err = {0};

    example_index_builder_init(&builder);
    for (uint64_t i = 0; i < n; i++) {
        if (i % 50 == 0) {
            char name[32];

            (void)snprintf(name, sizeof name, "%llu.tar", (unsigned long long)(i / 50));
            assert_ok(example_index_add_shard(&builder, i % 100 == 50, "webdataset", name, &err));
        }
        assert_ok(example_index_add(&builder, id_of(i), 10 * i, 10 * i + 7, &err));
    }
    assert_ok(
        example_index_add(&builder, id_of(3), 99999, 100000, &err)); /* a second of that name */
    assert_ok(example_index_write(&builder, path, key, n_twice, &err));
    example_index_builder_release(&builder);
}

static void examples_are_found_where_they_are(void **state)
{
    struct example_index *index;
    struct error err = {0};
    bool seen[N] = {false};
    uint64_t n_twice, place;

    (void)state;
    write_index(N, &n_twice);
    assert_int_equal(n_twice, 1);
    assert_ok(example_index_open(path, key, &index, &err));
    assert_int_equal(example_index_count(index), N);
    for (uint64_t i = 0; i < N; i++) {
        struct example_source source;
        char name[32];

        assert_true(example_index_find(index, id_of(i), &place));
        assert_true(place < N && !seen[place]);
        seen[place] = true;
        source = example_index_get(index, place);
        (void)snprintf(name, sizeof name, "%llu.tar", (unsigned long long)(i / 50));
        assert_true(source.id.low == id_of(i).low && source.id.high == id_of(i).high);
        assert_int_equal(source.offset, 10 * i);
        assert_int_equal(source.end, 10 * i + 7);
        assert_string_equal(source.key, name);
        assert_string_equal(source.format, "webdataset");
        assert_int_equal(source.is_listed, i / 50 % 2);
        assert_false(example_index_find(index, id_of(N + i), &place));
    }
    example_index_close(&index);
}

/* CURATE 25, of the input */
static void an_index_of_another_input_or_a_damaged_one_is_none(void **state)
{
    struct example_index *index;
    struct byte_buf body;
    struct error err = {0};
    uint64_t n_twice;

    (void)state;
    assert_status(example_index_open(path, key, &index, &err), ST_NOT_FOUND);
    write_index(20, &n_twice);
    assert_status(example_index_open(path, other_key, &index, &err), ST_CORRUPT);
    assert_null(index);
    byte_buf_init(&body, 1 << 20);
    assert_ok(file_read(path, &body, &err));
    for (size_t at = 0; at < body.len; at = at == 95 ? 128 : at + 1) { /* but the header's zeros */
        flip(at);
        assert_status(example_index_open(path, key, &index, &err), ST_CORRUPT);
        flip(at);
    }
    assert_ok(example_index_open(path, key, &index, &err));
    example_index_close(&index);
    for (size_t len = body.len; len-- > 0; len -= len / 4) {
        assert_int_equal(truncate(path, (off_t)len), 0);
        assert_status(example_index_open(path, key, &index, &err), ST_CORRUPT);
    }
    byte_buf_release(&body);
}

/* CURATE 26, the file of rows */
static void rows_are_read_as_soon_as_they_are_written(void **state)
{
    struct computed_rows *writer, *reader;
    uint16_t image[D], text[D], want[D];
    struct pairs pairs;
    struct error err = {0};

    (void)state;
    pairs_draw(&pairs, N, D, D, 1);
    assert_ok(computed_rows_open(path, key, N, D, &writer, &err));
    assert_ok(computed_rows_open(path, key, N, D, &reader, &err));
    for (uint64_t i = 0; i < N; i += 2) {
        const float *rows[] = {pairs.rows[1][PAIR_IMAGE] + i * D, pairs.rows[1][PAIR_TEXT] + i * D};

        arena_reset(&arena);
        assert_int_equal(computed_rows_get(reader, i, id_of(i), image, text), COMPUTED_NONE);
        assert_ok(computed_rows_put(writer, i, id_of(i), rows[0], rows[1], &arena, &err));
        assert_int_equal(computed_rows_get(reader, i, id_of(i), image, text), COMPUTED_ROW);
        convert_to_f16(rows[0], D, want);
        assert_memory_equal(image, want, sizeof want);
        convert_to_f16(rows[1], D, want);
        assert_memory_equal(text, want, sizeof want);
        assert_int_equal(computed_rows_get(reader, i, id_of(i + 1), image, text), COMPUTED_NONE);
        assert_int_equal(computed_rows_get(reader, i + 1, id_of(i + 1), NULL, NULL), COMPUTED_NONE);
    }
    assert_ok(computed_rows_put(writer, 1, id_of(1), NULL, NULL, &arena, &err));
    computed_rows_close(&writer);
    computed_rows_close(&reader);
    assert_ok(computed_rows_open(path, key, N, D, &reader, &err)); /* and later */
    assert_int_equal(computed_rows_get(reader, 1, id_of(1), image, text), COMPUTED_IMPOSSIBLE);
    assert_int_equal(computed_rows_get(reader, 4, id_of(4), image, text), COMPUTED_ROW);
    computed_rows_close(&reader);
    pairs_release(&pairs);
}

/* CURATE 25: and so a torn row is none. */
static void a_damaged_row_is_none(void **state)
{
    enum { HEADER = 128, ROW = 24 + 4 * D };
    struct computed_rows *rows;
    uint16_t image[D], text[D];
    struct pairs pairs;
    struct error err = {0};

    (void)state;
    pairs_draw(&pairs, 3, D, D, 1);
    assert_ok(computed_rows_open(path, key, 3, D, &rows, &err));
    for (uint64_t i = 0; i < 3; i++)
        assert_ok(computed_rows_put(rows, i, id_of(i), pairs.rows[1][PAIR_IMAGE] + i * D,
                                    pairs.rows[1][PAIR_TEXT] + i * D, &arena, &err));
    computed_rows_close(&rows);
    for (size_t b = 0; b < ROW; b++) {
        flip(HEADER + ROW + b);
        assert_ok(computed_rows_open(path, key, 3, D, &rows, &err));
        assert_int_equal(computed_rows_get(rows, 0, id_of(0), image, text), COMPUTED_ROW);
        assert_int_equal(computed_rows_get(rows, 1, id_of(1), image, text), COMPUTED_NONE);
        assert_int_equal(computed_rows_get(rows, 2, id_of(2), image, text), COMPUTED_ROW);
        computed_rows_close(&rows);
        flip(HEADER + ROW + b);
    }
    assert_status(computed_rows_open(path, other_key, 3, D, &rows, &err), ST_CORRUPT);
    assert_status(computed_rows_open(path, key, 4, D, &rows, &err), ST_CORRUPT);
    assert_non_null(strstr(err.message, "remove it"));
    pairs_release(&pairs);
}

static void a_process_that_died_while_it_made_the_file_is_followed(void **state)
{
    struct computed_rows *rows;
    struct error err = {0};

    (void)state;
    assert_ok(computed_rows_open(path, key, N, D, &rows, &err));
    computed_rows_close(&rows);
    assert_int_equal(truncate(path, 128), 0); /* the header is there, the length is not */
    assert_ok(computed_rows_open(path, key, N, D, &rows, &err));
    assert_int_equal(computed_rows_get(rows, N - 1, id_of(N - 1), NULL, NULL), COMPUTED_NONE);
    computed_rows_close(&rows);
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(examples_are_found_where_they_are),
        IN_FOLDER(an_index_of_another_input_or_a_damaged_one_is_none),
        IN_FOLDER(rows_are_read_as_soon_as_they_are_written),
        IN_FOLDER(a_damaged_row_is_none),
        IN_FOLDER(a_process_that_died_while_it_made_the_file_is_followed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
