/* Rules in the pipeline: what they drop goes to no captioner, and nothing else changes. */
#include "tests/support/small_run.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 25 };

static const char output_key[] = "00000000.tar";

/* Every third caption is of one word, and every fifth image is 20 pixels high. */
static bool has_one_word(int i)
{
    return i % 3 == 2;
}

static bool is_low(int i)
{
    return i % 5 == 4;
}

static void put_line(struct small_run *run, struct byte_buf *lines, int i)
{
    char key[64], line[256];
    struct error err = {0};

    (void)snprintf(key, sizeof key, "img/s-%03d.png", i);
    if (is_low(i))
        small_run_put_grey(run, key, 60, 20, 40 + i);
    else
        small_run_put_image(run, key, i);
    (void)snprintf(line, sizeof line,
                   "{\"uid\": \"s-%03d\", \"image_key\": \"%s\", \"text\": \"%s%03d\"}\n", i, key,
                   has_one_word(i) ? "s" : "a picture of s", i);
    assert_ok(byte_buf_append(lines, line, strlen(line), &err));
}

/* Samples 0..N-1, or those of them that `is_wanted`. */
static void put_samples(struct small_run *run, bool (*is_wanted)(int i))
{
    struct byte_buf lines;

    byte_buf_init(&lines, 1 << 20);
    for (int i = 0; i < N; i++)
        if (is_wanted == NULL || is_wanted(i))
            put_line(run, &lines, i);
    small_run_put(run, "s.jsonl", byte_buf_view(&lines));
    byte_buf_release(&lines);
}

static void begin(struct small_run *run, const char *const *sets)
{
    small_run_init(run, sets);
    put_samples(run, NULL);
    small_run_plan(run);
}

static void captioners_never_see_what_a_rule_drops(void **state)
{
    static const char *const sets[] = {
        "curate.keep=[{score: words, min: 2}, {score: height, min: 21, name: low}]", NULL};
    struct small_sample samples[SMALL_RUN_MAX_SAMPLES];
    struct record records[SMALL_RUN_MAX_SAMPLES];
    struct small_run run;
    size_t n_kept = 0;

    (void)state;
    small_run_init(&run, sets);
    put_samples(&run, NULL);
    run.captioner->fault = FAKE_REFUSES;
    run.captioner->trap = "s-002"; /* asked for it, it would be quarantined */
    small_run_plan(&run);
    small_run_work(&run, 2, WIRE_OUTCOME_DONE);
    assert_int_equal(small_run_samples(&run, samples), N);
    for (int i = 0; i < N; i++) {
        const char *want = has_one_word(i) ? "curate.keep[0]" : is_low(i) ? "low" : NULL;

        n_kept += want == NULL;
        if ((want == NULL) != (samples[i].reason == NULL) ||
            (want != NULL && strcmp(want, samples[i].reason) != 0))
            fail_msg("sample %d: %s", i, samples[i].reason != NULL ? samples[i].reason : "done");
        if (want != NULL)
            assert_string_equal(samples[i].stage, "curate");
    }
    assert_string_equal(samples[2].detail, "words of text (mean) is 1, below 2");
    assert_string_equal(samples[4].detail, "height is 20, below 21");
    assert_int_equal(small_run_records(&run, output_key, records), n_kept);
    assert_int_equal(atomic_load(&run.stats.captions), 2 * n_kept);
    assert_int_equal(atomic_load(&run.stats.views_embedded), 2 * 3 * n_kept);
    assert_int_equal(atomic_load(&run.stats.samples_done), n_kept);
    assert_int_equal(atomic_load(&run.stats.samples_filtered), N - n_kept);
    assert_int_equal(atomic_load(&run.stats.samples_quarantined), 0);
    small_run_release(&run);
}

static bool has_words(int i)
{
    return !has_one_word(i);
}

/* With a rule that needs teacher t0: its embeddings are made once, and are the same. */
static void the_rest_has_the_bytes_of_a_run_without_what_was_dropped(void **state)
{
    static const char *const dtypes[] = {"output.embedding_dtype=float32",
                                         "output.embedding_dtype=bfloat16"};

    (void)state;
    for (size_t d = 0; d < ARRAY_LEN(dtypes); d++) {
        const char *const with[] = {dtypes[d],
                                    "curate.keep=[{score: words, min: 2}, {score: similarity, "
                                    "teacher: t0, min: -1}]",
                                    NULL};
        const char *const without[] = {dtypes[d], NULL};
        struct small_run runs[2];

        small_run_init(&runs[0], with);
        put_samples(&runs[0], NULL);
        small_run_init(&runs[1], without);
        put_samples(&runs[1], has_words);
        for (size_t r = 0; r < 2; r++) {
            small_run_plan(&runs[r]);
            small_run_work(&runs[r], 2, WIRE_OUTCOME_DONE);
        }
        small_run_assert_same(&runs[0], &runs[1], 1);
        for (size_t t = 0; t < 2; t++)
            assert_int_equal(atomic_load(&runs[0].teachers[t]->n_calls),
                             atomic_load(&runs[1].teachers[t]->n_calls));
        assert_int_equal(atomic_load(&runs[0].stats.texts_embedded),
                         atomic_load(&runs[1].stats.texts_embedded));
        small_run_release(&runs[1]);
        small_run_release(&runs[0]);
    }
}

