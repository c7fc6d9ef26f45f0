/* Section `curate` of the job file: the rules of the curation file, and what of them a job does not
 * take. */
#include "reinforce/job/job.h"
#include "tests/support/oom.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>

static const char before[] = "input: {url: images}\n"
                             "output: {url: out}\n"
                             "captioners: [{model: m/coca}]\n"
                             "teachers: [{model: m/a}, {model: m/b}]\n";

/* `text` behind the rest of a job, so that it begins in line 5. */
static enum status load(const char *text, struct job **job, struct error *err)
{
    char all[4096];
    int len = snprintf(all, sizeof all, "%s%s", before, text);

    assert_in_range(len, 1, sizeof all - 1);
    memset(err, 0, sizeof *err);
    return job_load_text(bytes_of_string(all), "x.yaml", NULL, 0, job, err);
}

static const char every_kind[] =
    "curate:\n"
    "  keep:\n"
    "    - {score: min_side, min: 64}\n"
    "    - {score: aspect_ratio, max: 3.5, name: not too long}\n"
    "    - any:\n"
    "        - {score: words, min: 2, max: 40}\n"
    "        - {score: script, script: Han, min: 0.5, take: max}\n"
    "        - {score: language, language: de, min: 0.5}\n"
    "    - not: {score: tokens, tokenizer: m/a, min: 77}\n"
    "    - all: [{score: similarity, teacher: b, min: 0.2}, {score: words, min: 1}]\n"
    "    - {score: learnability, learner: a, reference: b, learner_scale: 10, min: -1}\n";

static void rules_are_those_of_the_curation_file(void **state)
{
    const struct rule *rules;
    const struct score_spec *scores;
    struct job *job;
    struct error err;

    (void)state;
    assert_ok(load(every_kind, &job, &err));
    assert_int_equal(job->curate.keep.kind, RULE_ALL);
    assert_int_equal(job->curate.keep.n_children, 6);
    assert_int_equal(job->curate.n_scores, 8); /* words once */
    rules = job->curate.keep.children;
    scores = job->curate.scores;
    assert_string_equal(rules[0].name, "curate.keep[0]");
    assert_int_equal(scores[rules[0].score].kind, SCORE_MIN_SIDE);
    assert_true(rules[0].low == 64 && isinf(rules[0].high));
    assert_string_equal(rules[1].name, "not too long");
    assert_string_equal(rules[2].children[1].name, "curate.keep[2].any[1]");
    assert_int_equal(scores[rules[2].children[1].score].take, SCORE_TAKE_MAX);
    assert_string_equal(scores[rules[2].children[2].score].language, "de");
    assert_string_equal(rules[3].children->name, "curate.keep[3].not");
    assert_string_equal(scores[rules[4].children[0].score].teacher, "b");
    assert_string_equal(scores[rules[4].children[0].score].caption, "text");
    assert_true(scores[rules[5].score].learner.scale == 10);
    assert_true(isnan(scores[rules[5].score].reference.scale));
    job_destroy(&job);
}

static void the_effective_configuration_has_the_rules_and_every_default(void **state)
{
    struct job *job, *again, *plain;
    struct error err;

    (void)state;
    assert_ok(load(every_kind, &job, &err));
    assert_ok(job_load_text(bytes_of_string(job->effective_json), "y", NULL, 0, &again, &err));
    assert_string_equal(again->effective_json, job->effective_json);
    assert_string_equal(again->digest, job->digest);
    assert_non_null(strstr(job->effective_json,
                           "{\"name\": \"curate.keep[4].all[0]\", \"score\": \"similarity\", "
                           "\"caption\": \"text\", \"take\": \"mean\", \"teacher\": \"b\", "
                           "\"min\": 0.2"));
    assert_ok(load("", &plain, &err));
    assert_null(
        strstr(plain->effective_json, "curate")); /* workers of an earlier release read it */
    job_destroy(&plain);
    job_destroy(&again);
    job_destroy(&job);
}

