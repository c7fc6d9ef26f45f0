/* The file of reinforce curate. */
#include "reinforce/base/file.h"
#include "reinforce/job/curation.h"
#include "tests/support/oom.h"
#include "tests/support/test.h"

#include <math.h>
#include <string.h>

static const char whole[] =
    "seed: 7\n"
    "dataset:\n"
    "  url: set\n"
    "output:\n"
    "  url: view\n"
    "keep:\n"
    "  - {score: similarity, top: 0.3}\n"
    "  - name: long enough\n"
    "    any:\n"
    "      - {score: words, caption: syn_text, take: max, min: 3, max: 40}\n"
    "      - {score: similarity, max: 0.9}\n"
    "      - not: {ids: a.npy}\n"
    "  - {score: learnability, learner: s, reference: l, learner_scale: 10, learner_bias: -8,\n"
    "     reference_scale: 20, reference_bias: -16, min: 0}\n"
    "duplicates:\n"
    "  - {by: content}\n"
    "  - {by: perceptual, bits: 4, best: {score: pixels}}\n"
    "  - {name: near, by: embedding, radius: 0.05, teacher: l, best: {score: similarity}}\n"
    "select: {keep: 0.5, learner: s, learner_scale: 10, learner_bias: -8, reference: l,\n"
    "         reference_scale: 20, reference_bias: -16}\n"
    "balance:\n"
    "  - representation: 0.01\n"
    "    association: 0.02\n"
    "    attributes:\n"
    "      - {target: 0.5, which: {ids: b.npy}}\n"
    "      - {target: 0.25, which: {score: words, max: 3}}\n"
    "    concepts:\n"
    "      - {score: similarity, top: 0.5}\n"
    "mix:\n"
    "  - {share: 0.9, which: {score: script, script: Latin, min: 0.5}}\n";

static enum status load(const char *text, struct curation **curation, struct error *err)
{
    memset(err, 0, sizeof *err);
    return curation_load_text(bytes_of_string(text), "f.yaml", NULL, 0, curation, err);
}

static void a_file_becomes_rules_over_distinct_scores(void **state)
{
    struct curation *c;
    struct error err;

    (void)state;
    assert_ok(load(whole, &c, &err));
    assert_int_equal(c->seed, 7);
    assert_string_equal(c->dataset.url, "set");
    assert_string_equal(c->output.url, "view");
    assert_string_equal(c->text, whole);
    /* similarity of text stands in three places */
    assert_int_equal(c->refs.n_scores, 6);
    assert_int_equal(c->keep.n_children, 3);
    const struct rule *first = &c->keep.children[0], *any = &c->keep.children[1];
    assert_int_equal(first->kind, RULE_SCORE);
    assert_string_equal(first->name, "keep[0]");
    assert_true(first->top == 0.3 && isnan(first->bottom));
    assert_string_equal(c->refs.scores[first->score].caption, "text");
    assert_null(c->refs.scores[first->score].teacher);
    assert_int_equal(any->kind, RULE_ANY);
    assert_string_equal(any->name, "long enough");
    assert_string_equal(any->children[0].name, "keep[1].any[0]");
    assert_true(any->children[0].low == 3 && any->children[0].high == 40);
    assert_int_equal(c->refs.scores[any->children[0].score].take, SCORE_TAKE_MAX);
    assert_int_equal(any->children[1].score, first->score);
    assert_true(any->children[1].low == (double)-INFINITY);
    assert_int_equal(any->children[2].kind, RULE_NOT);
    assert_string_equal(any->children[2].children[0].name, "keep[1].any[2].not");
    assert_int_equal(c->refs.n_id_lists, 2);
    assert_ptr_equal(c->refs.id_lists[0].rule, any->children[2].children);
    assert_true(c->refs.scores[c->keep.children[2].score].reference.bias == -16);
    assert_int_equal(c->n_duplicates, 3);
    assert_int_equal(c->duplicates[0].best, CURATION_NO_SCORE);
    assert_string_equal(c->duplicates[0].name, "duplicates[0]");
    assert_int_equal(c->duplicates[1].bits, 4);
    assert_string_equal(c->duplicates[2].name, "near");
    assert_int_equal(c->duplicates[2].best, first->score);
    assert_true(c->has_select && c->select.keep == 0.5 && c->select.reference.scale == 20);
    assert_int_equal(c->select.super_batch, 65536);
    assert_int_equal(c->select.chunks, 16);
    assert_int_equal(c->n_balances, 1);
    assert_int_equal(c->balances[0].n_attributes, 2);
    assert_true(c->balances[0].targets[1] == 0.25 && c->balances[0].association == 0.02);
    assert_string_equal(c->balances[0].attributes[1].name, "balance[0].attributes[1].which");
    assert_string_equal(c->balances[0].concepts[0].name, "balance[0].concepts[0]");
    assert_int_equal(c->n_mixes, 1);
    assert_true(c->mixes[0].share == 0.9);
    assert_string_equal(c->mixes[0].which.name, "mix[0].which");
    curation_destroy(&c);
    assert_null(c);
}

