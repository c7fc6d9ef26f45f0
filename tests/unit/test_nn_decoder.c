/* The layers of large decoders: RMS norm, gates, caps, rotary positions, grouped queries, windows,
 * prefixes, bfloat16 weights. */
#include "reinforce/base/philox.h"
#include "reinforce/nn/attention_step.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/nn/matrix.h"
#include "reinforce/nn/ops.h"
#include "reinforce/nn/rope.h"
#include "tests/support/floats.h"

#include <math.h>
#include <stdlib.h>

static int load_blas(void **state)
{
    struct error err = {0};

    (void)state;
    assert_ok(gemm_init(&err));
    return 0;
}

/* PALI 7 */
static void rms_norm_gains_one_more_than_its_weight(void **state)
{
    enum { D = 33, T = 3 };
    float *x = random_floats(D * T, 1, 40), zero[D] = {0}, one[D], plain[D * T], twice[D * T],
          want[D * T];

    (void)state;
    for (int d = 0; d < D; d++)
        one[d] = 1;
    ops_rms_norm(plain, x, zero, 1e-6f, T, D);
    ops_rms_norm(twice, x, one, 1e-6f, T, D);
    for (int t = 0; t < T; t++) {
        double sum = 0;

        for (int d = 0; d < D; d++)
            sum += (double)x[t * D + d] * (double)x[t * D + d];
        for (int d = 0; d < D; d++)
            want[t * D + d] = (float)((double)x[t * D + d] / sqrt(sum / D + 1e-6));
    }
    assert_near(plain, want, D * T, 1e-6, "plain norm");
    for (int i = 0; i < D * T; i++)
        assert_true(twice[i] == 2 * plain[i]);
    free(x);
}

static void rms_norm_agrees_with_its_plain_twin(void **state)
{
    static const size_t D_values[] = {1, 7, 16, 33, 2304};

    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(D_values); c++) {
        size_t D = D_values[c], T = 3;
        float *x = random_floats(T * D, 2, 40), *w = random_floats(D, 3, 2);
        float *got = random_floats(T * D, 4, 1), *want = random_floats(T * D, 5, 1);

        ops_rms_norm(got, x, w, 1e-6f, T, D);
        ops_rms_norm_ref(want, x, w, 1e-6f, T, D);
        assert_near(got, want, T * D, 2e-6, "rms_norm");
        free(x);
        free(w);
        free(got);
        free(want);
    }
}

static void gates_and_caps_agree_with_their_plain_twins(void **state)
{
    enum { N = 20001 };
    float *a = malloc(N * sizeof *a), *b = malloc(N * sizeof *b), *up = random_floats(N, 6, 4);

    (void)state;
    assert_true(a != NULL && b != NULL);
    for (int i = 0; i < N; i++)
        a[i] = b[i] = (float)(i - N / 2) * 0.002f;
    ops_gelu_tanh_gate(a, up, N);
    ops_gelu_tanh_gate_ref(b, up, N);
    for (int i = 0; i < N; i++)
        assert_true(fabsf(a[i] - b[i]) <= 2e-6f * fmaxf(1, fabsf(b[i])));
    for (int i = 0; i < N; i++)
        a[i] = b[i] = (float)(i - N / 2) * 0.1f;
    ops_soft_cap(a, N, 0.25f, 50);
    ops_soft_cap_ref(b, N, 0.25f, 50);
    assert_near(a, b, N, 5e-5, "soft_cap");
    a[0] = 1e30f;
    a[1] = -1e30f;
    a[2] = 0;
    ops_soft_cap(a, 3, 1, 30);
    assert_true(a[0] == 30 && a[1] == -30 && a[2] == 0);
    free(a);
    free(b);
    free(up);
}

/* PALI 8: pairs (i, i + c / 2), angles as if computed in double */
static void rotary_positions_match_a_table_in_double(void **state)
{
    static const size_t head_dims[] = {2, 128, 256};
    static const size_t positions[] = {0, 1, 255, 4096, 8191};

    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(head_dims); c++) {
        size_t n = 2 * head_dims[c];
        struct rope rope;
        struct error err = {0};

        assert_ok(rope_init(&rope, 8192, head_dims[c], 10000, &err));
        for (size_t p = 0; p < ARRAY_LEN(positions); p++) {
            float *got = random_floats(n, 7, 2), *want = random_floats(n, 7, 2);

            rope_turn(&rope, got, 2, positions[p]);
            rope_turn_ref(want, 2, head_dims[c], 10000, positions[p]);
            assert_near(got, want, n, 1e-6, "rope");
            free(got);
            free(want);
        }
        rope_release(&rope);
    }
}

