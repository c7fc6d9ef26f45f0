#include "reinforce/base/philox.h"
#include "reinforce/nn/attention_step.h"
#include "reinforce/nn/exp_f32.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/nn/ops.h"
#include "tests/support/floats.h"

#include <math.h>
#include <stdlib.h>

static int choose_kernel(void **state)
{
    struct error err = {0};

    (void)state;
    assert_ok(gemm_init(&err));
    assert_ok(gemm_init(&err));
    assert_true(gemm_kernel_name()[0] != '\0');
    return 0;
}

static void linear_rows_are_bit_equal_whatever_their_number(void **state)
{
    static const size_t K_values[] = {1, 15, 16, 17, 64, 100};

    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(K_values); c++) {
        size_t K = K_values[c], N = 13, M = 11;
        float *x = random_floats(M * K, 4, 2), *w = random_floats(N * K, 5, 2),
              *b = random_floats(N, 6, 2);
        float *all = random_floats(M * N, 7, 1), *one = random_floats(N, 8, 1),
              *ref = random_floats(M * N, 9, 1);

        ops_linear_rows(all, x, w, b, M, N, K);
        ops_linear_rows_ref(ref, x, w, b, M, N, K);
        assert_memory_equal(all, ref, M * N * sizeof *all);
        for (size_t m = 0; m < M; m++) {
            ops_linear_rows(one, x + m * K, w, b, 1, N, K);
            assert_memory_equal(one, all + m * N, N * sizeof *one);
        }
        free(x);
        free(w);
        free(b);
        free(all);
        free(one);
        free(ref);
    }
}

static void layer_norm_agrees_with_its_plain_twin(void **state)
{
    static const size_t D_values[] = {1, 7, 16, 33, 768};

    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(D_values); c++) {
        size_t D = D_values[c], T = 3;
        float *x = random_floats(T * D, 10, 40), *w = random_floats(D, 11, 2),
              *b = random_floats(D, 12, 2);
        float *got = random_floats(T * D, 13, 1), *want = random_floats(T * D, 14, 1);

        ops_layer_norm(got, x, w, b, 1e-5f, T, D);
        ops_layer_norm_ref(want, x, w, b, 1e-5f, T, D);
        assert_near(got, want, T * D, 2e-6, "layer_norm");
        free(x);
        free(w);
        free(b);
        free(got);
        free(want);
    }
}

/* SIGLIP 4: a constant row gives the bias, and a variance of 1e-6 shows that eps is added to it. */
static void layer_norm_adds_eps_to_the_variance(void **state)
{
    enum { D = 64 };
    float x[D], w[D], bias[D], y[D];

    (void)state;
    for (int d = 0; d < D; d++) {
        x[d] = w[d] = 1;
        bias[d] = (float)d * 0.1f;
    }
    ops_layer_norm(y, x, w, bias, 1e-6f, 1, D);
    assert_near(y, bias, D, 1e-4, "constant");
    for (int d = 0; d < D; d++) {
        x[d] = d % 2 == 0 ? 1e-3f : -1e-3f;
        bias[d] = 0;
    }
    ops_layer_norm(y, x, w, bias, 1e-6f, 1, D);
    for (int d = 0; d < D; d++)
        assert_true(fabs((double)y[d] - (double)x[d] / sqrt(2e-6)) < 1e-5);
}

static void activations_agree_with_their_plain_twins(void **state)
{
    enum { N = 20001 };
    float *a = malloc(N * sizeof *a), *b = malloc(N * sizeof *b);

    (void)state;
    assert_true(a != NULL && b != NULL);
    for (int i = 0; i < N; i++)
        a[i] = b[i] = (float)(i - N / 2) * 0.002f;
    ops_gelu(a, N);
    ops_gelu_ref(b, N);
    for (int i = 0; i < N; i++)
        assert_true(fabsf(a[i] - b[i]) <= 2e-7f * (float)abs(i - N / 2) * 0.002f);
    for (int i = 0; i < N; i++)
        a[i] = b[i] = (float)(i - N / 2) * 0.002f;
    ops_gelu_tanh(a, N);
    ops_gelu_tanh_ref(b, N);
    for (int i = 0; i < N; i++)
        assert_true(fabsf(a[i] - b[i]) <= 1e-6f * fmaxf(1, fabsf(b[i])));
    for (int i = 0; i < N; i++)
        a[i] = b[i] = (float)(i - N / 2) * 0.02f;
    ops_quick_gelu(a, N);
    ops_quick_gelu_ref(b, N);
    for (int i = 0; i < N; i++)
        assert_true(fabsf(a[i] - b[i]) <= 1e-6f * fmaxf(1, fabsf(b[i])));
    free(a);
    free(b);
}

