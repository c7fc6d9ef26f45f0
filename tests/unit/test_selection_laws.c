/* What a draw's frequencies must be, and how agreement of scores is measured. Numbers are those of
 * the specification's checklist. */
#include "reinforce/curate/agreement.h"
#include "reinforce/curate/joint.h"
#include "tests/support/pairs.h"

#include <string.h>

enum { ARENA_BYTES = 16 << 20 };

static struct arena arena;

static int make_arena(void **state)
{
    (void)state;
    arena_init(&arena, ARENA_BYTES);
    return 0;
}

static int release_arena(void **state)
{
    (void)state;
    arena_release(&arena);
    return 0;
}

/* Independent draws from B scores, given as the negative logits of a softmax learner. */
static void draw(const float *logits, size_t B, size_t n, double gain, uint64_t seed,
                 uint32_t *index)
{
    static const struct example_id ids[] = {{0, 1}, {0, 2}, {0, 3}, {0, 4},
                                            {0, 5}, {0, 6}, {0, 7}, {0, 8}};
    struct super_batch batch = {.B = B, .ids = ids, .learner = {.logits = logits, .scale = 1}};
    struct selection_options options;
    struct selection selection;
    struct error err = {0};

    selection_options_default(&options);
    options.criterion = SELECT_HARD_LEARNER;
    options.loss = PAIR_SOFTMAX;
    options.n_selected = n;
    options.n_chunks = 1;
    options.gain = gain;
    options.seed = seed;
    arena_reset(&arena);
    assert_ok(selection_run(&batch, &options, &selection, &arena, &err));
    memcpy(index, selection.index, n * sizeof *index);
}

/* Statistic of counts against expected frequencies; the bound is what n - 1 degrees of freedom
 * pass with probability 0.001. */
static void assert_frequencies(const size_t *counts, const double *shares, size_t n, size_t total,
                               double bound)
{
    double statistic = 0;

    for (size_t i = 0; i < n; i++) {
        double want = shares[i] * (double)total;

        statistic += ((double)counts[i] - want) * ((double)counts[i] - want) / want;
    }
    if (!(statistic < bound))
        fail_msg("chi-squared is %g, beyond %g", statistic, bound);
}

/* CURATE 8, 10 */
static void one_is_drawn_in_proportion_to_the_exponential_of_its_score(void **state)
{
    static const float logits[8] = {0.5f, -1, 0, 2, -0.25f, 1, -2, 0.75f};
    static const double gains[] = {1, 0.5, 0};

    (void)state;
    for (size_t g = 0; g < ARRAY_LEN(gains); g++) {
        size_t counts[8] = {0};
        double shares[8], sum = 0;

        for (size_t i = 0; i < 8; i++)
            sum += shares[i] = exp(-gains[g] * (double)logits[i]);
        for (size_t i = 0; i < 8; i++)
            shares[i] /= sum;
        for (uint64_t seed = 0; seed < 100000; seed++) {
            uint32_t index;

            draw(logits, 8, 1, gains[g], seed, &index);
            counts[index]++;
        }
        assert_frequencies(counts, shares, 8, 100000, 24.32);
    }
}

/* CURATE 9 */
static void two_are_drawn_as_one_after_the_other(void **state)
{
    static const float logits[5] = {0.5f, -1, 0, 1, -0.25f};
    size_t counts[20] = {0}, n = 0;
    double shares[20], weights[5], sum = 0;

    (void)state;
    for (size_t i = 0; i < 5; i++)
        sum += weights[i] = exp(-(double)logits[i]);
    for (size_t i = 0; i < 5; i++)
        for (size_t j = 0; j < 5; j++)
            if (i != j)
                shares[n++] = weights[i] / sum * weights[j] / (sum - weights[i]);
    for (uint64_t seed = 0; seed < 100000; seed++) {
        uint32_t pair[2];

        draw(logits, 5, 2, 1, seed, pair);
        counts[pair[0] * 4 + pair[1] - (pair[1] > pair[0])]++;
    }
    assert_frequencies(counts, shares, 20, 100000, 43.82);
}

