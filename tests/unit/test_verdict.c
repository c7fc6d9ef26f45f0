#include "tests/support/test.h"
#include "worker/dtype/verdict.h"

#include <stdlib.h>
#include <string.h>

static const struct verdict_question question = {.role = "teacher",
                                                 .name = "t",
                                                 .model = "m",
                                                 .input = "in",
                                                 .dtype = JOB_DTYPE_AUTO,
                                                 .least = 0.999};

static const struct fidelity_cosines nothing, near = {10, 0.9995, 0.999, 0.998},
                                              far = {10, 0.9985, 0.9, 0.8};

static struct verdict of_cosines(const struct verdict_question *asked,
                                 const struct fidelity_cosines *images,
                                 const struct fidelity_cosines *texts)
{
    struct verdict verdict;
    struct error err = {0};

    assert_ok(verdict_of_cosines(asked, images, texts, "nothing there", &verdict, &err));
    return verdict;
}

static struct object_store *open_store(void)
{
    struct object_store *store;
    struct error err = {0};

    assert_ok(object_store_open("mem:verdicts", &store, &err));
    return store;
}

static void auto_is_int8_only_if_all_that_was_compared_is_near_enough(void **state)
{
    static const struct {
        const struct fidelity_cosines *images, *texts;
        enum matrix_form form;
        const char *says;
    } cases[] = {
        {&near, &near, MATRIX_INT8, "auto: int8, mean cosine 0.99950"},
        {&near, &nothing, MATRIX_INT8, "(first percentile 0.99900) of 10 images; 0.999 is asked"},
        {&far, &near, MATRIX_FLOAT32, "auto: float32, mean cosine 0.99850"},
        {&near, &far, MATRIX_FLOAT32, "0.999 is asked for and not kept"},
        {&nothing, &nothing, MATRIX_FLOAT32, "auto: float32, nothing there"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct verdict verdict = of_cosines(&question, cases[i].images, cases[i].texts);
        char text[VERDICT_TEXT_BYTES];

        verdict_describe(verdict.said, text);
        if (verdict.form != cases[i].form || strstr(text, cases[i].says) == NULL)
            fail_msg("case %zu: %s: %s", i, verdict_form_name(verdict.form), text);
        verdict_release(&verdict);
    }
}

static void captions_are_judged_by_the_share_that_is_the_same(void **state)
{
    struct verdict_question asked = question;
    struct fidelity_captions captions = {.n = 32, .n_same = 29};
    struct verdict verdict;
    struct error err = {0};
    char text[VERDICT_TEXT_BYTES];

    (void)state;
    asked.role = "captioner";
    asked.least = 0.9;
    assert_ok(verdict_of_captions(&asked, &captions, "", &verdict, &err));
    assert_int_equal(verdict.form, MATRIX_INT8);
    verdict_describe(verdict.said, text);
    assert_string_equal(text,
                        "auto: int8, 90.6 % of 32 greedy captions the same; 0.9 is asked for");
    verdict_release(&verdict);
    captions.n_same = 28;
    assert_ok(verdict_of_captions(&asked, &captions, "", &verdict, &err));
    assert_int_equal(verdict.form, MATRIX_FLOAT32);
    verdict_release(&verdict);
}

static void a_dtype_that_is_given_is_not_overruled(void **state)
{
    struct verdict_question asked = question;
    struct verdict verdict;
    char text[VERDICT_TEXT_BYTES];

    (void)state;
    asked.dtype = JOB_DTYPE_BF16;
    verdict = of_cosines(&asked, &far, &nothing);
    assert_int_equal(verdict.form, MATRIX_BF16);
    assert_false(verdict_is_kept(verdict.said));
    verdict_describe(verdict.said, text);
    assert_ptr_equal(strstr(text, "bf16, mean cosine"), text);
    verdict_release(&verdict);
}

static void the_first_verdict_stands(void **state)
{
    struct object_store *store = open_store();
    struct verdict first = of_cosines(&question, &near, &near);
    struct verdict second = of_cosines(&question, &far, &near), found;
    struct error err = {0};
    char a[VERDICT_TEXT_BYTES], b[VERDICT_TEXT_BYTES];

    (void)state;
    assert_status(verdict_read(store, &question, &found, &err), ST_NOT_FOUND);
    assert_null(found.said);
    assert_ok(verdict_keep(store, &question, &first, &err));
    assert_int_equal(first.form, MATRIX_INT8);
    assert_int_equal(second.form, MATRIX_FLOAT32);
    assert_ok(verdict_keep(store, &question, &second, &err));
    assert_int_equal(second.form, MATRIX_INT8); /* theirs */
    assert_ok(verdict_read(store, &question, &found, &err));
    assert_int_equal(found.form, MATRIX_INT8);
    assert_true(json_equal(found.said, first.said) == 1); /* to the last digit */
    verdict_describe(first.said, a);
    verdict_describe(second.said, b);
    assert_string_equal(a, b);
    verdict_release(&found);
    verdict_release(&second);
    verdict_release(&first);
    object_store_close(&store);
}

static void another_question_has_an_answer_of_its_own(void **state)
{
    static const struct verdict_question others[] = {
        {"captioner", 0, "t", "m", "in", JOB_DTYPE_AUTO, 0.999},
        {"teacher", 1, "t", "m", "in", JOB_DTYPE_AUTO, 0.999},
        {"teacher", 0, "t", "n", "in", JOB_DTYPE_AUTO, 0.999},
        {"teacher", 0, "t", "m", "on", JOB_DTYPE_AUTO, 0.999},
        {"teacher", 0, "t", "m", "in", JOB_DTYPE_INT8, 0.999},
        {"teacher", 0, "t", "m", "in", JOB_DTYPE_AUTO, 0.9990000000000001},
    };
    struct verdict_question renamed = question;
    struct object_store *store = open_store();
    struct verdict verdict = of_cosines(&question, &near, &near), found;
    struct error err = {0};

    (void)state;
    assert_ok(verdict_keep(store, &question, &verdict, &err));
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_status(verdict_read(store, &others[i], &found, &err), ST_NOT_FOUND);
    renamed.name = "u"; /* which changes no result */
    assert_ok(verdict_read(store, &renamed, &found, &err));
    verdict_release(&found);
    verdict_release(&verdict);
    object_store_close(&store);
}

static enum status spoil(void *ctx, const struct object_info *info, struct error *err)
{
    const char *const *text = ctx;
    struct object_store *store;
    struct object_written written;
    enum status st = object_store_open("mem:verdicts", &store, err);

    if (st == ST_OK)
        st = object_store_put(store, info->key, bytes_of_string(*text), &written, err);
    object_store_close(&store);
    return st;
}

static void what_is_no_verdict_is_not_taken_for_one(void **state)
{
    static const char *const texts[] = {"{}", "[]", "{\"chosen\": \"auto\"}", "{\"chosen\": 8}",
                                        "{"};
    struct object_store *store = open_store();
    struct verdict verdict = of_cosines(&question, &near, &near), found;
    struct error err = {0};

    (void)state;
    assert_ok(verdict_keep(store, &question, &verdict, &err));
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        const char *text = texts[i];

        assert_ok(object_store_list(store, "_reinforce/fidelity/teacher-", spoil, &text, &err));
        if (verdict_read(store, &question, &found, &err) != ST_CORRUPT || found.said != NULL)
            fail_msg("case %zu", i);
        assert_non_null(strstr(err.context, "_reinforce/fidelity/teacher-"));
    }
    verdict_release(&verdict);
    object_store_close(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auto_is_int8_only_if_all_that_was_compared_is_near_enough),
        cmocka_unit_test(captions_are_judged_by_the_share_that_is_the_same),
        cmocka_unit_test(a_dtype_that_is_given_is_not_overruled),
        cmocka_unit_test(the_first_verdict_stands),
        cmocka_unit_test(another_question_has_an_answer_of_its_own),
        cmocka_unit_test(what_is_no_verdict_is_not_taken_for_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