/* The real caption's score under teacher t0 of each sample, as a run without rules stored it. */
struct scores {
    double of[N];
};

static enum status see_scores(void *ctx, int64_t shard, const struct catalog_sample *sample,
                              struct error *err)
{
    struct scores *scores = ctx;

    (void)shard;
    (void)err;
    for (size_t i = 0; i < sample->n_scores; i++)
        if (strcmp(sample->scores[i].column, "text") == 0 &&
            strcmp(sample->scores[i].teacher, "t0") == 0)
            scores->of[sample->index] = sample->scores[i].value;
    return ST_OK;
}

static int in_order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static void a_similarity_is_the_one_that_the_catalog_would_have(void **state)
{
    static const char *const dtypes[] = {"output.embedding_dtype=float32",
                                         "output.embedding_dtype=bfloat16"};

    (void)state;
    for (size_t d = 0; d < ARRAY_LEN(dtypes); d++) {
        const char *sets[] = {dtypes[d], NULL, NULL};
        struct small_sample samples[SMALL_RUN_MAX_SAMPLES];
        struct scores scores, sorted;
        struct small_run run;
        struct error err = {0};
        char rule[128], detail[128];

        begin(&run, sets);
        small_run_work(&run, 2, WIRE_OUTCOME_DONE);
        assert_ok(catalog_shard_samples(run.catalog, run.row.job, 0, see_scores, &scores, &err));
        small_run_release(&run);
        sorted = scores;
        qsort(sorted.of, N, sizeof *sorted.of, in_order);
        (void)snprintf(rule, sizeof rule,
                       "curate.keep=[{score: similarity, teacher: t0, min: %.17g}]",
                       sorted.of[N / 2]); /* inclusive */
        sets[1] = rule;
        begin(&run, sets);
        small_run_work(&run, 2, WIRE_OUTCOME_DONE);
        assert_int_equal(small_run_samples(&run, samples), N);
        for (int i = 0; i < N; i++) {
            bool kept = (float)scores.of[i] >= (float)sorted.of[N / 2];

            assert_int_equal(samples[i].reason == NULL, kept);
            (void)snprintf(detail, sizeof detail,
                           "similarity of text (mean) by t0 is %.6g, below %.6g",
                           (double)(float)scores.of[i], (double)(float)sorted.of[N / 2]);
            if (!kept)
                assert_string_equal(samples[i].detail, detail);
        }
        assert_int_equal(atomic_load(&run.stats.samples_filtered), N / 2);
        small_run_release(&run);
    }
}

static void the_decision_does_not_depend_on_how_the_work_was_cut(void **state)
{
    static const char rules[] = "curate.keep=[{any: [{score: words, min: 2}, {score: similarity, "
                                "teacher: t1, min: 0.1}]}]";
    static const char *const one[] = {"workers.queue_items=1", "workers.part_samples=1", rules,
                                      NULL};
    static const char *const many[] = {"workers.queue_items=64", "workers.part_samples=1000", rules,
                                       NULL};
    struct small_sample samples[2][SMALL_RUN_MAX_SAMPLES];
    struct small_run runs[2];

    (void)state;
    for (size_t r = 0; r < 2; r++) {
        begin(&runs[r], r == 0 ? one : many);
        small_run_work(&runs[r], r == 0 ? 1 : 3, WIRE_OUTCOME_DONE);
        assert_int_equal(small_run_samples(&runs[r], samples[r]), N);
    }
    small_run_assert_same(&runs[0], &runs[1], 1);
    assert_in_range(atomic_load(&runs[0].stats.samples_filtered), 1, N - 1);
    for (int i = 0; i < N; i++) {
        assert_int_equal(samples[0][i].reason == NULL, samples[1][i].reason == NULL);
        if (samples[0][i].reason != NULL)
            assert_string_equal(samples[0][i].detail, samples[1][i].detail);
    }
    small_run_release(&runs[1]);
    small_run_release(&runs[0]);
}