/* PALI 9: only the distance of two positions counts, so all of them may begin at 1 */
static void scores_depend_on_the_distance_of_positions(void **state)
{
    enum { C = 256 };
    static const size_t positions[][2] = {{0, 0}, {259, 3}, {300, 299}, {4095, 17}};
    struct rope rope;
    struct error err = {0};

    (void)state;
    assert_ok(rope_init(&rope, 8192, C, 10000, &err));
    for (size_t p = 0; p < ARRAY_LEN(positions); p++) {
        double score[2] = {0, 0};

        for (size_t shift = 0; shift < 2; shift++) {
            float *q = random_floats(C, 8, 2), *k = random_floats(C, 9, 2);

            rope_turn(&rope, q, 1, positions[p][0] + shift);
            rope_turn(&rope, k, 1, positions[p][1] + shift);
            for (int i = 0; i < C; i++)
                score[shift] += (double)q[i] * (double)k[i];
            free(q);
            free(k);
        }
        assert_true(fabs(score[0] - score[1]) < 1e-4);
    }
    rope_release(&rope);
}

static const struct attention_case {
    size_t Tq, Tk, heads, kv_heads, dim, n_prefix, window;
    float scale, cap;
    bool causal;
} attention_cases[] = {
    {5, 5, 4, 1, 16, 3, 0, 0, 0, true},
    {130, 130, 4, 2, 8, 70, 0, 0.3f, 5, true},
    {130, 130, 2, 2, 20, 0, 17, 0, 0, true},
    {70, 70, 4, 2, 8, 70, 9, 0, 50, true},
    {1, 90, 8, 4, 16, 60, 33, 1.0f / 12, 0, true},
    {20, 90, 2, 1, 16, 80, 0, 0, 2, true},
    {64, 64, 3, 1, 16, 0, 0, 0, 3, false},
    {1, 1, 2, 1, 4, 1, 1, 0, 1, true},
};

static struct attention attention_of(const struct attention_case *c, const float *q,
                                     const float *kv)
{
    return (struct attention){.q = q,
                              .k = kv,
                              .v = kv + c->kv_heads * c->dim,
                              .q_stride = c->heads * c->dim,
                              .kv_stride = 2 * c->kv_heads * c->dim,
                              .Tq = c->Tq,
                              .Tk = c->Tk,
                              .n_heads = c->heads,
                              .head_dim = c->dim,
                              .causal = c->causal,
                              .n_kv_heads = c->kv_heads,
                              .n_prefix = c->n_prefix,
                              .window = c->window,
                              .scale = c->scale,
                              .soft_cap = c->cap};
}

/* PALI 27: tiles of queries, whole or cut short, against the whole matrix of scores */
static void grouped_capped_windowed_attention_agrees_with_its_plain_twin(void **state)
{
    struct arena scratch;
    struct error err = {0};

    (void)state;
    arena_init(&scratch, 1 << 24);
    for (size_t c = 0; c < ARRAY_LEN(attention_cases); c++) {
        const struct attention_case *each = &attention_cases[c];
        size_t D = each->heads * each->dim, n = each->Tq * D;
        float *q = random_floats(n, 10, 6),
              *kv = random_floats(each->Tk * 2 * each->kv_heads * each->dim, 11, 4);
        float *got = random_floats(n, 12, 1), *want = random_floats(n, 13, 1);
        float *scores = random_floats(each->heads * each->Tk, 14, 1);
        struct attention a = attention_of(each, q, kv);

        arena_reset(&scratch);
        assert_ok(attention_run(&a, got, &scratch, &err));
        attention_ref(&a, want);
        assert_near(got, want, n, 2e-5, "attention_run");
        a.q = q + (each->Tq - 1) * D; /* the last query alone */
        a.Tq = 1;
        attention_step(&a, got, scores);
        assert_near(got, want + (each->Tq - 1) * D, D, 2e-5, "attention_step");
        free(scores);
        free(q);
        free(kv);
        free(got);
        free(want);
    }
    arena_release(&scratch);
}

