#include "reinforce/nn/int8.h"

#include "reinforce/nn/int8_kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { QUANTIZED_MAX = 127, ZERO = 128, BLOCK = 256, ALIGN = 64 };

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

/* 128 + x / scale: adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the low bits. */
KERNEL_CLONES static void quantize_block(const float *x, size_t n, float inverse, uint8_t *q)
{
    for (size_t i = 0; i < n; i++) {
        float shifted = x[i] * inverse + 0x1.8p23f;
        uint32_t bits;

        memcpy(&bits, &shifted, sizeof bits);
        q[i] = (uint8_t)(bits + ZERO);
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

/* All are 0 where `inverse` is. */
static void quantize_part(const float *x, size_t n, float inverse, uint8_t *q)
{
    if (inverse > 0)
        quantize_block(x, n, inverse, q);
    else
        memset(q, ZERO, n);
}

float int8_quantize_vector(const float *x, size_t n, uint8_t *q)
{
    float inverse, scale = scale_of(x, n, &inverse);

    quantize_part(x, n, inverse, q);
    return scale;
}

/* K values as quads that lie `step` bytes apart; what fills up the last is 0. Returns the scale. */
static float quantize_row(const float *x, size_t K, uint8_t *quads, size_t step)
{
    float inverse, scale = scale_of(x, K, &inverse);
    uint8_t block[BLOCK];

    for (size_t k = 0; k < K; k += BLOCK) {
        size_t n = MIN(K - k, (size_t)BLOCK);

        quantize_part(x + k, n, inverse, block);
        memset(block + n, ZERO, round_up(n, 4) - n);
        for (size_t i = 0; i < n; i += 4, quads += step)
            memcpy(quads, block + i, 4);
    }
    return scale;
}

size_t int8_rows_floats(size_t T, size_t K)
{
    return T + T * round_up(K, 4) / sizeof(float);
}

struct int8_rows int8_quantize(const float *x, size_t T, size_t K, float *memory)
{
    float *scale = memory;
    uint8_t *tile = (uint8_t *)(memory + T);
    const struct int8_rows rows = {.T = T, .K = K, .data = tile, .scale = scale};

    for (size_t first = 0; first < T; first += INT8_ROWS) {
        size_t n = MIN(T - first, (size_t)INT8_ROWS);

        for (size_t r = 0; r < n; r++)
            scale[first + r] = quantize_row(x + (first + r) * K, K, tile + 4 * r, 4 * n);
        tile += n * round_up(K, 4);
    }
    return rows;
}

static size_t panel_bytes(size_t in)
{
    return INT8_COLUMNS * round_up(in, 4);
}

size_t int8_matrix_bytes(size_t out, size_t in)
{
    size_t panels = (out + INT8_COLUMNS - 1) / INT8_COLUMNS;

    return panels * (panel_bytes(in) + INT8_COLUMNS * (sizeof(float) + sizeof(int32_t)));
}

/* A matrix while it is written. */
struct writing {
    int8_t *panels;
    float *scale;
    int32_t *offset;
    size_t in;
    float *row; /* [in] */
};

static void pack_row(const struct writing *w, size_t n)
{
    size_t step = (size_t)INT8_COLUMNS * 4;
    int8_t *quad = w->panels + n / INT8_COLUMNS * panel_bytes(w->in) + n % INT8_COLUMNS * 4;
    int32_t sum = 0;

    w->scale[n] = quantize_row(w->row, w->in, (uint8_t *)quad, step);
    for (size_t k = 0; k < w->in; k += 4, quad += step)
        for (size_t i = 0; i < 4; i++) {
            quad[i] = (int8_t)(quad[i] ^ ZERO);
            sum += quad[i];
        }
    w->offset[n] = -ZERO * sum;
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
    if (in > INT8_MAX_IN)
        return error_set(err, ST_INVALID, "tensor \"%s%s\" is %zu wide, int8 sums hold up to %d",
                         prefix, names[0], in, (int)INT8_MAX_IN);
    for (size_t i = 0; i < n && st == ST_OK; i++) /* the size is right before it is allocated */
        st = weights_get_stored(weights, prefix, names[i], WEIGHTS_SHAPE(out, in), &tensor, err);
    if (st == ST_OK)
        st = weights_alloc(weights, int8_matrix_bytes(n * out, in), &w.panels, err);
    if (st != ST_OK)
        return st;
    memset(w.panels, 0, int8_matrix_bytes(n * out, in));
    w.scale = (float *)(void *)(w.panels + round_up(n * out, INT8_COLUMNS) * round_up(in, 4));
    w.offset = (int32_t *)(void *)(w.scale + round_up(n * out, INT8_COLUMNS));
    w.row = malloc(in * sizeof *w.row);
    if (w.row == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a row of weights");
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        st = weights_get_stored(weights, prefix, names[i], WEIGHTS_SHAPE(out, in), &tensor, err);
        if (st == ST_OK)
            st = pack_tensor(&w, tensor, i * out, err);
        weights_drop_pages(weights);
    }
    free(w.row);
    matrix->panels = w.panels;
    matrix->scale = w.scale;
    matrix->offset = w.offset;
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

/* The one order in which exact sums [rows, INT8_COLUMNS] become floats. */
KERNEL_CLONES static void finish(float *y, size_t y_stride, const int32_t *sum,
                                 const float *x_scale, size_t rows, const float *w_scale,
                                 const float *bias, size_t columns)
{
    for (size_t r = 0; r < rows; r++, y += y_stride, sum += INT8_COLUMNS)
        for (size_t c = 0; c < columns; c++) {
            y[c] = (float)sum[c] * (x_scale[r] * w_scale[c]);
            if (bias != NULL)
                y[c] += bias[c];
        }
}

void int8_product(const struct int8_matrix *w, size_t N, float *y, const struct int8_rows *x,
                  const float *bias)
{
    int8_tile_fn *tile = kernel()->tile;
    size_t row_bytes = round_up(x->K, 4);
    int32_t sum[INT8_ROWS * INT8_COLUMNS];

    for (size_t c = 0; c < N; c += INT8_COLUMNS)
        for (size_t r = 0; r < x->T; r += INT8_ROWS) {
            size_t rows = MIN(x->T - r, (size_t)INT8_ROWS);

            tile(sum, x->data + r * row_bytes, rows, w->panels + c * row_bytes, w->offset + c,
                 row_bytes / 4);
            finish(y + r * N + c, N, sum, x->scale + r, rows, w->scale + c,
                   bias != NULL ? bias + c : NULL, MIN(N - c, (size_t)INT8_COLUMNS));
        }
}

void int8_product_ref(const struct int8_matrix *w, size_t N, float *y, const struct int8_rows *x,
                      const float *bias)
{
    size_t row_bytes = round_up(x->K, 4);

    for (size_t t = 0; t < x->T; t++) {
        size_t first = t / INT8_ROWS * INT8_ROWS, rows = MIN(x->T - first, (size_t)INT8_ROWS);
        const uint8_t *tile = x->data + first * row_bytes;

        for (size_t n = 0; n < N; n++) {
            const int8_t *panel = w->panels + n / INT8_COLUMNS * INT8_COLUMNS * row_bytes;
            int64_t sum = 0;

            for (size_t k = 0; k < row_bytes; k++)
                sum += (tile[(k / 4 * rows + t - first) * 4 + k % 4] - ZERO) *
                       panel[(k / 4 * INT8_COLUMNS + n % INT8_COLUMNS) * 4 + k % 4];
            y[t * N + n] = (float)(int32_t)sum * (x->scale[t] * w->scale[n]);
            if (bias != NULL)
                y[t * N + n] += bias[n];
        }
    }
}
