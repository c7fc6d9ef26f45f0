#include "reinforce/curate/histogram.h"
#include "tests/support/test.h"

#include <math.h>
#include <string.h>

static void scores_are_counted_where_they_lie(void **state)
{
    static const float scores[] = {0, 24, 1, 0.5f, NAN, 23.99f, 12};
    static const bool kept[] = {true, true, false, true, false, false, true};
    struct histogram h;

    (void)state;
    histogram_fill(&h, "words", scores, kept, ARRAY_LEN(scores));
    assert_true(h.low == 0 && h.high == 24);
    assert_int_equal(h.kept[0], 2);
    assert_int_equal(h.dropped[1], 1);
    assert_int_equal(h.kept[12], 1);
    assert_int_equal(h.kept[23], 1);
    assert_int_equal(h.dropped[23], 1);
    assert_int_equal(h.n_missing, 1);
    histogram_mark(&h, 12);
    histogram_mark(&h, 12);
    histogram_mark(&h, -INFINITY);
    assert_int_equal(h.n_bounds, 1);
}

static void text_has_a_line_a_bin_and_marks_thresholds(void **state)
{
    static const float scores[] = {0, 24, 24, 12.5f}, same[] = {7, 7}, whole[] = {1, 2, 5, 5};
    static const bool kept[] = {false, true, true, true};
    struct byte_buf out;
    struct error err = {0};
    struct histogram h;
    const char *text;
    size_t n_lines = 0;

    (void)state;
    byte_buf_init(&out, 1 << 20);
    histogram_fill(&h, "words", scores, kept, 4);
    histogram_mark(&h, 12.5f);
    assert_ok(histogram_write_text(&h, &out, &err));
    assert_ok(byte_buf_c_str(&out, &text, &err));
    assert_non_null(strstr(text, "12 |####################                              1"));
    assert_non_null(strstr(text, " < 12.5\n"));
    assert_non_null(strstr(text, " 0 |....................                              0"));
    for (const char *c = text; *c != '\0'; c++)
        n_lines += *c == '\n';
    assert_int_equal(n_lines, HISTOGRAM_BINS + 2);
    byte_buf_reset(&out);
    histogram_fill(&h, "one value", same, kept, 2);
    assert_ok(histogram_write_text(&h, &out, &err));
    assert_ok(byte_buf_c_str(&out, &text, &err));
    assert_non_null(strstr(text, "7 |####"));
    byte_buf_reset(&out);
    histogram_fill(&h, "whole numbers", whole, kept, 4);
    assert_int_equal(h.n_bins, 5);
    assert_true(h.width == 1 && h.kept[4] == 2 && h.dropped[0] == 1);
    byte_buf_release(&out);
}

static void a_picture_has_a_panel_a_score(void **state)
{
    static const float scores[] = {0, 1, NAN}, none[] = {NAN, NAN, NAN};
    static const bool kept[] = {false, true, true};
    struct histogram h[2];
    struct byte_buf out;
    struct error err = {0};
    const char *text;

    (void)state;
    byte_buf_init(&out, 1 << 20);
    histogram_fill(&h[0], "a < b & c", scores, kept, 3);
    histogram_fill(&h[1], "none", none, kept, 3);
    histogram_mark(&h[0], 0.5f);
    assert_ok(histogram_write_svg(h, 2, &out, &err));
    assert_ok(byte_buf_c_str(&out, &text, &err));
    assert_non_null(strstr(text, "a &lt; b &amp; c"));
    assert_non_null(strstr(text, "stroke-dasharray"));
    assert_null(strstr(text, "nan"));
    assert_non_null(strstr(text, "</svg>\n"));
    byte_buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_are_counted_where_they_lie),
        cmocka_unit_test(text_has_a_line_a_bin_and_marks_thresholds),
        cmocka_unit_test(a_picture_has_a_panel_a_score),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
