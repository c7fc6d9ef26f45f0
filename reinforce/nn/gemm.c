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
 * strip is packed for each block: one element of b for as many products as it has rows. Parts of
 * bfloat16 are 6 bytes of a value, and rows that fill up a panel take their place. */
enum {
    CACHE_LINE = 64,
    PANEL_BYTES = FLOAT_MAX_ROWS * FLOAT_AMX_GROUP * 2 * FLOAT_PARTS,
    BLOCK_BYTES = FLOAT_AMX_PANELS * PANEL_BYTES,
    STRIP_FLOATS = FLOAT_AMX_GROUP * FLOAT_COLUMNS + FLOAT_SLACK,
    STRIP_TILES_BYTES = FLOAT_AMX_GROUP * FLOAT_COLUMNS * 2,
};
_Static_assert((FLOAT_BLOCK_ROWS * GEMM_GROUP + FLOAT_SLACK) * sizeof(float) <= BLOCK_BYTES,
               "there is room for a block of any kernel");

/* Written once, under `once`; read-only afterwards. */
static struct {
    const struct float_kernel *kernel;
    const struct float_kernel *amx; /* NULL: none that is right */
    enum status status;
    struct error error;
} gemm_state;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* A block of rows in panels of nearly the same height. */
struct block {
    char *packed; /* NULL: they are multiplied where they lie */
    size_t first, rows, n_panels;
};

/* Rows that meet few strips are read where they lie, while they are too near to each other to take
 * each other's place in the first cache: packing them would cost more than it gains. */
static bool is_loose(const struct float_kernel *kernel, const struct gemm *g)
{
    enum { FEW_COLUMNS = 256, NEAR = 512 };

    return kernel->parts == NULL && g->N <= FEW_COLUMNS && g->lda < NEAR;
}

static size_t panel_rows(const struct block *block, size_t panel)
{
    return block->rows / block->n_panels + (panel < block->rows % block->n_panels);
}

/* How far it is to the panel behind this one, of n_k values of k. */
static size_t panel_bytes(const struct float_kernel *kernel, const struct float_panel *panel,
                          size_t n_k)
{
    if (kernel->parts == NULL)
        return panel->rows * (panel->ld > 0 ? panel->ld : n_k) * sizeof(float);
    return PANEL_BYTES;
}

/* The panel that begins at `data`. */
static struct float_panel panel_at(const struct gemm *g, const struct block *block, size_t panel,
                                   const char *data)
{
    return (struct float_panel){.data = data,
                                .ld = block->packed == NULL ? g->lda : 0,
                                .rows = panel_rows(block, panel),
                                .tallest = panel_rows(block, 0)};
}

static void pack_block(const struct float_kernel *kernel, const struct gemm *g,
                       const struct block *block, size_t k, size_t n_k)
{
    const float *a = g->a + block->first * g->lda + k;
    char *packed = block->packed;

    for (size_t p = 0; p < block->n_panels; p++) {
        const struct float_panel panel = panel_at(g, block, p, packed);

        if (kernel->parts != NULL)
            kernel->parts->rows(packed, a, g->lda, panel.rows, panel.tallest, n_k);
        else
            kernel->pack((float *)(void *)packed, panel.rows, a, g->lda, panel.rows, n_k);
        packed += panel_bytes(kernel, &panel, n_k);
        a += panel.rows * g->lda;
    }
}

static bool is_bf16(enum gemm_layout layout)
{
    return layout == GEMM_ROWS_BF16 || layout == GEMM_STRIPS_BF16;
}

static bool is_packed(enum gemm_layout layout)
{
    return layout == GEMM_STRIPS || layout == GEMM_STRIPS_BF16;
}

