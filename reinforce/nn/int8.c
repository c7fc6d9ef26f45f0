#include "reinforce/nn/int8.h"

#include "reinforce/nn/int8_kernels.h"
#include "reinforce/nn/int8_rounding.h"
#include "reinforce/nn/int8_rows.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    LINE = 64,
    BLOCK_BYTES = 1 << 20, /* of panels that a tile of rows meets before the next: they stay in a
                              core's second cache */
};

/* The tile that begins with row `first`. */
static struct int8_tile tile_at(const struct int8_rows *x, size_t first)
{
    return (struct int8_tile){
        .data = x->data + first / INT8_ROWS * int8_tile_bytes(INT8_ROWS, x->K, x->group),
        .rows = MIN(x->T - first, (size_t)INT8_ROWS),
        .K = x->K,
        .group = x->group,
        .w_is_far = first == 0,
    };
}

size_t int8_matrix_bytes(size_t out, size_t in)
{
    return int8_panels(out) * (int8_panel_bytes(in) + INT8_COLUMNS * sizeof(float));
}

struct int8_matrix int8_matrix_rows(const struct int8_matrix *matrix, size_t first, size_t n)
{
    return (struct int8_matrix){.out = n,
                                .in = matrix->in,
                                .panels = matrix->panels +
                                          first / INT8_COLUMNS * int8_panel_bytes(matrix->in),
                                .scale = matrix->scale + first};
}

float int8_pack_row(const float *x, size_t n, uint8_t *quads)
{
    float inverse, scale = int8_scale_of(x, n, &inverse);

    for (size_t k = 0; k < n; k += INT8_CHUNK) {
        int8_t q[INT8_CHUNK] = {0};

        int8_quantize_values(x + k, MIN(n - k, (size_t)INT8_CHUNK), inverse, q);
        for (size_t i = 0; i < INT8_CHUNK; i += INT8_QUAD, quads += INT8_QUAD * INT8_COLUMNS) {
            uint32_t quad;

            memcpy(&quad, q + i, sizeof quad);
            quad ^= INT8_ZERO_QUAD;
            memcpy(quads, &quad, sizeof quad);
        }
    }
    return scale;
}

/* A matrix while it is written. */
struct writing {
    uint8_t *panels;
    float *scale;
    size_t in;
};

static enum status begin(struct weights *weights, size_t out, size_t in, struct writing *w,
                         struct error *err)
{
    size_t whole = out / INT8_COLUMNS;
    enum status st = weights_alloc(weights, int8_matrix_bytes(out, in), &w->panels, err);

    if (st != ST_OK)
        return st;
    w->in = in;
    w->scale = (float *)(void *)(w->panels + int8_panels(out) * int8_panel_bytes(in));
    if (out % INT8_COLUMNS != 0) { /* columns that fill up */
        memset(w->panels + whole * int8_panel_bytes(in), 0, int8_panel_bytes(in));
        memset(w->scale + whole * INT8_COLUMNS, 0, INT8_COLUMNS * sizeof *w->scale);
    }
    return ST_OK;
}

static enum status write_row(const struct writing *w, size_t n, const float *row, const char *name,
                             struct error *err)
{
    w->scale[n] = int8_pack_row(row, w->in, int8_quads_at(w->panels, w->in, n));
    return !isnan(w->scale[n])
               ? ST_OK
               : error_set(err, ST_CORRUPT, "tensor \"%s\" holds a NaN or an infinity", name);
}

enum status int8_matrix_load(struct weights *weights, const char *prefix, const char *const *names,
                             size_t n, size_t out, size_t in, const float *row_scale,
                             struct int8_matrix *matrix, struct error *err)
{
    struct writing w = {.in = in};
    const struct tensor *tensor;
    float *row;
    enum status st = ST_OK;

    *matrix = (struct int8_matrix){.out = n * out, .in = in};
    for (size_t i = 0; i < n && st == ST_OK; i++) /* the size is right before it is allocated */
        st = weights_get_stored(weights, prefix, names[i], WEIGHTS_SHAPE(out, in), &tensor, err);
    if (st == ST_OK)
        st = begin(weights, n * out, in, &w, err);
    if (st != ST_OK)
        return st;
    row = malloc(MAX(in, (size_t)1) * sizeof *row);
    if (row == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a row of weights");
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        st = weights_get_stored(weights, prefix, names[i], WEIGHTS_SHAPE(out, in), &tensor, err);
        for (size_t r = 0; r < out && st == ST_OK; r++) {
            tensor_row(tensor, r, row);
            st = write_row(&w, i * out + r, row, tensor->name, err);
            if (row_scale != NULL)
                w.scale[i * out + r] *= row_scale[i * out + r];
        }
        weights_drop_pages(weights);
    }
    free(row);
    matrix->panels = w.panels;
    matrix->scale = w.scale;
    return st;
}

