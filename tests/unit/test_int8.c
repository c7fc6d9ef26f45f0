/* Products in int8, and caches of other types than float32. */
#include "reinforce/nn/attention_step.h"
#include "reinforce/nn/convert.h"
#include "reinforce/nn/exp_f32.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/nn/int8.h"
#include "reinforce/nn/int8_kernels.h"
#include "reinforce/nn/int8_probabilities.h"
#include "reinforce/nn/int8_rows.h"
#include "reinforce/nn/kv_cache.h"
#include "reinforce/nn/matrix.h"
#include "reinforce/nn/ops.h"
#include "tests/support/floats.h"

#include <math.h>
#include <stdlib.h>

static const struct epilogue nothing;

static void *allocate(size_t size)
{
    void *memory = malloc(MAX(size, (size_t)1));

    assert_non_null(memory);
    return memory;
}

/* One matrix of float32 w [N, K]; the weights own it. */
static struct weights *load(const float *w, size_t N, size_t K, struct int8_matrix *matrix)
{
    static const char *const name[] = {"w"};
    const struct tensor tensor = {"w", TENSOR_F32, 2, {N, K}, bytes_view_of(w, N * K * sizeof *w)};
    struct weights *weights = NULL;
    struct error err = {0};

    assert_ok(weights_create(&tensor, 1, &weights, &err));
    assert_ok(int8_matrix_load(weights, "", name, 1, N, K, NULL, matrix, &err));
    return weights;
}

/* A tile of whatever bytes, with zeros behind its K values, and what plain sums make of it. */
static void fill_tile(const struct int8_tile *tile, int8_t *at, const uint8_t *columns, float *want)
{
    for (size_t k = 0; k < tile->K; k += tile->group) {
        size_t length = MIN(tile->K - k, tile->group);

        for (size_t r = 0; r < tile->rows; r++) {
            float scale = (float)(r + 1) * 0.37f + (float)k;
            int32_t offset = (int32_t)(r * 1003 + k) - 70000;
            int8_t values[8 * INT8_CHUNK];

            memcpy(at + 4 * r, &scale, sizeof scale);
            memcpy(at + 4 * (tile->rows + r), &offset, sizeof offset);
            for (size_t j = 0; j < int8_whole_chunks(length); j++) {
                int8_t *value = at + int8_head_bytes(tile->rows) + r * INT8_CHUNK +
                                j / INT8_CHUNK * tile->rows * INT8_CHUNK + j % INT8_CHUNK;

                if (j >= length)
                    *value = 0;
                values[j] = *value;
            }
            for (size_t c = 0; c < INT8_COLUMNS; c++) {
                int32_t sum = offset;

                for (size_t j = 0; j < length; j++)
                    sum += values[j] * columns[(j / 4 * INT8_COLUMNS + c) * 4 + j % 4];
                want[r * INT8_COLUMNS + c] += (float)sum * scale;
            }
        }
        at += int8_group_bytes(tile->rows, length);
        columns += int8_panel_bytes(length);
    }
}

