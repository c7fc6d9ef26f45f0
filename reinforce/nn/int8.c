#include "reinforce/nn/int8.h"

#include "reinforce/nn/int8_kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { QUANTIZED_MAX = 127, ZERO = 128, HEAD = sizeof(float) + sizeof(int32_t) };

static const float smallest = 0x1p-100f; /* 127 / magnitude is far from overflow */
static const uint32_t infinity_bits = 0x7f800000u;

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* Of n floats the largest magnitude; as bits, among which NaN is above infinity and that above all.
 */
KERNEL_CLONES static uint32_t largest_bits(const float *x, size_t n)
{
    uint32_t largest = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t bits;

        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7fffffffu;
        largest = MAX(largest, bits);
    }
    return largest;
}

/* x / scale: adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the low bits. */
KERNEL_CLONES static void quantize_part(const float *x, size_t n, float inverse, int8_t *q)
{
    for (size_t i = 0; i < n; i++) {
        float shifted = x[i] * inverse + 0x1.8p23f;
        uint32_t bits;

        memcpy(&bits, &shifted, sizeof bits);
        q[i] = (int8_t)(uint8_t)bits;
    }
}

/* Of a row, and 127 / largest or 0: what its values are multiplied by. */
static float scale_of(const float *x, size_t n, float *inverse)
{
    uint32_t bits = largest_bits(x, n);
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

/* Of a row in its tile: scales and sums of groups, and quads. */
static size_t row_bytes(size_t K)
{
    return n_groups(K) * HEAD + round_up(K, 4);
}

size_t int8_rows_floats(size_t T, size_t K)
{
    return T * row_bytes(K) / sizeof(float);
}

/* One group of the r-th of `rows` rows. */
static void quantize_group(const float *x, size_t n, int8_t *group, size_t r, size_t rows)
{
    float inverse, scale = scale_of(x, n, &inverse);
    int8_t q[INT8_GROUP] = {0}, *data = group + rows * HEAD + 4 * r;
    int32_t offset = 0;

    quantize(x, n, inverse, q);
    for (size_t i = 0; i < INT8_GROUP; i++)
        offset -= ZERO * q[i];
    memcpy(group + 4 * r, &scale, sizeof scale);
    memcpy(group + 4 * (rows + r), &offset, sizeof offset);
    for (size_t i = 0; i < n; i += 4, data += 4 * rows)
        memcpy(data, q + i, 4);
}

struct int8_rows int8_quantize(const float *x, size_t T, size_t K, float *memory)
{
    int8_t *tile = (int8_t *)memory;

    for (size_t first = 0; first < T; first += INT8_ROWS) {
        size_t n = MIN(T - first, (size_t)INT8_ROWS);

        for (size_t r = 0; r < n; r++, x += K) {
            int8_t *group = tile;

            for (size_t k = 0; k < K; k += INT8_GROUP) {
                size_t length = MIN(K - k, (size_t)INT8_GROUP);

                quantize_group(x + k, length, group, r, n);
                group += n * (HEAD + round_up(length, 4));
            }
        }
        tile += n * row_bytes(K);
    }
    return (struct int8_rows){.T = T, .K = K, .data = (const int8_t *)memory};
}

static size_t n_panels(size_t out)
{
    return (out + INT8_COLUMNS - 1) / INT8_COLUMNS;
}

static size_t panel_bytes(size_t in)
{
    return INT8_COLUMNS * round_up(in, 4);
}

size_t int8_matrix_bytes(size_t out, size_t in)
{
    return n_panels(out) * (panel_bytes(in) + INT8_COLUMNS * sizeof(float));
}

/* A matrix while it is written. */
struct writing {
    uint8_t *panels;
    float *scale;
    size_t in;
    float *row; /* [in] */
    int8_t *q;  /* [in, filled up] */
};

static void pack_row(const struct writing *w, size_t n)
{
    uint8_t *quad = w->panels + n / INT8_COLUMNS * panel_bytes(w->in) + n % INT8_COLUMNS * 4;
    uint32_t four;
    float inverse;

    w->scale[n] = scale_of(w->row, w->in, &inverse);
    quantize(w->row, w->in, inverse, w->q);
    for (size_t k = 0; k < w->in; k += 4, quad += (size_t)INT8_COLUMNS * 4) {
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
    w.scale = (float *)(void *)(w.panels + n_panels(n * out) * panel_bytes(in));
    if (n * out % INT8_COLUMNS != 0) { /* columns that fill up */
        memset(w.panels + n * out / INT8_COLUMNS * panel_bytes(in), 0, panel_bytes(in));
        memset(w.scale + n * out / INT8_COLUMNS * INT8_COLUMNS, 0, INT8_COLUMNS * sizeof *w.scale);
    }
    w.row = calloc(round_up(in, 4), sizeof *w.row + sizeof *w.q);
    if (w.row == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a row of weights");
    w.q = (int8_t *)(w.row + round_up(in, 4));
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

static const struct int8_kernel *kernel(void)
{
    size_t n;

    return int8_kernels(&n);
}

const char *int8_kernel_name(void)
{
    return kernel()->name;
}

/* Columns' scales, biases and what is added to; y of rows y_stride apart. */
KERNEL_CLONES static void finish(float *y, size_t y_stride, const float *total, size_t rows,
                                 const float *scale, const float *bias, size_t columns, bool add)
{
    for (size_t r = 0; r < rows; r++, y += y_stride, total += INT8_COLUMNS)
        for (size_t c = 0; c < columns; c++) {
            float sum = total[c] * scale[c];

            if (bias != NULL)
                sum += bias[c];
            y[c] = add ? y[c] + sum : sum;
        }
}

void int8_product(const struct int8_matrix *w, size_t N, float *y, const struct int8_rows *x,
                  const struct epilogue *then)
{
    int8_tile_fn *tile = kernel()->tile;
    float total[INT8_ROWS * INT8_COLUMNS];

    for (size_t c = 0; c < N; c += INT8_COLUMNS)
        for (size_t r = 0; r < x->T; r += INT8_ROWS) {
            size_t rows = MIN(x->T - r, (size_t)INT8_ROWS);
            size_t columns = MIN(N - c, (size_t)INT8_COLUMNS);

            tile(total, x->data + r * row_bytes(x->K), rows,
                 w->panels + c / INT8_COLUMNS * panel_bytes(x->K), x->K);
            finish(y + r * N + c, N, total, rows, w->scale + c,
                   then->bias != NULL ? then->bias + c : NULL, columns, then->add);
            for (size_t i = 0; i < rows && then->activation != NULL; i++)
                then->activation(y + (r + i) * N + c, columns);
        }
}

/* Value k of row t, and its group's scale. */
static int value_of(const struct int8_rows *x, size_t t, size_t k, float *scale)
{
    size_t first = t / INT8_ROWS * INT8_ROWS, rows = MIN(x->T - first, (size_t)INT8_ROWS);
    size_t quad = k % INT8_GROUP / 4;
    const int8_t *tile = x->data + first * row_bytes(x->K);
    const int8_t *group = tile + k / INT8_GROUP * rows * (HEAD + INT8_GROUP);

    memcpy(scale, group + 4 * (t - first), sizeof *scale);
    return group[rows * (HEAD + 4 * quad) + 4 * (t - first) + k % 4];
}

void int8_product_ref(const struct int8_matrix *w, size_t N, float *y, const struct int8_rows *x,
                      const struct epilogue *then)
{
    for (size_t t = 0; t < x->T; t++)
        for (size_t n = 0; n < N; n++) {
            const uint8_t *panel = w->panels + n / INT8_COLUMNS * panel_bytes(x->K);
            float total = 0, scale = 0;

            for (size_t first = 0; first < x->K; first += INT8_GROUP) {
                int32_t sum = 0;

                for (size_t k = first; k < MIN(x->K, first + INT8_GROUP); k++)
                    sum += value_of(x, t, k, &scale) *
                           (panel[(k / 4 * INT8_COLUMNS + n % INT8_COLUMNS) * 4 + k % 4] - ZERO);
                total += (float)sum * scale;
            }
            total *= w->scale[n];
            if (then->bias != NULL)
                total += then->bias[n];
            y[t * N + n] = then->add ? y[t * N + n] + total : total;
            if (then->activation != NULL)
                then->activation(&y[t * N + n], 1);
        }
}
