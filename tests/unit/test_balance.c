#include "reinforce/base/philox.h"
#include "reinforce/curate/balance.h"
#include "tests/support/test.h"

#include <math.h>

enum { ARENA_BYTES = 4 << 20, N = 400 };

static void solve(const uint32_t *patterns, size_t n, const struct balance_options *options,
                  double *q, double *violation)
{
    struct arena arena;
    struct error err = {0};

    arena_init(&arena, ARENA_BYTES);
    assert_ok(balance_probabilities(patterns, n, options, q, violation, &arena, &err));
    arena_release(&arena);
}

/* With one attribute, whoever is too many is thinned and the others stay. */
static void one_attribute_has_a_closed_form(void **state)
{
    static const struct {
        size_t n_with; /* of 100 */
        double target, bound, want_with, want_without;
    } cases[] = {
        {80, 0.5, 0, 0.25, 1},   {20, 0.5, 0, 1, 0.25}, {50, 0.5, 0, 1, 1},
        {80, 0.5, 0.02, 0.3, 1}, {80, 0.8, 0, 1, 1},    {90, 0.3, 0, 0.1 * 0.3 / (0.9 * 0.7), 1},
        {53, 0.5, 0.05, 1, 1}, /* within the bound as it is */
    };
    uint32_t patterns[100];
    double q[100], violation;

    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        const struct balance_options options = {.n_attributes = 1,
                                                .targets = &cases[c].target,
                                                .representation = cases[c].bound,
                                                .strength = 1e6};

        for (size_t i = 0; i < 100; i++)
            patterns[i] = i < cases[c].n_with;
        solve(patterns, 100, &options, q, &violation);
        if (fabs(q[0] - cases[c].want_with) > 1e-6 || fabs(q[99] - cases[c].want_without) > 1e-6 ||
            violation > 0)
            fail_msg("case %zu: %g and %g", c, q[0], q[99]);
    }
}

/* Two attributes, two concepts, all of them correlated. */
static void make_patterns(uint32_t patterns[N])
{
    for (uint32_t i = 0; i < N; i++) {
        uint32_t random[4];

        philox_4x32_10((const uint32_t[4]){i}, (const uint32_t[2]){3}, random);
        patterns[i] = random[0] % 10 < 7;
        patterns[i] |= (uint32_t)(random[1] % 10 < (patterns[i] & 1 ? 2 : 5)) << 1;
        patterns[i] |= (uint32_t)(random[2] % 10 < (patterns[i] & 1 ? 6 : 2)) << 2;
        patterns[i] |= (uint32_t)(random[3] % 10 < (patterns[i] & 2 ? 5 : 4)) << 3;
    }
}

static double constraint(uint32_t pattern, const double *targets, size_t j)
{
    double s = (pattern >> j % 2 & 1) - targets[j % 2];

    return j < 2 ? s : s * (pattern >> (1 + j / 2) & 1);
}

/* The same by plain gradient ascent on all samples, in small steps. */
static void ascend(const uint32_t *patterns, const double *targets, const double *bounds, double *q)
{
    double multipliers[6] = {0};

    for (int step = 0; step < 40000; step++) {
        double moments[6] = {0};

        for (size_t i = 0; i < N; i++) {
            double margin = 0;

            for (size_t j = 0; j < 6; j++)
                margin += multipliers[j] * constraint(patterns[i], targets, j);
            q[i] = fmin(fmax(1 - margin, 0), 1);
            for (size_t j = 0; j < 6; j++)
                moments[j] += q[i] * constraint(patterns[i], targets, j) / N;
        }
        for (size_t j = 0; j < 6; j++) {
            /* a step along the moment, and back towards 0 by the bound */
            double to = multipliers[j] + 0.5 * moments[j];

            multipliers[j] = copysign(fmax(fabs(to) - 0.5 * bounds[j / 2 > 0], 0), to);
        }
    }
}

static void attributes_and_concepts_are_balanced_with_the_least_change(void **state)
{
    static const double targets[] = {0.5, 0.4}, bounds[] = {0.01, 0.004};
    const struct balance_options options = {.n_attributes = 2,
                                            .n_concepts = 2,
                                            .targets = targets,
                                            .representation = bounds[0],
                                            .association = bounds[1],
                                            .strength = 1e6};
    uint32_t patterns[N];
    double q[N], want[N], violation;

    (void)state;
    make_patterns(patterns);
    solve(patterns, N, &options, q, &violation);
    assert_true(violation == 0);
    for (size_t j = 0; j < 6; j++) {
        double sum = 0;

        for (size_t i = 0; i < N; i++)
            sum += q[i] * constraint(patterns[i], targets, j) / N;
        if (fabs(sum) > bounds[j / 2 > 0] + 1e-8)
            fail_msg("constraint %zu: %g", j, sum);
    }
    ascend(patterns, targets, bounds, want);
    for (size_t i = 0; i < N; i++)
        if (fabs(q[i] - want[i]) > 1e-4)
            fail_msg("sample %zu of pattern %u: %g, want %g", i, patterns[i], q[i], want[i]);
}

static void what_cannot_be_met_is_told(void **state)
{
    static const double target = 0.5;
    const struct balance_options weak = {
        .n_attributes = 1, .targets = &target, .representation = 0, .strength = 0.5};
    struct arena arena;
    struct error err = {0};
    uint32_t patterns[4] = {1, 1, 1, 0};
    double q[4], violation;

    (void)state;
    arena_init(&arena, ARENA_BYTES);
    solve(patterns, 4, &weak, q, &violation);
    assert_true(fabs(q[0] - 0.75) < 1e-9 && q[3] == 1); /* as far as the multiplier goes */
    assert_true(violation > 0.1);
    assert_ok(balance_probabilities(patterns, 0, &weak, q, &violation, &arena, &err));
    assert_status(balance_probabilities(patterns, 4, &(struct balance_options){.n_attributes = 33},
                                        q, &violation, &arena, &err),
                  ST_INVALID);
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_attribute_has_a_closed_form),
        cmocka_unit_test(attributes_and_concepts_are_balanced_with_the_least_change),
        cmocka_unit_test(what_cannot_be_met_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
