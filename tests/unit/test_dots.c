/* Includes the source, to run the kernels of lesser processors too. */
#include "reinforce/nn/dots.c"
#include "reinforce/nn/ops.h"
#include "tests/support/floats.h"

#include <string.h>

enum { MAX_K = 257, LDY = 40 };

/* Every product is compared with the chain of its two rows, so neither place nor width matter. */
static void check(const struct kernel *kernel, size_t n_rows, size_t n_columns, size_t K)
{
    float *x = random_floats(n_rows * K, 1, 2), *w = random_floats(n_columns * K, 2, 2);
    float *panel = calloc(kernel->rows * K, sizeof *panel);
    float *strip = calloc(DOTS_COLUMNS * K, sizeof *strip);
    float y[DOTS_MAX_ROWS * LDY];

    assert_non_null(panel);
    assert_non_null(strip);
    for (size_t r = 0; r < n_rows; r++)
        dots_pack(panel, kernel->rows, r, x + r * K, 1, K);
    for (size_t c = 0; c < n_columns; c++)
        dots_pack(strip, DOTS_COLUMNS, c, w + c * K, 2, K);
    kernel->product(y, LDY, panel, strip, K);
    for (size_t r = 0; r < kernel->rows; r++)
        for (size_t c = 0; c < DOTS_COLUMNS; c++) {
            float want = 0;

            for (size_t k = 0; k < K && r < n_rows && c < n_columns; k++)
                want = fmaf(x[r * K + k], w[c * K + k] * 2, want);
            if (memcmp(&want, &y[r * LDY + c], sizeof want) != 0)
                fail_msg("%zu rows, K %zu: [%zu, %zu] is %.9g, want %.9g", kernel->rows, K, r, c,
                         (double)y[r * LDY + c], (double)want);
        }
    free(x);
    free(w);
    free(panel);
    free(strip);
}

static void every_kernel_gives_the_bits_of_one_chain(void **state)
{
    static const size_t lengths[] = {1, 2, 7, 64, MAX_K};
    const struct kernel *all[3] = {&base_kernel};
    size_t n_kernels = 1;

    (void)state;
#if defined(KERNEL_TARGET)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        all[n_kernels++] = &avx2_kernel;
    if (__builtin_cpu_supports("avx512f"))
        all[n_kernels++] = &avx512_kernel;
#endif
    for (size_t n = 0; n < n_kernels; n++)
        for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
            check(all[n], all[n]->rows, DOTS_COLUMNS, lengths[i]);
            check(all[n], 1, 1, lengths[i]);
            check(all[n], all[n]->rows - 1, 17, lengths[i]);
        }
}

static void the_chosen_kernel_agrees_with_its_plain_twin(void **state)
{
    size_t n_rows = dots_rows();
    float *panel = random_floats(n_rows * MAX_K, 1, 2);
    float *strip = random_floats((size_t)DOTS_COLUMNS * MAX_K, 2, 2);
    float got[DOTS_MAX_ROWS * DOTS_COLUMNS], want[DOTS_MAX_ROWS * DOTS_COLUMNS];

    (void)state;
    assert_true(n_rows >= 1 && n_rows <= DOTS_MAX_ROWS);
    dots_product(got, DOTS_COLUMNS, panel, strip, MAX_K);
    dots_product_ref(want, DOTS_COLUMNS, panel, strip, MAX_K);
    assert_memory_equal(got, want, n_rows * DOTS_COLUMNS * sizeof *got);
    free(panel);
    free(strip);
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
        cmocka_unit_test(every_kernel_gives_the_bits_of_one_chain),
        cmocka_unit_test(the_chosen_kernel_agrees_with_its_plain_twin),
        cmocka_unit_test(softplus_keeps_its_digits_on_both_sides),
        cmocka_unit_test(softplus_and_log_sum_exp_agree_with_their_plain_twins),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