enum status int8_matrix_pack(struct weights *weights, const char *name, const float *w, size_t out,
                             size_t in, struct int8_matrix *matrix, struct error *err)
{
    struct writing writing = {.in = in};
    enum status st = begin(weights, out, in, &writing, err);

    for (size_t r = 0; r < out && st == ST_OK; r++)
        st = write_row(&writing, r, w + r * in, name, err);
    *matrix = (struct int8_matrix){
        .out = out, .in = in, .panels = writing.panels, .scale = writing.scale};
    return st;
}

/* A product under way. */
struct product {
    const struct int8_kernel *kernel;
    const struct int8_matrix *w;
    const struct int8_rows *x;
    const struct epilogue *then;
    size_t N, block; /* columns, and how many all rows meet before the next */
    float *y;        /* where it goes to, or */
    size_t ldy;
    int8_t *codes; /* rows of N values in groups of `group` */
    size_t group;
};

enum {
    AT_ONCE = INT8_PANELS * INT8_COLUMNS,
    BLOCK = 2 * AT_ONCE, /* of columns whose results become rows of int8, and how far */
    APART = BLOCK + 16,  /* those lie apart: of BLOCK, all would share a set of the cache */
};

/* n <= INT8_COLUMNS values; most often half of them, of which the compiler makes a vector. */
static ALWAYS_INLINE void copy_columns(float *restrict to, const float *restrict from, size_t n)
{
    enum { HALF = INT8_COLUMNS / 2 };

    if (n == HALF)
        memcpy(to, from, HALF * sizeof *to);
    else
        memcpy(to, from, n * sizeof *to);
}

static ALWAYS_INLINE void fill_up(float to[INT8_COLUMNS], const float *from, size_t n)
{
    memset(to, 0, INT8_COLUMNS * sizeof *to);
    copy_columns(to, from, n);
}

/* A tile times at most INT8_PANELS panels, the last of which may hang over the edge. */
static void multiply_panels(const struct product *p, const struct int8_tile *tile, float *y,
                            size_t ldy, size_t first, size_t end)
{
    static const float zeros[AT_ONCE];
    const uint8_t *w = p->w->panels + first / INT8_COLUMNS * int8_panel_bytes(tile->K);
    size_t columns = end - first, over = columns % INT8_COLUMNS, whole = columns - over;
    const float *bias = p->then->bias != NULL ? p->then->bias + first : zeros;
    struct int8_result to = {y, ldy, p->w->scale + first, bias, p->then->add};
    float edge[INT8_ROWS * INT8_COLUMNS], edge_bias[INT8_COLUMNS];

    if (whole > 0)
        p->kernel->tile(&to, tile, w, whole / INT8_COLUMNS);
    if (over == 0)
        return;
    for (size_t i = 0; i < tile->rows && to.add; i++)
        fill_up(edge + i * INT8_COLUMNS, y + i * ldy + whole, over);
    fill_up(edge_bias, bias + whole, over);
    to = (struct int8_result){edge, INT8_COLUMNS, to.scale + whole, edge_bias, to.add};
    p->kernel->tile(&to, tile, w + whole * int8_whole_chunks(tile->K), 1);
    for (size_t i = 0; i < tile->rows; i++)
        copy_columns(y + i * ldy + whole, edge + i * INT8_COLUMNS, over);
}

/* The tile that begins with row r asks for its part of the block behind `end`. Alone it would wait
 * for all of it. */
static void ask_for_next(const struct product *p, struct int8_tile *tile, size_t r, size_t end)
{
    size_t panel = int8_panel_bytes(p->x->K), n_tiles = (p->x->T + INT8_ROWS - 1) / INT8_ROWS;
    size_t lines = int8_panels(MIN(p->N - end, p->block)) * panel / LINE;
    size_t from = lines * (r / INT8_ROWS) / n_tiles;

    if (n_tiles == 1)
        return;
    tile->w_is_far = tile->w_is_far && end <= p->block;
    tile->next = p->w->panels + end / INT8_COLUMNS * panel + LINE * from;
    tile->next_lines = lines * (r / INT8_ROWS + 1) / n_tiles - from;
}

