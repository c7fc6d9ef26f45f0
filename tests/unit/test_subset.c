/* Offline selection by score. Numbers are those of the specification's checklist. */
#include "reinforce/base/file.h"
#include "reinforce/base/philox.h"
#include "reinforce/curate/subset.h"
#include "tests/support/test.h"

#include <math.h>
#include <string.h>

/* numpy.save() of the ids below (tests/golden/make_curate.py) */
#define GOLDEN "tests/golden/subset.npy"

enum { ARENA_BYTES = 1 << 20 };

/* CURATE 29, what is kept */
static void a_fraction_keeps_its_threshold_and_the_ties(void **state)
{
    static const float scores[] = {0.5f, 0.9f, 0.5f, 0.1f, 0.7f, 0.5f, NAN, 0.3f};
    static const struct {
        double fraction;
        float want;
        size_t n_kept;
    } cases[] = {
        {0, 0.9f, 1},   {0.125, 0.7f, 2},     {0.25, 0.5f, 5},
        {0.3, 0.5f, 5}, {0.49, 0.5f, 5},      {0.625, 0.3f, 6},
        {0.8, 0.1f, 7}, {0.99, -INFINITY, 7}, {1, -INFINITY, 7},
    };
    struct error err = {0};
    struct arena arena;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        float threshold;
        size_t n = 0;

        assert_ok(subset_threshold(scores, ARRAY_LEN(scores), cases[c].fraction, &threshold, &arena,
                                   &err));
        for (size_t i = 0; i < ARRAY_LEN(scores); i++)
            n += scores[i] >= threshold;
        if (threshold != cases[c].want || n != cases[c].n_kept)
            fail_msg("fraction %g: threshold %g keeps %zu", cases[c].fraction, (double)threshold,
                     n);
    }
    assert_status(subset_threshold(scores, 8, 1.5, &(float){0}, &arena, &err), ST_INVALID);
    arena_release(&arena);
}

/* CURATE 29, the file */
static void the_list_of_ids_is_numpys(void **state)
{
    struct example_id ids[] = {{3, 1}, {0x0123456789abcdef, 2}, {3, 0}, {0, UINT64_MAX}, {3, 1}};
    struct example_id *read;
    size_t n = ARRAY_LEN(ids), n_read;
    struct byte_buf file, golden;
    struct error err = {0};
    struct arena arena;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    byte_buf_init(&file, 1 << 16);
    byte_buf_init(&golden, 1 << 16);
    assert_ok(subset_encode(ids, &n, &file, &err));
    assert_int_equal(n, 4);
    assert_ok(file_read(GOLDEN, &golden, &err));
    assert_int_equal(file.len, golden.len);
    assert_memory_equal(file.data, golden.data, file.len);
    assert_ok(subset_decode(byte_buf_view(&golden), &read, &n_read, &arena, &err));
    assert_int_equal(n_read, 4);
    assert_memory_equal(read, ids, 4 * sizeof *ids);
    assert_true(subset_holds(read, n_read, (struct example_id){3, 1}));
    assert_false(subset_holds(read, n_read, (struct example_id){3, 2}));
    byte_buf_release(&file);
    byte_buf_release(&golden);
    arena_release(&arena);
}

static void what_is_no_list_of_ids_is_refused(void **state)
{
    struct example_id ids[] = {{1, 1}, {2, 2}}, *read;
    size_t n = ARRAY_LEN(ids), n_read;
    struct byte_buf file;
    struct error err = {0};
    struct arena arena;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    byte_buf_init(&file, 1 << 16);
    assert_ok(subset_encode(ids, &n, &file, &err));
    for (size_t len = 0; len < file.len; len++)
        assert_status(subset_decode(bytes_view_of(file.data, len), &read, &n_read, &arena, &err),
                      ST_CORRUPT);
    file.data[file.len - 16]--; /* the second is now {1, 2}; still ascending */
    assert_ok(subset_decode(byte_buf_view(&file), &read, &n_read, &arena, &err));
    file.data[file.len - 8] = 1; /* {1, 1} twice */
    assert_status(subset_decode(byte_buf_view(&file), &read, &n_read, &arena, &err), ST_CORRUPT);
    memcpy(strstr((char *)file.data + 10, "<u8"), "<f8", 3);
    assert_status(subset_decode(byte_buf_view(&file), &read, &n_read, &arena, &err), ST_CORRUPT);
    byte_buf_release(&file);
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fraction_keeps_its_threshold_and_the_ties),
        cmocka_unit_test(the_list_of_ids_is_numpys),
        cmocka_unit_test(what_is_no_list_of_ids_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
