/* Includes the source, to run rows that this processor would not choose. */
#include "reinforce/nn/conv_depthwise.c"
#include "tests/support/floats.h"

#include <stdlib.h>

/* By `row`, or by conv_depthwise_run()'s choice when NULL. */
static void check(row_fn *row, const struct conv_depthwise *conv, size_t H, size_t W)
{
    size_t n = conv_side(H, conv->stride) * conv_side(W, conv->stride) * conv->C;
    float *x = random_floats(H * W * conv->C, 1, 1), *got = random_floats(n, 4, 1);
    float *want = random_floats(n, 5, 1);

    if (row != NULL)
        run_with(row, conv, x, H, W, got);
    else
        conv_depthwise_run(conv, x, H, W, got);
    conv_depthwise_ref(conv, x, H, W, want);
    if (memcmp(got, want, n * sizeof *got) != 0)
        fail_msg("%zu x %zu x %zu, kernel %zu x %zu, stride %zu", H, W, conv->C, conv->rows,
                 conv->columns, conv->stride);
    free(x);
    free(got);
    free(want);
}

/* Kernels by every width that groups of outputs leave a rest of, in pictures smaller and larger. */
static void check_all(row_fn *row)
{
    static const size_t channels[] = {1, 15, 16, 17, 64, 80, 100};
    static const struct {
        size_t rows, columns, stride;
    } kernels[] = {{1, 1, 1}, {3, 3, 1}, {3, 3, 2},  {5, 5, 1}, {5, 5, 2},
                   {7, 7, 1}, {7, 7, 2}, {1, 11, 1}, {5, 3, 2}, {3, 7, 3}};

    for (size_t i = 0; i < ARRAY_LEN(channels); i++)
        for (size_t k = 0; k < ARRAY_LEN(kernels); k++) {
            size_t C = channels[i], taps = kernels[k].rows * kernels[k].columns;
            float *w = random_floats(taps * C, 2, 1), *b = random_floats(C, 3, 1);
            const struct conv_depthwise conv = {
                w, b, C, kernels[k].rows, kernels[k].columns, kernels[k].stride};

            for (size_t W = 1; W <= 20; W++)
                check(row, &conv, 1 + W * 5 % 9, W);
            check(row, &conv, 2, 33);
            free(w);
            free(b);
        }
}

static void the_kernel_has_the_plain_twins_bits(void **state)
{
    (void)state;
    check_all(NULL);
}

static void other_processors_have_the_same_bits(void **state)
{
    (void)state;
    check_all(base_row);
#if defined(KERNEL_TARGET)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        check_all(avx2_row);
#endif
}

/* Zeros beside the picture are multiplied, rows above and below it are not there. */
static void only_columns_are_padded(void **state)
{
    enum { W = 8, C = 16, TAPS = 9 };
    float *x = random_floats((size_t)W * C, 1, 1), *w = random_floats((size_t)TAPS * C, 2, 1);
    float *b = random_floats(C, 3, 1), *y = random_floats((size_t)W * C, 4, 1);
    const struct conv_depthwise conv = {w, b, C, 3, 3, 1};

    (void)state;
    w[0] = INFINITY;         /* above and left, of channel 0 */
    w[3 * C + 1] = INFINITY; /* left, of channel 1 */
    conv_depthwise_run(&conv, x, 1, W, y);
    assert_true(isfinite(y[0]));
    assert_true(isnan(y[1]));
    assert_true(isinf(y[C + 1]));
    free(x);
    free(w);
    free(b);
    free(y);
}

/* A dense convolution through conv_gather() against sums over the padded image. */
static void gathered_patches_are_what_a_kernel_sees(void **state)
{
    enum { H = 5, W = 4, C = 3, K = 3 };

    (void)state;
    for (size_t stride = 1; stride <= 2; stride++) {
        size_t rows = conv_side(H, stride), columns = conv_side(W, stride);
        float *x = random_floats((size_t)H * W * C, 1, 1);
        float *patches = random_floats(rows * columns * K * K * C, 2, 1);

        conv_gather(x, H, W, C, K, stride, patches);
        for (size_t o = 0; o < rows * columns; o++)
            for (size_t t = 0; t < (size_t)K * K; t++)
                for (size_t c = 0; c < C; c++) {
                    int r = (int)(o / columns * stride + t / K) - 1;
                    int k = (int)(o % columns * stride + t % K) - 1;
                    bool inside = r >= 0 && k >= 0 && r < H && k < W;
                    float want = inside ? x[(r * W + k) * C + (int)c] : 0;

                    assert_true(patches[(o * K * K + t) * C + c] == want);
                }
        free(x);
        free(patches);
    }
}

static void cut_patches_do_not_overlap(void **state)
{
    enum { H = 4, W = 5, C = 2, K = 2 };
    float *x = random_floats((size_t)H * W * C, 1, 1), patches[H / K * (W / K) * K * K * C];

    (void)state;
    for (int padding = 0; padding <= 1; padding++) {
        conv_cut(x, H, W, C, K, (size_t)padding, patches);
        for (int o = 0; o < H / K * (W / K); o++)
            for (int t = 0; t < K * K; t++)
                for (int c = 0; c < C; c++) {
                    int r = o / (W / K) * K + t / K - padding;
                    int k = o % (W / K) * K + t % K - padding;
                    float want = r < 0 || k < 0 ? 0 : x[(r * W + k) * C + c];

                    assert_true(patches[(o * K * K + t) * C + c] == want);
                }
    }
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_kernel_has_the_plain_twins_bits),
        cmocka_unit_test(other_processors_have_the_same_bits),
        cmocka_unit_test(only_columns_are_padded),
        cmocka_unit_test(gathered_patches_are_what_a_kernel_sees),
        cmocka_unit_test(cut_patches_do_not_overlap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
