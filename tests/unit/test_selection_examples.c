/* What becomes of odd examples, half precision, quotas and impossible options. Numbers are those of
 * the specification's checklist. */
#include "reinforce/base/clock.h"
#include "tests/support/oom.h"
#include "tests/support/selections.h"

#include <string.h>

/* CURATE 20 */
static void broken_examples_are_counted_and_never_selected(void **state)
{
    struct selection_options options = options_of(30, 3);
    struct selection selection;
    struct error err = {0};
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, 40, 16, 16, 1);
    pairs.rows[0][PAIR_TEXT][3 * 16 + 5] = NAN;
    memset(pairs.rows[1][PAIR_IMAGE] + (size_t)7 * 16, 0, 16 * sizeof(float));
    pairs.rows[0][PAIR_IMAGE][9 * 16] = INFINITY;
    for (size_t d = 0; d < 16; d++) /* half a norm is no unit row */
        pairs.rows[1][PAIR_TEXT][12 * 16 + d] *= 0.5f;
    selection = run(&pairs.batch, &options);
    assert_int_equal(selection.stats.n_invalid, 4);
    assert_int_equal(selection.stats.n_usable, 36);
    for (size_t i = 0; i < 30; i++)
        assert_true(selection.index[i] != 3 && selection.index[i] != 7 && selection.index[i] != 9 &&
                    selection.index[i] != 12);
    options.n_selected = 37;
    assert_status(selection_run(&pairs.batch, &options, &selection, &arena, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "36 of 40 examples can be selected (4 invalid, 0 "
                                        "duplicates), 37 are wanted"));
    assert_null(selection.index);
    pairs_release(&pairs);
}

/* CURATE 21 */
static void a_duplicate_is_selected_once(void **state)
{
    struct example_id content[40];
    struct selection_options options = options_of(36, 3);
    struct selection selection;
    size_t n_first = 0;
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, 40, 16, 16, 1);
    pairs.ids[20] = pairs.ids[31] = pairs.ids[4]; /* one of these, the first */
    for (size_t i = 0; i < 40; i++)
        content[i] = (struct example_id){i, i == 39 ? 38 : i};
    content[39].high = 38;
    pairs.batch.content = content;
    selection = run(&pairs.batch, &options);
    assert_int_equal(selection.stats.n_duplicates, 3);
    for (size_t i = 0; i < 36; i++) {
        assert_true(selection.index[i] != 20 && selection.index[i] != 31 &&
                    selection.index[i] != 39);
        n_first += selection.index[i] == 4;
    }
    assert_true(n_first <= 1);
    /* an invalid one does not stand for its valid twin */
    pairs.rows[0][PAIR_TEXT][4 * 16] = NAN;
    options.n_selected = 37;
    options.n_chunks = 1;
    assert_int_equal(run(&pairs.batch, &options).stats.n_duplicates, 2);
    pairs_release(&pairs);
}

/* CURATE 22, the library's half */
static void without_scores_a_seeded_permutation_is_left(void **state)
{
    struct selection_options options = options_of(1000, 16);
    struct selection first, again, other;
    struct error err = {0};
    struct pairs pairs;
    size_t n_same = 0;

    (void)state;
    pairs_draw(&pairs, 4000, 4, 4, 1);
    options.deadline_ns = clock_monotonic_ns() - 1;
    assert_status(selection_run(&pairs.batch, &options, &first, &arena, &err), ST_TIMEOUT);
    assert_int_equal(first.n, 0);
    pairs.batch.learner = pairs.batch.reference = (struct pair_model){0};
    assert_ok(selection_uniform(&pairs.batch, &options, &first, &arena, &err));
    assert_ok(selection_uniform(&pairs.batch, &options, &again, &arena, &err));
    assert_same(&first, &again);
    options.step++;
    assert_ok(selection_uniform(&pairs.batch, &options, &other, &arena, &err));
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(first.chunk[i], SELECTION_UNIFORM_CHUNK);
        n_same += first.index[i] == other.index[i];
    }
    assert_true(n_same < 10);
    pairs_release(&pairs);
}

static void make_half(struct pair_model *model, uint16_t *halves[PAIR_SIDES], size_t B,
                      enum tensor_dtype dtype)
{
    size_t n = B * model->D;

    for (int s = 0; s < PAIR_SIDES; s++) {
        const float *rows = (const float *)(const void *)model->rows[s].data;

        halves[s] = malloc(n * sizeof *halves[s]);
        assert_non_null(halves[s]);
        if (dtype == TENSOR_BF16)
            convert_to_bf16(rows, n, halves[s]);
        else
            convert_to_f16(rows, n, halves[s]);
        model->rows[s] = bytes_view_of(halves[s], n * sizeof *halves[s]);
    }
    model->dtype = dtype;
}

