#include "reinforce/nn/gemm.h"

#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"
#include "reinforce/base/philox.h"
#include "reinforce/nn/convert.h"
#include "reinforce/nn/float_kernels.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Rows of a are packed in blocks that stay in a core's second cache while strips of b pass by. A
 * strip is packed for each block: one element of b for BLOCK_ROWS products. */
enum {
    BLOCK_ROWS = 280,
    MAX_PANELS = BLOCK_ROWS,
    PANEL_FLOATS = BLOCK_ROWS * GEMM_GROUP + FLOAT_SLACK,
    CACHE_LINE = 64,
};

/* Written once, under `once`; read-only afterwards. */
static struct {
    const struct float_kernel *kernel;
    enum status status;
    struct error error;
} gemm_state;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* A block of rows in panels of nearly the same height. */
struct block {
    float *packed;
    size_t first, rows, n_panels;
};

static size_t panel_rows(const struct block *block, size_t panel)
{
    return block->rows / block->n_panels + (panel < block->rows % block->n_panels);
}

static void pack_block(const struct float_kernel *kernel, const struct gemm *g,
                       const struct block *block, size_t k, size_t n_k)
{
    size_t row = block->first;
    float *packed = block->packed;

    for (size_t p = 0; p < block->n_panels; p++) {
        size_t rows = panel_rows(block, p);

        kernel->pack(packed, rows, g->a + row * g->lda + k, g->lda, rows, n_k);
        packed += rows * n_k;
        row += rows;
    }
}

/* Columns [n, n + 32) of n_k values of k: where they are packed, or in `strip`. */
static const float *strip_of(const struct float_kernel *kernel, const struct gemm *g, size_t n,
                             size_t k, size_t n_k, float *strip)
{
    size_t columns = MIN(g->N - n, (size_t)FLOAT_COLUMNS);
    const uint16_t *half = g->b;
    const float *b = g->b;

    switch (g->layout) {
    case GEMM_ROWS:
        kernel->pack(strip, FLOAT_COLUMNS, b + n * g->ldb + k, g->ldb, columns, n_k);
        break;
    case GEMM_ROWS_BF16:
        kernel->pack_bf16(strip, FLOAT_COLUMNS, half + n * g->ldb + k, g->ldb, columns, n_k);
        break;
    case GEMM_COLUMNS:
        for (size_t i = 0; i < n_k; i++) {
            float *to = strip + i * FLOAT_COLUMNS;

            memcpy(to, b + (k + i) * g->ldb + n, columns * sizeof *to);
            memset(to + columns, 0, (FLOAT_COLUMNS - columns) * sizeof *to);
        }
        break;
    case GEMM_STRIPS:
        return b + n * g->K + k * FLOAT_COLUMNS;
    case GEMM_STRIPS_BF16:
        convert_bf16((const uint8_t *)(half + n * g->K + k * FLOAT_COLUMNS), n_k * FLOAT_COLUMNS,
                     strip);
        break;
    }
    return strip;
}

/* A part of the next strip's weights, fetched while a tile is multiplied: reading ahead is the
 * processor's affair only along a row or a strip. */
static void fetch_ahead(const struct gemm *g, size_t n, size_t k, size_t n_k, size_t part,
                        size_t parts)
{
    bool bf16 = g->layout == GEMM_ROWS_BF16 || g->layout == GEMM_STRIPS_BF16;
    bool rows = g->layout == GEMM_ROWS || g->layout == GEMM_ROWS_BF16;
    size_t size = bf16 ? sizeof(uint16_t) : sizeof(float);
    /* of FLOAT_COLUMNS pieces: parts of rows, or of a strip */
    size_t stride = (rows ? g->ldb : n_k) * size, bytes = n_k * size;
    const char *b =
        (const char *)g->b + (rows ? n * g->ldb + k : n * g->K + k * FLOAT_COLUMNS) * size;

    if (g->layout == GEMM_COLUMNS || n + FLOAT_COLUMNS > g->N)
        return;
    for (size_t i = FLOAT_COLUMNS * part / parts; i < FLOAT_COLUMNS * (part + 1) / parts; i++)
        for (size_t at = 0; at < bytes; at += CACHE_LINE)
            __builtin_prefetch(b + i * stride + at, 0, 2);
}

KERNEL_CLONES static void add_bias(float *c, size_t ldc, size_t rows, const float *bias,
                                   size_t columns)
{
    for (size_t r = 0; r < rows; r++, c += ldc)
        for (size_t i = 0; i < columns; i++)
            c[i] += bias[i];
}

static void finish(const struct gemm *g, float *c, size_t rows, size_t n, size_t columns)
{
    if (g->then.bias != NULL)
        add_bias(c, g->ldc, rows, g->then.bias + n, columns);
    for (size_t r = 0; r < rows && g->then.activation != NULL; r++)
        g->then.activation(c + r * g->ldc, columns);
}

