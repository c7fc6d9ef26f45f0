#include "reinforce/nn/strassen.h"

#include "reinforce/nn/float_kernels.h"
#include "reinforce/nn/gemm.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { CACHE_LINE = 64, MIN_SIDE = 256 };

/* Of x and y: whose rows are in a sample's first half, whose columns in the matrix's. Of w^T: whose
 * k, whose columns. */
enum quarter { TOP_LEFT, TOP_RIGHT, BOTTOM_LEFT, BOTTOM_RIGHT, N_QUARTERS, NOWHERE = N_QUARTERS };

static bool is_bottom(enum quarter quarter)
{
    return quarter == BOTTOM_LEFT || quarter == BOTTOM_RIGHT;
}

static bool is_right(enum quarter quarter)
{
    return quarter == TOP_RIGHT || quarter == BOTTOM_RIGHT;
}

/* The products, in such an order that quarters of y are done early. Each is of a sum of x's
 * quarters (see pack_panel()) and a sum or difference of w's, and goes to up to two of y's, the
 * first of which it may leave finished. */
enum step { SET, ADD, SUBTRACT };

enum product {
    BOTH_DIAGONALS,  /* (x11 + x22) (w11 + w22) */
    BOTTOM_BY_FIRST, /* (x21 + x22) w11 */
    LAST_BY_LEFT,    /* x22 (w21 - w11) */
    FIRST_BY_RIGHT,  /* x11 (w12 - w22) */
    TOP_BY_LAST,     /* (x11 + x12) w22 */
    LEFT_BY_TOP,     /* (x21 - x11) (w11 + w12) */
    RIGHT_BY_BOTTOM, /* (x12 - x22) (w21 + w22) */
    N_PRODUCTS,
};

static const struct recipe {
    struct {
        enum quarter quarter, other;
        enum step step; /* from the first to the other */
    } w;
    struct {
        enum quarter quarter;
        enum step step;
    } to[2];
    bool finishes;
} recipes[N_PRODUCTS] = {
    [BOTH_DIAGONALS] = {.w = {TOP_LEFT, BOTTOM_RIGHT, ADD},
                        .to = {{TOP_LEFT, SET}, {BOTTOM_RIGHT, SET}}},
    [BOTTOM_BY_FIRST] = {.w = {TOP_LEFT, NOWHERE, SET},
                         .to = {{BOTTOM_LEFT, SET}, {BOTTOM_RIGHT, SUBTRACT}}},
    [LAST_BY_LEFT] = {.w = {BOTTOM_LEFT, TOP_LEFT, SUBTRACT},
                      .to = {{BOTTOM_LEFT, ADD}, {TOP_LEFT, ADD}},
                      .finishes = true},
    [FIRST_BY_RIGHT] = {.w = {TOP_RIGHT, BOTTOM_RIGHT, SUBTRACT},
                        .to = {{TOP_RIGHT, SET}, {BOTTOM_RIGHT, ADD}}},
    [TOP_BY_LAST] = {.w = {BOTTOM_RIGHT, NOWHERE, SET},
                     .to = {{TOP_RIGHT, ADD}, {TOP_LEFT, SUBTRACT}},
                     .finishes = true},
    [LEFT_BY_TOP] = {.w = {TOP_LEFT, TOP_RIGHT, ADD},
                     .to = {{BOTTOM_RIGHT, ADD}, {NOWHERE, SET}},
                     .finishes = true},
    [RIGHT_BY_BOTTOM] = {.w = {BOTTOM_LEFT, BOTTOM_RIGHT, ADD},
                         .to = {{TOP_LEFT, ADD}, {NOWHERE, SET}},
                         .finishes = true},
};

bool strassen_fits(size_t out, size_t in)
{
    return in % 2 == 0 && in >= MIN_SIDE && out >= MIN_SIDE;
}

/* Values of k, from k on, that are one chain of sums: a half is cut into as few as there can be,
 * all but the last of one length. */
static size_t group_length(size_t in, size_t k)
{
    size_t n_groups = (in / 2 + GEMM_GROUP - 1) / GEMM_GROUP;

    return MIN((in / 2 + n_groups - 1) / n_groups, in / 2 - k);
}

/* Where a half of the columns begins. The left one is whole strips, the right may be shorter. */
static size_t first_column(size_t out, bool right)
{
    return right ? (out + 2 * FLOAT_COLUMNS - 1) / (2 * FLOAT_COLUMNS) * FLOAT_COLUMNS : 0;
}

/* How many of columns [n, n + 32) of a half there are. */
static size_t columns_at(size_t out, bool right, size_t n)
{
    size_t first = first_column(out, right) + n;

    return first < out ? MIN(out - first, (size_t)FLOAT_COLUMNS) : 0;
}