/* Exact sums of whatever bytes, also of those at which saturating instructions would saturate. */
static void every_kernel_has_the_plain_sums(void **state)
{
    static const size_t shapes_of_rows[][2] = {{1, 128},   {4, 128},   {10, 128},  {128, 128},
                                               {129, 128}, {444, 128}, {129, 256}, {600, 384},
                                               {700, 512}, {72, 1024}, {1300, 128}};
    size_t n_kernels;
    const struct int8_kernel *kernels = int8_kernels(&n_kernels);

    (void)state;
    assert_string_equal(kernels[n_kernels - 1].name, "plain");
    for (size_t i = 0; i < ARRAY_LEN(shapes_of_rows); i++)
        for (size_t rows = 1; rows <= INT8_ROWS; rows++)
            for (int extreme = 0; extreme < 3; extreme++) {
                size_t K = shapes_of_rows[i][0], n_w = int8_panel_bytes(K);
                size_t n_x = int8_rows_floats(rows, K) * sizeof(float);
                int8_t *x = aligned_alloc(64, (n_x + 63) / 64 * 64);
                uint8_t *w = aligned_alloc(64, n_w);
                const struct int8_tile tile = {
                    .data = x, .rows = rows, .K = K, .group = shapes_of_rows[i][1]};
                float got[INT8_ROWS * INT8_COLUMNS], want[INT8_ROWS * INT8_COLUMNS] = {0};
                float column[INT8_COLUMNS];
                struct int8_result to = {got, INT8_COLUMNS, column, column, rows % 2 == 0};
                struct philox rng;

                assert_non_null(x);
                assert_non_null(w);
                philox_init(&rng, 5, bytes_of_string("int8"), PHILOX_STAGE_SELECT, (uint32_t)rows);
                for (size_t j = 0; j < n_x; j++)
                    x[j] = extreme == 0   ? (int8_t)((int)(philox_u32(&rng) & 255) - 128)
                           : extreme == 1 ? 127
                                          : -128;
                for (size_t j = 0; j < n_w; j++)
                    w[j] = extreme > 0 ? 255 : (uint8_t)philox_u32(&rng);
                fill_tile(&tile, x, w, want);
                for (size_t c = 0; c < INT8_COLUMNS; c++)
                    column[c] = 1.3f + (float)c / 16;
                for (size_t j = 0; j < rows * INT8_COLUMNS; j++) {
                    float sum = want[j] * column[j % INT8_COLUMNS] + column[j % INT8_COLUMNS];

                    want[j] = to.add ? 7.7f + sum : sum;
                }
                for (size_t k = 0; k < n_kernels; k++) {
                    for (size_t j = 0; j < ARRAY_LEN(got); j++)
                        got[j] = 7.7f;
                    if (kernels[k].begin != NULL)
                        kernels[k].begin();
                    kernels[k].tile(&to, &tile, w, 1);
                    if (kernels[k].end != NULL)
                        kernels[k].end();
                    if (memcmp(got, want, rows * INT8_COLUMNS * sizeof *got) != 0)
                        fail_msg("%s, %zu values, %zu rows", kernels[k].name, K, rows);
                    for (size_t j = rows * INT8_COLUMNS; j < ARRAY_LEN(got); j++)
                        assert_true(got[j] == 7.7f);
                }
                free(x);
                free(w);
            }
}

static const size_t shapes[][3] = {{1, 1, 1},     {1, 33, 5},    {3, 31, 4},     {14, 32, 64},
                                   {15, 40, 7},   {29, 65, 130}, {260, 70, 588}, {2, 300, 4304},
                                   {28, 96, 300}, {1, 200, 260}};

/* Against the plain twin bit by bit, and against exact products within what rounding explains. */
static void products_have_the_bits_of_their_plain_twin(void **state)
{
    size_t n_kernels;
    const struct int8_kernel *kernels = int8_kernels(&n_kernels);

    (void)state;
    for (size_t s = 0; s < ARRAY_LEN(shapes); s++)
        for (int with = 0; with < 3; with++) { /* nothing, a bias, all that may follow */
            size_t T = shapes[s][0], N = shapes[s][1], K = shapes[s][2];
            float *x = random_floats(T * K, 1, 3), *w = random_floats(N * K, 2, 0.2f),
                  *bias = random_floats(N, 3, 1);
            float *got = random_floats(T * N, 4, 1), *want = random_floats(T * N, 4, 1);
            float *memory = allocate(int8_rows_floats(T, K) * sizeof *memory);
            const struct epilogue then = {.bias = with > 0 ? bias : NULL,
                                          .add = with > 1,
                                          .activation = with > 1 ? ops_gelu : NULL};
            struct int8_matrix matrix;
            struct weights *weights = load(w, N, K, &matrix);
            size_t group = s % 2 == 0 ? INT8_CHUNK : 512;
            const struct int8_rows rows = int8_quantize(x, K, T, K, group, memory);

            int8_product(&matrix, N, got, N, &rows, &then);
            int8_product_ref(&matrix, N, want, N, &rows, &then);
            assert_memory_equal(got, want, T * N * sizeof *got);
            for (size_t k = 0; k < n_kernels && with < 2; k++) {
                memset(got, 0, T * N * sizeof *got);
                int8_product_with(&kernels[k], &matrix, N, got, N, &rows, &then);
                assert_memory_equal(got, want, T * N * sizeof *got);
            }
            for (size_t t = 0; t < T && with < 2; t++)
                for (size_t n = 0; n < N; n++) {
                    double sum = with > 0 ? (double)bias[n] : 0, bound = 1e-6, sx = 0;
                    double sw = (double)matrix.scale[n];

                    for (size_t k = 0; k < K; k++) {
                        double a = (double)x[t * K + k], b = (double)w[n * K + k];
                        int8_t q[512];

                        if (k % group == 0)
                            sx = (double)int8_quantize_vector(x + t * K + k, MIN(K - k, group), q);

                        sum += a * b;
                        bound += fabs(a) * sw / 2 + fabs(b) * sx / 2 + sx * sw / 4;
                    }
                    assert_true(fabs((double)got[t * N + n] - sum) <= 1.0001 * bound);
                }
            weights_destroy(&weights);
            free(x);
            free(w);
            free(bias);
            free(got);
            free(want);
            free(memory);
        }
}