/* A tile whose strip hangs over the edge is multiplied elsewhere. */
static void multiply(const struct float_kernel *kernel, const struct gemm *g, float *c,
                     const float *panel, size_t rows, const float *strip, size_t columns,
                     size_t n_k, bool add)
{
    float tile[FLOAT_MAX_ROWS * FLOAT_COLUMNS];

    if (columns == FLOAT_COLUMNS) {
        kernel->tile(c, g->ldc, panel, strip, rows, n_k, add);
        return;
    }
    kernel->tile(tile, FLOAT_COLUMNS, panel, strip, rows, n_k, false);
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < columns; i++) {
            float sum = tile[r * FLOAT_COLUMNS + i], *to = &c[r * g->ldc + i];

            *to = add ? *to + sum : sum;
        }
}

static void run_block(const struct float_kernel *kernel, const struct gemm *g,
                      const struct block *block, size_t k, float *strip)
{
    size_t n_k = MIN(g->K - k, (size_t)GEMM_GROUP);
    bool last = k + n_k == g->K;

    pack_block(kernel, g, block, k, n_k);
    for (size_t n = 0; n < g->N; n += FLOAT_COLUMNS) {
        size_t columns = MIN(g->N - n, (size_t)FLOAT_COLUMNS);
        const float *panel = block->packed, *columns_of_b = strip_of(kernel, g, n, k, n_k, strip);
        float *c = g->c + block->first * g->ldc + n;

        for (size_t p = 0; p < block->n_panels; p++) {
            size_t rows = panel_rows(block, p);

            fetch_ahead(g, n + FLOAT_COLUMNS, k, n_k, p, block->n_panels);
            multiply(kernel, g, c, panel, rows, columns_of_b, columns, n_k, g->then.add || k > 0);
            if (last)
                finish(g, c, rows, n, columns);
            panel += rows * n_k;
            c += rows * g->ldc;
        }
    }
}

void gemm_run_with(const struct float_kernel *kernel, const struct gemm *g)
{
    _Alignas(CACHE_LINE) float packed[PANEL_FLOATS];
    _Alignas(CACHE_LINE) float strip[GEMM_GROUP * FLOAT_COLUMNS];
    size_t n_blocks = (g->M + BLOCK_ROWS - 1) / BLOCK_ROWS;
    struct block block = {.packed = packed};

    for (size_t i = 0; i < n_blocks; i++, block.first += block.rows) {
        block.rows = g->M / n_blocks + (i < g->M % n_blocks);
        block.n_panels = (block.rows + kernel->rows - 1) / kernel->rows;
        for (size_t k = 0; k < g->K; k += GEMM_GROUP)
            run_block(kernel, g, &block, k, strip);
    }
}

void gemm_run(const struct gemm *g)
{
    gemm_run_with(gemm_state.kernel, g);
}

static float element_of_b(const struct gemm *g, size_t k, size_t n)
{
    size_t in_strip = (n / FLOAT_COLUMNS * g->K + k) * FLOAT_COLUMNS + n % FLOAT_COLUMNS;
    bool strips = g->layout == GEMM_STRIPS || g->layout == GEMM_STRIPS_BF16;
    size_t at = strips ? in_strip : n * g->ldb + k;
    float value;

    if (g->layout == GEMM_COLUMNS)
        return ((const float *)g->b)[k * g->ldb + n];
    if (g->layout == GEMM_ROWS || g->layout == GEMM_STRIPS)
        return ((const float *)g->b)[at];
    convert_bf16((const uint8_t *)((const uint16_t *)g->b + at), 1, &value);
    return value;
}

void gemm_run_ref(const struct gemm *g)
{
    for (size_t m = 0; m < g->M; m++)
        for (size_t n = 0; n < g->N; n++) {
            float *c = &g->c[m * g->ldc + n];
            double sum = g->then.add ? (double)*c : 0;

            for (size_t k = 0; k < g->K; k++)
                sum += (double)g->a[m * g->lda + k] * (double)element_of_b(g, k, n);
            *c = (float)(sum + (g->then.bias != NULL ? (double)g->then.bias[n] : 0));
            if (g->then.activation != NULL)
                g->then.activation(c, 1);
        }
}

/* Of M x K, N x K and M x N random values, with a guard behind the result. */
struct trial {
    struct gemm g;
    float *memory, *want;
};

static enum status trial_init(struct trial *trial, size_t M, size_t N, size_t K, bool add,
                              struct error *err)
{
    size_t n = M * K + N * K + N + 2 * (M * N + 1);
    float *memory = malloc(n * sizeof *memory), *bias;
    struct philox rng;