/* Also far out, where what they are multiplied by is 0 or 1. */
static void coarse_activations_keep_their_bound(void **state)
{
    static const struct {
        void (*coarse)(float *x, size_t n), (*exact)(float *x, size_t n);
        float bound;
    } pairs[] = {{ops_gelu_coarse, ops_gelu_ref, 4e-4f},
                 {ops_gelu_tanh_coarse, ops_gelu_tanh_ref, 4e-4f},
                 {ops_quick_gelu_coarse, ops_quick_gelu_ref, 5e-5f}};
    enum { N = 40001 };
    float *a = malloc(N * sizeof *a), *b = malloc(N * sizeof *b);

    (void)state;
    assert_true(a != NULL && b != NULL);
    for (size_t p = 0; p < ARRAY_LEN(pairs); p++)
        for (int far = 0; far < 2; far++) {
            for (int i = 0; i < N; i++)
                a[i] = b[i] = (float)(i - N / 2) * (far ? 0.02f : 0.0004f);
            pairs[p].coarse(a, N);
            pairs[p].exact(b, N);
            for (int i = 0; i < N; i++) {
                float x = (float)(i - N / 2) * (far ? 0.02f : 0.0004f);

                if (!(fabsf(a[i] - b[i]) <= pairs[p].bound * fmaxf(1, fabsf(x))))
                    fail_msg("function %zu at %g is %g", p, (double)x, (double)a[i]);
            }
            a[0] = NAN;
            pairs[p].coarse(a, 1);
            assert_true(isnan(a[0]));
        }
    free(a);
    free(b);
}

static void coarse_powers_of_two_keep_their_bound(void **state)
{
    (void)state;
    for (float x = -100; x <= 100; x += 0.0137f) {
        double want = exp2((double)x);

        assert_true(fabs((double)exp2_coarse(x) - want) <= 3e-6 * want);
    }
    assert_true(isnan(exp2_coarse(NAN)));
    assert_true(exp2_coarse(-1e9f) > 0 && exp2_coarse(-1e9f) < 1e-30f);
}

/* The specs' scalars: GELU with erf, its tanh form, and QuickGELU. CLIP A.1, SIGLIP 5 */
static void activations_match_the_published_scalars(void **state)
{
    static const float x[] = {-3, -1, 0.5f, 1, 3};
    static const float gelu[] = {-0.0040496941f, -0.1586552539f, 0.3457312306f, 0.8413447461f,
                                 2.9959503059f};
    static const float quick[] = {-0.0180713097f, -0.1542042341f, 0.3503884366f, 0.8457957659f,
                                  2.9819286903f};
    static const float tanh_form[] = {-0.1588080094f, 0.8411919906f};
    float got[5];

    (void)state;
    memcpy(got, x, sizeof x);
    ops_gelu(got, 5);
    assert_near(got, gelu, 5, 5e-7, "gelu");
    memcpy(got, x, sizeof x);
    ops_quick_gelu(got, 5);
    assert_near(got, quick, 5, 5e-7, "quick_gelu");
    memcpy(got, x, sizeof x);
    ops_gelu_tanh(got, 5);
    assert_near(&got[1], &tanh_form[0], 1, 5e-7, "gelu_tanh");
    assert_near(&got[3], &tanh_form[1], 1, 5e-7, "gelu_tanh");
}

static void softmax_agrees_with_its_plain_twin(void **state)
{
    (void)state;
    for (size_t n = 1; n < 70; n += 3) {
        float *a = random_floats(n, 20, 60), *b = random_floats(n, 20, 60);

        if (n > 2)
            a[n / 2] = b[n / 2] = -INFINITY;
        ops_softmax(a, n, 0.7f);
        ops_softmax_ref(b, n, 0.7f);
        assert_near(a, b, n, 3e-7, "softmax");
        free(a);
        free(b);
    }
}

