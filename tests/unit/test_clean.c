#include "reinforce/base/file.h"
#include "reinforce/base/json.h"
#include "reinforce/text/clean.h"
#include "reinforce/text/html_entities.h"
#include "reinforce/text/unicode.h"
#include "tests/support/oom.h"
#include "tests/support/test.h"

static void unhex(const json_t *hex, struct byte_buf *out)
{
    const char *text = json_string_value(hex);
    struct error err = {0};

    byte_buf_reset(out);
    for (size_t i = 0; i + 1 < json_string_length(hex); i += 2) {
        char pair[3] = {text[i], text[i + 1], '\0'};

        assert_ok(byte_buf_append(out, &(uint8_t){(uint8_t)strtoul(pair, NULL, 16)}, 1, &err));
    }
}

static void cleaning_equals_open_clip_but_for_mojibake(void **state) /* CLIP 21 */
{
    struct byte_buf lines, text;
    struct arena arena;
    size_t n = 0;

    (void)state;
    byte_buf_init(&lines, 16u << 20);
    byte_buf_init(&text, 1 << 20);
    arena_init(&arena, 1u << 20);
    {
        struct error err = {0};

        assert_ok(file_read("tests/golden/text_clean.jsonl", &lines, &err));
    }
    for (size_t at = 0; at < lines.len; n++) {
        const uint8_t *stop = memchr(lines.data + at, '\n', lines.len - at);
        struct bytes_view line = bytes_view_of(lines.data + at, (size_t)(stop - lines.data) - at);
        struct bytes_view clean;
        struct error err = {0};
        const json_t *want;
        json_t *pair;
        bool suspect;

        at += line.len + 1;
        arena_reset(&arena);
        assert_ok(json_parse(line, &pair, &err));
        unhex(json_array_get(pair, 0), &text);
        want = json_array_get(pair, 1);
        assert_ok(clean_open_clip(byte_buf_view(&text), &arena, &clean, &suspect, &err));
        if (!bytes_equal(clean, bytes_view_of(json_string_value(want), json_string_length(want))))
            fail_msg("line %zu: %s: got \"%.*s\", want \"%s\"", n + 1,
                     json_string_value(json_array_get(pair, 0)), (int)clean.len, clean.data,
                     json_string_value(want));
        json_decref(pair);
    }
    assert_true(n > 400);
    arena_release(&arena);
    byte_buf_release(&text);
    byte_buf_release(&lines);
}

static void suspected_mojibake_is_reported_and_left_alone(void **state)
{
    static const struct {
        const char *text;
        bool suspect;
    } cases[] = {
        {"caf\xc3\x83\xc2\xa9", true},                 /* é as two characters */
        {"it\xc3\xa2\xe2\x82\xac\xe2\x84\xa2s", true}, /* an apostrophe as three */
        {"&Atilde;&copy;", true},                      /* only after unescaping */
        {"CAF\xc3\x89\xc2\x85", true},                 /* a C1 control */
        {"\xc3\x82 5", true},                          /* a no-break space, made a space */
        {"a cat", false},
        {"caf\xc3\xa9 \xc2\xab"
         "CAF\xc3\x89\xc2\xbb",
         false}, /* «CAFÉ» */
        {"na\xc3\xafve \xe2\x80\x9cquotes\xe2\x80\x9d", false},
        {"\xd0\xa0\xd1\x83\xd1\x81\xd1\x81\xd0\xba\xd0\xb8\xd0\xb9", false},
        {"\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e", false},
    };
    struct arena arena;

    (void)state;
    arena_init(&arena, 1 << 16);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bytes_view clean;
        struct error err = {0};
        bool suspect;

        arena_reset(&arena);
        assert_ok(clean_open_clip(bytes_of_string(cases[i].text), &arena, &clean, &suspect, &err));
        if (suspect != cases[i].suspect)
            fail_msg("case %zu: \"%s\"", i, cases[i].text);
    }
    assert_true(ARRAY_LEN(cases) > 0);
    arena_release(&arena);
}

static void nested_references_end(void **state)
{
    struct byte_buf text;
    struct bytes_view clean;
    struct arena arena;
    struct error err = {0};
    bool suspect;

    (void)state;
    byte_buf_init(&text, 1 << 20);
    arena_init(&arena, 1u << 20);
    assert_ok(byte_buf_append_string(&text, "&", &err));
    for (int i = 0; i < 20000; i++)
        assert_ok(byte_buf_append_string(&text, "amp;", &err));
    assert_ok(clean_open_clip(byte_buf_view(&text), &arena, &clean, &suspect, &err));
    assert_true(clean.len > 0 && clean.len < text.len);
    arena_release(&arena);
    byte_buf_release(&text);
}