/* As if what a product gives were quantised afterwards. */
static void products_that_are_quantised_at_once_have_the_same_rows(void **state)
{
    static const size_t sizes[][4] = {/* T, N, K, group */ {1, 1, 5, 128},
                                      {30, 513, 130, 512},
                                      {57, 1200, 64, 256},
                                      {28, 300, 700, 128},
                                      {29, 2100, 260, 1024}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        size_t T = sizes[i][0], N = sizes[i][1], K = sizes[i][2], group = sizes[i][3];
        float *x = random_floats(T * K, 40, 3), *w = random_floats(N * K, 41, 1);
        float *bias = random_floats(N, 42, 1), *y = random_floats(T * N, 43, 1);
        float *codes = allocate(int8_rows_floats(T, K) * sizeof *codes);
        float *got = allocate(int8_rows_floats(T, N) * sizeof *got);
        float *want = allocate(int8_rows_floats(T, N) * sizeof *want);
        const struct epilogue then = {.bias = bias, .activation = ops_gelu};
        struct int8_matrix matrix, next;
        struct weights *weights = load(w, N, K, &matrix), *others;
        const struct int8_rows rows = int8_quantize(x, K, T, K, group, codes);
        struct int8_rows at_once, after;
        float *u = random_floats(3 * N, 44, 1), *a = allocate(T * 3 * sizeof *a);
        float *b = allocate(T * 3 * sizeof *b);

        others = load(u, 3, N, &next);
        at_once = int8_product_rows(&matrix, N, &rows, &then, group, got);
        int8_product(&matrix, N, y, N, &rows, &then);
        after = int8_quantize(y, N, T, N, group, want);
        int8_product(&next, 3, a, 3, &at_once, &nothing);
        int8_product(&next, 3, b, 3, &after, &nothing);
        assert_memory_equal(a, b, T * 3 * sizeof *a);
        weights_destroy(&weights);
        weights_destroy(&others);
        free(x);
        free(w);
        free(bias);
        free(y);
        free(codes);
        free(got);
        free(want);
        free(u);
        free(a);
        free(b);
    }
}

/* PALI 25, for one product */
static void a_row_has_the_same_bits_in_any_company(void **state)
{
    enum { T = 33, N = 45, K = 90 };
    float *x = random_floats(T * K, 6, 3), *w = random_floats(N * K, 7, 1);
    float *all = allocate(T * N * sizeof *all), one[N];
    float *memory = allocate(int8_rows_floats(T, K) * sizeof *memory);
    struct int8_matrix matrix;
    struct weights *weights = load(w, N, K, &matrix);
    struct int8_rows rows = int8_quantize(x, K, T, K, INT8_CHUNK, memory);

    (void)state;
    int8_product(&matrix, N, all, N, &rows, &nothing);
    for (size_t t = 0; t < T; t++) {
        rows = int8_quantize(x + t * K, K, 1, K, INT8_CHUNK, memory);
        int8_product(&matrix, N, one, N, &rows, &nothing);
        assert_memory_equal(one, all + t * N, sizeof one);
        int8_product(&matrix, 7, one, 7, &rows, &nothing); /* fewer columns, too */
        assert_memory_equal(one, all + t * N, 7 * sizeof *one);
    }
    weights_destroy(&weights);
    free(x);
    free(w);
    free(all);
    free(memory);
}

/* The values of group `at` of row r, its scale and what stands for the weights' 128, against the
 * same as a vector. */
static void check_group(const int8_t *at, size_t rows, size_t r, const float *x, size_t n)
{
    int8_t q[512];
    float want = int8_quantize_vector(x, n, q), scale;
    int32_t offset, sum = 0;

    for (size_t k = 0; k < int8_whole_chunks(n); k++) {
        int value =
            at[int8_head_bytes(rows) + (k / INT8_CHUNK * rows + r) * INT8_CHUNK + k % INT8_CHUNK];

        if (value != (k < n ? q[k] : 0))
            fail_msg("value %zu of %zu is %d", k, n, value);
        sum += value;
    }
    memcpy(&scale, at + 4 * r, sizeof scale);
    memcpy(&offset, at + 4 * (rows + r), sizeof offset);
    assert_memory_equal(&scale, &want, sizeof scale);
    assert_int_equal(offset, -128 * sum);
}

