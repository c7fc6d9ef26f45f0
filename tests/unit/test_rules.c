/* Filters over a pool of scores. Numbers are those of the specification's checklist. */
#include "reinforce/curate/mix.h"
#include "reinforce/curate/rules.h"
#include "tests/support/test.h"

#include <math.h>
#include <string.h>

enum { ARENA_BYTES = 4 << 20, N = 8 };

static float similarity[N] = {0.5f, 0.9f, 0.5f, 0.1f, 0.7f, 0.5f, NAN, 0.3f};
static float words[N] = {3, 1, 12, 4, 5, 2, 3, NAN};
static float *columns[] = {similarity, words};
static struct example_id ids[N] = {{0, 7}, {0, 6}, {0, 5}, {0, 4}, {0, 3}, {0, 2}, {0, 1}, {1, 0}};
static const struct pool pool = {.n = N, .ids = ids, .n_scores = 2, .scores = columns};

static struct rule bounds(size_t score, double low, double high)
{
    return (struct rule){.kind = RULE_SCORE,
                         .name = "bounds",
                         .score = score,
                         .low = low,
                         .high = high,
                         .top = NAN,
                         .bottom = NAN};
}

static struct rule fraction(size_t score, double top, double bottom)
{
    struct rule rule = bounds(score, -INFINITY, INFINITY);

    rule.top = top;
    rule.bottom = bottom;
    return rule;
}

static unsigned kept_by(struct rule *rule)
{
    struct error err = {0};
    struct arena arena;
    unsigned kept = 0;

    arena_init(&arena, ARENA_BYTES);
    assert_ok(rules_resolve(rule, &pool, &arena, &err));
    arena_release(&arena);
    for (size_t i = 0; i < N; i++)
        kept |= (unsigned)rule_holds(rule, &pool, i) << i;
    return kept;
}

static void a_bound_keeps_what_reaches_it(void **state)
{
    const struct {
        struct rule rule;
        unsigned want;
    } cases[] = {
        {bounds(0, 0.5, INFINITY), 0x37},  {bounds(0, 0.5, 0.5), 0x25},
        {bounds(0, -INFINITY, 0.3), 0x88}, {bounds(0, -INFINITY, INFINITY), 0xbf},
        {bounds(0, 2, INFINITY), 0},       {bounds(1, 3, 5), 0x59},
        {bounds(0, 0.7, INFINITY), 0x12}, /* float32(0.7) < 0.7, and reaches it */
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct rule rule = cases[i].rule;

        if (kept_by(&rule) != cases[i].want)
            fail_msg("case %zu: kept %#x", i, kept_by(&rule));
    }
}

/* CURATE 29: {score >= t} with t = sorted_descending[int(len * fraction)], ties included. Samples
 * without the score are not counted in len. */
static void a_fraction_keeps_its_threshold_and_the_ties(void **state)
{
    const struct {
        double top, bottom;
        unsigned want;
    } cases[] = {
        {0, NAN, 0x02}, {1.0 / 7, NAN, 0x12}, {0.3, NAN, 0x37}, {0.7, NAN, 0x37}, {0.72, NAN, 0xb7},
        {1, NAN, 0xbf}, {NAN, 0, 0x08},       {NAN, 0.2, 0x88}, {NAN, 0.3, 0xad}, {0.3, 0.3, 0x25},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct rule rule = fraction(0, cases[i].top, cases[i].bottom);

        if (kept_by(&rule) != cases[i].want)
            fail_msg("case %zu: kept %#x", i, kept_by(&rule));
    }
}

static void a_fraction_of_nothing_keeps_nothing(void **state)
{
    float none[2] = {NAN, NAN};
    float *column = none;
    const struct pool empty = {.n = 2, .n_scores = 1, .scores = &column};
    struct rule rule = fraction(0, 0.5, NAN);
    struct error err = {0};
    struct arena arena;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    assert_ok(rules_resolve(&rule, &empty, &arena, &err));
    assert_false(rule_holds(&rule, &empty, 0));
    rule.top = 1.5;
    rule.name = "keep[3]";
    assert_status(rules_resolve(&rule, &empty, &arena, &err), ST_INVALID);
    assert_non_null(strstr(err.context, "keep[3]"));
    arena_release(&arena);
}

static void rules_combine(void **state)
{
    static const struct example_id listed[] = {{0, 1}, {0, 4}, {0, 7}, {2, 0}};
    struct rule leaves[] = {bounds(0, 0.5, INFINITY), bounds(1, 3, INFINITY)};
    struct rule by_id = {.kind = RULE_IDS, .name = "ids", .ids = listed, .n_ids = 4};
    struct rule all = {.kind = RULE_ALL, .name = "all", .children = leaves, .n_children = 2};
    struct rule any = {.kind = RULE_ANY, .name = "any", .children = leaves, .n_children = 2};
    struct rule not_all = {.kind = RULE_NOT, .name = "not", .children = &all, .n_children = 1};
    struct rule nothing = {.kind = RULE_ALL, .name = "none"};

    (void)state;
    assert_int_equal(kept_by(&by_id), 0x49);
    assert_int_equal(kept_by(&all), 0x15);
    assert_int_equal(kept_by(&any), 0x7f);
    assert_int_equal(kept_by(&not_all), 0xea);
    assert_int_equal(kept_by(&nothing), 0xff);
}