static void the_first_sentence_is_cut_as_the_published_captions_are(void **state) /* CLIP 37 */
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"<start_of_text>a dog . on grass <end_of_text> junk <end_of_text>", "a dog"},
        {"<|startoftext|>a dog <|endoftext|>x", "a dog"},
        {"x <start_of_text> y <start_of_text>z ", "z"},
        {"about 3.5 metres", "about 3"},
        {"no marks \xc2\xa0\x1c\n", "no marks"},
        {" leading space stays", " leading space stays"},
        {"<end_of_text>", ""},
        {"", ""},
        {".", ""},
        {"a < b <end", "a < b <end"},
        {"bad \x80 \xff", "bad \x80 \xff"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bytes_view got = clean_first_sentence(bytes_of_string(cases[i].text));

        if (!bytes_equal(got, bytes_of_string(cases[i].want)))
            fail_msg("case %zu: \"%.*s\"", i, (int)got.len, got.data);
    }
}

static void trimming_takes_unicode_white_space_at_both_ends_alone(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {" \t\na b\xc2\xa0\xe3\x80\x80", "a b"},
        {"\xe2\x80\x8bx\xe2\x80\x8b", "\xe2\x80\x8bx\xe2\x80\x8b"}, /* zero width is no space */
        {"\xc2\x85x\xe2\x80\xa8", "x"},
        {"  ", ""},
        {"", ""},
        {"\xa0x\x80", "\xa0x\x80"}, /* stray bytes stay */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bytes_view got = clean_trim(bytes_of_string(cases[i].text));

        if (!bytes_equal(got, bytes_of_string(cases[i].want)))
            fail_msg("case %zu: \"%.*s\"", i, (int)got.len, got.data);
    }
}

static void references_resolve_by_the_longest_name(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"&notin; &notit; &not", "\xe2\x88\x89 \xc2\xacit; \xc2\xac"},
        {"&#x41;&#66&#0;&#x80;", "AB\xef\xbf\xbd\xe2\x82\xac"},
        {"&#xD800;&#x110000;&#11;.", "\xef\xbf\xbd\xef\xbf\xbd."},
        {"&; &# &#x; & &&lt", "&; &# &#x; & &<"},
        {"&fjlig;&bne;", "fj=\xe2\x83\xa5"},
        {"&a;&\xc3\xa9;", "&a;&\xc3\xa9;"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct byte_buf out;
        struct error err = {0};

        byte_buf_init(&out, 1 << 16);
        assert_ok(html_unescape(bytes_of_string(cases[i].text), &out, &err));
        if (!bytes_equal(byte_buf_view(&out), bytes_of_string(cases[i].want)))
            fail_msg("case %zu: \"%.*s\"", i, (int)out.len, out.data);
        byte_buf_release(&out);
    }
    for (size_t i = 1; i < n_html_entities; i++)
        assert_true(strcmp(html_entities[i - 1].name, html_entities[i].name) < 0);
}

static void lower_case_follows_python(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"\xc4\xb0I", "i\xcc\x87i"},
        {"\xce\x9f\xce\x94\xce\x9f\xce\xa3", "\xce\xbf\xce\xb4\xce\xbf\xcf\x82"}, /* final sigma */
        {"\xce\xa3\xce\x9f\xce\xa3.\xce\x91", "\xcf\x83\xce\xbf\xcf\x83.\xce\xb1"},
        {"\xce\xa3", "\xcf\x83"},
        {"\xe1\xba\x9e\xe2\x84\xaa", "\xc3\x9fk"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct byte_buf out;
        struct error err = {0};

        byte_buf_init(&out, 1 << 10);
        assert_ok(unicode_lower(bytes_of_string(cases[i].text), &out, &err));
        if (!bytes_equal(byte_buf_view(&out), bytes_of_string(cases[i].want)))
            fail_msg("case %zu: \"%.*s\"", i, (int)out.len, out.data);
        byte_buf_release(&out);
    }
}

static void every_failed_allocation_is_an_error_and_nothing_leaks(void **state)
{
    bool fired = true;
    unsigned n = 0;

    (void)state;
    while (fired && n < 1000) {
        struct bytes_view clean;
        struct arena arena;
        struct error err = {0};
        bool suspect;
        enum status st;

        arena_init(&arena, 1 << 16);
        oom_fail_at(++n);
        st = clean_open_clip(bytes_of_string("P&EACUTE;rez &amp;lt; \xef\xbc\xa1 \xff e\xcc\x81 "
                                             "\xef\xac\x81 \xce\xa3"),
                             &arena, &clean, &suspect, &err);
        fired = oom_fired();
        oom_fail_at(0);
        assert_status(st, fired ? ST_NO_MEMORY : ST_OK);
        arena_release(&arena);
    }
    assert_false(fired);
    assert_true(n > 10);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(cleaning_equals_open_clip_but_for_mojibake),
        cmocka_unit_test(suspected_mojibake_is_reported_and_left_alone),
        cmocka_unit_test(nested_references_end),
        cmocka_unit_test(the_first_sentence_is_cut_as_the_published_captions_are),
        cmocka_unit_test(trimming_takes_unicode_white_space_at_both_ends_alone),
        cmocka_unit_test(references_resolve_by_the_longest_name),
        cmocka_unit_test(lower_case_follows_python),
        cmocka_unit_test(every_failed_allocation_is_an_error_and_nothing_leaks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