/* Of any length, ties, zeros and what is not finite among them. */
static void rows_are_groups_that_are_quantised_as_vectors(void **state)
{
    static const size_t lengths[] = {1,  15,  16,  17,  31,  33,  63,  64,  65, 80,
                                     96, 127, 128, 129, 200, 240, 512, 513, 700};
    enum { T = INT8_ROWS + 3, GROUP = 512 };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        size_t K = lengths[i];
        float *x = random_floats(T * K, (uint32_t)i, 3);
        float *memory = allocate(int8_rows_floats(T, K) * sizeof *memory);
        const int8_t *tile;
        size_t n_rows = INT8_ROWS;

        for (size_t k = 0; k < K; k++) {
            x[k] = k == 0 ? 127 : (float)(k % 200) / 2 - 50; /* ties */
            x[K + k] = 0;
            x[2 * K + k] = k + 1 == K ? NAN : 1;
            x[3 * K + k] = k == 0 ? -INFINITY : 1;
        }
        tile = int8_quantize(x, K, T, K, GROUP, memory).data;
        for (size_t first = 0; first < T; first += n_rows) {
            n_rows = MIN(T - first, (size_t)INT8_ROWS);
            for (size_t k = 0; k < K; k += GROUP) {
                size_t n = MIN(K - k, (size_t)GROUP);

                for (size_t r = 0; r < n_rows; r++)
                    check_group(tile, n_rows, r, x + (first + r) * K + k, n);
                tile += int8_group_bytes(n_rows, n);
            }
        }
        free(x);
        free(memory);
    }
}

static void normalised_rows_are_quantised_as_any(void **state)
{
    enum { T = 35, K = 300 };
    float *x = random_floats((size_t)T * K, 1, 3), *normed = allocate(sizeof(float[T][K]));
    float *w = random_floats(K, 2, 1), *b = random_floats(K, 3, 1), row[K];
    size_t n = int8_rows_floats(T, K);
    float *got = allocate(n * sizeof *got), *want = allocate(n * sizeof *want);
    const struct prologue norm = {w, b, 1e-5f, row};

    (void)state;
    memset(got, 0, n * sizeof *got); /* what lies between heads and values, too */
    memset(want, 0, n * sizeof *want);
    ops_layer_norm(normed, x, w, b, norm.eps, T, K);
    for (size_t group = INT8_CHUNK; group <= 512; group *= 2) {
        struct int8_rows a = int8_quantize_normed(x, T, K, &norm, group, got);
        struct int8_rows c = int8_quantize(normed, K, T, K, group, want);

        assert_true(a.T == T && a.K == K && a.group == group);
        assert_memory_equal(a.data, c.data,
                            int8_tile_bytes(INT8_ROWS, K, group) +
                                int8_tile_bytes(T - INT8_ROWS, K, group));
    }
    free(x);
    free(normed);
    free(w);
    free(b);
    free(got);
    free(want);
}

enum { PROBABLE_ROWS = 3, MOST_SCORES = 400 };

static float sum_of_probabilities(const int8_t *tile, size_t n, size_t r)
{
    enum { ROWS = PROBABLE_ROWS };
    float sum = 0;

    for (size_t half = 0; half < 2; half++, tile += int8_group_bytes(ROWS, n)) {
        float scale;

        memcpy(&scale, tile + r * sizeof scale, sizeof scale);
        for (size_t j = 0; j < n; j++)
            sum += scale * (float)tile[int8_head_bytes(ROWS) +
                                       (j / INT8_CHUNK * ROWS + r) * INT8_CHUNK + j % INT8_CHUNK];
    }
    return sum;
}

static void probabilities_have_the_bits_of_their_plain_twin(void **state)
{
    enum { ROWS = PROBABLE_ROWS, APART = MOST_SCORES };
    static const size_t lengths[] = {1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 257, MOST_SCORES};
    static const float unusual[] = {NAN, INFINITY};
    float *scores = random_floats((size_t)ROWS * APART, 1, 9);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        size_t n = lengths[i], bytes = 2 * int8_group_bytes(ROWS, n);
        int8_t *got = aligned_alloc(64, bytes), *want = aligned_alloc(64, bytes);
        float last = scores[APART + n - 1];

        assert_non_null(got);
        assert_non_null(want);
        memset(got, 1, bytes);
        memset(want, 1, bytes);
        int8_put_probabilities(scores, APART, ROWS, n, 0.6f, got);
        int8_put_probabilities_plain(scores, APART, ROWS, n, 0.6f, want);
        assert_memory_equal(got, want, bytes);
        for (size_t r = 0; r < ROWS; r++)
            assert_true(fabsf(sum_of_probabilities(got, n, r) - 1) < 1e-5f);
        for (size_t u = 0; u < ARRAY_LEN(unusual); u++) {
            scores[APART + n - 1] = unusual[u];
            int8_put_probabilities(scores, APART, ROWS, n, 0.6f, got);
            int8_put_probabilities_plain(scores, APART, ROWS, n, 0.6f, want);
            for (size_t r = 0; r < ROWS; r++) {
                assert_true(isnan(sum_of_probabilities(got, n, r)) == (r == 1));
                assert_true(isnan(sum_of_probabilities(want, n, r)) == (r == 1));
            }
        }
        scores[APART + n - 1] = last;
        free(got);
        free(want);
    }
    free(scores);
}

