#include "reinforce/models/block_linear.h"

#include "reinforce/nn/ops.h"

#include <assert.h>

/* coarse: for what becomes int8 next. */
static const struct {
    epilogue_fn *exact, *coarse;
} functions[] = {
    [ACTIVATION_GELU] = {ops_gelu, ops_gelu_coarse},
    [ACTIVATION_QUICK_GELU] = {ops_quick_gelu, ops_quick_gelu_coarse},
    [ACTIVATION_GELU_TANH] = {ops_gelu_tanh, ops_gelu_tanh_coarse},
};

void activation_apply(enum activation activation, float *x, size_t n)
{
    functions[activation].exact(x, n);
}

enum matrix_form block_linear_form_of_samples(enum matrix_form form)
{
    return form == MATRIX_FLOAT32 ? MATRIX_STRASSEN : form;
}

static enum matrix_form form_that_fits(enum matrix_form form, size_t out, size_t in)
{
    return form == MATRIX_STRASSEN && !strassen_fits(out, in) ? MATRIX_FLOAT32 : form;
}

enum status block_linear_load(struct weights *weights, const char *prefix, const char *const *names,
                              size_t n, enum matrix_form form, size_t in, size_t out_width,
                              const float *row_scale, struct block_linear *out, struct error *err)
{
    *out = (struct block_linear){
        .form = form_that_fits(form, n * out_width, in), .in = in, .out = n * out_width};
    if (out->form == MATRIX_STRASSEN) {
        struct weights_stack stack;
        enum status st =
            weights_get_stack(weights, prefix, names, n, out_width, in, row_scale, &stack, err);

        return st == ST_OK ? strassen_matrix_load(weights, &stack, &out->strassen, err) : st;
    }
    if (form == MATRIX_INT8)
        return int8_matrix_load(weights, prefix, names, n, out_width, in, row_scale, &out->int8,
                                err);
    return packed_matrix_load(weights, prefix, names, n, out_width, in, row_scale,
                              matrix_form_dtype(form), &out->packed, err);
}

enum status block_linear_pack(struct weights *weights, const char *name, const float *w,
                              enum matrix_form form, size_t in, size_t out_width,
                              struct block_linear *out, struct error *err)
{
    *out = (struct block_linear){
        .form = form_that_fits(form, out_width, in), .in = in, .out = out_width};
    if (out->form == MATRIX_STRASSEN)
        return strassen_matrix_load(weights,
                                    &(struct weights_stack){.w = w, .out = out_width, .in = in},
                                    &out->strassen, err);
    if (form == MATRIX_INT8)
        return int8_matrix_pack(weights, name, w, out_width, in, &out->int8, err);
    return packed_matrix_pack(weights, w, out_width, in, matrix_form_dtype(form), &out->packed,
                              err);
}

/* norm, here and below: of the rows first, or NULL. */
static struct int8_rows quantize(const struct block_linear *l, const struct prologue *norm,
                                 const float *x, size_t T, float *codes)
{
    return norm != NULL ? int8_quantize_normed(x, T, l->in, norm, BLOCK_LINEAR_INT8_GROUP, codes)
                        : int8_quantize(x, l->in, T, l->in, BLOCK_LINEAR_INT8_GROUP, codes);
}

static const float *normed(const struct prologue *norm, const float *x, size_t T, size_t D)
{
    if (norm == NULL)
        return x;
    ops_layer_norm(norm->rows, x, norm->w, norm->b, norm->eps, T, D);
    return norm->rows;
}

/* Of float32 or bfloat16. */
static void product(const struct block_linear *l, float *y, const float *x, struct samples samples,
                    const struct epilogue *then)
{
    if (l->form == MATRIX_STRASSEN)
        strassen_product(&l->strassen, y, x, samples.n, samples.T, then);
    else
        packed_product(&l->packed, y, x, samples.n * samples.T, then);
}

static void apply(const struct block_linear *l, const struct prologue *norm, float *y,
                  const float *x, struct samples samples, float *codes, struct epilogue then)
{
    size_t T = samples.n * samples.T;

    then.bias = l->b;
    if (l->form == MATRIX_INT8) {
        struct int8_rows rows = quantize(l, norm, x, T, codes);

        int8_product(&l->int8, l->out, y, l->out, &rows, &then);
    } else {
        product(l, y, normed(norm, x, T, l->in), samples, &then);
    }
}

void block_linear_apply(const struct block_linear *l, float *y, const float *x,
                        struct samples samples, float *codes, struct epilogue then)
{
    apply(l, NULL, y, x, samples, codes, then);
}

void block_linear_run(const struct block_linear *l, float *y, const float *x,
                      struct samples samples, float *codes)
{
    apply(l, NULL, y, x, samples, codes, (struct epilogue){.add = false});
}

void block_linear_run_normed(const struct block_linear *l, const struct prologue *norm, float *y,
                             const float *x, struct samples samples, float *codes)
{
    apply(l, norm, y, x, samples, codes, (struct epilogue){.add = false});
}

size_t block_linear_codes_floats(const struct block_linear *l, size_t T)
{
    return l->form == MATRIX_INT8 ? int8_rows_floats(T, l->in) : 0;
}

struct block_linear block_linear_rows(const struct block_linear *l, size_t first, size_t n)
{
    struct block_linear rows = *l;

    assert(first % INT8_COLUMNS == 0 && first + n <= l->out && l->form != MATRIX_STRASSEN);
    rows.out = n;
    rows.b = l->b + first;
    if (l->form == MATRIX_INT8)
        rows.int8 = int8_matrix_rows(&l->int8, first, n);
    else
        rows.packed = packed_matrix_rows(&l->packed, first, n);
    return rows;
}

static void run_mlp(const struct block_mlp *mlp, const struct prologue *norm, float *y,
                    const float *x, struct samples samples, bool add, float *codes, float *wide)
{
    const struct block_linear *fc = &mlp->fc, *proj = &mlp->proj;
    struct epilogue activate = {.bias = fc->b, .activation = functions[mlp->activation].exact};
    const struct epilogue then = {.bias = proj->b, .add = add};
    size_t T = samples.n * samples.T;

    if (fc->form == MATRIX_INT8) {
        struct int8_rows rows = quantize(fc, norm, x, T, codes);

        activate.activation = functions[mlp->activation].coarse;
        rows =
            int8_product_rows(&fc->int8, fc->out, &rows, &activate, BLOCK_LINEAR_INT8_GROUP, wide);
        int8_product(&proj->int8, proj->out, y, proj->out, &rows, &then);
    } else {
        product(fc, wide, normed(norm, x, T, fc->in), samples, &activate);
        product(proj, y, wide, samples, &then);
    }
}

void block_mlp_run(const struct block_mlp *mlp, float *y, const float *x, struct samples samples,
                   bool add, float *codes, float *wide)
{
    run_mlp(mlp, NULL, y, x, samples, add, codes, wide);
}

void block_mlp_add_normed(const struct block_mlp *mlp, const struct prologue *norm, float *x,
                          struct samples samples, float *codes, float *wide)
{
    run_mlp(mlp, norm, x, x, samples, true, codes, wide);
}

size_t block_mlp_wide_floats(const struct block_mlp *mlp, size_t T)
{
    return mlp->fc.form == MATRIX_INT8 ? int8_rows_floats(T, mlp->fc.out) : T * mlp->fc.out;
}