/* A tile of rows from `r` on times a few panels: columns [first, end). */
static void multiply(const struct product *p, size_t r, size_t first, size_t end)
{
    _Alignas(LINE) float rows[INT8_ROWS * APART];
    struct int8_tile tile = tile_at(p->x, r);
    size_t ldy = p->codes != NULL ? APART : p->ldy;
    float *y = p->codes != NULL ? rows : p->y + r * p->ldy + first;
    int8_t *codes = p->codes;

    if (codes != NULL)
        codes += r / INT8_ROWS * int8_tile_bytes(INT8_ROWS, p->N, p->group) +
                 first / p->group * int8_group_bytes(tile.rows, p->group);
    ask_for_next(p, &tile, r, end);
    for (size_t at = first; at < end; at += AT_ONCE) {
        multiply_panels(p, &tile, y + (at - first), ldy, at, MIN(at + AT_ONCE, end));
        tile.next_lines = 0; /* asked for by the first */
    }
    for (size_t i = 0; i < tile.rows; i++, y += ldy) {
        if (p->then->activation != NULL)
            p->then->activation(y, end - first);
        if (codes != NULL)
            int8_quantize_row(y, end - first, p->group, codes, i, tile.rows);
    }
}

/* Block after block, each for all rows. */
static void run(const struct product *p)
{
    if (p->kernel->begin != NULL)
        p->kernel->begin();
    for (size_t first = 0; first < p->N; first += p->block) {
        size_t end = MIN(first + p->block, p->N);

        for (size_t r = 0; r < p->x->T; r += INT8_ROWS)
            multiply(p, r, first, end);
    }
    if (p->kernel->end != NULL)
        p->kernel->end();
}

void int8_product_with(const struct int8_kernel *kernel, const struct int8_matrix *w, size_t N,
                       float *y, size_t ldy, const struct int8_rows *x, const struct epilogue *then)
{
    size_t fitting = MAX((size_t)BLOCK_BYTES / int8_panel_bytes(x->K), (size_t)1);

    if (x->T <= INT8_ROWS) /* no other tile meets them */
        fitting = INT8_PANELS;
    run(&(struct product){.kernel = kernel,
                          .w = w,
                          .x = x,
                          .then = then,
                          .N = N,
                          .block = MIN(fitting, (size_t)INT8_PANELS) * INT8_COLUMNS,
                          .y = y,
                          .ldy = ldy});
}

struct int8_rows int8_product_rows(const struct int8_matrix *w, size_t N, const struct int8_rows *x,
                                   const struct epilogue *then, size_t group, float *memory)
{
    int8_t *codes = int8_aligned(memory);

    assert(group <= BLOCK && !then->add);
    run(&(struct product){.kernel = int8_kernel_for(x->T),
                          .w = w,
                          .x = x,
                          .then = then,
                          .N = N,
                          .block = BLOCK / group * group,
                          .codes = codes,
                          .group = group});
    return (struct int8_rows){.T = x->T, .K = N, .group = group, .data = codes};
}

void int8_product(const struct int8_matrix *w, size_t N, float *y, size_t ldy,
                  const struct int8_rows *x, const struct epilogue *then)
{
    int8_product_with(int8_kernel_for(x->T), w, N, y, ldy, x, then);
}

/* Value k of row t, and its group's scale. */
static int value_of(const struct int8_rows *x, size_t t, size_t k, float *scale)
{
    const struct int8_tile tile = tile_at(x, t / INT8_ROWS * INT8_ROWS);
    size_t r = t % INT8_ROWS, in_group = k % x->group;
    const int8_t *group = tile.data + k / x->group * int8_group_bytes(tile.rows, x->group);

    memcpy(scale, group + 4 * r, sizeof *scale);
    return group[int8_head_bytes(tile.rows) + (in_group / INT8_CHUNK * tile.rows + r) * INT8_CHUNK +
                 in_group % INT8_CHUNK];
}

void int8_product_ref(const struct int8_matrix *w, size_t N, float *y, size_t ldy,
                      const struct int8_rows *x, const struct epilogue *then)
{
    for (size_t t = 0; t < x->T; t++)
        for (size_t n = 0; n < N; n++) {
            const uint8_t *panel = w->panels + n / INT8_COLUMNS * int8_panel_bytes(x->K);
            float *to = &y[t * ldy + n], total = 0, scale = 0;

            for (size_t first = 0; first < x->K; first += x->group) {
                int32_t sum = 0;

                for (size_t k = first; k < MIN(x->K, first + x->group); k++)
                    sum +=
                        value_of(x, t, k, &scale) *
                        (panel[(k / 4 * INT8_COLUMNS + n % INT8_COLUMNS) * 4 + k % 4] - INT8_ZERO);
                total += (float)sum * scale;
            }
            total *= w->scale[n];
            total += then->bias != NULL ? then->bias[n] : 0;
            *to = then->add ? *to + total : total;
            if (then->activation != NULL)
                then->activation(to, 1);
        }
}