    if (memory == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate the self-test of products");
    philox_init(&rng, 1, bytes_view_of("gemm", 4), PHILOX_STAGE_SELECT, (uint32_t)(M * 31 + N));
    for (size_t i = 0; i < n; i++)
        memory[i] = philox_f32(&rng) - 0.5f;
    bias = memory + M * K + N * K;
    *trial = (struct trial){.memory = memory, .want = bias + N + M * N + 1};
    trial->g = (struct gemm){.M = M,
                             .N = N,
                             .K = K,
                             .a = memory,
                             .b = memory + M * K,
                             .c = bias + N,
                             .lda = K,
                             .ldb = K,
                             .ldc = N,
                             .then = {.bias = bias, .add = add}};
    return ST_OK;
}

static enum status check_shape(const struct float_kernel *kernel, const size_t shape[3],
                               enum gemm_layout layout, bool add, struct error *err)
{
    const float guard = 1234.5f;
    struct trial trial;
    struct gemm want;
    size_t n = shape[0] * shape[1];
    enum status st = trial_init(&trial, shape[0], shape[1], shape[2], add, err);

    if (st != ST_OK)
        return st;
    trial.g.layout = layout;
    trial.g.ldb = layout == GEMM_COLUMNS ? shape[1] : shape[2];
    for (size_t i = 0; i < n; i++)
        trial.g.c[i] = trial.want[i] = add ? 1 : NAN;
    trial.g.c[n] = guard;
    want = trial.g;
    want.c = trial.want;
    gemm_run_with(kernel, &trial.g);
    gemm_run_ref(&want);
    for (size_t i = 0; i < n && st == ST_OK; i++)
        if (!(fabsf(trial.g.c[i] - want.c[i]) <= 1e-6f * (float)(shape[2] + 16)))
            st = error_set(err, ST_INTERNAL,
                           "the %s kernel computes %g where %g is right (product %zu x %zu x %zu)",
                           kernel->name, (double)trial.g.c[i], (double)want.c[i], shape[0],
                           shape[1], shape[2]);
    if (st == ST_OK && trial.g.c[n] != guard)
        st = error_set(err, ST_INTERNAL, "the %s kernel writes behind its result", kernel->name);
    free(trial.memory);
    return st;
}

static enum status self_test(const struct float_kernel *kernel, struct error *err)
{
    static const size_t shapes[][3] = {{1, 1, 1},     {1, 64, 77},   {5, 3, 9},
                                       {17, 33, 129}, {15, 40, 257}, {29, 9, 512}};
    enum status st = ST_OK;

    for (size_t i = 0; i < ARRAY_LEN(shapes) && st == ST_OK; i++)
        for (int add = 0; add < 2 && st == ST_OK; add++) {
            st = check_shape(kernel, shapes[i], GEMM_ROWS, add, err);
            if (st == ST_OK)
                st = check_shape(kernel, shapes[i], GEMM_COLUMNS, add, err);
        }
    return st;
}

enum { TRIAL_ROWS = 112, TRIAL_SIDE = 256, TRIAL_ROUNDS = 5, MAX_KERNELS = 4 };

/* The shortest of a few rounds in turns. They differ in speed alone. */
static enum status choose(const struct float_kernel *const *kernels, size_t n, struct error *err)
{
    int64_t best[MAX_KERNELS];
    struct trial trial;
    size_t fastest = 0;
    enum status st = trial_init(&trial, TRIAL_ROWS, TRIAL_SIDE, TRIAL_SIDE, false, err);

    if (st != ST_OK)
        return st;
    for (int round = 0; round < TRIAL_ROUNDS; round++)
        for (size_t i = 0; i < n; i++) {
            int64_t begun = clock_cpu_ns(), ns;

            gemm_run_with(kernels[i], &trial.g);
            ns = clock_cpu_ns() - begun;
            best[i] = round == 0 ? ns : MIN(best[i], ns);
        }
    for (size_t i = 1; i < n; i++)
        if (best[i] < best[fastest])
            fastest = i;
    gemm_state.kernel = kernels[fastest];
    free(trial.memory);
    return ST_OK;
}

/* A kernel that computes wrong results is left out, with a word in the log; plain C, the last, is
 * what is left when nothing else is. */
static void take_best(const struct float_kernel *kernels, size_t n)
{
    const struct float_kernel *right[MAX_KERNELS];
    size_t n_right = 0;

    for (size_t i = 0; i < n && (i + 1 < n || n_right == 0); i++) {
        gemm_state.status = self_test(&kernels[i], &gemm_state.error);
        if (gemm_state.status == ST_OK)
            right[n_right++] = &kernels[i];
        else
            log_at(LOG_WARN, "kernel_refused", "kernel=%s reason=\"%s\"", kernels[i].name,
                   gemm_state.error.message);
    }
    if (n_right > 0)
        gemm_state.status = choose(right, n_right, &gemm_state.error);
}

static void init(void)
{
    size_t n;
    const struct float_kernel *kernels = float_kernels(&n);

    take_best(kernels, n);
}

enum status gemm_init(struct error *err)
{
    (void)pthread_once(&once, init);
    if (gemm_state.status != ST_OK)
        *err = gemm_state.error;
    return gemm_state.status;
}

const char *gemm_kernel_name(void)
{
    return gemm_state.kernel != NULL ? gemm_state.kernel->name : "";
}
