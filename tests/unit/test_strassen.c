#include "reinforce/nn/float_kernels.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/nn/ops.h"
#include "reinforce/nn/strassen.h"
#include "tests/support/floats.h"
#include "tests/support/tensors.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A product and its factors. */
struct sample_product {
    size_t n, T, out, in;
    float *x, *w, *bias;
    struct weights *weights; /* owns the matrix */
    struct strassen_matrix matrix;
};

static struct sample_product make(size_t n, size_t T, size_t out, size_t in)
{
    struct sample_product p = {.n = n,
                               .T = T,
                               .out = out,
                               .in = in,
                               .x = random_floats(n * T * in, 1, 2),
                               .w = random_floats(out * in, 2, 2),
                               .bias = random_floats(out, 3, 2)};
    struct error err = {0};

    assert_ok(weights_create(NULL, 0, &p.weights, &err));
    return p;
}

static void load(struct sample_product *p)
{
    const struct weights_stack stack = {.w = p->w, .out = p->out, .in = p->in};
    struct error err = {0};

    assert_ok(strassen_matrix_load(p->weights, &stack, &p->matrix, &err));
}

static void release(struct sample_product *p)
{
    free(p->x);
    free(p->w);
    free(p->bias);
    weights_destroy(&p->weights);
}

/* Whole numbers from -4 to 4. */
static void round_floats(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = roundf(x[i] * 4);
}

static void reference(const struct sample_product *p, const struct epilogue *then, float *y)
{
    gemm_run_ref(&(struct gemm){.M = p->n * p->T,
                                .N = p->out,
                                .K = p->in,
                                .a = p->x,
                                .lda = p->in,
                                .b = p->w,
                                .ldb = p->in,
                                .c = y,
                                .ldc = p->out,
                                .then = *then});
}

static const size_t shapes[][4] = {
    /* n, T, out, in: halves of one length and not, one row, blocks of several samples, a sample of
     * several blocks, columns that fill strips and do not, or leave the right half's last empty */
    {1, 1, 256, 256},  {3, 2, 300, 260},   {2, 57, 320, 516},
    {9, 33, 257, 258}, {1, 365, 270, 256}, {2, 4, 260, 1030},
};

/* Every sum of such numbers is exact, so any error is one of the algorithm. */
static void products_of_whole_numbers_are_exact(void **state)
{
    size_t n_kernels;
    const struct float_kernel *kernels = float_kernels(&n_kernels);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
        for (int finished = 0; finished < 2; finished++) {
            const size_t *s = shapes[i];
            struct sample_product p = make(s[0], s[1], s[2], s[3]);
            size_t size = s[0] * s[1] * s[2];
            const struct epilogue then = finished ? (struct epilogue){p.bias, true, ops_gelu}
                                                  : (struct epilogue){.add = false};
            float *want = random_floats(size + 1, 4, 2), *got = random_floats(size + 1, 4, 2);

            round_floats(p.x, s[0] * s[1] * s[3]);
            round_floats(p.w, s[2] * s[3]);
            round_floats(p.bias, s[2]);
            round_floats(want, size);
            load(&p);
            for (size_t k = 0; k < n_kernels; k++) {
                free(got);
                got = random_floats(size + 1, 4, 2);
                round_floats(got, size);
                strassen_product_with(&kernels[k], &p.matrix, got, p.x, s[0], s[1], &then);
                if (k == 0)
                    reference(&p, &then, want);
                for (size_t e = 0; e <= size; e++) /* and nothing behind the last */
                    if (memcmp(&got[e], &want[e], sizeof *got) != 0)
                        fail_msg("%s, shape %zu: [%zu] is %.9g, want %.9g", kernels[k].name, i, e,
                                 (double)got[e], (double)want[e]);
            }
            free(want);
            free(got);
            release(&p);
        }
}

static float *run(const struct float_kernel *kernel, const struct sample_product *p, size_t first,
                  size_t n)
{
    float *y = random_floats(n * p->T * p->out, 5, 2);

    strassen_product_with(kernel, &p->matrix, y, p->x + first * p->T * p->in, n, p->T,
                          &(struct epilogue){.bias = p->bias, .activation = ops_quick_gelu});
    return y;
}

static void bits_are_every_kernels_and_any_companys(void **state)
{
    size_t n_kernels;
    const struct float_kernel *kernels = float_kernels(&n_kernels);
    struct sample_product p = make(5, 57, 330, 600);
    size_t sample = p.T * p.out;
    float *together;

    (void)state;
    load(&p);
    together = run(&kernels[0], &p, 0, p.n);
    for (size_t k = 0; k < n_kernels; k++)
        for (size_t i = 0; i < p.n; i++) {
            float *alone = run(&kernels[k], &p, i, 1);

            assert_memory_equal(alone, together + i * sample, sample * sizeof *alone);
            free(alone);
        }
    free(together);
    release(&p);
}

