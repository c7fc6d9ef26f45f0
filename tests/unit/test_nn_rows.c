/* Includes the source, to run the kernels of lesser processors too. */
#include "reinforce/nn/ops_rows.c"
#include "tests/support/floats.h"

#include <stdlib.h>

enum { MAX_M = 21, MAX_N = 23 };

/* Leaves in `w` only what a bfloat16 holds; the bfloat16s are the caller's. */
static uint16_t *cut_to_bf16(float *w, size_t n)
{
    uint16_t *out = malloc(MAX(n, (size_t)1) * sizeof *out);

    assert_non_null(out);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;

        memcpy(&bits, &w[i], sizeof bits);
        out[i] = (uint16_t)(bits >> 16);
        bits &= 0xffff0000u;
        memcpy(&w[i], &bits, sizeof bits);
    }
    return out;
}

/* Buffers are exact, so that a sanitizer sees a read behind them. */
static void check(const struct kernels *kernels, size_t M, size_t N, size_t K, bool with_bias)
{
    float *x = random_floats(M * K, 1, 1), *w = random_floats(N * K, 2, 1),
          *b = random_floats(N, 3, 1);
    float *got = random_floats(M * N, 4, 1), *want = random_floats(M * N, 5, 1);

    uint16_t *halves = kernels->weight_bytes == 2 ? cut_to_bf16(w, N * K) : NULL;

    linear_rows(kernels, got, x, halves != NULL ? (const void *)halves : w, with_bias ? b : NULL, M,
                N, K);
    ops_linear_rows_ref(want, x, w, with_bias ? b : NULL, M, N, K);
    for (size_t i = 0; i < M * N; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) != 0)
            fail_msg("%zu x %zu tile, M %zu, N %zu, K %zu: element %zu is %.9g, want %.9g",
                     kernels->rows, kernels->columns, M, N, K, i, (double)got[i], (double)want[i]);
    free(halves);
    free(x);
    free(w);
    free(b);
    free(got);
    free(want);
}

static void every_kernel_has_the_plain_twins_bits(void **state)
{
    static const size_t K_values[] = {1, 15, 16, 17, 33, 64, 100, 531};
    const struct kernels *all[6] = {&base_kernels, &base_bf16_kernels};
    size_t n_kernels = 2;

    (void)state;
#if defined(KERNEL_TARGET)
    if (__builtin_cpu_supports("avx2")) {
        all[n_kernels++] = &avx2_kernels;
        all[n_kernels++] = &avx2_bf16_kernels;
    }
    if (__builtin_cpu_supports("avx512f")) {
        all[n_kernels++] = &avx512_kernels;
        all[n_kernels++] = &avx512_bf16_kernels;
    }
#endif
    for (size_t k = 0; k < n_kernels; k++)
        for (size_t M = 1; M <= MAX_M; M += M < 9 ? 1 : 6)
            for (size_t N = 1; N <= MAX_N; N += N < 9 ? 1 : 7)
                for (size_t c = 0; c < ARRAY_LEN(K_values); c++)
                    check(all[k], M, N, K_values[c], (M + N) % 2 == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kernel_has_the_plain_twins_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
