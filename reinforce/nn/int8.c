#include "reinforce/nn/int8.h"

#include "reinforce/nn/int8_kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    QUANTIZED_MAX = 127,
    ZERO = 128,
    LINE = 64,
    /* Panels that a tile of rows meets before the next: what stays in a core's second cache. */
    BLOCK_PANELS = 8,
    BLOCK_BYTES = 1 << 20,
};

static const float smallest = 0x1p-100f; /* 127 / magnitude is far from overflow */
static const uint32_t infinity_bits = 0x7f800000u;

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* Of magnitudes as bits NaN is above infinity and that above all others. */
static ALWAYS_INLINE uint32_t magnitude_bits(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffffu;
}

/* The nearest integer of a small number, ties to even: adding 1.5 * 2^23 leaves it in the low bits.
 */
static ALWAYS_INLINE int32_t nearest(float x)
{
    float shifted = x + 0x1.8p23f;
    int32_t bits;

    memcpy(&bits, &shifted, sizeof bits);
    return bits - 0x4b400000;
}

KERNEL_CLONES static uint32_t largest_bits(const float *x, size_t n)
{
    uint32_t largest = 0;

    for (size_t i = 0; i < n; i++)
        largest = MAX(largest, magnitude_bits(x[i]));
    return largest;
}

KERNEL_CLONES static void quantize_part(const float *x, size_t n, float inverse, int8_t *q)
{
    for (size_t i = 0; i < n; i++)
        q[i] = (int8_t)nearest(x[i] * inverse);
}

/* Of a row whose largest magnitude has these bits, and what its values are multiplied by: 127 /
 * largest or 0. */
static ALWAYS_INLINE float scale_from(uint32_t bits, float *inverse)
{
    float largest;

    memcpy(&largest, &bits, sizeof largest);
    *inverse = 0;
    if (bits >= infinity_bits)
        return NAN;
    if (largest < smallest)
        return 0;
    *inverse = (float)QUANTIZED_MAX / largest;
    return largest / (float)QUANTIZED_MAX;
}

static float scale_of(const float *x, size_t n, float *inverse)
{
    return scale_from(largest_bits(x, n), inverse);
}

/* All are 0 where `inverse` is, whatever x holds. */
static void quantize(const float *x, size_t n, float inverse, int8_t *q)
{
    if (inverse > 0)
        quantize_part(x, n, inverse, q);
    else
        memset(q, 0, n);
}

float int8_quantize_vector(const float *x, size_t n, int8_t *q)
{
    float inverse, scale = scale_of(x, n, &inverse);

    quantize(x, n, inverse, q);
    return scale;
}

static size_t n_groups(size_t K)
{
    return (K + INT8_GROUP - 1) / INT8_GROUP;
}

static size_t tile_bytes(size_t rows, size_t K)
{
    return n_groups(K) * int8_group_bytes(rows);
}

/* The tile that begins with row `first`. */
static const int8_t *tile_at(const struct int8_rows *x, size_t first)
{
    return x->data + first / INT8_ROWS * tile_bytes(INT8_ROWS, x->K);
}

size_t int8_rows_floats(size_t T, size_t K)
{
    size_t bytes = T / INT8_ROWS * tile_bytes(INT8_ROWS, K) + tile_bytes(T % INT8_ROWS, K);

    return (LINE + bytes + INT8_SLACK) / sizeof(float);
}

/* As scale_of() and quantize(), and the offset: of a whole group, whose loops have no rest. */
static ALWAYS_INLINE float quantize_group(const float *restrict x, int8_t *restrict q,
                                          int32_t *offset)
{
    uint32_t largest = 0;
    float inverse, scale;
    int32_t sum = 0;

    for (size_t i = 0; i < INT8_GROUP; i++)
        largest = MAX(largest, magnitude_bits(x[i]));
    scale = scale_from(largest, &inverse);
    if (inverse > 0)
        for (size_t i = 0; i < INT8_GROUP; i++) {
            int32_t value = nearest(x[i] * inverse);

            q[i] = (int8_t)value;
            sum += value;
        }
    else
        memset(q, 0, INT8_GROUP);
    *offset = -ZERO * sum;
    return scale;
}

/* The r-th of a tile's `rows` rows. */
KERNEL_CLONES static void quantize_row(const float *x, size_t K, int8_t *tile, size_t r,
                                       size_t rows)
{
    float filled[INT8_GROUP] = {0};

    for (size_t k = 0; k < K; k += INT8_GROUP, tile += int8_group_bytes(rows)) {
        const float *values = x + k;
        int32_t offset;
        float scale;

        if (K - k < INT8_GROUP)
            values = memcpy(filled, values, (K - k) * sizeof *filled);
        scale = quantize_group(values, tile + int8_head_bytes(rows) + r * INT8_GROUP, &offset);
        memcpy(tile + 4 * r, &scale, sizeof scale);
        memcpy(tile + 4 * (rows + r), &offset, sizeof offset);
    }
}

