/* Includes the source, to run the choice of a kernel with wrong ones. */
#include "reinforce/nn/gemm.c"
#include "reinforce/nn/ops.h"
#include "reinforce/nn/packed.h"
#include "tests/support/floats.h"
#include "tests/support/tensors.h"

/* One element in the order that gemm.h promises. */
static float element(const struct gemm *g, const float *c, size_t m, size_t n)
{
    float sum = 0;

    for (size_t first = 0; first < g->K; first += GEMM_GROUP) {
        float chain = 0;

        for (size_t k = first; k < MIN(g->K, first + (size_t)GEMM_GROUP); k++)
            chain = fmaf(g->a[m * g->lda + k], element_of_b(g, k, n), chain);
        sum = first == 0 && !g->then.add ? chain : (first == 0 ? c[m * g->ldc + n] : sum) + chain;
    }
    if (g->then.bias != NULL)
        sum += g->then.bias[n];
    if (g->then.activation != NULL)
        g->then.activation(&sum, 1);
    return sum;
}

/* a product whose b is in `layout`, in memory of the caller's to free */
static struct gemm make(size_t M, size_t N, size_t K, enum gemm_layout layout, float *memory[4])
{
    size_t strips = (N + FLOAT_COLUMNS - 1) / FLOAT_COLUMNS * FLOAT_COLUMNS;

    memory[0] = random_floats(M * (K + 3), 1, 2);
    memory[1] = random_floats(strips * (K + 1), 2, 2);
    memory[2] = random_floats(M * (N + 5), 3, 2);
    memory[3] = random_floats(N, 4, 2);
    if (layout == GEMM_ROWS_BF16 || layout == GEMM_STRIPS_BF16) {
        float *floats = memory[1];

        memory[1] = random_floats(strips * (K + 1), 5, 2);
        convert_to_bf16(floats, strips * (K + 1), (uint16_t *)memory[1]);
        free(floats);
    }
    return (struct gemm){.M = M,
                         .N = N,
                         .K = K,
                         .a = memory[0],
                         .lda = K + 3,
                         .b = memory[1],
                         .ldb = layout == GEMM_COLUMNS ? N : K + 1,
                         .layout = layout,
                         .c = memory[2],
                         .ldc = N + 5};
}

static void release(float *memory[4])
{
    for (int i = 0; i < 4; i++)
        free(memory[i]);
}

static void check(const struct float_kernel *kernel, const size_t shape[3], enum gemm_layout layout,
                  bool finished)
{
    float *memory[4], *before;
    struct gemm g = make(shape[0], shape[1], shape[2], layout, memory);
    size_t n = g.M * g.ldc;

    if (finished)
        g.then = (struct epilogue){.bias = memory[3], .add = true, .activation = ops_gelu};
    before = random_floats(n, 3, 2);
    gemm_run_with(kernel, &g);
    for (size_t m = 0; m < g.M; m++)
        for (size_t i = 0; i < g.ldc; i++) {
            float want = i < g.N ? element(&g, before, m, i) : before[m * g.ldc + i];

            if (memcmp(&want, &g.c[m * g.ldc + i], sizeof want) != 0)
                fail_msg("%s, layout %d, %zu x %zu x %zu: [%zu, %zu] is %.9g, want %.9g",
                         kernel->name, (int)layout, g.M, g.N, g.K, m, i, (double)g.c[m * g.ldc + i],
                         (double)want);
        }
    free(before);
    release(memory);
}

static void every_kernel_gives_the_bits_of_the_promised_order(void **state)
{
    static const size_t shapes[][3] = {{1, 1, 1},    {1, 33, 300},  {2, 32, 256}, {13, 7, 17},
                                       {15, 64, 31}, {29, 40, 513}, {281, 36, 9}, {17, 272, 9}};
    size_t n;
    const struct float_kernel *kernels = float_kernels(&n);

    (void)state;
    for (size_t k = 0; k < n; k++)
        for (size_t s = 0; s < ARRAY_LEN(shapes); s++)
            for (int layout = GEMM_ROWS; layout <= GEMM_STRIPS_BF16; layout++) {
                check(&kernels[k], shapes[s], (enum gemm_layout)layout, false);
                check(&kernels[k], shapes[s], (enum gemm_layout)layout, true);
            }
}

/* Of every height, with half a strip at the end, of rows that lie near to each other and far. */
static void every_panel_gives_them(void **state)
{
    size_t n;
    const struct float_kernel *kernels = float_kernels(&n);

    (void)state;
    for (size_t k = 0; k < n; k++)
        for (size_t rows = 1; rows <= kernels[k].rows; rows++)
            for (size_t K = 20; K <= 520; K += 500) {
                check(&kernels[k], (const size_t[]){rows, 48, K}, GEMM_STRIPS, false);
                check(&kernels[k], (const size_t[]){rows, 41, K}, GEMM_STRIPS, true);
            }
}

