#include "reinforce/nn/packed.h"

#include "reinforce/nn/convert.h"
#include "reinforce/nn/float_kernels.h"

#include <stdlib.h>

static size_t strip_floats(size_t in)
{
    return in * FLOAT_COLUMNS;
}

/* A matrix while it is written. */
struct writing {
    size_t in;
    enum tensor_dtype dtype;
    char *strips;
    float *strip; /* [in, FLOAT_COLUMNS], of bfloat16; NULL: strips are packed where they go */
};

static enum status begin(struct weights *weights, size_t out, size_t in, enum tensor_dtype dtype,
                         struct writing *w, struct error *err)
{
    size_t n_strips = (out + FLOAT_COLUMNS - 1) / FLOAT_COLUMNS;
    enum status st;

    *w = (struct writing){.in = in, .dtype = dtype};
    st = weights_alloc(weights, n_strips * strip_floats(in) * tensor_dtype_size(dtype), &w->strips,
                       err);
    if (st != ST_OK || dtype == TENSOR_F32)
        return st;
    w->strip = malloc(strip_floats(in) * sizeof *w->strip);
    return w->strip != NULL ? ST_OK
                            : error_set(err, ST_NO_MEMORY, "could not allocate a strip of weights");
}

/* Strip s from n <= FLOAT_COLUMNS rows float32 [n, in]. */
static void write_strip(const struct writing *w, size_t s, const float *rows, size_t n)
{
    char *to = w->strips + s * strip_floats(w->in) * tensor_dtype_size(w->dtype);
    float *strip = w->strip != NULL ? w->strip : (float *)(void *)to;
    size_t n_kernels;

    float_kernels(&n_kernels)->pack(strip, FLOAT_COLUMNS, rows, w->in, n, w->in);
    if (w->strip != NULL)
        convert_to_bf16(strip, strip_floats(w->in), (uint16_t *)(void *)to);
}

static enum status pack(struct weights *weights, const struct weights_stack *stack,
                        enum tensor_dtype dtype, struct packed_matrix *matrix, struct error *err)
{
    struct writing w = {.strip = NULL};
    enum status st = begin(weights, stack->out, stack->in, dtype, &w, err);
    float *rows = NULL;

    if (st == ST_OK) {
        rows = malloc(strip_floats(stack->in) * sizeof *rows);
        if (rows == NULL)
            st = error_set(err, ST_NO_MEMORY, "could not allocate %d rows of weights",
                           FLOAT_COLUMNS);
    }
    for (size_t first = 0; first < stack->out && st == ST_OK; first += FLOAT_COLUMNS) {
        size_t n_rows = MIN(stack->out - first, (size_t)FLOAT_COLUMNS);

        for (size_t r = 0; r < n_rows; r++)
            weights_stack_row(stack, first + r, rows + r * stack->in);
        write_strip(&w, first / FLOAT_COLUMNS, rows, n_rows);
    }
    weights_drop_pages(weights);
    free(rows);
    free(w.strip);
    *matrix = (struct packed_matrix){
        .out = stack->out, .in = stack->in, .strips = w.strips, .dtype = dtype};
    return st;
}

enum status packed_matrix_load(struct weights *weights, const char *prefix,
                               const char *const *names, size_t n, size_t out, size_t in,
                               const float *row_scale, enum tensor_dtype dtype,
                               struct packed_matrix *matrix, struct error *err)
{
    struct weights_stack stack;
    enum status st = weights_get_stack(weights, prefix, names, n, out, in, row_scale, &stack, err);

    return st == ST_OK ? pack(weights, &stack, dtype, matrix, err) : st;
}

enum status packed_matrix_pack(struct weights *weights, const float *w, size_t out, size_t in,
                               enum tensor_dtype dtype, struct packed_matrix *matrix,
                               struct error *err)
{
    return pack(weights, &(struct weights_stack){.w = w, .out = out, .in = in}, dtype, matrix, err);
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