struct int8_rows int8_quantize(const float *x, size_t T, size_t K, float *memory)
{
    int8_t *tile = (int8_t *)memory + (LINE - (uintptr_t)memory % LINE) % LINE;
    const struct int8_rows rows = {.T = T, .K = K, .data = tile};

    for (size_t first = 0; first < T; first += INT8_ROWS) {
        size_t n = MIN(T - first, (size_t)INT8_ROWS);

        for (size_t r = 0; r < n; r++, x += K)
            quantize_row(x, K, tile, r, n);
        tile += tile_bytes(n, K);
    }
    return rows;
}

static size_t n_panels(size_t out)
{
    return (out + INT8_COLUMNS - 1) / INT8_COLUMNS;
}

size_t int8_matrix_bytes(size_t out, size_t in)
{
    return n_panels(out) * (int8_panel_bytes(in) + INT8_COLUMNS * sizeof(float));
}

/* A matrix while it is written. */
struct writing {
    uint8_t *panels;
    float *scale;
    size_t in;
    float *row; /* [in] */
    int8_t *q;  /* [in, filled up with zeros] */
};

static void pack_row(const struct writing *w, size_t n)
{
    uint8_t *quad = w->panels + n / INT8_COLUMNS * int8_panel_bytes(w->in) + n % INT8_COLUMNS * 4;
    uint32_t four;
    float inverse;

    w->scale[n] = scale_of(w->row, w->in, &inverse);
    quantize(w->row, w->in, inverse, w->q);
    for (size_t k = 0; k < round_up(w->in, INT8_GROUP); k += 4, quad += (size_t)INT8_COLUMNS * 4) {
        memcpy(&four, w->q + k, sizeof four);
        four ^= 0x80808080u; /* adds 128 to each */
        memcpy(quad, &four, sizeof four);
    }
}

static enum status pack_tensor(const struct writing *w, const struct tensor *tensor, size_t first,
                               struct error *err)
{
    for (size_t r = 0; r < tensor->shape[0]; r++) {
        tensor_row(tensor, r, w->row);
        pack_row(w, first + r);
        if (isnan(w->scale[first + r]))
            return error_set(err, ST_CORRUPT, "tensor \"%s\" holds a NaN or an infinity",
                             tensor->name);
    }
    return ST_OK;
}

enum status int8_matrix_load(struct weights *weights, const char *prefix, const char *const *names,
                             size_t n, size_t out, size_t in, struct int8_matrix *matrix,
                             struct error *err)
{
    struct writing w = {.in = in};
    const struct tensor *tensor;
    enum status st = ST_OK;

    *matrix = (struct int8_matrix){.out = n * out, .in = in};
    for (size_t i = 0; i < n && st == ST_OK; i++) /* the size is right before it is allocated */
        st = weights_get_stored(weights, prefix, names[i], WEIGHTS_SHAPE(out, in), &tensor, err);
    if (st == ST_OK)
        st = weights_alloc(weights, int8_matrix_bytes(n * out, in), &w.panels, err);
    if (st != ST_OK)
        return st;
    w.scale = (float *)(void *)(w.panels + n_panels(n * out) * int8_panel_bytes(in));
    if (n * out % INT8_COLUMNS != 0) { /* columns that fill up */
        memset(w.panels + n * out / INT8_COLUMNS * int8_panel_bytes(in), 0, int8_panel_bytes(in));
        memset(w.scale + n * out / INT8_COLUMNS * INT8_COLUMNS, 0, INT8_COLUMNS * sizeof *w.scale);
    }
    w.row = calloc(round_up(in, INT8_GROUP), sizeof *w.row + sizeof *w.q);
    if (w.row == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a row of weights");
    w.q = (int8_t *)(w.row + round_up(in, INT8_GROUP));
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        st = weights_get_stored(weights, prefix, names[i], WEIGHTS_SHAPE(out, in), &tensor, err);
        if (st == ST_OK)
            st = pack_tensor(&w, tensor, i * out, err);
        weights_drop_pages(weights);
    }
    free(w.row);
    matrix->panels = w.panels;
    matrix->scale = w.scale;
    return st;
}

static ALWAYS_INLINE void finish_panel(float *restrict y, const float *restrict total,
                                       const float *restrict scale, const float *restrict bias,
                                       const size_t columns, const bool add)
{
    for (size_t c = 0; c < columns; c++) {
        float sum = total[c] * scale[c] + bias[c];

        y[c] = add ? y[c] + sum : sum;
    }
}