/* strassen.h's bound; and the mean error beside that of products in one order of sums. */
static void errors_are_within_the_bound(void **state)
{
    struct sample_product p = make(1, 40, 260, 1024);
    size_t size = p.T * p.out;
    const struct epilogue nothing = {.add = false};
    float *want = random_floats(size, 1, 1), *got = random_floats(size, 2, 1), largest_w = 0;
    float *plain = random_floats(size, 3, 1);
    double squares = 0, plain_squares = 0;
    double roundings = (double)GEMM_GROUP + (double)p.in / (2 * GEMM_GROUP) + 8;

    (void)state;
    for (size_t r = 0; r < p.T; r++) /* rows of very different magnitudes */
        for (size_t k = 0; k < p.in; k++)
            p.x[r * p.in + k] = ldexpf(p.x[r * p.in + k], (int)(r % 8) * 2);
    for (size_t i = 0; i < p.out * p.in; i++)
        largest_w = MAX(largest_w, fabsf(p.w[i]));
    load(&p);
    reference(&p, &nothing, want);
    strassen_product(&p.matrix, got, p.x, p.n, p.T, &nothing);
    gemm_run(&(struct gemm){.M = p.T,
                            .N = p.out,
                            .K = p.in,
                            .a = p.x,
                            .lda = p.in,
                            .b = p.w,
                            .ldb = p.in,
                            .c = plain,
                            .ldc = p.out});
    for (size_t r = 0; r < p.T; r++) {
        size_t partner = (r + p.T / 2) % p.T;
        float largest_x = 0;

        for (size_t k = 0; k < p.in; k++)
            largest_x =
                MAX(largest_x, MAX(fabsf(p.x[r * p.in + k]), fabsf(p.x[partner * p.in + k])));
        for (size_t c = 0; c < p.out; c++) {
            double exact = (double)want[r * p.out + c];
            double error = (double)got[r * p.out + c] - exact;
            double plain_error = (double)plain[r * p.out + c] - exact;
            double unit = (double)largest_x * (double)largest_w * (double)FLT_EPSILON / 2;

            assert_true(fabs(error) <= 6 * (double)p.in * roundings * unit);
            squares += error * error / unit / unit;
            plain_squares += plain_error * plain_error / unit / unit;
        }
    }
    assert_true(sqrt(squares) <= 4 * sqrt(plain_squares));
    free(want);
    free(got);
    free(plain);
    release(&p);
}

static void a_sample_that_is_not_finite_spoils_no_other(void **state)
{
    size_t n_kernels;
    const struct float_kernel *kernel = float_kernels(&n_kernels);
    struct sample_product p = make(3, 21, 256, 256);
    size_t sample = p.T * p.out;
    float *clean, *spoilt;

    (void)state;
    load(&p);
    clean = run(kernel, &p, 0, p.n);
    p.x[(p.T + 2) * p.in] = NAN;
    spoilt = run(kernel, &p, 0, p.n);
    assert_memory_equal(clean, spoilt, sample * sizeof *clean);
    assert_memory_equal(clean + 2 * sample, spoilt + 2 * sample, sample * sizeof *clean);
    for (size_t c = 0; c < p.out; c++)
        assert_true(isnan(spoilt[(p.T + 2) * p.out + c]));
    free(clean);
    free(spoilt);
    release(&p);
}

/* q, k and v as they are stored, their rows multiplied by powers of two. */
static void stacked_tensors_are_one_matrix(void **state)
{
    enum { OUT = 90, IN = 256, T = 9 };
    static const char *const names[] = {"q", "k", "v"};
    struct sample_product p = make(1, T, 3 * OUT, IN);
    float row_scale[3 * OUT], *plain, *stacked;
    struct tensor tensors[3];
    struct weights *weights = NULL;
    struct weights_stack stack;
    struct error err = {0};

    (void)state;
    cut_tensors(p.w, names, 3, OUT, IN, tensors);
    for (size_t i = 0; i < ARRAY_LEN(row_scale); i++)
        row_scale[i] = ldexpf(i % 2 == 0 ? 1 : -1, (int)(i % 5) - 2);
    assert_ok(weights_create(tensors, 3, &weights, &err));
    assert_ok(weights_get_stack(weights, "", names, 3, OUT, IN, row_scale, &stack, &err));
    assert_int_equal(weights_get_stack(weights, "", names, 3, OUT, IN + 2, NULL, &stack, &err),
                     ST_INVALID);
    assert_ok(weights_get_stack(weights, "", names, 3, OUT, IN, row_scale, &stack, &err));
    assert_ok(strassen_matrix_load(weights, &stack, &p.matrix, &err));
    stacked = random_floats(T * p.out, 1, 1);
    strassen_product(&p.matrix, stacked, p.x, 1, T, &(struct epilogue){.add = false});
    for (size_t r = 0; r < p.out; r++)
        for (size_t k = 0; k < IN; k++)
            p.w[r * IN + k] *= row_scale[r];
    load(&p);
    plain = random_floats(T * p.out, 1, 1);
    strassen_product(&p.matrix, plain, p.x, 1, T, &(struct epilogue){.add = false});
    assert_memory_equal(stacked, plain, T * p.out * sizeof *plain);
    free(stacked);
    free(plain);
    weights_destroy(&weights);
    release(&p);
}

static void small_and_odd_matrices_do_not_fit(void **state)
{
    (void)state;
    assert_true(strassen_fits(256, 256));
    assert_true(strassen_fits(257, 258));
    assert_false(strassen_fits(256, 257)); /* no two halves of k */
    assert_false(strassen_fits(255, 256));
    assert_false(strassen_fits(256, 254));
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
        cmocka_unit_test(products_of_whole_numbers_are_exact),
        cmocka_unit_test(bits_are_every_kernels_and_any_companys),
        cmocka_unit_test(errors_are_within_the_bound),
        cmocka_unit_test(a_sample_that_is_not_finite_spoils_no_other),
        cmocka_unit_test(stacked_tensors_are_one_matrix),
        cmocka_unit_test(small_and_odd_matrices_do_not_fit),
    };

    return cmocka_run_group_tests(tests, choose_kernel, NULL);
}