KERNEL_CLONES static void step_floats(float *restrict to, const float *restrict from, size_t n,
                                      enum step step)
{
    switch (step) {
    case SET:
        memcpy(to, from, n * sizeof *to);
        break;
    case ADD:
        for (size_t i = 0; i < n; i++)
            to[i] += from[i];
        break;
    case SUBTRACT:
        for (size_t i = 0; i < n; i++)
            to[i] -= from[i];
        break;
    }
}

/* Rows of w that are 32 columns of each half of w^T; those behind the last are zeros. */
static void read_rows(const struct weights_stack *stack, size_t n, float *rows)
{
    for (int right = 0; right < 2; right++)
        for (size_t c = 0; c < FLOAT_COLUMNS; c++, rows += stack->in)
            if (c < columns_at(stack->out, right, n))
                weights_stack_row(stack, first_column(stack->out, right) + n + c, rows);
            else
                memset(rows, 0, stack->in * sizeof *rows);
}

/* Of 64 such rows the seven strips of n_k values of k, from k on in each half. `sum` is room for 32
 * rows of them. */
static void write_strips(const float *rows, size_t in, size_t k, size_t n_k, float *sum,
                         float *strips)
{
    size_t n_kernels;

    for (size_t p = 0; p < N_PRODUCTS; p++, strips += n_k * FLOAT_COLUMNS) {
        const enum quarter from[] = {recipes[p].w.quarter, recipes[p].w.other};
        const enum step step[] = {SET, recipes[p].w.step};

        for (int i = 0; i < 2 && from[i] != NOWHERE; i++)
            for (size_t c = 0; c < FLOAT_COLUMNS; c++) {
                const float *row = rows + (is_right(from[i]) * FLOAT_COLUMNS + c) * in;

                step_floats(sum + c * n_k, row + is_bottom(from[i]) * (in / 2) + k, n_k, step[i]);
            }
        float_kernels(&n_kernels)->pack(strips, FLOAT_COLUMNS, sum, n_k, FLOAT_COLUMNS, n_k);
    }
}

static size_t strips_bytes(size_t out, size_t in)
{
    return N_PRODUCTS * first_column(out, true) * (in / 2) * sizeof(float);
}

size_t strassen_added_bytes(size_t out, size_t in)
{
    return strassen_fits(out, in) ? strips_bytes(out, in) - out * in * sizeof(float) : 0;
}

enum status strassen_matrix_load(struct weights *weights, const struct weights_stack *stack,
                                 struct strassen_matrix *matrix, struct error *err)
{
    size_t in = stack->in, n_columns = first_column(stack->out, true);
    float *strips = NULL, *rows = malloc(3 * FLOAT_COLUMNS * in * sizeof *rows);
    enum status st = rows != NULL
                         ? weights_alloc(weights, strips_bytes(stack->out, in), &strips, err)
                         : error_set(err, ST_NO_MEMORY, "could not allocate %d rows of weights",
                                     3 * FLOAT_COLUMNS);

    assert(strassen_fits(stack->out, in));
    for (size_t n = 0; n < n_columns && st == ST_OK; n += FLOAT_COLUMNS) {
        size_t n_k;

        read_rows(stack, n, rows);
        for (size_t k = 0; k < in / 2; k += n_k) {
            n_k = group_length(in, k);
            write_strips(rows, in, k, n_k, rows + 2 * FLOAT_COLUMNS * in,
                         strips + N_PRODUCTS * (k * n_columns + n * n_k));
        }
    }
    weights_drop_pages(weights);
    free(rows);
    *matrix = (struct strassen_matrix){.out = stack->out, .in = in, .strips = strips};
    return st;
}

/* Pairs of rows whose panels are packed at once, to stay in a core's second cache. */
enum {
    BLOCK_PAIRS = 154,
    OPERAND_FLOATS = BLOCK_PAIRS * GEMM_GROUP + FLOAT_SLACK,
};

/* Rows of the top half, or less than a sample's, and as many of the bottom, where it has them. */
struct panel {
    size_t row, rows, bottom_rows; /* the first: of x and of y */
    size_t first;                  /* pair of its block */
};

/* A block of pairs under way. */
struct work {
    const struct float_kernel *kernel;
    const struct strassen_matrix *w;
    const float *x;
    float *y;
    const struct epilogue *then;
    size_t half; /* rows from a pair's first to its second */
    size_t n_panels;
    struct panel panels[BLOCK_PAIRS];
    _Alignas(CACHE_LINE) float operands[N_PRODUCTS][OPERAND_FLOATS]; /* panels behind each other */
    /* 32 columns of each half of y, rows together: of a group's sums */
    _Alignas(CACHE_LINE) float quarters[N_QUARTERS][BLOCK_PAIRS * FLOAT_COLUMNS];
};