/* A row of y: panels' scales, biases and what is added to. A whole panel's width is a constant. */
KERNEL_CLONES static void finish_row(float *y, const float *total, const float *scale,
                                     const float *bias, size_t columns, bool add)
{
    static const float no_bias[INT8_COLUMNS];

    for (size_t c = 0; c < columns; c += INT8_COLUMNS, total += INT8_TOTALS) {
        const float *b = bias != NULL ? bias + c : no_bias;

        if (columns - c < INT8_COLUMNS)
            finish_panel(y + c, total, scale + c, b, columns - c, add);
        else if (add)
            finish_panel(y + c, total, scale + c, b, INT8_COLUMNS, true);
        else
            finish_panel(y + c, total, scale + c, b, INT8_COLUMNS, false);
    }
}

/* A product under way. */
struct product {
    const struct int8_kernel *kernel;
    const struct int8_matrix *w;
    const struct int8_rows *x;
    const struct epilogue *then;
    size_t N;
    float *y;
};

/* A tile of rows from `r` on times a few panels: columns [first, end). */
static void multiply(const struct product *p, size_t r, size_t first, size_t end)
{
    _Alignas(64) float total[BLOCK_PANELS * INT8_TOTALS];
    size_t rows = MIN(p->x->T - r, (size_t)INT8_ROWS), K = p->x->K;

    p->kernel->tile(total, tile_at(p->x, r), rows,
                    p->w->panels + first / INT8_COLUMNS * int8_panel_bytes(K),
                    n_panels(end - first), K);
    for (size_t i = 0; i < rows; i++) {
        float *y = p->y + (r + i) * p->N + first;

        finish_row(y, total + i * INT8_COLUMNS, p->w->scale + first,
                   p->then->bias != NULL ? p->then->bias + first : NULL, end - first, p->then->add);
        if (p->then->activation != NULL)
            p->then->activation(y, end - first);
    }
}

void int8_product_with(const struct int8_kernel *kernel, const struct int8_matrix *w, size_t N,
                       float *y, const struct int8_rows *x, const struct epilogue *then)
{
    const struct product p = {.kernel = kernel, .w = w, .x = x, .then = then, .N = N, .y = y};
    size_t fitting = MAX((size_t)BLOCK_BYTES / int8_panel_bytes(x->K), (size_t)1);
    size_t block = MIN(fitting, (size_t)BLOCK_PANELS) * INT8_COLUMNS;

    if (p.kernel->begin != NULL)
        p.kernel->begin();
    for (size_t first = 0; first < N; first += block)
        for (size_t r = 0; r < x->T; r += INT8_ROWS)
            multiply(&p, r, first, MIN(first + block, N));
    if (p.kernel->end != NULL)
        p.kernel->end();
}

void int8_product(const struct int8_matrix *w, size_t N, float *y, const struct int8_rows *x,
                  const struct epilogue *then)
{
    int8_product_with(int8_kernel_for(x->T), w, N, y, x, then);
}

/* Value k of row t, and its group's scale. */
static int value_of(const struct int8_rows *x, size_t t, size_t k, float *scale)
{
    size_t first = t / INT8_ROWS * INT8_ROWS, rows = MIN(x->T - first, (size_t)INT8_ROWS);
    const int8_t *group = tile_at(x, first) + k / INT8_GROUP * int8_group_bytes(rows);

    memcpy(scale, group + 4 * (t - first), sizeof *scale);
    return group[int8_head_bytes(rows) + (t - first) * INT8_GROUP + k % INT8_GROUP];
}

void int8_product_ref(const struct int8_matrix *w, size_t N, float *y, const struct int8_rows *x,
                      const struct epilogue *then)
{
    for (size_t t = 0; t < x->T; t++)
        for (size_t n = 0; n < N; n++) {
            const uint8_t *panel = w->panels + n / INT8_COLUMNS * int8_panel_bytes(x->K);
            float total = 0, scale = 0;

            for (size_t first = 0; first < x->K; first += INT8_GROUP) {
                int32_t sum = 0;

                for (size_t k = first; k < MIN(x->K, first + INT8_GROUP); k++)
                    sum += value_of(x, t, k, &scale) *
                           (panel[(k / 4 * INT8_COLUMNS + n % INT8_COLUMNS) * 4 + k % 4] - ZERO);
                total += (float)sum * scale;
            }
            total *= w->scale[n];
            total += then->bias != NULL ? then->bias[n] : 0;
            y[t * N + n] = then->add ? y[t * N + n] + total : total;
            if (then->activation != NULL)
                then->activation(&y[t * N + n], 1);
        }
}
