#include "reinforce/nn/packed.h"

#include "reinforce/nn/convert.h"
#include "reinforce/nn/float_kernels.h"

#include <assert.h>
#include <stdlib.h>

static size_t strip_floats(size_t in)
{
    return in * FLOAT_COLUMNS;
}

/* Rows [first, first + FLOAT_COLUMNS) of all tensors together, as far as there are; rows float32
 * [FLOAT_COLUMNS, in] becomes strip [in, FLOAT_COLUMNS]. */
static void pack_strip(const struct tensor *const *tensors, size_t out, size_t end, size_t first,
                       float *rows, float *strip)
{
    size_t n_kernels, n = MIN(end - first, (size_t)FLOAT_COLUMNS), in = tensors[0]->shape[1];

    assert(out > 0);
    for (size_t r = 0; r < n; r++)
        tensor_row(tensors[(first + r) / out], (first + r) % out, rows + r * in);
    float_kernels(&n_kernels)->pack(strip, FLOAT_COLUMNS, rows, in, n, in);
}

enum { MAX_TENSORS = 3 }; /* q, k and v */

enum status packed_matrix_load(struct weights *weights, const char *prefix,
                               const char *const *names, size_t n, size_t out, size_t in,
                               enum tensor_dtype dtype, struct packed_matrix *matrix,
                               struct error *err)
{
    size_t strip = strip_floats(in), n_strips = (n * out + FLOAT_COLUMNS - 1) / FLOAT_COLUMNS;
    const struct tensor *tensors[MAX_TENSORS] = {NULL};
    float *rows = NULL;
    char *strips;
    enum status st = ST_OK;

    *matrix = (struct packed_matrix){.out = n * out, .in = in, .dtype = dtype};
    for (size_t i = 0; i < n && st == ST_OK; i++) /* the size is right before it is allocated */
        st =
            weights_get_stored(weights, prefix, names[i], WEIGHTS_SHAPE(out, in), &tensors[i], err);
    if (st == ST_OK)
        st = weights_alloc(weights, n_strips * strip * tensor_dtype_size(dtype), &strips, err);
    if (st != ST_OK)
        return st;
    matrix->strips = strips;
    rows = malloc(2 * strip * sizeof *rows);
    if (rows == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate %d rows of weights", FLOAT_COLUMNS);
    for (size_t s = 0; s < n_strips; s++) {
        char *to = strips + s * strip * tensor_dtype_size(dtype);

        if (dtype == TENSOR_F32) {
            pack_strip(tensors, out, n * out, s * FLOAT_COLUMNS, rows, (float *)(void *)to);
        } else {
            pack_strip(tensors, out, n * out, s * FLOAT_COLUMNS, rows, rows + strip);
            convert_to_bf16(rows + strip, strip, (uint16_t *)(void *)to);
        }
    }
    weights_drop_pages(weights);
    free(rows);
    return ST_OK;
}

struct packed_matrix packed_matrix_rows(const struct packed_matrix *matrix, size_t first, size_t n)
{
    struct packed_matrix rows = *matrix;

    rows.out = n;
    rows.strips =
        (const char *)matrix->strips + first * matrix->in * tensor_dtype_size(matrix->dtype);
    return rows;
}

void packed_product(const struct packed_matrix *w, float *y, const float *x, size_t T,
                    const struct epilogue *then)
{
    gemm_run(&(struct gemm){.M = T,
                            .N = w->out,
                            .K = w->in,
                            .a = x,
                            .lda = w->in,
                            .b = w->strips,
                            .layout = w->dtype == TENSOR_F32 ? GEMM_STRIPS : GEMM_STRIPS_BF16,
                            .any_order = w->dtype == TENSOR_BF16,
                            .c = y,
                            .ldc = w->out,
                            .then = *then});
}