/* The usual bound of a sum, with as many roundings as a group has products, and groups. */
static void products_are_within_the_bound_of_the_double_ones(void **state)
{
    enum { M = 20, N = 50, K = 1000 };
    static const enum gemm_layout layouts[] = {GEMM_ROWS, GEMM_ROWS_BF16, GEMM_STRIPS_BF16};
    float *memory[4], want[M * N];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(layouts); i++) {
        struct gemm g = make(M, N, K, layouts[i], memory), plain;
        double parts = i > 0 ? FLOAT_PARTS : 1, group = i > 0 ? FLOAT_AMX_GROUP : GEMM_GROUP;
        double squares = 0, all_squares = 0;

        g.any_order = true;
        gemm_run(&g);
        plain = g;
        plain.c = want;
        plain.ldc = N;
        gemm_run_ref(&plain);
        for (size_t m = 0; m < M; m++)
            for (size_t n = 0; n < N; n++) {
                double magnitude = 0;
                double error = (double)g.c[m * g.ldc + n] - (double)want[m * N + n];

                for (size_t k = 0; k < K; k++)
                    magnitude += fabs((double)g.a[m * g.lda + k] * (double)element_of_b(&g, k, n));
                assert_true(fabs(error) <= parts * (group + 4) * 0x1p-24 * magnitude);
                squares += error * error;
                all_squares += magnitude * magnitude;
            }
        assert_true(sqrt(squares / all_squares) < 2e-8);
        release(memory);
    }
}

/* Rows of panels of any height, edges of strips, and a last group that is not whole. */
static void amx_is_within_its_bound_for_awkward_shapes(void **state)
{
    static const size_t shapes[][3] = {{1, 1, 1},    {1, 33, 300}, {2, 32, 256},   {16, 7, 31},
                                       {17, 64, 33}, {31, 40, 97}, {545, 36, 600}, {33, 100, 2}};
    const struct float_kernel *amx = float_amx();

    (void)state;
    for (size_t s = 0; amx != NULL && s < ARRAY_LEN(shapes); s++)
        for (int finished = 0; finished < 2; finished++) {
            float *memory[4];
            struct gemm g =
                make(shapes[s][0], shapes[s][1], shapes[s][2], GEMM_STRIPS_BF16, memory);
            float *want = random_floats(g.M * g.ldc, 3, 2);
            struct gemm plain = g;

            if (finished)
                g.then = (struct epilogue){.bias = memory[3], .add = true, .activation = ops_gelu};
            plain.then = g.then;
            plain.c = want;
            gemm_run_with(amx, &g);
            gemm_run_ref(&plain);
            for (size_t i = 0; i < g.M * g.ldc; i++)
                assert_true(fabsf(g.c[i] - want[i]) <= 1e-6f * (float)(g.K + 4));
            free(want);
            release(memory);
        }
}

/* README, promise 2 */
static void a_rows_bits_do_not_depend_on_the_others(void **state)
{
    enum { M = 300, N = 65, K = 270 };
    float *memory[4], one[N];

    (void)state;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        struct gemm g = make(M, N, K, bf16 ? GEMM_STRIPS_BF16 : GEMM_ROWS, memory), row;

        g.any_order = bf16;
        gemm_run(&g);
        row = g;
        row.M = 1;
        row.c = one;
        for (size_t m = 0; m < M; m += 23) {
            row.a = g.a + m * g.lda;
            gemm_run(&row);
            assert_memory_equal(one, g.c + m * g.ldc, sizeof one);
        }
        release(memory);
    }
}

static void a_row_that_is_not_finite_spoils_no_other(void **state)
{
    enum { M = 30, N = 40, K = 50 };
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    float *memory[4], *want;
    struct gemm g = make(M, N, K, *state != NULL ? GEMM_STRIPS_BF16 : GEMM_ROWS, memory);

    g.any_order = true;
    gemm_run(&g);
    want = random_floats(M * g.ldc, 3, 2);
    memcpy(want, g.c, M * g.ldc * sizeof *want);
    for (size_t b = 0; b < ARRAY_LEN(bad); b++) {
        float kept = memory[0][7 * g.lda + 20];

        memory[0][7 * g.lda + 20] = bad[b];
        gemm_run(&g);
        for (size_t m = 0; m < M; m++)
            for (size_t n = 0; n < N; n++)
                assert_true(m == 7 ? !isfinite(g.c[m * g.ldc + n])
                                   : g.c[m * g.ldc + n] == want[m * g.ldc + n]);
        memory[0][7 * g.lda + 20] = kept;
    }
    free(want);
    release(memory);
}

