#include "reinforce/nn/conv.h"
#include "tests/support/floats.h"

#include <stdlib.h>

static void the_kernel_has_the_plain_twins_bits(void **state)
{
    static const size_t sides[][2] = {{1, 1}, {2, 3}, {7, 4}, {8, 8}, {16, 5}};
    static const size_t channels[] = {1, 16, 63, 64, 80, 192};
    static const struct {
        size_t rows, columns, stride;
    } kernels[] = {{1, 1, 1}, {3, 3, 1}, {3, 3, 2}, {7, 7, 1}, {7, 7, 2}, {1, 11, 1}, {5, 3, 2}};

    (void)state;
    for (size_t s = 0; s < ARRAY_LEN(sides); s++)
        for (size_t c = 0; c < ARRAY_LEN(channels); c++)
            for (size_t k = 0; k < ARRAY_LEN(kernels); k++) {
                size_t H = sides[s][0], W = sides[s][1], C = channels[c];
                size_t rows = kernels[k].rows, columns = kernels[k].columns;
                size_t n = conv_side(H, kernels[k].stride) * conv_side(W, kernels[k].stride) * C;
                float *x = random_floats(H * W * C, 1, 1),
                      *w = random_floats(rows * columns * C, 2, 1);
                float *b = random_floats(C, 3, 1), *got = random_floats(n, 4, 1);
                float *want = random_floats(n, 5, 1);
                const struct conv_depthwise conv = {w, b, C, rows, columns, kernels[k].stride};

                conv_depthwise_run(&conv, x, H, W, got);
                conv_depthwise_ref(&conv, x, H, W, want);
                if (memcmp(got, want, n * sizeof *got) != 0)
                    fail_msg("%zu x %zu x %zu, kernel %zu x %zu, stride %zu", H, W, C, rows,
                             columns, kernels[k].stride);
                free(x);
                free(w);
                free(b);
                free(got);
                free(want);
            }
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
        cmocka_unit_test(gathered_patches_are_what_a_kernel_sees),
        cmocka_unit_test(cut_patches_do_not_overlap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