static void values_are_rounded_to_the_nearest_and_ties_to_even(void **state)
{
    static const float x[] = {127, -127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 126.5f, 0, -0.0f, 1.4999f};
    static const int want[] = {127, -127, 0, 2, 2, 0, -2, 126, 0, 0, 1};
    int8_t q[ARRAY_LEN(x)];

    (void)state;
    assert_true(int8_quantize_vector(x, ARRAY_LEN(x), q) == 1);
    for (size_t i = 0; i < ARRAY_LEN(x); i++)
        assert_int_equal(q[i], want[i]);
}

/* The largest magnitude is 127 whatever it is; what cannot be divided by is 0. */
static void no_magnitude_leaves_the_range(void **state)
{
    static const float largest[] = {3.4e38f, 1, 1e-20f, 0x1p-100f};
    float x[9], y[3];
    int8_t q[9];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(largest); i++) {
        for (int k = 0; k < 9; k++)
            x[k] = largest[i] * ((float)(k - 4) / 4);
        assert_true(int8_quantize_vector(x, 9, q) == largest[i] / 127);
        assert_true(q[0] == -127 && q[4] == 0 && q[8] == 127);
    }
    for (int k = 0; k < 9; k++)
        x[k] = 0x1p-101f;
    assert_true(int8_quantize_vector(x, 9, q) == 0 && q[3] == 0);
    memset(y, 0, sizeof y);
    assert_true(int8_quantize_vector(y, 3, q) == 0 && q[0] == 0);
}

static void a_row_that_is_not_finite_gives_nan_and_spoils_no_other(void **state)
{
    enum { T = 4, N = 40, K = 20 };
    float *x = random_floats(T * K, 8, 2), *w = random_floats(N * K, 9, 1), y[T * N];
    float *memory = allocate(int8_rows_floats(T, K) * sizeof *memory);
    struct int8_matrix matrix;
    struct weights *weights = load(w, N, K, &matrix);
    struct int8_rows rows;

    (void)state;
    x[3] = NAN;
    x[2 * K + 19] = -INFINITY;
    for (size_t k = 0; k < K; k++)
        x[3 * K + k] = 0;
    rows = int8_quantize(x, K, T, K, INT8_CHUNK, memory);
    int8_product(&matrix, N, y, N, &rows, &nothing);
    for (size_t n = 0; n < N; n++) {
        assert_true(isnan(y[n]) && isnan(y[2 * N + n]));
        assert_true(isfinite(y[N + n]) && y[3 * N + n] == 0);
    }
    weights_destroy(&weights);
    free(x);
    free(w);
    free(memory);
}

