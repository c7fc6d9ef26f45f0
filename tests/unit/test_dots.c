#include "reinforce/nn/dots.h"
#include "reinforce/nn/ops.h"
#include "tests/support/floats.h"

enum { MAX_K = 257, LDY = 40 };

/* Every product is compared with the chain of its two rows, so neither place nor width matter. */
static void a_product_is_the_chain_of_its_two_rows(void **state)
{
    static const size_t lengths[] = {1, 2, 7, 64, MAX_K};
    size_t n_rows = dots_rows();

    (void)state;
    assert_true(n_rows >= 1 && n_rows <= DOTS_MAX_ROWS);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        size_t K = lengths[i];
        float *x = random_floats(n_rows * K, 1, 2), *w = random_floats(DOTS_COLUMNS * K, 2, 2);
        float *panel = random_floats(n_rows * K, 3, 1);
        float *strip = random_floats(DOTS_COLUMNS * K, 4, 1);
        float y[DOTS_MAX_ROWS * LDY];

        for (size_t r = 0; r < n_rows; r++)
            dots_pack(panel, n_rows, r, x + r * K, 1, K);
        for (size_t c = 0; c < DOTS_COLUMNS; c++)
            dots_pack(strip, DOTS_COLUMNS, c, w + c * K, 2, K);
        dots_product(y, LDY, panel, strip, K);
        for (size_t r = 0; r < n_rows; r++)
            for (size_t c = 0; c < DOTS_COLUMNS; c++) {
                float want = 0;

                for (size_t k = 0; k < K; k++)
                    want = fmaf(x[r * K + k], w[c * K + k] * 2, want);
                assert_memory_equal(&want, &y[r * LDY + c], sizeof want);
            }
        free(x);
        free(w);
        free(panel);
        free(strip);
    }
}

static double softplus(double z)
{
    return fmax(z, 0) + log1p(exp(-fabs(z)));
}

/* CURATE 12 */
static void softplus_keeps_its_digits_on_both_sides(void **state)
{
    (void)state;
    for (int i = -80000; i <= 80000; i++) {
        float z = (float)i / 1000.0f, minus = -z;
        double got = (double)ops_softplus_sum(&z, 1, 1, 0), want = softplus((double)z);
        double other = (double)ops_softplus_sum(&minus, 1, 1, 0);

        if (!(fabs(got - want) <= 1e-6 * want))
            fail_msg("softplus(%g) is %.9g, want %.9g", (double)z, got, want);
        if (!(fabs(other - (got - (double)z)) <= (fabs((double)z) <= 8 ? 1e-6 : 1e-5)))
            fail_msg("softplus(%g) is %.9g and softplus(%g) %.9g", (double)z, got, -(double)z,
                     other);
    }
}

static void softplus_and_log_sum_exp_agree_with_their_plain_twins(void **state)
{
    static const float scales[] = {0.01f, 1, 30, 110, 20000};

    (void)state;
    for (size_t n = 1; n <= 130; n++)
        for (size_t s = 0; s < ARRAY_LEN(scales); s++) {
            float *x = random_floats(n, (uint32_t)n, 2), max, sum, want_max, want_sum;
            float want = ops_softplus_sum_ref(x, n, scales[s], -16);
            float got = ops_softplus_sum(x, n, scales[s], -16);

            /* z itself is rounded */
            assert_true(fabsf(got - want) <= 2e-6f * want + 1.2e-7f * scales[s] * (float)n);
            ops_max_sum_exp(x, n, scales[s], &max, &sum);
            ops_max_sum_exp_ref(x, n, scales[s], &want_max, &want_sum);
            assert_true(fabsf(max - want_max) <= 1e-6f * fabsf(want_max));
            assert_true(fabsf(sum - want_sum) <= (2e-6f * scales[s] + 2e-6f) * want_sum);
            free(x);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_product_is_the_chain_of_its_two_rows),
        cmocka_unit_test(softplus_keeps_its_digits_on_both_sides),
        cmocka_unit_test(softplus_and_log_sum_exp_agree_with_their_plain_twins),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