#define TOP "dataset: {url: a}\noutput: {url: b}\n"

static void a_mistake_is_named_with_its_place_and_the_way_out(void **state)
{
    static const struct {
        const char *text, *context, *message;
    } cases[] = {
        {"output: {url: b}\n", "dataset.url", "is missing"},
        {TOP "kep: []\n", "f.yaml:3:1: kep", "did you mean \"keep\""},
        {TOP "keep: {score: words}\n", "f.yaml:3:1: keep", "a list is expected"},
        {TOP "keep:\n  - {scor: words, min: 1}\n", "f.yaml:4:6: keep[0].scor", "\"score\""},
        {TOP "keep:\n  - {min: 1}\n", "keep[0]", "needs score, ids, all, any or not"},
        {TOP "keep:\n  -\n", "keep[0]", "needs score, ids, all, any or not"},
        {TOP "keep:\n  - 7\n", "keep[0]", "keys and values are expected"},
        {TOP "keep:\n  - {score: word, min: 1}\n", "keep[0].score", "did you mean \"words\""},
        {TOP "keep:\n  - {score: words}\n", "keep[0]", "give min, max, top or bottom"},
        {TOP "keep:\n  - {score: words, min: 3, max: 1}\n", "keep[0]", "at least 3 and at most 1"},
        {TOP "keep:\n  - {score: words, min: 3, top: 0.1}\n", "keep[0]", "write two rules"},
        {TOP "keep:\n  - {score: words, bottom: 0.3, top: 0.1}\n", "keep[0]", "write two rules"},
        {TOP "keep:\n  - {score: words, top: 30}\n", "keep[0].top", "30"},
        {TOP "keep:\n  - {score: width, caption: text, min: 1}\n", "keep[0].caption",
         "has no meaning for score width"},
        {TOP "keep:\n  - {score: log_probability, min: -1}\n", "keep[0]",
         "must be given for score log_probability"},
        {TOP "keep:\n  - {score: tokens, min: 1}\n", "keep[0]", "must be given for score tokens"},
        {TOP "keep:\n  - {score: script, script: English, min: 1}\n", "keep[0].script", "Latin"},
        {TOP "keep:\n  - {score: language, language: klingonese, min: 1}\n", "keep[0].language",
         "en"},
        {TOP "keep:\n  - {score: language, min: 1}\n", "keep[0].language", "must be given"},
        {TOP "keep:\n  - {score: learnability, learner: a, min: 0}\n", "keep[0].reference",
         "must be given"},
        {TOP "keep:\n  - {ids: a.npy, min: 3}\n", "keep[0].min", "no meaning beside ids"},
        {TOP "keep:\n  - {score: words, min: 1, any: []}\n", "keep[0].any", "beside score"},
        {TOP "keep:\n  - any: []\n", "keep[0].any", "list of rules"},
        {TOP "keep:\n  - all: {score: words}\n", "keep[0].all", "list of rules"},
        {TOP "keep:\n  - {all: [{score: words, min: 1}], max: 1}\n", "keep[0].max", "beside all"},
        {TOP "keep:\n  - not: {any: [{score: words}]}\n", "keep[0].not.any[0]", "give min"},
        {TOP "duplicates:\n  - {bits: 3}\n", "duplicates[0].by", "is missing"},
        {TOP "duplicates:\n  - {by: embedding}\n", "duplicates[0].radius", "must be given"},
        {TOP "duplicates:\n  - {by: content, radius: 1}\n", "duplicates[0].radius", "alone"},
        {TOP "duplicates:\n  - {by: content, bits: 1}\n", "duplicates[0].bits", "alone"},
        {TOP "duplicates:\n  - {by: content, teacher: a}\n", "duplicates[0].teacher", "alone"},
        {TOP "duplicates:\n  - {by: content, best: {score: words, min: 1}}\n", "duplicates[0].best",
         "without name and bounds"},
        {TOP "duplicates:\n  - {by: content, best: {caption: text}}\n", "duplicates[0].best",
         "needs a score"},
        {TOP "select: {learner: a}\n", "select.keep", "is missing"},
        {TOP "select: []\n", "f.yaml:3:1: select", "keys and values are expected"},
        {TOP "select: {keep: 0.5, learner: a}\n", "select.reference", "must be given"},
        {TOP "select: {keep: 0.5, criterion: easy_reference, learner: a}\n", "select.learner",
         "has no meaning for this criterion"},
        {TOP "balance:\n  - {representation: 0.1}\n", "balance[0].attributes", "is missing"},
        {TOP "balance:\n  - {representation: 0.1, attributes: []}\n", "balance[0].attributes",
         "needs a list"},
        {TOP "balance:\n  - {representation: 0.1, attributes: [{target: 2}]}\n",
         "balance[0].attributes[0].target", "2"},
        {TOP "balance:\n  - {representation: 0.1, attributes: [{target: 0.5, whic: {ids: a}}]}\n",
         "balance[0].attributes[0].whic", "did you mean \"which\""},
        {TOP "balance:\n  - {attributes: [{target: 0.5, which: {ids: a}}]}\n",
         "balance[0].representation", "is missing"},
        {TOP "balance:\n  - {representation: 0, attributes: [{target: 0.5, which: {ids: a}}], "
             "concepts: [{ids: b}]}\n",
         "balance[0]", "must be given with concepts"},
        {TOP "balance.attributes: []\n", "f.yaml:3:1", ""},
        {TOP "mix:\n  - {share: 0.9}\n", "mix[0].which", "is missing"},
        {TOP "mix:\n  - {share: 1, which: {score: words, min: 1}}\n", "mix[0].share", "1"},
        {TOP "mix:\n  - {share: 0.9, which: {score: words}}\n", "mix[0].which", "give min"},
    };
    struct curation *c;
    struct error err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (load(cases[i].text, &c, &err) != ST_INVALID)
            fail_msg("case %zu is taken", i);
        if (strstr(err.context, cases[i].context) == NULL ||
            strstr(err.message, cases[i].message) == NULL)
            fail_msg("case %zu: %s: %s", i, err.context, err.message);
    }
}