/* What packs strips in float32 for it. */
static const struct float_kernel *packer(const struct float_kernel *kernel)
{
    size_t n;

    return kernel->parts == NULL ? kernel : float_kernels(&n);
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

/* A part of the next strip's weights is fetched with each tile: reading ahead is the processor's
 * affair only along a row or a strip. Of a strip the tile fetches it while it multiplies. */
static void fetch_ahead(const struct gemm *g, size_t n, size_t k, size_t part, size_t parts,
                        struct float_strip *strip)
{
    size_t size = is_bf16(g->layout) ? sizeof(uint16_t) : sizeof(float), n_k = strip->K;
    size_t bytes = n_k * FLOAT_COLUMNS * size, share = (bytes + parts - 1) / parts;
    const char *b = g->b;

    strip->ahead = strip->data;
    strip->ahead_step = 0;
    if (g->layout == GEMM_COLUMNS || n + FLOAT_COLUMNS > g->N)
        return;
    if (is_packed(g->layout)) {
        strip->ahead = b + (n * g->K + k * FLOAT_COLUMNS) * size + part * share;
        strip->ahead_step = (share + n_k - 1) / n_k;
        return;
    }
    for (size_t i = FLOAT_COLUMNS * part / parts; i < FLOAT_COLUMNS * (part + 1) / parts; i++)
        for (size_t at = 0; at < n_k * size; at += CACHE_LINE)
            __builtin_prefetch(b + ((n + i) * g->ldb + k) * size + at, 0, 2);
}

KERNEL_CLONES static void add_bias(float *c, const float *bias, size_t columns)
{
    for (size_t i = 0; i < columns; i++)
        c[i] += bias[i];
}

/* Columns that are finished together: long enough for vectors, still in the second cache. */
enum { LONG_ROW = 8 * FLOAT_COLUMNS };

/* Columns [n, end) of a block. */
static void finish(const struct gemm *g, const struct block *block, size_t n, size_t end)
{
    float *c = g->c + block->first * g->ldc + n;

    for (size_t r = 0; r < block->rows; r++, c += g->ldc) {
        if (g->then.bias != NULL)
            add_bias(c, g->then.bias + n, end - n);
        if (g->then.activation != NULL)
            g->then.activation(c, end - n);
    }
}

/* A tile whose strip hangs over the edge, and not by a half, is multiplied elsewhere. */
static void multiply(const struct float_kernel *kernel, const struct gemm *g, float *c,
                     const struct float_panel *panel, const struct float_strip *strip,
                     size_t columns, bool add)
{
    float tile[FLOAT_MAX_ROWS * FLOAT_COLUMNS];

    if (columns == (strip->is_half ? FLOAT_HALF : FLOAT_COLUMNS)) {
        kernel->tile(c, g->ldc, panel, strip, add);
        return;
    }
    kernel->tile(tile, FLOAT_COLUMNS, panel, strip, false);
    for (size_t r = 0; r < panel->rows; r++)
        for (size_t i = 0; i < columns; i++) {
            float sum = tile[r * FLOAT_COLUMNS + i], *to = &c[r * g->ldc + i];

            *to = add ? *to + sum : sum;
        }
}

/* A strip in float32, and as tiles of bfloat16. */
struct strip_memory {
    _Alignas(CACHE_LINE) float packed[STRIP_FLOATS];
    _Alignas(CACHE_LINE) char tiles[STRIP_TILES_BYTES];
};

static struct float_strip make_strip(const struct float_kernel *kernel, const struct gemm *g,
                                     size_t n, size_t k, size_t n_k, struct strip_memory *memory)
{
    struct float_strip strip = {.data = strip_of(packer(kernel), g, n, k, n_k, memory->packed),
                                .K = n_k};

    if (kernel->parts != NULL) {
        kernel->parts->strip(memory->tiles, strip.data, n_k);
        strip.data = memory->tiles;
    } else {
        strip.is_half = g->N - n <= FLOAT_HALF;
    }
    return strip;
}

static void run_block(const struct float_kernel *kernel, const struct gemm *g,
                      const struct block *block, size_t k, struct strip_memory *memory)
{
    size_t n_k = MIN(g->K - k, kernel->group);
    size_t finished = 0;

    if (block->packed != NULL)
        pack_block(kernel, g, block, k, n_k);
    for (size_t n = 0; n < g->N; n += FLOAT_COLUMNS) {
        size_t columns = MIN(g->N - n, (size_t)FLOAT_COLUMNS);
        struct float_strip strip = make_strip(kernel, g, n, k, n_k, memory);
        const char *at = block->packed != NULL ? block->packed
                                               : (const char *)(g->a + block->first * g->lda + k);
        float *c = g->c + block->first * g->ldc + n;

        for (size_t p = 0; p < block->n_panels; p++) {
            const struct float_panel panel = panel_at(g, block, p, at);

            fetch_ahead(g, n + FLOAT_COLUMNS, k, p, block->n_panels, &strip);
            strip.to = c;
            strip.ldto = g->ldc;
            multiply(kernel, g, c, &panel, &strip, columns, g->then.add || k > 0);
            at += panel_bytes(kernel, &panel, n_k);
            c += panel.rows * g->ldc;
        }
        if (k + n_k == g->K && (n + columns == g->N || n + columns - finished == LONG_ROW)) {
            finish(g, block, finished, n + columns);
            finished = n + columns;
        }
    }
}

void gemm_run_with(const struct float_kernel *kernel, const struct gemm *g)
{
    _Alignas(CACHE_LINE) char packed[BLOCK_BYTES];
    struct strip_memory strip;
    size_t n_blocks = (g->M + kernel->block_rows - 1) / kernel->block_rows;
    struct block block = {.packed = is_loose(kernel, g) ? NULL : packed};

    for (size_t i = 0; i < n_blocks; i++, block.first += block.rows) {
        block.rows = g->M / n_blocks + (i < g->M % n_blocks);
        block.n_panels = (block.rows + kernel->rows - 1) / kernel->rows;
        if (kernel->parts != NULL)
            kernel->parts->begin(panel_rows(&block, 0));
        for (size_t k = 0; k < g->K; k += kernel->group)
            run_block(kernel, g, &block, k, &strip);
        if (kernel->parts != NULL)
            kernel->parts->end();
    }
}

void gemm_run(const struct gemm *g)
{
    bool amx = g->any_order && gemm_state.amx != NULL && is_bf16(g->layout);

    gemm_run_with(amx ? gemm_state.amx : gemm_state.kernel, g);
}

static float element_of_b(const struct gemm *g, size_t k, size_t n)
{
    size_t in_strip = (n / FLOAT_COLUMNS * g->K + k) * FLOAT_COLUMNS + n % FLOAT_COLUMNS;
    size_t at = is_packed(g->layout) ? in_strip : n * g->ldb + k;
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
    float *memory, *want, *half; /* `half` is room for b in bfloat16 */
};

static enum status trial_init(struct trial *trial, size_t M, size_t N, size_t K, bool add,
                              struct error *err)
{
    size_t n = M * K + 2 * N * K + N + 2 * (M * N + 1);
    float *memory = malloc(n * sizeof *memory), *bias;
    struct philox rng;

    if (memory == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate the self-test of products");
    philox_init(&rng, 1, bytes_view_of("gemm", 4), PHILOX_STAGE_SELECT, (uint32_t)(M * 31 + N));
    for (size_t i = 0; i < n; i++)
        memory[i] = philox_f32(&rng) - 0.5f;
    bias = memory + M * K + 2 * N * K;
    *trial = (struct trial){
        .memory = memory, .want = bias + N + M * N + 1, .half = memory + M * K + N * K};
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
    if (layout == GEMM_ROWS_BF16) {
        convert_to_bf16(trial.g.b, shape[1] * shape[2], (uint16_t *)(void *)trial.half);
        trial.g.b = trial.half;
    }
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
    static const size_t shapes[][3] = {{1, 1, 1},     {1, 64, 77},  {5, 3, 9},   {17, 33, 129},
                                       {15, 40, 257}, {29, 9, 512}, {15, 48, 77}};
    bool bf16 = kernel->parts != NULL;
    enum status st = ST_OK;

    for (size_t i = 0; i < ARRAY_LEN(shapes) && st == ST_OK; i++)
        for (int add = 0; add < 2 && st == ST_OK; add++) {
            st = check_shape(kernel, shapes[i], bf16 ? GEMM_ROWS_BF16 : GEMM_ROWS, add, err);
            if (st == ST_OK && !bf16)
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

static void log_refused(const struct float_kernel *kernel, const struct error *err)
{
    log_at(LOG_WARN, "kernel_refused", "kernel=%s reason=\"%s\"", kernel->name, err->message);
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
            log_refused(&kernels[i], &gemm_state.error);
    }
    if (n_right > 0)
        gemm_state.status = choose(right, n_right, &gemm_state.error);
}

/* It is not timed: what it adds up in its own order is to depend on the processor alone. */
static void take_amx(void)
{
    const struct float_kernel *amx = float_amx();
    struct error err = {0};

    if (amx == NULL)
        return;
    if (self_test(amx, &err) == ST_OK)
        gemm_state.amx = amx;
    else
        log_refused(amx, &err);
}

static void init(void)
{
    size_t n;
    const struct float_kernel *kernels = float_kernels(&n);

    take_best(kernels, n);
    take_amx();
}

enum status gemm_init(struct error *err)
{
    (void)pthread_once(&once, init);
    if (gemm_state.status != ST_OK)
        *err = gemm_state.error;
    return gemm_state.status;
}

const struct float_kernel *gemm_kernel(void)
{
    return gemm_state.kernel;
}

const char *gemm_kernel_name(void)
{
    return gemm_state.kernel != NULL ? gemm_state.kernel->name : "";
}

const char *gemm_bf16_kernel_name(void)
{
    return gemm_state.amx != NULL ? gemm_state.amx->name : gemm_kernel_name();
}