/* Stacked tensors of any stored type are one matrix of float32 values. */
static void stored_types_and_stacked_tensors_give_the_matrix_of_their_values(void **state)
{
    enum { OUT = 5, IN = 6 };
    static const char *const names[] = {"k", "q", "v"};
    static const enum tensor_dtype types[] = {TENSOR_F32, TENSOR_F16, TENSOR_BF16};
    uint16_t half[3][OUT * IN];
    float values[3 * OUT * IN], *memory = allocate(int8_rows_floats(2, IN) * sizeof *memory);
    float *x = random_floats(2 * IN, 10, 1), got[2 * 3 * OUT], want[2 * 3 * OUT];
    struct tensor tensors[3];
    float row_scale[3 * OUT];
    struct int8_matrix stacked, whole;
    struct weights *weights = NULL, *plain;
    const struct int8_rows rows = int8_quantize(x, IN, 2, IN, INT8_CHUNK, memory);
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        tensors[i] = (struct tensor){.name = names[i], .rank = 2, .shape = {OUT, IN}};
        tensors[i].dtype = types[i];
        for (size_t j = 0; j < OUT * IN; j++) {
            /* 1, 1.25, 1.5, 1.75 times powers of two: exact in all three */
            uint32_t power = (uint32_t)(j * 7 % 8), fraction = (uint32_t)((j + i) % 4);

            values[i * OUT * IN + j] = ldexpf(1 + (float)fraction / 4, (int)power - 4);
            half[i][j] = types[i] == TENSOR_F16 ? (uint16_t)((power + 11) << 10 | fraction << 8)
                                                : (uint16_t)((power + 123) << 7 | fraction << 5);
        }
        tensors[i].data = types[i] == TENSOR_F32
                              ? bytes_view_of(values + i * OUT * IN, OUT * IN * sizeof *values)
                              : bytes_view_of(half[i], sizeof half[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(row_scale); i++) /* powers of two: nothing is rounded */
        row_scale[i] = ldexpf(i % 2 == 0 ? 1 : -1, (int)(i % 5) - 2);
    assert_ok(weights_create(tensors, 3, &weights, &err));
    assert_ok(int8_matrix_load(weights, "", names, 3, OUT, IN, NULL, &stacked, &err));
    plain = load(values, 3 * OUT, IN, &whole);
    int8_product(&stacked, 3 * OUT, got, 3 * OUT, &rows, &nothing);
    int8_product(&whole, 3 * OUT, want, 3 * OUT, &rows, &nothing);
    assert_memory_equal(got, want, sizeof got);
    assert_ok(int8_matrix_load(weights, "", names, 3, OUT, IN, row_scale, &stacked, &err));
    int8_product(&stacked, 3 * OUT, got, 3 * OUT, &rows, &nothing);
    for (size_t i = 0; i < ARRAY_LEN(got); i++)
        assert_true(got[i] == want[i] * row_scale[i % (3 * OUT)]);
    weights_destroy(&weights);
    weights_destroy(&plain);
    free(memory);
    free(x);
}

/* PALI 32 */
static void weights_that_cannot_be_are_named(void **state)
{
    static const char *const name[] = {"w"}, *const absent[] = {"u"};
    static const float bad[6] = {1, 2, 3, 4, INFINITY, 6};
    const struct tensor tensor = {"w", TENSOR_F32, 2, {2, 3}, bytes_view_of(bad, sizeof bad)};
    struct weights *weights = NULL;
    struct int8_matrix matrix;
    struct error err = {0};

    (void)state;
    assert_ok(weights_create(&tensor, 1, &weights, &err));
    assert_int_equal(int8_matrix_load(weights, "", name, 1, 2, 3, NULL, &matrix, &err), ST_CORRUPT);
    assert_non_null(strstr(err.message, "\"w\""));
    assert_int_equal(int8_matrix_load(weights, "", absent, 1, 2, 3, NULL, &matrix, &err),
                     ST_NOT_FOUND);
    assert_int_equal(int8_matrix_load(weights, "", name, 1, 3, 2, NULL, &matrix, &err), ST_INVALID);
    weights_destroy(&weights);
}

static void a_matrix_in_int8_multiplies_so_and_keeps_its_rows(void **state)
{
    enum { T = 20, N = 50, K = 70 };
    float *x = random_floats(T * K, 11, 1), *w = random_floats(N * K, 12, 1), row[K];
    float got[T * N], want[T * N], *memory = allocate(int8_rows_floats(T, K) * sizeof *memory);
    const struct tensor tensor = {"w", TENSOR_F32, 2, {N, K}, bytes_view_of(w, N * K * sizeof *w)};
    struct weights *weights = NULL;
    struct arena scratch;
    struct matrix matrix, first;
    struct error err = {0};

    (void)state;
    arena_init(&scratch, 1 << 20);
    assert_ok(weights_create(&tensor, 1, &weights, &err));
    assert_ok(matrix_load(weights, "", "w", N, K, MATRIX_INT8, &matrix, &err));
    assert_ok(matrix_product(&matrix, got, x, T, &scratch, &err));
    assert_int_equal(scratch.used_bytes, 0);
    matrix_product_rows(&matrix, want, x, T, memory);
    assert_memory_equal(got, want, sizeof got);
    first = matrix_first_rows(&matrix, 33);
    matrix_product_rows(&first, got, x, 1, memory);
    assert_memory_equal(got, want, 33 * sizeof *got);
    matrix_row(&matrix, 17, row);
    assert_memory_equal(row, w + 17 * K, sizeof row);
    weights_destroy(&weights);
    arena_release(&scratch);
    free(x);
    free(w);
    free(memory);
}

/* Attention as it is meant, in plain loops over the same integers. */
static void int8_attention_ref(const struct attention *a, float *out)
{
    size_t D = a->n_heads * a->head_dim, dim = a->head_dim;
    int8_t *q = allocate(dim), *k = allocate(a->Tk * dim), *v = allocate(dim * a->Tk);
    float *sk = allocate(a->Tk * sizeof *sk), *sv = allocate(dim * sizeof *sv);
    float *scores = allocate(a->Tk * sizeof *scores), *column = allocate(a->Tk * sizeof *column);

    for (size_t h = 0; h < a->n_heads; h++) {
        for (size_t j = 0; j < a->Tk; j++)
            sk[j] = int8_quantize_vector((const float *)a->k + j * a->kv_stride + h * dim, dim,
                                         k + j * dim);
        for (size_t d = 0; d < dim; d++) {
            for (size_t j = 0; j < a->Tk; j++)
                column[j] = ((const float *)a->v)[j * a->kv_stride + h * dim + d];
            sv[d] = int8_quantize_vector(column, a->Tk, v + d * a->Tk);
        }
        for (size_t t = 0; t < a->Tq; t++) {
            float sq = int8_quantize_vector(a->q + t * a->q_stride + h * dim, dim, q);
            float max = -INFINITY;
            int32_t all = 0;

            for (size_t j = 0; j < a->Tk; j++) {
                int32_t sum = 0;

                for (size_t d = 0; d < dim; d++)
                    sum += q[d] * k[j * dim + d];
                scores[j] = (float)sum * sq * sk[j];
                max = MAX(max, scores[j]);
            }
            for (size_t j = 0; j < a->Tk; j++) {
                float z = (scores[j] - max) * (attention_scale(a) * 1.44269504088896341f);

                scores[j] = fmaf(exp2_coarse(z), 16256, 0x1.8p23f) - 0x1.8p23f;
                all += (int32_t)scores[j];
            }
            for (size_t d = 0; d < dim; d++) {
                int32_t high = 0, low = 0;
                float one = 1.0f / (float)all, total;

                for (size_t j = 0; j < a->Tk; j++) {
                    high += ((int32_t)scores[j] >> 7) * v[d * a->Tk + j];
                    low += ((int32_t)scores[j] & 127) * v[d * a->Tk + j];
                }
                total = (float)high * (128 * one);
                total += (float)low * one;
                out[t * D + h * dim + d] = total * sv[d];
            }
        }
    }
    free(q);
    free(k);
    free(v);
    free(sk);
    free(sv);
    free(scores);
    free(column);
}

/* Its plain twin's bits, and near to attention in float32; the last of the rest is not finite. */
static void attention_in_int8_has_the_bits_of_its_plain_twin(void **state)
{
    static const size_t shapes_of[][4] = {/* Tq, Tk, heads, head_dim */ {1, 1, 1, 4},
                                          {257, 257, 2, 64},
                                          {30, 128, 3, 72},
                                          {5, 129, 1, 33},
                                          {50, 50, 2, 88}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(shapes_of); i++) {
        size_t Tq = shapes_of[i][0], Tk = shapes_of[i][1], dim = shapes_of[i][3];
        size_t D = shapes_of[i][2] * dim, stride = 3 * D;
        float *qkv = random_floats(Tk * stride, 30, 4), *got = random_floats(Tq * D, 31, 1);
        float *want = random_floats(Tq * D, 32, 1);
        struct attention a = {.q = qkv,
                              .k = qkv + D,
                              .v = qkv + 2 * D,
                              .q_stride = stride,
                              .kv_stride = stride,
                              .Tq = Tq,
                              .Tk = Tk,
                              .n_heads = shapes_of[i][2],
                              .head_dim = dim};
        struct arena scratch;
        struct error err = {0};

        arena_init(&scratch, 1 << 20);
        assert_ok(attention_run_int8(&a, got, &scratch, &err));
        int8_attention_ref(&a, want);
        assert_memory_equal(got, want, Tq * D * sizeof *got);
        attention_ref(&a, want);
        assert_near(got, want, Tq * D, 0.04, "attention in int8");
        qkv[(Tq - 1) * stride] = NAN; /* a query */
        arena_reset(&scratch);
        assert_ok(attention_run_int8(&a, got, &scratch, &err));
        assert_true(isnan(got[(Tq - 1) * D]));
        assert_true(Tq == 1 || !isnan(got[0]));
        qkv[D] = INFINITY; /* the first head of a key: all queries see it */
        arena_reset(&scratch);
        assert_ok(attention_run_int8(&a, got, &scratch, &err));
        for (size_t t = 0; t < Tq; t++)
            assert_true(isnan(got[t * D]));
        arena_release(&scratch);
        free(qkv);
        free(got);
        free(want);
    }
}

static void bfloat16_is_rounded_to_the_nearest(void **state)
{
    static const uint32_t bits[] = {0x3f800000, 0x3f808000, 0x3f818000, 0x3f808001,
                                    0x7f7fffff, 0xff800000, 0x7f800001, 0x00000001};
    static const uint16_t want[] = {0x3f80, 0x3f80, 0x3f82, 0x3f81, 0x7f80, 0xff80, 0x7fc0, 0};
    float values[ARRAY_LEN(bits)];
    uint16_t got[ARRAY_LEN(bits)];

    (void)state;
    memcpy(values, bits, sizeof values);
    convert_to_bf16(values, ARRAY_LEN(bits), got);
    assert_memory_equal(got, want, sizeof got);
}

enum { LAYERS = 2, KV_HEADS = 2, HEADS = 4, DIM = 20, CAPACITY = 50, WIDTH = KV_HEADS * DIM };

/* What a cache of a type makes of a value. */
static void round_as(enum kv_type type, float *values, size_t n)
{
    uint16_t half;
    int8_t q[DIM];

    for (size_t i = 0; i < n && type == KV_BFLOAT16; i++) {
        convert_to_bf16(&values[i], 1, &half);
        convert_bf16((const uint8_t *)&half, 1, &values[i]);
    }
    for (size_t i = 0; i < n && type == KV_INT8; i += DIM) {
        float scale = int8_quantize_vector(values + i, DIM, q);

        for (size_t d = 0; d < DIM; d++)
            values[i + d] = scale * (float)q[d];
    }
}

/* Attention over a cache of each type, filled at once and position by position and copied from row
 * to row, against the plain twin over the rounded keys and values. */
static void cached_attention_reads_what_the_cache_keeps(void **state)
{
    float *k = random_floats(CAPACITY * WIDTH, 13, 3), *v = random_floats(CAPACITY * WIDTH, 14, 3),
          *q = random_floats(HEADS * DIM, 15, 3);
    float got[HEADS * DIM], want[HEADS * DIM], scores[HEADS * CAPACITY];

    (void)state;
    for (int type = KV_FLOAT32; type <= KV_INT8; type++)
        for (size_t window = 0; window < 20; window += 13) {
            const struct kv_shape shape = {(enum kv_type)type, LAYERS, KV_HEADS, DIM, 3, CAPACITY};
            struct attention a = {.q = q,
                                  .q_stride = HEADS * DIM,
                                  .Tq = 1,
                                  .Tk = CAPACITY - 1,
                                  .n_heads = HEADS,
                                  .head_dim = DIM,
                                  .causal = true,
                                  .window = window,
                                  .soft_cap = 5};
            struct kv_cache cache;
            struct arena arena;
            struct error err = {0};

            arena_init(&arena, 1 << 20);
            assert_ok(kv_cache_init(&cache, &shape, &arena, &err));
            kv_cache_put(&cache, 1, 0, 0, 30, k, v);
            kv_cache_copy_row(&cache, 0, 2, 0, 30);
            for (size_t i = 30; i < CAPACITY - 1; i++)
                kv_cache_put(&cache, 1, 2, i, 1, k + i * WIDTH, v + i * WIDTH);
            kv_cache_attend(&cache, 1, 2, &a);
            attention_step(&a, got, scores);
            round_as(shape.type, k, CAPACITY * WIDTH);
            round_as(shape.type, v, CAPACITY * WIDTH);
            a.k = k;
            a.v = v;
            attention_ref(&a, want);
            assert_near(got, want, HEADS * DIM, 2e-5, "attention_step");
            assert_true(arena.used_bytes >= kv_cache_bytes(&shape));
            assert_true(arena.used_bytes <= kv_cache_bytes(&shape) + 4 * ARENA_ALIGN);
            arena_release(&arena);
        }
    free(k);
    free(v);
    free(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kernel_has_the_plain_sums),
        cmocka_unit_test(products_have_the_bits_of_their_plain_twin),
        cmocka_unit_test(products_that_are_quantised_at_once_have_the_same_rows),
        cmocka_unit_test(a_row_has_the_same_bits_in_any_company),
        cmocka_unit_test(rows_are_groups_that_are_quantised_as_vectors),
        cmocka_unit_test(normalised_rows_are_quantised_as_any),
        cmocka_unit_test(probabilities_have_the_bits_of_their_plain_twin),
        cmocka_unit_test(values_are_rounded_to_the_nearest_and_ties_to_even),
        cmocka_unit_test(no_magnitude_leaves_the_range),
        cmocka_unit_test(a_row_that_is_not_finite_gives_nan_and_spoils_no_other),
        cmocka_unit_test(stored_types_and_stacked_tensors_give_the_matrix_of_their_values),
        cmocka_unit_test(weights_that_cannot_be_are_named),
        cmocka_unit_test(a_matrix_in_int8_multiplies_so_and_keeps_its_rows),
        cmocka_unit_test(attention_in_int8_has_the_bits_of_its_plain_twin),
        cmocka_unit_test(bfloat16_is_rounded_to_the_nearest),
        cmocka_unit_test(cached_attention_reads_what_the_cache_keeps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