static void a_drop_is_explained_by_what_decided_it(void **state)
{
    struct rule leaves[] = {bounds(0, 0.5, INFINITY), bounds(1, 3, 6)};
    struct rule all = {.kind = RULE_ALL, .name = "all", .children = leaves, .n_children = 2};
    struct rule any = {.kind = RULE_ANY, .name = "any", .children = leaves, .n_children = 2};
    struct rule not_any = {.kind = RULE_NOT, .name = "not", .children = &any, .n_children = 1};
    struct rule_reason reasons[4];

    (void)state;
    /* both fail: the first is enough for a drop */
    assert_int_equal(rule_explain(&all, &pool, 7, reasons, 4), 1);
    assert_ptr_equal(reasons[0].rule, &leaves[0]);
    assert_int_equal(reasons[0].verdict, RULE_BELOW);
    assert_true(reasons[0].score == 0.3f && reasons[0].threshold == 0.5f);
    assert_int_equal(rule_explain(&all, &pool, 2, reasons, 4), 1);
    assert_int_equal(reasons[0].verdict, RULE_ABOVE);
    assert_true(reasons[0].score == 12 && reasons[0].threshold == 6);
    /* any would have been enough: all have failed */
    assert_int_equal(rule_explain(&any, &pool, 7, reasons, 4), 2);
    assert_int_equal(reasons[1].verdict, RULE_MISSING);
    assert_true(isnan(reasons[1].score) && reasons[1].threshold == 3);
    assert_int_equal(rule_explain(&any, &pool, 7, reasons, 1), 2);
    /* dropped since one does hold */
    assert_false(rule_holds(&not_any, &pool, 3));
    assert_int_equal(rule_explain(&not_any, &pool, 3, reasons, 4), 1);
    assert_ptr_equal(reasons[0].rule, &leaves[1]);
    assert_int_equal(reasons[0].verdict, RULE_WITHIN);
    assert_string_equal(rule_verdict_name(reasons[0].verdict), "within");
}

static void learnability_is_high_where_only_the_learner_errs(void **state)
{
    const struct score_spec spec = {
        .kind = SCORE_LEARNABILITY, .learner = {"small", 10, -8}, .reference = {"large", 20, -16}};

    (void)state;
    /* CURATE 1: s_ii of the worked example, from its cosines */
    assert_true(fabs(score_learnability(&spec, cos(0.0), cos(0.0)) - 0.108778) < 1e-6);
    assert_true(fabs(score_learnability(&spec, cos(0.1), cos(0.02)) - 0.114794) < 1e-6);
    assert_true(fabs(score_learnability(&spec, cos(0.2), cos(0.0)) - 0.134733) < 1e-6);
    assert_true(score_learnability(&spec, 0.1, 0.9) > score_learnability(&spec, 0.9, 0.9));
    assert_true(score_learnability(&spec, 0.1, 0.1) < 0);
}

static void a_score_is_told_from_another_and_named(void **state)
{
    struct score_spec a = {.kind = SCORE_SIMILARITY, .caption = "text", .teacher = "clip-a"}, b = a;
    char text[192];

    (void)state;
    assert_true(score_spec_equal(&a, &b));
    b.teacher = NULL;
    assert_false(score_spec_equal(&a, &b));
    score_spec_describe(&a, text);
    assert_string_equal(text, "similarity of text (mean) by clip-a");
    score_spec_describe(&b, text);
    assert_string_equal(text, "similarity of text (mean)");
    b = (struct score_spec){
        .kind = SCORE_SCRIPT, .caption = "syn_text", .script = "Latin", .take = SCORE_TAKE_MIN};
    score_spec_describe(&b, text);
    assert_string_equal(text, "script Latin of syn_text (min)");
    b = (struct score_spec){.kind = SCORE_MIN_SIDE};
    score_spec_describe(&b, text);
    assert_string_equal(text, "shorter side");
}

static void a_mix_keeps_the_most_that_has_the_share(void **state)
{
    static const struct {
        size_t n_a, n_b;
        double share;
        size_t keep_a, keep_b;
    } cases[] = {
        {900, 100, 0.9, 900, 100}, {950, 50, 0.9, 450, 50}, {90, 100, 0.9, 90, 10},
        {7, 7, 0.5, 7, 7},         {10, 3, 0.5, 3, 3},      {5, 1000, 0.9, 5, 0},
    };
    struct error err = {0};
    size_t a, b;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_ok(mix_quotas(cases[i].n_a, cases[i].n_b, cases[i].share, &a, &b, &err));
        if (a != cases[i].keep_a || b != cases[i].keep_b)
            fail_msg("case %zu: %zu and %zu", i, a, b);
    }
    assert_status(mix_quotas(5, 0, 0.9, &a, &b, &err), ST_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bound_keeps_what_reaches_it),
        cmocka_unit_test(a_fraction_keeps_its_threshold_and_the_ties),
        cmocka_unit_test(a_fraction_of_nothing_keeps_nothing),
        cmocka_unit_test(rules_combine),
        cmocka_unit_test(a_drop_is_explained_by_what_decided_it),
        cmocka_unit_test(learnability_is_high_where_only_the_learner_errs),
        cmocka_unit_test(a_mix_keeps_the_most_that_has_the_share),
        cmocka_unit_test(a_score_is_told_from_another_and_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