/* CURATE 10 */
static void top_k_is_the_limit_of_a_large_gain(void **state)
{
    enum { B = 400, N_SELECTED = 100 };
    struct selection_options options;
    struct selection top, greedy;
    struct error err = {0};
    struct pairs pairs;

    (void)state;
    pairs_draw(&pairs, B, 16, 16, 1);
    selection_options_default(&options);
    options.n_selected = N_SELECTED;
    options.n_chunks = 4;
    options.gain = 1e12;
    assert_ok(selection_run(&pairs.batch, &options, &greedy, &arena, &err));
    options.gain = 1;
    options.top_k = true;
    assert_ok(selection_run(&pairs.batch, &options, &top, &arena, &err));
    assert_memory_equal(top.index, greedy.index, N_SELECTED * sizeof *top.index);
    /* equal scores: the lower index */
    for (int m = 0; m < 2; m++)
        for (int s = 0; s < PAIR_SIDES; s++)
            for (size_t i = 1; i < B; i++)
                memcpy(pairs.rows[m][s] + i * 16, pairs.rows[m][s], 16 * sizeof(float));
    assert_ok(selection_run(&pairs.batch, &options, &top, &arena, &err));
    for (size_t i = 0; i < N_SELECTED; i++)
        assert_int_equal(top.index[i], i);
    pairs_release(&pairs);
}

static void noise_is_gumbel_s(void **state)
{
    double mean = 0, square = 0;

    (void)state;
    for (uint64_t i = 0; i < 100000; i++) {
        double g = joint_noise(1, 2, 3, (struct example_id){i, i});

        assert_true(isfinite(g));
        mean += g / 100000;
        square += g * g / 100000;
    }
    assert_true(fabs(mean - 0.5772156649) < 0.02);
    assert_true(fabs(square - mean * mean - 1.6449340668) < 0.05);
}

/* CURATE 24, the library's half */
static void agreement_is_measured_and_raises_an_alarm(void **state)
{
    static const double used[] = {1, 2, 3, 4, 5, 6}, shifted[] = {11, 12, 13, 14, 15, 16},
                        reversed[] = {6, 5, 4, 3, 2, 1}, tied[] = {1, 2, 2, 4, 5, 6};
    struct score_agreement a;
    struct error err = {0};

    (void)state;
    assert_ok(score_agreement(&a, used, shifted, 6, 3, 1, &arena, &err));
    assert_true(a.sigma == 0 && a.spearman == 1 && a.overlap == 1 && !a.alarm);
    assert_ok(score_agreement(&a, used, reversed, 6, 2, 1, &arena, &err));
    assert_true(a.spearman == -1 && a.overlap == 0 && a.alarm);
    assert_true(fabs(a.sigma - sqrt(70.0 / 6)) < 1e-12); /* differences 5, 3, 1, -1, -3, -5 */
    assert_ok(score_agreement(&a, used, tied, 6, 3, 1, &arena, &err));
    assert_true(fabs(a.spearman - 0.985610760609162) < 1e-12); /* scipy.stats.spearmanr */
    assert_true(fabs(a.sigma - sqrt(1.0 / 6 - 1.0 / 36)) < 1e-12);
    assert_true(a.alarm);
    assert_ok(score_agreement(&a, used, tied, 6, 3, 0.5, &arena, &err));
    assert_false(a.alarm);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_arena, release_arena)
    const struct CMUnitTest tests[] = {
        TEST(one_is_drawn_in_proportion_to_the_exponential_of_its_score),
        TEST(two_are_drawn_as_one_after_the_other),
        TEST(top_k_is_the_limit_of_a_large_gain),
        TEST(noise_is_gumbel_s),
        TEST(agreement_is_measured_and_raises_an_alarm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