static void what_changes_a_rule_changes_the_digest_and_is_named(void **state)
{
    static const struct {
        const char *text;
        bool same;
    } cases[] = {
        {"curate: {keep: [{min: 64.0, score: min_side}]}", true},
        {"curate: {keep: [{score: min_side, min: 64, name: 'curate.keep[0]'}]}", true},
        {"curate: {keep: [{score: min_side, min: 65}]}", false},
        {"curate: {keep: [{score: min_side, min: 64, max: 900}]}", false},
        {"curate: {keep: [{score: max_side, min: 64}]}", false},
        {"curate: {keep: [{score: min_side, min: 64, name: small}]}", false}, /* rows have it */
        {"curate: {keep: [not: {score: min_side, min: 64}]}", false},
        {"curate: {keep: []}", false},
        {"curate:", false},
    };
    struct job *job, *other;
    struct arena arena;
    struct error err;

    (void)state;
    arena_init(&arena, 1 << 20);
    assert_ok(load("curate: {keep: [{score: min_side, min: 64}]}", &job, &err));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *diff;

        assert_ok(load(cases[i].text, &other, &err));
        assert_ok(job_diff(job->effective_json, other->effective_json, &arena, &diff, &err));
        if ((strcmp(job->digest, other->digest) == 0) != cases[i].same ||
            (diff[0] == '\0') != cases[i].same)
            fail_msg("%s: \"%s\"", cases[i].text, diff);
        if (!cases[i].same)
            assert_non_null(strstr(diff, "curate.keep: "));
        job_destroy(&other);
    }
    job_destroy(&job);
    arena_release(&arena);
}