static void attention_agrees_with_its_plain_twin(void **state)
{
    static const struct {
        size_t Tq, Tk, heads, dim;
        bool causal, hide;
    } cases[] = {{1, 1, 1, 1, false, false},      {5, 5, 2, 16, true, false},
                 {130, 130, 3, 16, true, false},  {70, 200, 2, 20, false, false},
                 {9, 9, 4, 8, true, true},        {257, 257, 2, 64, false, false},
                 {256, 256, 2, 72, false, false}, {64, 64, 2, 96, false, false}}; /* SIGLIP 6 */
    struct arena scratch;
    struct error err = {0};

    (void)state;
    arena_init(&scratch, 1 << 24);
    for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
        size_t D = cases[c].heads * cases[c].dim;
        float *q = random_floats(cases[c].Tq * D, 30, 4),
              *kv = random_floats(cases[c].Tk * 2 * D, 31, 4);
        float *got = random_floats(cases[c].Tq * D, 32, 1),
              *want = random_floats(cases[c].Tq * D, 33, 1);
        bool hide[300] = {false};
        struct attention a = {.q = q,
                              .k = kv,
                              .v = kv + D,
                              .q_stride = D,
                              .kv_stride = 2 * D,
                              .Tq = cases[c].Tq,
                              .Tk = cases[c].Tk,
                              .n_heads = cases[c].heads,
                              .head_dim = cases[c].dim,
                              .causal = cases[c].causal,
                              .hide_last = cases[c].hide ? hide : NULL};

        hide[3] = hide[8] = true;
        arena_reset(&scratch);
        assert_ok(attention_run(&a, got, &scratch, &err));
        attention_ref(&a, want);
        assert_near(got, want, cases[c].Tq * D, 1e-5, "attention");
        free(q);
        free(kv);
        free(got);
        free(want);
    }
    arena_release(&scratch);
}

static void cached_attention_equals_the_last_query_of_a_whole_one(void **state)
{
    enum { T = 37, H = 3, D = 20, W = H * D };
    float *q = random_floats(W, 40, 4), *k = random_floats(T * W, 41, 4),
          *v = random_floats(T * W, 42, 4);
    float got[W], want[W], scores[H * T];
    const struct attention a = {.q = q,
                                .k = k,
                                .v = v,
                                .q_stride = W,
                                .kv_stride = W,
                                .Tq = 1,
                                .Tk = T,
                                .n_heads = H,
                                .head_dim = D};

    (void)state;
    attention_step(&a, got, scores);
    attention_ref(&a, want);
    assert_near(got, want, W, 1e-5, "attention_step");
    free(q);
    free(k);
    free(v);
}

/* CLIP 29 */
/* SIGLIP 25 */
static void a_zero_vector_normalizes_to_zeros(void **state)
{
    float x[4] = {0}, y[2] = {3, 4};

    (void)state;
    assert_true(ops_l2_normalize(x, 4) == 0);
    for (int i = 0; i < 4; i++)
        assert_true(x[i] == 0);
    assert_true(ops_l2_normalize(y, 2) == 5);
    assert_true(y[0] == 0.6f && y[1] == 0.8f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_rows_are_bit_equal_whatever_their_number),
        cmocka_unit_test(layer_norm_agrees_with_its_plain_twin),
        cmocka_unit_test(layer_norm_adds_eps_to_the_variance),
        cmocka_unit_test(activations_agree_with_their_plain_twins),
        cmocka_unit_test(coarse_activations_keep_their_bound),
        cmocka_unit_test(coarse_powers_of_two_keep_their_bound),
        cmocka_unit_test(activations_match_the_published_scalars),
        cmocka_unit_test(softmax_agrees_with_its_plain_twin),
        cmocka_unit_test(attention_agrees_with_its_plain_twin),
        cmocka_unit_test(cached_attention_equals_the_last_query_of_a_whole_one),
        cmocka_unit_test(a_zero_vector_normalizes_to_zeros),
    };

    return cmocka_run_group_tests(tests, choose_kernel, NULL);
}
