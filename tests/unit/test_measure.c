#include "reinforce/text/measure.h"
#include "tests/support/test.h"

#include <math.h>

static void words_and_characters_are_counted_as_python_does(void **state)
{
    static const struct {
        const char *text;
        size_t words, characters;
    } cases[] = {
        {"", 0, 0},
        {"  \t\n", 0, 4},
        {"a dog on a sofa", 5, 15},
        {" two\xc2\xa0words\x1c ", 2, 12}, /* no-break space and U+001C are white space */
        {"\xe7\x8a\xac\xe3\x81\x8c\xe3\x80\x80\xe3\x81\x84\xe3\x82\x8b", 2, 5},
        {"bad \xff byte", 3, 10},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bytes_view text = bytes_of_string(cases[i].text);

        if (text_words(text) != cases[i].words || text_characters(text) != cases[i].characters)
            fail_msg("case %zu: %zu words, %zu characters", i, text_words(text),
                     text_characters(text));
    }
}

static void a_script_is_counted_among_letters_alone(void **state)
{
    int latin = text_script_find("Latin"), han = text_script_find("Hani");

    (void)state;
    assert_true(latin >= 0 && han >= 0);
    assert_int_equal(text_script_find("Latn"), latin);
    assert_int_equal(text_script_find("English"), -1);
    assert_int_equal(text_script_find("Common"), -1);
    assert_true(text_script_share(bytes_of_string("caf\xc3\xa9 24/7!"), latin) == 1);
    assert_true(text_script_share(bytes_of_string("ab\xe7\x8a\xac\xe7\x8c\xab"), han) == 0.5);
    assert_true(isnan(text_script_share(bytes_of_string("1 2 3"), latin)));
    assert_true(isnan(text_script_share(bytes_of_string(""), latin)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_and_characters_are_counted_as_python_does),
        cmocka_unit_test(a_script_is_counted_among_letters_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