static double overlap(const struct selection *a, const struct selection *b, size_t B)
{
    static bool in[LARGE_B];
    size_t n = 0;

    memset(in, false, B * sizeof *in);
    for (size_t i = 0; i < a->n; i++)
        in[a->index[i]] = true;
    for (size_t i = 0; i < b->n; i++)
        n += in[b->index[i]];
    return (double)n / (double)a->n;
}

/* CURATE 26 */
static void half_precision_references_change_gains_by_little(void **state)
{
    enum { B = LARGE_B / 32, D = 768 };
    struct selection_options options = options_of(B / 4, 2);
    struct selection full, half;
    uint16_t *halves[PAIR_SIDES];
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, B, D, D, 1);
    pairs.batch.reference.scale = 110;
    pairs.batch.reference.bias = -16;
    options.top_k = true;
    full = run(&pairs.batch, &options);
    make_half(&pairs.batch.reference, halves, B, TENSOR_F16);
    half = run(&pairs.batch, &options);
    assert_true(overlap(&full, &half, B) >= 0.99);
    for (size_t i = 0; i < B; i++)
        assert_true(fabsf(full.marginals[i] - half.marginals[i]) < 1e-2f);
    for (size_t i = 0; i < B / 4; i++)
        for (size_t k = 0; k < B / 4; k++)
            if (full.index[i] == half.index[k] && full.chunk[i] == half.chunk[k])
                assert_true(fabsf(full.conditional[i] - half.conditional[k]) < 1e-2f);
    free(halves[0]);
    free(halves[1]);
    pairs_release(&pairs);
}

/* CURATE 27, and bfloat16 */
static void half_precision_learners_select_the_same(void **state)
{
    enum { B = LARGE_B, D = 64 };
    static const enum tensor_dtype dtypes[] = {TENSOR_F16, TENSOR_BF16};
    struct selection_options options = options_of(B / 16, 2);
    struct selection full, half;
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, B, D, D, 1);
    options.top_k = true;
    options.n_threads = 2;
    full = run(&pairs.batch, &options);
    for (size_t t = 0; t < ARRAY_LEN(dtypes); t++) {
        struct super_batch batch = pairs.batch;
        uint16_t *halves[PAIR_SIDES];

        make_half(&batch.learner, halves, B, dtypes[t]);
        half = run(&batch, &options);
        if (!(overlap(&full, &half, B) >= (dtypes[t] == TENSOR_F16 ? 0.99 : 0.95)))
            fail_msg("%s: overlap %g", tensor_dtype_name(dtypes[t]), overlap(&full, &half, B));
        free(halves[0]);
        free(halves[1]);
    }
    pairs_release(&pairs);
}

/* CURATE 28 */
static void quotas_are_met_exactly_or_refused(void **state)
{
    static const uint32_t quotas[] = {50, 5, 25}, impossible[] = {50, 200, 25};
    size_t counts[3] = {0};
    double before = 0, after = 0;
    struct selection_options options = options_of(80, 4);
    struct selection selection;
    struct error err = {0};
    uint16_t strata[300];
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, 300, 16, 16, 1);
    for (size_t i = 0; i < 300; i++)
        strata[i] = (uint16_t)(i % 10 == 0 ? 2 : i % 2);
    pairs.batch.strata = strata;
    options.quotas = quotas;
    options.n_strata = 3;
    selection = run(&pairs.batch, &options);
    for (size_t i = 0; i < 80; i++)
        counts[strata[selection.index[i]]]++;
    for (size_t s = 0; s < 3; s++) {
        assert_int_equal(counts[s], quotas[s]);
        before += selection.stats.share_before[s];
        after += selection.stats.share_after[s];
    }
    assert_true(fabs(before - 1) < 1e-12 && fabs(after - 1) < 1e-12);
    assert_true(selection.stats.share_after[1] == 5.0 / 80);
    options.quotas = impossible;
    options.n_selected = 275;
    assert_status(selection_run(&pairs.batch, &options, &selection, &arena, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "quotas"));
    strata[17] = 3;
    assert_status(selection_run(&pairs.batch, &options, &selection, &arena, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "example 17 is of stratum 3 of 3"));
    pairs_release(&pairs);
}

/* CURATE 30: the operations; the time is bench_select.py's to tell */
static void products_cost_what_the_model_says(void **state)
{
    enum { B = 4096, D = 32, N = 16 };
    struct selection_options options = options_of(B / 2, N);
    double b = B / 2, model = 2.0 * (D + D) * b * (N - 1) / N * (B - b / 2);
    struct selection selection;
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, B, D, D, 1);
    options.n_threads = 2;
    selection = run(&pairs.batch, &options);
    assert_true((double)selection.stats.multiply_adds >= 0.9 * model);
    assert_true((double)selection.stats.multiply_adds <= 1.1 * model);
    pairs_release(&pairs);
}

