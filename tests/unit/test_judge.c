/* Why a rule does not hold, in words; and what is wrong with rules is said at start. */
#include "tests/support/fake_models.h"
#include "tests/support/test.h"
#include "worker/engine.h"

#include <math.h>
#include <stdio.h>

static struct job *load(const char *rules)
{
    struct job *job = NULL;
    struct error err = {0};
    char text[1024];

    (void)snprintf(text, sizeof text,
                   "{name: j, input: {url: in}, output: {url: out}, teachers: [{model: a}, {model: "
                   "b}], curate: {keep: [%s]}}",
                   rules);
    assert_ok(job_load_text(bytes_of_string(text), "j.yaml", NULL, 0, &job, &err));
    return job;
}

/* Scores in the order in which the rules name them first. */
static void a_reason_names_score_and_threshold(void **state)
{
    static const struct {
        const char *rule;
        float scores[2];
        const char *want;
    } cases[] = {
        {"{score: similarity, teacher: b, min: 0.2}",
         {0.05f, 0},
         "similarity of text (mean) by b is 0.05, below 0.2"},
        {"{score: aspect_ratio, max: 3}", {3.5f, 0}, "aspect ratio is 3.5, above 3"},
        {"{score: script, script: Han, min: 0.5}",
         {NAN, 0},
         "script Han of text (mean) is missing"},
        {"{not: {score: words, min: 40}}", {41, 0}, "words of text (mean) is 41, not below 40"},
        {"{not: {score: words, max: 1}}", {1, 0}, "words of text (mean) is 1, not above 1"},
        {"{not: {score: width, min: 2, max: 9}}", {5, 0}, "width is 5, not below 2 or above 9"},
        {"{any: [{score: width, min: 2}, {score: height, min: 3}]}",
         {1, 2},
         "width is 1, below 2; height is 2, below 3"},
        {"{all: [{score: width, min: 2}, {score: height, min: 3}]}",
         {2, 2},
         "height is 2, below 3"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct job *job = load(cases[i].rule);
        float values[2] = {cases[i].scores[0], cases[i].scores[1]};
        float *columns[2] = {&values[0], &values[1]};
        const struct pool pool = {.n = 1,
                                  .n_scores = job->curate.n_scores,
                                  .specs = job->curate.scores,
                                  .scores = columns};
        char text[256];

        judge_explain(&job->curate.keep.children[0], &pool, text, sizeof text);
        assert_string_equal(text, cases[i].want);
        judge_explain(&job->curate.keep.children[0], &pool, text, 8); /* cut, and ended */
        assert_int_equal(strlen(text), 7);
        job_destroy(&job);
    }
}

static void a_learnability_takes_what_is_open_from_the_models(void **state)
{
    struct job *job =
        load("{score: learnability, learner: a, reference: b, learner_scale: 7, min: 0}");
    struct fake_teacher *a = fake_teacher_create(8, 32, 16), *b = fake_teacher_create(6, 24, 48);
    struct teacher *teachers[] = {&a->base, &b->base};
    struct engine *engine;
    struct error err = {0};

    (void)state;
    a->base.info.has_logit_bias = true;
    a->base.info.logit_bias = -3;
    assert_status(engine_create(job, teachers, NULL, &engine, &err), ST_INVALID);
    assert_null(engine);
    assert_string_equal(err.context, "curate.keep");
    assert_non_null(strstr(err.message, "reference_bias must be given: teacher \"b\" has none"));
    b->base.info.has_logit_bias = true;
    b->base.info.logit_bias = -5;
    assert_ok(engine_create(job, teachers, NULL, &engine, &err));
    assert_true(engine->judge.specs[0].learner.scale == 7);
    assert_true(engine->judge.specs[0].learner.bias == -3);
    assert_true(engine->judge.specs[0].reference.scale == 1);
    assert_true(engine->judge.specs[0].reference.bias == -5);
    engine_close(&engine);
    job_destroy(&job);
}

static void a_tokenizer_that_is_not_there_is_named(void **state)
{
    struct job *job = load("{score: tokens, tokenizer: /nowhere, max: 77}");
    struct teacher *teachers[] = {&fake_teacher_create(8, 32, 16)->base,
                                  &fake_teacher_create(6, 24, 48)->base};
    struct engine *engine;
    struct error err = {0};

    (void)state;
    assert_status(engine_create(job, teachers, NULL, &engine, &err), ST_NOT_FOUND);
    assert_string_equal(err.context, "curate.keep: model /nowhere");
    for (size_t t = 0; t < ARRAY_LEN(teachers); t++)
        teacher_close(&teachers[t]); /* still ours */
    job_destroy(&job);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reason_names_score_and_threshold),
        cmocka_unit_test(a_learnability_takes_what_is_open_from_the_models),
        cmocka_unit_test(a_tokenizer_that_is_not_there_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