static void wrong_tile(float *y, size_t ldy, const struct float_panel *panel,
                       const struct float_strip *strip, bool add)
{
    size_t n;
    const struct float_kernel *kernels = float_kernels(&n);

    kernels[n - 1].tile(y, ldy, panel, strip, add);
    if (strip->K > 100)
        y[0] += 1;
}

static void a_kernel_that_is_wrong_is_left_out(void **state)
{
    size_t n;
    const struct float_kernel *plain = float_kernels(&n) + n - 1;
    struct float_kernel kernels[] = {*plain, *plain};
    struct error err = {0};

    (void)state;
    kernels[0].name = "wrong";
    kernels[0].tile = wrong_tile;
    take_best(kernels, 2);
    assert_int_equal(gemm_state.status, ST_OK);
    assert_string_equal(gemm_kernel_name(), "plain");
    take_best(kernels, 1);
    assert_int_equal(gemm_state.status, ST_INTERNAL);
    assert_int_equal(gemm_init(&err), ST_OK); /* the process's own choice, made now */
}

/* Three tensors as one, whose edges are inside strips. */
static void packed_tensors_multiply_as_their_rows(void **state)
{
    enum { OUT = 21, IN = 37, M = 5 };
    static const char *const names[] = {"q", "k", "v"};
    float *w = random_floats(3 * OUT * IN, 1, 2), *x = random_floats(M * IN, 2, 2);
    float got[M * 3 * OUT], want[M * 3 * OUT], row_scale[3 * OUT];
    uint16_t half[3 * OUT * IN];
    struct tensor tensors[3];
    struct weights *weights = NULL;
    struct error err = {0};

    (void)state;
    convert_to_bf16(w, 3 * OUT * IN, half);
    for (size_t i = 0; i < ARRAY_LEN(row_scale); i++) /* powers of two: nothing is rounded */
        row_scale[i] = ldexpf(i % 2 == 0 ? 1 : -1, (int)(i % 5) - 2);
    cut_tensors(w, names, 3, OUT, IN, tensors);
    assert_ok(weights_create(tensors, 3, &weights, &err));
    for (int bf16 = 0; bf16 < 2; bf16++) {
        struct packed_matrix matrix;

        assert_ok(packed_matrix_load(weights, "", names, 3, OUT, IN, NULL,
                                     bf16 ? TENSOR_BF16 : TENSOR_F32, &matrix, &err));
        packed_product(&matrix, got, x, M, &(struct epilogue){.add = false});
        gemm_run(&(struct gemm){.M = M,
                                .N = 3 * OUT,
                                .K = IN,
                                .a = x,
                                .lda = IN,
                                .b = bf16 ? (const void *)half : w,
                                .ldb = IN,
                                .layout = bf16 ? GEMM_ROWS_BF16 : GEMM_ROWS,
                                .any_order = bf16,
                                .c = want,
                                .ldc = 3 * OUT});
        assert_memory_equal(got, want, sizeof got);
        assert_ok(packed_matrix_load(weights, "", names, 3, OUT, IN, row_scale,
                                     bf16 ? TENSOR_BF16 : TENSOR_F32, &matrix, &err));
        packed_product(&matrix, got, x, M, &(struct epilogue){.add = false});
        for (size_t i = 0; i < ARRAY_LEN(got); i++)
            assert_true(got[i] == want[i] * row_scale[i % (3 * OUT)]);
        assert_int_equal(
            packed_matrix_load(weights, "", names, 3, OUT, IN + 1, NULL, TENSOR_F32, &matrix, &err),
            ST_INVALID);
    }
    weights_destroy(&weights);
    free(w);
    free(x);
}

static int choose_kernel(void **state)
{
    struct error err = {0};

    (void)state;
    assert_ok(gemm_init(&err));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kernel_that_is_wrong_is_left_out),
        cmocka_unit_test(every_kernel_gives_the_bits_of_the_promised_order),
        cmocka_unit_test(every_panel_gives_them),
        cmocka_unit_test_setup(products_are_within_the_bound_of_the_double_ones, choose_kernel),
        cmocka_unit_test_setup(a_rows_bits_do_not_depend_on_the_others, choose_kernel),
        cmocka_unit_test_setup(amx_is_within_its_bound_for_awkward_shapes, choose_kernel),
        cmocka_unit_test_setup(a_row_that_is_not_finite_spoils_no_other, choose_kernel),
        cmocka_unit_test_prestate(a_row_that_is_not_finite_spoils_no_other, (void *)&"bf16"),
        cmocka_unit_test_setup(packed_tensors_multiply_as_their_rows, choose_kernel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