static void presets_are_siglip_2s(void **state)
{
    struct selection_options options;

    (void)state;
    assert_int_equal(selection_options_preset(&options, SELECT_ACID_HALF), 65536);
    assert_int_equal(options.n_selected, 32768);
    assert_int_equal(options.criterion, SELECT_LEARNABILITY);
    assert_int_equal(options.loss, PAIR_SIGMOID);
    assert_int_equal(selection_options_preset(&options, SELECT_ACID_THREE_QUARTERS), 131072);
    assert_int_equal(options.n_selected, 32768);
}

static void options_out_of_range_are_named(void **state)
{
    struct selection_options options[9];
    static const char *const words[] = {"to be selected", "to be selected", "chunks",
                                        "gain",           "uniform share",  "threads",
                                        "normalise",      "strata",         "criterion"};
    struct error err = {0};

    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(options); c++)
        options[c] = options_of(10, 2);
    options[0].n_selected = 0;
    options[1].n_selected = 21;
    options[2].n_chunks = 11;
    options[3].gain = NAN;
    options[4].uniform_share = 1.5;
    options[5].n_threads = 0;
    options[6].normalise_by_count = true;
    options[6].loss = PAIR_SOFTMAX;
    options[7].n_strata = 2;
    options[8].criterion = 0;
    for (size_t c = 0; c < ARRAY_LEN(options); c++) {
        assert_status(selection_options_check(&options[c], 20, &err), ST_INVALID);
        if (strstr(err.message, words[c]) == NULL)
            fail_msg("case %zu: %s", c, err.message);
    }
}

/* Shares and estimates of a batch's score. */
static void statistics_describe_the_batch(void **state)
{
    enum { B = 300, N_SELECTED = 90 };
    struct selection_options options = options_of(N_SELECTED, 3);
    double score = 0, mean = 0, own = 0;
    struct selection selection;
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, B, 16, 16, 1);
    options.batch_scores = true;
    options.uniform_share = 0.2;
    selection = run(&pairs.batch, &options);
    for (size_t i = 0; i < N_SELECTED; i++) {
        assert_int_equal(selection.chunk[i],
                         i < 18 ? SELECTION_UNIFORM_CHUNK : (uint16_t)((i - 18) / 24));
        for (size_t j = 0; j < N_SELECTED; j++)
            score += pairs_score(&pairs.batch, selection.index[i], selection.index[j]);
    }
    for (size_t i = 0; i < B; i++) {
        own += pairs_score(&pairs.batch, i, i) / B;
        for (size_t j = 0; j < B; j++)
            if (i != j)
                mean += pairs_score(&pairs.batch, i, j) / (B * (B - 1.0));
    }
    assert_true(fabs(selection.stats.batch_score - score / N_SELECTED) <= 1e-4 * fabs(score));
    assert_true(fabs(selection.stats.uniform_batch_score - (own + (N_SELECTED - 1) * mean)) <=
                1e-3);
    assert_true(selection.stats.batch_score > selection.stats.uniform_batch_score);
    assert_true(fabs(selection.stats.marginal_mean - own) < 1e-6);
    assert_true(selection.stats.effective_sample_size >= 1 &&
                selection.stats.effective_sample_size <= B);
    for (int q = 1; q < SELECTION_QUANTILES; q++)
        assert_true(selection.stats.marginal_quantiles[q] >=
                    selection.stats.marginal_quantiles[q - 1]);
    pairs_release(&pairs);
}

static void every_allocation_may_fail(void **state)
{
    struct selection_options options = options_of(20, 4);
    struct pairs pairs;
    bool fired = true;

    (void)state;
    pairs_draw(&pairs, 64, 8, 8, 1);
    for (unsigned n = 1; fired; n++) {
        struct arena own;
        struct selection selection;
        struct error err = {0};
        enum status st;

        arena_init(&own, ARENA_BYTES);
        oom_fail_at(n);
        st = selection_run(&pairs.batch, &options, &selection, &own, &err);
        fired = oom_fired();
        oom_fail_at(0);
        assert_status(st, fired ? ST_NO_MEMORY : ST_OK);
        arena_release(&own);
    }
    pairs_release(&pairs);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_arena, release_arena)
    const struct CMUnitTest tests[] = {
        TEST(broken_examples_are_counted_and_never_selected),
        TEST(a_duplicate_is_selected_once),
        TEST(without_scores_a_seeded_permutation_is_left),
        TEST(half_precision_references_change_gains_by_little),
        TEST(half_precision_learners_select_the_same),
        TEST(quotas_are_met_exactly_or_refused),
        TEST(products_cost_what_the_model_says),
        TEST(presets_are_siglip_2s),
        TEST(options_out_of_range_are_named),
        TEST(statistics_describe_the_batch),
        TEST(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