static void what_one_sample_cannot_tell_is_refused_with_what_to_do_instead(void **state)
{
    static const struct {
        const char *text;   /* line 5 and following */
        const char *places; /* file:line:column: key */
        const char *message;
    } cases[] = {
        {"curate: {keep: [{score: similarity, teacher: a, top: 0.3}]}",
         "x.yaml:5:49: curate.keep[0].top",
         "is a fraction of the pool, which no worker knows: give min or max, or use `reinforce "
         "curate` on the dataset afterwards"},
        {"curate:\n  keep:\n    - any: [{score: words, min: 1}, {score: words, bottom: 0.5}]",
         "x.yaml:7:52: curate.keep[0].any[1].bottom", "is a fraction of the pool"},
        {"curate: {keep: [{score: similarity, teacher: a, caption: syn_text, min: 0.1}]}",
         "x.yaml:5:49: curate.keep[0].caption",
         "is of synthetic captions, which are written behind these rules; use `reinforce curate`"},
        {"curate: {keep: [{score: log_probability, caption: syn_text, min: -2}]}",
         "x.yaml:5:18: curate.keep[0].score", "is of synthetic captions"},
        {"curate: {keep: [{not: {ids: bad.npy}}]}", "x.yaml:5:24: curate.keep[0].not.ids",
         "is a file that other workers may not have; use `reinforce curate` on the dataset"},
        {"curate: {duplicates: [{by: content}]}", "x.yaml:5:10: curate.duplicates",
         "compares samples with each other, which other workers may have; use `reinforce curate`"},
        {"curate: {mix: []}", "x.yaml:5:10: curate.mix", "compares samples with each other"},
        {"curate: {balance: []}", "x.yaml:5:10: curate.balance", "compares samples"},
        {"curate: {select: {keep: 0.5}}", "x.yaml:5:10: curate.select", "compares samples"},
        {"curate: {keep: [{score: similarity, min: 0.2}]}", "x.yaml:5:17: curate.keep[0].teacher",
         "must be given in a job, to which teachers may be added later; it has a, b"},
        {"curate: {keep: [{score: similarity, teacher: c, min: 0.2}]}",
         "x.yaml:5:37: curate.keep[0].teacher", "the job has no teacher \"c\"; it has a, b"},
        {"curate: {keep: [{score: learnability, learner: a, reference: z, min: 0}]}",
         "x.yaml:5:51: curate.keep[0].reference", "the job has no teacher \"z\"; it has a, b"},
        {"curate: {keep: [{score: words, min: 1, name: x}, {score: width, min: 1, name: x}]}",
         "x.yaml:5:73: curate.keep[1].name", "is another rule's name, too; give it one of its own"},
        {"curate: {keep: [{score: words}]}", "x.yaml:5:17: curate.keep[0]", "has no bound"},
        {"curate: {keep: [{score: wrods, min: 1}]}", "x.yaml:5:18: curate.keep[0].score",
         "\"words\""},
        {"curate: {keep: [{score: words, mni: 1}]}", "x.yaml:5:32: curate.keep[0].mni",
         "unknown key, did you mean \"min\"?"},
        {"curate: {kep: []}", "x.yaml:5:10: curate.kep", "unknown key, did you mean \"keep\"?"},
        {"curate: {keep: {score: words, min: 1}}", "x.yaml:5:10: curate.keep",
         "is a map where a list is expected"},
        {"curate: [{score: words, min: 1}]", "x.yaml:5:1: curate",
         "is a list where keys and values are expected"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct job *job;
        struct error err;

        if (load(cases[i].text, &job, &err) != ST_INVALID ||
            strcmp(err.context, cases[i].places) != 0 ||
            strstr(err.message, cases[i].message) == NULL)
            fail_msg("%s\n  gives %s: %s", cases[i].text, err.context, err.message);
        assert_null(job);
    }
}

static void without_teachers_a_rule_may_look_at_size_and_caption(void **state)
{
    static const char job_text[] = "input: {url: images}\noutput: {url: out}\n"
                                   "captioners: [{model: m/coca}]\ncurate:\n  keep:\n";
    char text[512];
    struct job *job;
    struct error err = {0};

    (void)state;
    (void)snprintf(text, sizeof text, "%s    - {score: words, min: 2}\n", job_text);
    assert_ok(job_load_text(bytes_of_string(text), "x.yaml", NULL, 0, &job, &err));
    job_destroy(&job);
    (void)snprintf(text, sizeof text, "%s    - {score: similarity, min: 0.2}\n", job_text);
    assert_status(job_load_text(bytes_of_string(text), "x.yaml", NULL, 0, &job, &err), ST_INVALID);
    assert_string_equal(err.context, "x.yaml:6:7: curate.keep[0]");
    assert_string_equal(err.message, "needs a teacher, and the job has none; add one");
}

static void there_are_no_more_rules_than_can_be_read_again(void **state)
{
    static const char rule[] = "{score: learnability, learner: a, reference: b, min: 1, max: 2}";
    char text[16384];
    struct job *job, *again;
    struct error err = {0};

    (void)state;
    for (int n = 127; n <= 128; n++) {
        int len = snprintf(text, sizeof text, "%scurate: {keep: [{any: [", before);

        for (int i = 0; i < n; i++)
            len += snprintf(text + len, sizeof text - (size_t)len, "%s%s", i > 0 ? ", " : "", rule);
        (void)snprintf(text + len, sizeof text - (size_t)len, "]}]}");
        if (n == 128)
            break;
        assert_ok(job_load_text(bytes_of_string(text), "x.yaml", NULL, 0, &job, &err));
        assert_ok(job_load_text(bytes_of_string(job->effective_json), "y", NULL, 0, &again, &err));
        job_destroy(&again);
        job_destroy(&job);
    }
    assert_status(job_load_text(bytes_of_string(text), "x.yaml", NULL, 0, &job, &err), ST_INVALID);
    assert_non_null(strstr(err.context, "curate.keep[0].any[127]"));
    assert_string_equal(err.message, "is one rule too many; the limit is 128, inner ones included");
}

static void a_bound_can_be_tried_from_the_command_line(void **state)
{
    static const struct job_override override = {"curate.keep[0].min=0.25"};
    char text[512];
    struct job *job;
    struct error err = {0};

    (void)state;
    (void)snprintf(text, sizeof text, "%scurate: {keep: [{score: similarity, teacher: a, min: 0}]}",
                   before);
    assert_ok(job_load_text(bytes_of_string(text), "x.yaml", &override, 1, &job, &err));
    assert_true(job->curate.keep.children[0].low == 0.25);
    job_destroy(&job);
}

static void every_allocation_may_fail_once(void **state)
{
    unsigned n = 1;

    (void)state;
    for (;; n++) {
        struct job *job;
        struct error err;
        enum status st;

        oom_fail_at(n);
        st = load(every_kind, &job, &err);
        oom_fail_at(0);
        job_destroy(&job);
        if (st == ST_OK)
            break;
        assert_int_equal(st, ST_NO_MEMORY);
    }
    assert_true(n > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_are_those_of_the_curation_file),
        cmocka_unit_test(the_effective_configuration_has_the_rules_and_every_default),
        cmocka_unit_test(what_changes_a_rule_changes_the_digest_and_is_named),
        cmocka_unit_test(what_one_sample_cannot_tell_is_refused_with_what_to_do_instead),
        cmocka_unit_test(without_teachers_a_rule_may_look_at_size_and_caption),
        cmocka_unit_test(there_are_no_more_rules_than_can_be_read_again),
        cmocka_unit_test(a_bound_can_be_tried_from_the_command_line),
        cmocka_unit_test(every_allocation_may_fail_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
