#include "reinforce/text/locations.h"
#include "tests/support/test.h"

#include <stdio.h>
#include <string.h>

static struct arena arena;

static size_t parse(const char *text, struct location **out)
{
    struct error err = {0};
    size_t n = 0;

    arena_reset(&arena);
    assert_ok(locations_parse(bytes_of_string(text), &arena, out, &n, &err));
    return n;
}

static void assert_label(const struct location *location, const char *want)
{
    assert_int_equal(location->label.len, strlen(want));
    assert_memory_equal(location->label.data, want, strlen(want));
}

static void boxes_come_with_their_names_in_order(void **state)
{
    struct location *got;

    (void)state;
    assert_int_equal(parse("<loc0100><loc0200><loc0300><loc1023> cat ; "
                           "<loc0000><loc0001><loc0002><loc0003> striped cushion",
                           &got),
                     2);
    assert_int_equal(got[0].top, 100);
    assert_int_equal(got[0].left, 200);
    assert_int_equal(got[0].bottom, 300);
    assert_int_equal(got[0].right, 1023);
    assert_false(got[0].has_mask);
    assert_label(&got[0], "cat");
    assert_int_equal(got[1].right, 3);
    assert_label(&got[1], "striped cushion");
}

static void a_segment_has_sixteen_codes_behind_its_box(void **state)
{
    char text[512] = "<loc0001><loc0002><loc0003><loc0004>";
    struct location *got;

    (void)state;
    for (int i = 0; i < LOCATION_MASK_CODES; i++) {
        char code[16];

        (void)snprintf(code, sizeof code, "<seg%03d>", i * 8 + 7);
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), "%s", code);
    }
    (void)snprintf(text + strlen(text), sizeof text - strlen(text), " dog ; cat");
    assert_int_equal(parse(text, &got), 1);
    assert_true(got[0].has_mask);
    for (int i = 0; i < LOCATION_MASK_CODES; i++)
        assert_int_equal(got[0].mask[i], i * 8 + 7);
    assert_label(&got[0], "dog");
}

static void what_is_no_place_is_passed_over(void **state)
{
    static const struct {
        const char *text;
        size_t n;
    } cases[] = {
        {"", 0},
        {"a photo of a dog", 0},
        {"<loc0001><loc0002><loc0003> dog", 0},
        {"<loc0001><loc0002><loc0003><loc1024> dog", 0},
        {"<loc001><loc0002><loc0003><loc0004> dog", 0},
        {"<loc0001><loc0002><loc0003><loc0004", 0},
        {"<loc0001><loc0002><loc0003><loc0004>", 1},
        {"<loc0009><loc0001><loc0002><loc0003><loc0004> dog", 1},
        {"say <loc0001> <loc0002> <loc0003> <loc0004> dog", 1},
        {"<loc0001><loc0002><loc0003><loc0004> a<loc0001><loc0002><loc0003><loc0004> b", 2},
        {"<loc0001><loc0002><loc0003><loc0004><seg001><seg002> dog", 1},
        {"<seg001>;;<loc", 0},
    };
    struct location *got;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (parse(cases[i].text, &got) != cases[i].n)
            fail_msg("\"%s\": not %zu places", cases[i].text, cases[i].n);
}

static int init_arena(void **state)
{
    (void)state;
    arena_init(&arena, 1 << 20);
    return 0;
}

static int release_arena(void **state)
{
    (void)state;
    arena_release(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(boxes_come_with_their_names_in_order),
        cmocka_unit_test(a_segment_has_sixteen_codes_behind_its_box),
        cmocka_unit_test(what_is_no_place_is_passed_over),
    };

    return cmocka_run_group_tests(tests, init_arena, release_arena);
}
