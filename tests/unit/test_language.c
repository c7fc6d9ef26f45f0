#include "reinforce/text/language.h"
#include "tests/support/test.h"

#include <math.h>

static double share(const char *text, const char *code)
{
    int language = text_language_find(code);

    assert_true(language >= 0);
    return text_language_share(bytes_of_string(text), language);
}

static void captions_are_told_apart_by_language(void **state)
{
    static const struct {
        const char *code, *text;
    } cases[] = {
        {"en", "a photo of a small brown dog that runs over a field of grass"},
        {"de", "ein kleiner brauner Hund, der \xc3\xbc"
               "ber eine Wiese l\xc3\xa4uft"},
        {"fr", "un petit chien brun qui court dans un champ d'herbe"},
        {"es", "un perro peque\xc3\xb1o y marr\xc3\xb3n que corre por un campo de hierba"},
        {"ja", "\xe8\x8d\x89\xe5\x8e\x9f\xe3\x82\x92\xe8\xb5\xb0\xe3\x82\x8b\xe5\xb0\x8f\xe3\x81"
               "\x95\xe3\x81\xaa\xe8\x8c\xb6\xe8\x89\xb2\xe3\x81\x84\xe7\x8a\xac"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
            double value = share(cases[i].text, cases[k].code);

            if (i == k ? !(value > 0.9) : !(value < 0.1))
                fail_msg("\"%s\" is %s: %g", cases[i].text, cases[k].code, value);
        }
}

static void what_cannot_be_told_has_no_share(void **state)
{
    (void)state;
    assert_true(isnan(share("", "en")));
    assert_true(isnan(share("IMG_2034", "en")));
    assert_true(isnan(share("a photo of a small brown dog that runs over \xff grass", "en")));
    assert_int_equal(text_language_find("klingonese"), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(captions_are_told_apart_by_language),
        cmocka_unit_test(what_cannot_be_told_has_no_share),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
