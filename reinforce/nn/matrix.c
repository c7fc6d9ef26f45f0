#include "reinforce/nn/matrix.h"

#include "reinforce/nn/convert.h"
#include "reinforce/nn/gemm.h"
#include "reinforce/nn/ops.h"

#include <stdlib.h>

enum tensor_dtype matrix_form_dtype(enum matrix_form form)
{
    switch (form) {
    case MATRIX_INT8:
        return TENSOR_I8;
    case MATRIX_BF16:
        return TENSOR_BF16;
    case MATRIX_FLOAT32:
    case MATRIX_STRASSEN:
        break;
    }
    return TENSOR_F32;
}

/* Row by row from where they are mapped. */
static enum status round_to_bf16(struct weights *weights, const struct tensor *tensor,
                                 struct matrix *matrix, struct error *err)
{
    float *row = malloc(matrix->in * sizeof *row);
    uint16_t *rounded = NULL;
    enum status st =
        row != NULL
            ? weights_alloc(weights, matrix->out * matrix->in * sizeof *rounded, &rounded, err)
            : error_set(err, ST_NO_MEMORY, "could not allocate a row of weights");

    for (size_t i = 0; i < matrix->out && st == ST_OK; i++) {
        tensor_row(tensor, i, row);
        convert_to_bf16(row, matrix->in, rounded + i * matrix->in);
    }
    matrix->data = rounded;
    free(row);
    return st;
}

enum status matrix_load(struct weights *weights, const char *prefix, const char *name, size_t out,
                        size_t in, enum matrix_form form, struct matrix *matrix, struct error *err)
{
    const float *floats = NULL;
    enum status st;

    *matrix = (struct matrix){
        .form = form, .dtype = form == MATRIX_INT8 ? TENSOR_I8 : TENSOR_BF16, .out = out, .in = in};
    st = weights_get_stored(weights, prefix, name, WEIGHTS_SHAPE(out, in), &matrix->stored, err);
    if (st == ST_OK && form == MATRIX_INT8)
        return int8_matrix_load(weights, prefix, &name, 1, out, in, NULL, &matrix->int8, err);
    if (st != ST_OK)
        return st;
    matrix->data = matrix->stored->data.data;
    if (matrix->stored->dtype == TENSOR_BF16 && (uintptr_t)matrix->data % sizeof(uint16_t) == 0)
        return ST_OK;
    if (form == MATRIX_BF16)
        return round_to_bf16(weights, matrix->stored, matrix, err);
    st = weights_get(weights, prefix, name, WEIGHTS_SHAPE(out, in), &floats, err);
    matrix->dtype = TENSOR_F32;
    matrix->data = floats;
    return st;
}

static const void *row_at(const struct matrix *w, size_t i)
{
    size_t bytes = w->dtype == TENSOR_BF16 ? sizeof(uint16_t) : sizeof(float);

    return (const char *)w->data + i * w->in * bytes;
}

struct matrix matrix_first_rows(const struct matrix *matrix, size_t out)
{
    struct matrix first = *matrix;

    first.out = MIN(out, matrix->out);
    return first;
}

void matrix_row(const struct matrix *matrix, size_t i, float *y)
{
    tensor_row(matrix->stored, i, y);
}

enum status matrix_product(const struct matrix *w, float *y, const float *x, size_t T,
                           struct arena *scratch, struct error *err)
{
    struct arena mark = *scratch;
    float *codes;
    enum status st = ST_OK;

    if (w->form == MATRIX_INT8) {
        st = arena_alloc(scratch, int8_rows_floats(T, w->in) * sizeof *codes, &codes, err);
        if (st == ST_OK)
            matrix_product_rows(w, y, x, T, codes);
        arena_rewind(scratch, &mark);
        return st;
    }
    gemm_run(&(struct gemm){.M = T,
                            .N = w->out,
                            .K = w->in,
                            .a = x,
                            .lda = w->in,
                            .b = w->data,
                            .ldb = w->in,
                            .layout = w->dtype == TENSOR_BF16 ? GEMM_ROWS_BF16 : GEMM_ROWS,
                            .any_order = w->form == MATRIX_BF16,
                            .c = y,
                            .ldc = w->out});
    return ST_OK;
}

void matrix_product_rows(const struct matrix *w, float *y, const float *x, size_t M, float *scratch)
{
    if (w->form == MATRIX_INT8) {
        const struct int8_rows rows = int8_quantize(x, w->in, M, w->in, INT8_CHUNK, scratch);

        int8_product(&w->int8, w->out, y, w->out, &rows, &(struct epilogue){.add = false});
    } else if (w->dtype == TENSOR_BF16)
        ops_linear_rows_bf16(y, x, w->data, M, w->out, w->in);
    else
        ops_linear_rows(y, x, w->data, NULL, M, w->out, w->in);
}

void matrix_product_ref(const struct matrix *w, float *y, const float *x, size_t T)
{
    for (size_t t = 0; t < T; t++)
        for (size_t i = 0; i < w->out; i++) {
            double sum = 0;

            for (size_t k = 0; k < w->in; k++) {
                const char *at = (const char *)row_at(w, i);
                float value;

                if (w->dtype == TENSOR_BF16)
                    convert_bf16((const uint8_t *)at + 2 * k, 1, &value);
                else
                    memcpy(&value, at + k * sizeof value, sizeof value);
                sum += (double)x[t * w->in + k] * (double)value;
            }
            y[t * w->out + i] = (float)sum;
        }
}