/* Sums and differences of the quarters of x, n values each, that products are made of; the
 * differences take the place of x12 and x21. */
KERNEL_CLONES static void sum_quarters(const float *restrict x11, float *restrict x12,
                                       float *restrict x21, const float *restrict x22,
                                       float *restrict diagonal, float *restrict bottom,
                                       float *restrict top, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        diagonal[i] = x11[i] + x22[i];
        bottom[i] = x21[i] + x22[i];
        top[i] = x11[i] + x12[i];
        x21[i] -= x11[i];
        x12[i] -= x22[i];
    }
}

/* The first factors of the products. */
static void pack_panel(struct work *work, const struct panel *panel, size_t k, size_t n_k)
{
    const struct float_kernel *kernel = work->kernel;
    size_t in = work->w->in;
    const float *top = work->x + panel->row * in + k;
    const float *bottom = panel->bottom_rows > 0 ? top + work->half * in : top;
    float *to[N_PRODUCTS];

    for (size_t p = 0; p < N_PRODUCTS; p++)
        to[p] = work->operands[p] + panel->first * n_k;
    kernel->pack(to[FIRST_BY_RIGHT], panel->rows, top, in, panel->rows, n_k);
    kernel->pack(to[RIGHT_BY_BOTTOM], panel->rows, top + in / 2, in, panel->rows, n_k);
    kernel->pack(to[LEFT_BY_TOP], panel->rows, bottom, in, panel->bottom_rows, n_k);
    kernel->pack(to[LAST_BY_LEFT], panel->rows, bottom + in / 2, in, panel->bottom_rows, n_k);
    sum_quarters(to[FIRST_BY_RIGHT], to[RIGHT_BY_BOTTOM], to[LEFT_BY_TOP], to[LAST_BY_LEFT],
                 to[BOTH_DIAGONALS], to[BOTTOM_BY_FIRST], to[TOP_BY_LAST], panel->rows * n_k);
}

/* What a panel adds to 32 columns of y. */
struct result {
    float *sum; /* [rows][32] */
    float *y;   /* [rows, columns], rows w->out apart */
    size_t rows, columns;
    const float *bias; /* of the columns; or NULL */
};

static struct result result_at(struct work *work, const struct panel *panel, enum quarter quarter,
                               size_t n)
{
    size_t out = work->w->out, column = first_column(out, is_right(quarter)) + n;
    size_t row = panel->row + (is_bottom(quarter) ? work->half : 0);
    size_t columns = columns_at(out, is_right(quarter), n);

    return (struct result){
        .sum = work->quarters[quarter] + panel->first * FLOAT_COLUMNS,
        .rows = is_bottom(quarter) ? panel->bottom_rows : panel->rows,
        .columns = columns,
        .y = work->y + row * out + column,
        .bias = work->then->bias != NULL ? work->then->bias + column : NULL,
    };
}

/* `columns` is a constant when inlined. */
static ALWAYS_INLINE void add_columns(float *restrict sum, const float *restrict y, size_t ldy,
                                      size_t rows, const size_t columns)
{
    for (size_t r = 0; r < rows; r++, sum += FLOAT_COLUMNS, y += ldy)
        for (size_t c = 0; c < columns; c++)
            sum[c] += y[c];
}

KERNEL_CLONES static void add_rows(const struct result *r, const float *y, size_t ldy)
{
    if (r->columns == FLOAT_COLUMNS)
        add_columns(r->sum, y, ldy, r->rows, FLOAT_COLUMNS);
    else
        add_columns(r->sum, y, ldy, r->rows, r->columns);
}

static void move_rows(const struct result *r, size_t ldy)
{
    for (size_t i = 0; i < r->rows; i++) {
        const float *sum = r->sum + i * FLOAT_COLUMNS;

        if (r->columns == FLOAT_COLUMNS)
            memcpy(r->y + i * ldy, sum, FLOAT_COLUMNS * sizeof *sum);
        else
            memcpy(r->y + i * ldy, sum, r->columns * sizeof *sum);
    }
}

/* The sums of a group, or with the last one the whole product and what follows it, while its rows
 * lie together. */
static void finish(const struct work *work, const struct result *r, bool add, bool last)
{
    size_t out = work->w->out;

    if (add)
        add_rows(r, r->y, out);
    if (last && r->bias != NULL)
        add_rows(r, r->bias, 0);
    if (last && work->then->activation != NULL)
        work->then->activation(r->sum, r->rows * FLOAT_COLUMNS);
    move_rows(r, out);
}