static void values_are_set_from_the_command_line(void **state)
{
    const struct job_override sets[] = {{"keep[0].top=0.5"}, {"keep[3]={score: words, min: 2}"}};
    struct curation *c;
    struct error err = {0};

    (void)state;
    assert_ok(curation_load_text(bytes_of_string(whole), "f.yaml", sets, 2, &c, &err));
    assert_true(c->keep.children[0].top == 0.5);
    assert_int_equal(c->keep.n_children, 4);
    curation_destroy(&c);
}

static void lists_of_ids_are_read_when_asked_for(void **state)
{
    static const char good[] = TOP "keep:\n  - {ids: tests/golden/subset.npy}\n";
    static const char none[] = TOP "keep:\n  - not: {name: eval, ids: none.npy}\n";
    static const char bad[] = TOP "keep:\n  - {ids: tests/golden/curate.jsonl}\n";
    struct curation *c;
    struct error err;

    (void)state;
    assert_ok(load(good, &c, &err));
    assert_ok(curation_read_ids(c, &err));
    assert_int_equal(c->keep.children[0].n_ids, 4);
    curation_destroy(&c);
    assert_ok(load(none, &c, &err));
    assert_status(curation_read_ids(c, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.context, "eval: ids \"none.npy\""));
    curation_destroy(&c);
    assert_ok(load(bad, &c, &err));
    assert_status(curation_read_ids(c, &err), ST_CORRUPT);
    curation_destroy(&c);
}

static void the_reference_page_is_what_the_table_says(void **state)
{
    struct byte_buf page, stored;
    struct error err = {0};

    (void)state;
    byte_buf_init(&page, 1 << 20);
    byte_buf_init(&stored, 1 << 20);
    assert_ok(curation_write_reference(&page, &err));
    assert_ok(file_read("docs/curate-file.md", &stored, &err));
    if (!bytes_equal(byte_buf_view(&page), byte_buf_view(&stored)))
        fail_msg("docs/curate-file.md is old; run: reinforce help --curate-file > "
                 "docs/curate-file.md");
    byte_buf_release(&page);
    byte_buf_release(&stored);
}

static void the_file_in_configs_loads(void **state)
{
    struct curation *c;
    struct error err = {0};

    (void)state;
    assert_ok(curation_load("configs/curate.yaml", NULL, 0, &c, &err));
    curation_destroy(&c);
    assert_status(curation_load("configs/none.yaml", NULL, 0, &c, &err), ST_NOT_FOUND);
}

static void every_allocation_may_fail_once(void **state)
{
    struct curation *c;
    struct error err;

    (void)state;
    for (unsigned nth = 1;; nth++) {
        enum status st;

        oom_fail_at(nth);
        st = load(whole, &c, &err);
        if (!oom_fired()) {
            assert_ok(st);
            break;
        }
        assert_status(st, ST_NO_MEMORY);
    }
    oom_fail_at(0);
    curation_destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_becomes_rules_over_distinct_scores),
        cmocka_unit_test(a_mistake_is_named_with_its_place_and_the_way_out),
        cmocka_unit_test(values_are_set_from_the_command_line),
        cmocka_unit_test(lists_of_ids_are_read_when_asked_for),
        cmocka_unit_test(the_reference_page_is_what_the_table_says),
        cmocka_unit_test(the_file_in_configs_loads),
        cmocka_unit_test(every_allocation_may_fail_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