/* What an earlier rule settles costs no teacher's time, and neither does the rest of a rule. */
static void a_teacher_is_asked_when_it_comes_to_that(void **state)
{
    static const struct {
        const char *rules;
        int n_asked;
    } cases[] = {
        {"curate.keep=[{score: height, max: 1}, {score: similarity, teacher: t0, min: -1}]", 0},
        {"curate.keep=[{all: [{score: height, max: 1}, {score: similarity, teacher: t0, min: "
         "-1}]}]",
         0},
        {"curate.keep=[{not: {any: [{score: height, min: 1}, {score: similarity, teacher: t0, min: "
         "-1}]}}]",
         0},
        {"curate.keep=[{score: similarity, teacher: t0, min: 2}, {score: height, max: 1}]", N},
    };

    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        const char *const sets[] = {cases[c].rules, NULL};
        struct small_run run;

        begin(&run, sets);
        small_run_work(&run, 2, WIRE_OUTCOME_DONE);
        assert_int_equal(atomic_load(&run.stats.samples_filtered), N);
        assert_int_equal(atomic_load(&run.teachers[0]->n_calls), 2 * cases[c].n_asked);
        assert_int_equal(atomic_load(&run.teachers[1]->n_calls), 0);
        assert_int_equal(atomic_load(&run.captioner->n_calls), 0);
        small_run_release(&run);
    }
}

static void a_shard_of_filtered_samples_is_an_empty_output(void **state)
{
    static const char *const formats[] = {"webdataset", "jsonl", "jsonl.gz", "jsonl.zst"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        struct record records[SMALL_RUN_MAX_SAMPLES];
        struct small_run run;
        char format[64], key[64];
        const char *const sets[] = {format, "curate.keep=[{score: width, min: 1000}]", NULL};

        (void)snprintf(format, sizeof format, "output.format=%s", formats[i]);
        (void)snprintf(key, sizeof key, "00000000.%s", i == 0 ? "tar" : formats[i]);
        begin(&run, sets);
        small_run_work(&run, 2, WIRE_OUTCOME_DONE);
        assert_int_equal(small_run_records(&run, key, records), 0);
        assert_int_equal(atomic_load(&run.stats.samples_filtered), N);
        small_run_release(&run);
    }
}

static void a_sample_without_the_score_is_dropped_as_missing(void **state)
{
    static const char *const sets[] = {
        "input.require_caption=false",
        "curate.keep=[{any: [{score: similarity, teacher: t0, min: -1}, {score: words, min: 1}]}]",
        NULL};
    struct small_sample bare;
    struct small_run run;

    (void)state;
    small_run_init(&run, sets);
    small_run_put_image(&run, "img/a.png", 1);
    small_run_put_text(&run, "x.jsonl", "{\"uid\": \"a\", \"image_key\": \"img/a.png\"}\n");
    small_run_plan(&run);
    small_run_work(&run, 1, WIRE_OUTCOME_DONE);
    bare = small_run_sample(&run, "a");
    assert_string_equal(bare.reason, "curate.keep[0]");
    assert_string_equal(bare.detail, "similarity of text (mean) by t0 is missing; words of text "
                                     "(mean) is missing");
    assert_int_equal(atomic_load(&run.teachers[0]->n_calls), 0); /* there is nothing to compare */
    small_run_release(&run);
}

static void a_teacher_that_fails_costs_its_sample_or_the_lease_and_filters_nothing(void **state)
{
    static const struct {
        enum fake_fault fault;
        enum wire_outcome outcome;
        const char *reason;
    } cases[] = {
        {FAKE_NAN, WIRE_OUTCOME_DONE, "bad_embedding"},
        {FAKE_REFUSES, WIRE_OUTCOME_DONE, "embed_failed"},
        {FAKE_AWAY, WIRE_OUTCOME_FAILED, NULL},
        {FAKE_STOPPED, WIRE_OUTCOME_RELEASED, NULL},
    };
    static const char *const sets[] = {"curate.keep=[{score: similarity, teacher: t0, min: -1}]",
                                       NULL};

    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        struct small_sample samples[SMALL_RUN_MAX_SAMPLES];
        struct small_run run;
        size_t n;

        begin(&run, sets);
        run.teachers[0]->fault = cases[c].fault;
        run.teachers[0]->trap = "picture of s006";
        small_run_work(&run, 1, cases[c].outcome);
        n = small_run_samples(&run, samples);
        if (cases[c].reason != NULL) {
            assert_int_equal(n, N);
            assert_string_equal(samples[6].reason, cases[c].reason);
            assert_string_equal(samples[6].stage, "curate");
            assert_non_null(strstr(samples[6].detail, "teacher \"t0\""));
        }
        assert_int_equal(atomic_load(&run.stats.samples_filtered), 0);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(samples[i].reason != NULL, cases[c].reason != NULL && i == 6);
        small_run_release(&run);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(captioners_never_see_what_a_rule_drops),
        cmocka_unit_test(the_rest_has_the_bytes_of_a_run_without_what_was_dropped),
        cmocka_unit_test(a_similarity_is_the_one_that_the_catalog_would_have),
        cmocka_unit_test(the_decision_does_not_depend_on_how_the_work_was_cut),
        cmocka_unit_test(a_teacher_is_asked_when_it_comes_to_that),
        cmocka_unit_test(a_shard_of_filtered_samples_is_an_empty_output),
        cmocka_unit_test(a_sample_without_the_score_is_dropped_as_missing),
        cmocka_unit_test(a_teacher_that_fails_costs_its_sample_or_the_lease_and_filters_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