/* One of the products with all panels. */
static void multiply(struct work *work, enum product product, size_t n, size_t k,
                     struct float_strip *strip)
{
    const struct recipe *recipe = &recipes[product];
    size_t bytes = strip->K * FLOAT_COLUMNS * sizeof(float);
    size_t share = (bytes + work->n_panels - 1) / work->n_panels;
    bool add = k > 0 || work->then->add, last = k + strip->K == work->w->in / 2;
    /* what goes there and nowhere else, or is there first */
    bool direct = recipe->to[0].step == SET || recipe->to[1].quarter == NOWHERE;

    /* each panel fetches its part of the next strip */
    strip->ahead = (const char *)strip->data + bytes;
    strip->ahead_step = (share + strip->K - 1) / strip->K;
    for (size_t p = 0; p < work->n_panels; p++, strip->ahead += share) {
        const struct panel *panel = &work->panels[p];
        const struct float_panel x = {.data = work->operands[product] + panel->first * strip->K,
                                      .rows = panel->rows,
                                      .tallest = panel->rows};
        const struct result result = result_at(work, panel, recipe->to[0].quarter, n);
        _Alignas(CACHE_LINE) float tile[FLOAT_MAX_ROWS * FLOAT_COLUMNS];
        float *sums = direct ? result.sum : tile;

        strip->to = recipe->finishes ? result.y : result.sum;
        strip->ldto = recipe->finishes ? work->w->out : FLOAT_COLUMNS;
        work->kernel->tile(sums, FLOAT_COLUMNS, &x, strip, direct && recipe->to[0].step == ADD);
        for (int i = direct; i < 2 && recipe->to[i].quarter != NOWHERE; i++)
            step_floats(work->quarters[recipe->to[i].quarter] + panel->first * FLOAT_COLUMNS, sums,
                        panel->rows * FLOAT_COLUMNS, recipe->to[i].step);
        if (recipe->finishes)
            finish(work, &result, add, last);
    }
}

static void run_block(struct work *work)
{
    size_t in = work->w->in, n_columns = first_column(work->w->out, true);
    struct float_strip strip = {.data = work->w->strips};

    for (size_t k = 0; k < in / 2; k += strip.K) {
        strip.K = group_length(in, k);
        for (size_t p = 0; p < work->n_panels; p++)
            pack_panel(work, &work->panels[p], k, strip.K);
        for (size_t n = 0; n < n_columns; n += FLOAT_COLUMNS)
            for (size_t p = 0; p < N_PRODUCTS; p++) {
                multiply(work, (enum product)p, n, k, &strip);
                strip.data = (const float *)strip.data + strip.K * FLOAT_COLUMNS;
            }
    }
}

/* Panel `i` of all: each sample is cut into `n_panels`, of nearly the same number of pairs. */
static struct panel cut_panel(size_t T, size_t n_panels, size_t i)
{
    size_t half = (T + 1) / 2, sample = i / n_panels, panel = i % n_panels;
    size_t longer = half % n_panels, rows = half / n_panels;
    size_t first = panel * rows + MIN(panel, longer);

    rows += panel < longer;
    return (struct panel){
        .row = sample * T + first, .rows = rows, .bottom_rows = MIN(rows, T - half - first)};
}

void strassen_product_with(const struct float_kernel *kernel, const struct strassen_matrix *w,
                           float *y, const float *x, size_t n, size_t T,
                           const struct epilogue *then)
{
    size_t half = (T + 1) / 2, in_sample = (half + kernel->rows - 1) / kernel->rows;
    size_t tallest = (half + in_sample - 1) / in_sample, at_once = BLOCK_PAIRS / tallest;
    size_t n_panels = n * in_sample, n_blocks = (n_panels + at_once - 1) / at_once, panel = 0;
    struct work work;

    work.kernel = kernel;
    work.w = w;
    work.x = x;
    work.y = y;
    work.then = then;
    work.half = half;
    for (size_t b = 0; b < n_blocks; b++) {
        size_t first = 0;

        work.n_panels = n_panels / n_blocks + (b < n_panels % n_blocks);
        assert(work.n_panels > 0);
        for (size_t p = 0; p < work.n_panels; p++, panel++) {
            work.panels[p] = cut_panel(T, in_sample, panel);
            work.panels[p].first = first;
            first += work.panels[p].rows;
        }
        run_block(&work);
    }
}

void strassen_product(const struct strassen_matrix *w, float *y, const float *x, size_t n, size_t T,
                      const struct epilogue *then)
{
    strassen_product_with(gemm_kernel(), w, y, x, n, T, then);
}