/* PALI 12 and 13, for one attention: before the end of the prefix all see all, behind it only what
 * came before */
static void a_prefix_sees_itself_and_what_follows_sees_only_backwards(void **state)
{
    enum { T = 9, PREFIX = 5, D = 4 };
    float *q = random_floats(T * D, 20, 4), *k = random_floats(T * D, 21, 4),
          *v = random_floats(T * D, 22, 4), before[T * D], after[T * D];
    const struct attention a = {.q = q,
                                .k = k,
                                .v = v,
                                .q_stride = D,
                                .kv_stride = D,
                                .Tq = T,
                                .Tk = T,
                                .n_heads = 1,
                                .head_dim = D,
                                .causal = true,
                                .n_prefix = PREFIX};

    (void)state;
    for (size_t changed = 0; changed < T; changed++) {
        attention_ref(&a, before);
        v[changed * D] += 1;
        attention_ref(&a, after);
        for (size_t t = 0; t < T; t++)
            assert_true((before[t * D] != after[t * D]) == (changed < PREFIX || changed <= t));
    }
    free(q);
    free(k);
    free(v);
}

/* A tensor of bfloat16 [out, in] and what it holds as float32, both the caller's. */
static uint16_t *random_bf16(size_t n, uint32_t stream, float **widened)
{
    uint16_t *out = malloc(n * sizeof *out);

    assert_non_null(out);
    *widened = random_floats(n, stream, 1);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;

        memcpy(&bits, *widened + i, sizeof bits);
        out[i] = (uint16_t)(bits >> 16);
        bits &= 0xffff0000u;
        memcpy(*widened + i, &bits, sizeof bits);
    }
    return out;
}

static void bfloat16_weights_stay_so_and_give_the_products_of_their_values(void **state)
{
    static const size_t shapes[][3] = {{1, 5, 3}, {7, 33, 40}, {20, 300, 17}, {3, 40, 70001}};
    struct arena scratch;
    struct error err = {0};

    (void)state;
    arena_init(&scratch, 1 << 24);
    for (size_t s = 0; s < ARRAY_LEN(shapes); s++) {
        size_t M = shapes[s][0], N = shapes[s][1], K = shapes[s][2];
        float *x = random_floats(M * K, 31, 2), *wide = NULL, row[3];
        uint16_t *halves = random_bf16(N * K, 32, &wide);
        float *got = random_floats(M * N, 33, 1), *want = random_floats(M * N, 34, 1);
        const struct tensor tensor = {
            "w", TENSOR_BF16, 2, {N, K}, bytes_view_of(halves, N * K * sizeof *halves)};
        struct weights *weights = NULL;
        struct matrix w;

        assert_ok(weights_create(&tensor, 1, &weights, &err));
        assert_ok(matrix_load(weights, "", "w", N, K, MATRIX_FLOAT32, &w, &err));
        assert_true(w.dtype == TENSOR_BF16 && w.data == halves);
        arena_reset(&scratch);
        assert_ok(matrix_product(&w, got, x, M, &scratch, &err));
        matrix_product_ref(&w, want, x, M);
        assert_near(got, want, M * N, 1e-3, "matrix_product");
        matrix_product_rows(&w, got, x, M, NULL);
        ops_linear_rows_ref(want, x, wide, NULL, M, N, K);
        assert_memory_equal(got, want, M * N * sizeof *got);
        if (K == 3) {
            matrix_row(&w, 2, row);
            assert_memory_equal(row, wide + 2 * K, sizeof row);
        }
        weights_destroy(&weights);
        free(x);
        free(wide);
        free(halves);
        free(got);
        free(want);
    }
    arena_release(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rms_norm_gains_one_more_than_its_weight),
        cmocka_unit_test(rms_norm_agrees_with_its_plain_twin),
        cmocka_unit_test(gates_and_caps_agree_with_their_plain_twins),
        cmocka_unit_test(rotary_positions_match_a_table_in_double),
        cmocka_unit_test(scores_depend_on_the_distance_of_positions),
        cmocka_unit_test(grouped_capped_windowed_attention_agrees_with_its_plain_twin),
        cmocka_unit_test(a_prefix_sees_itself_and_what_follows_sees_only_backwards),
        cmocka_unit_test(bfloat16_weights_stay_so_and_give_the_products_of_their_values),
    };

    return cmocka_run_group_tests(tests, load_blas, NULL);
}
