#include "reinforce/models/conv_fold.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

static const double norm_eps = 1e-5;

const struct conv_fold_names conv_fold_timm = {"bn.",       "conv_kxk.0.", "conv_scale.",
                                               "identity.", "mlp.",        ".gamma"};
const struct conv_fold_names conv_fold_apple = {"bn.",       "rbr_conv.0.", "rbr_scale.",
                                                "rbr_skip.", "convffn.",    ""};

PRINTF_LIKE(3, 0)
static void name_of(const struct conv_fold *fold, char name[CONV_FOLD_MAX_NAME], const char *format,
                    va_list args)
{
    int len = snprintf(name, CONV_FOLD_MAX_NAME, "%s", fold->prefix);

    (void)vsnprintf(name + len, CONV_FOLD_MAX_NAME - (size_t)len, format, args);
}

bool conv_fold_has(const struct conv_fold *fold, const char *format, ...)
{
    char name[CONV_FOLD_MAX_NAME];
    va_list args;

    va_start(args, format);
    name_of(fold, name, format, args);
    va_end(args);
    return weights_peek(fold->weights, name) != NULL;
}

enum status conv_fold_get(struct conv_fold *fold, const size_t *shape, const float **out,
                          const char *format, ...)
{
    char name[CONV_FOLD_MAX_NAME];
    va_list args;

    va_start(args, format);
    name_of(fold, name, format, args);
    va_end(args);
    return weights_get(fold->weights, "", name, shape, out, fold->err);
}

enum status conv_fold_get_pointwise(struct conv_fold *fold, const char *at, size_t in,
                                    size_t out_width, struct linear *out)
{
    enum status st =
        conv_fold_get(fold, WEIGHTS_SHAPE(out_width, in, 1, 1), &out->w, "%sweight", at);

    out->in = in;
    out->out = out_width;
    return st == ST_OK ? conv_fold_get(fold, WEIGHTS_SHAPE(out_width), &out->b, "%sbias", at) : st;
}

static enum status floats(struct conv_fold *fold, size_t n, float **out)
{
    return arena_alloc(fold->arena, n * sizeof **out, out, fold->err);
}

enum status conv_fold_load_matrix(struct conv_fold *fold, const char *at, size_t in,
                                  size_t out_width, const float *scale, struct block_linear *out)
{
    static const char *const weight[] = {"weight"};
    char prefix[CONV_FOLD_MAX_NAME];
    float *scaled;
    enum status st;

    (void)snprintf(prefix, sizeof prefix, "%s%s", fold->prefix, at);
    st = block_linear_load(fold->weights, prefix, weight, 1, fold->form, in, out_width, scale, out,
                           fold->err);
    if (st == ST_OK)
        st = conv_fold_get(fold, WEIGHTS_SHAPE(out_width), &out->b, "%sbias", at);
    if (st != ST_OK || scale == NULL)
        return st;
    st = floats(fold, out_width, &scaled);
    for (size_t i = 0; i < out_width && st == ST_OK; i++)
        scaled[i] = out->b[i] * scale[i];
    out->b = scaled;
    return st;
}

enum status conv_fold_begin(struct conv_fold *fold, struct conv_kernel *k, size_t out, size_t in,
                            size_t rows, size_t columns)
{
    enum status st;

    *k = (struct conv_kernel){.out = out, .in = in, .rows = rows, .columns = columns};
    st = arena_calloc(&fold->scratch, out * in * rows * columns, sizeof *k->w, &k->w, fold->err);
    return st == ST_OK ? arena_calloc(&fold->scratch, out, sizeof *k->b, &k->b, fold->err) : st;
}

enum status conv_fold_norm(struct conv_fold *fold, const char *at, size_t n, double **scale,
                           double **shift)
{
    const float *w, *b, *mean, *var;
    enum status st = conv_fold_get(fold, WEIGHTS_SHAPE(n), &w, "%sweight", at);

    if (st == ST_OK)
        st = conv_fold_get(fold, WEIGHTS_SHAPE(n), &b, "%sbias", at);
    if (st == ST_OK)
        st = conv_fold_get(fold, WEIGHTS_SHAPE(n), &mean, "%srunning_mean", at);
    if (st == ST_OK)
        st = conv_fold_get(fold, WEIGHTS_SHAPE(n), &var, "%srunning_var", at);
    if (st == ST_OK)
        st = arena_alloc(&fold->scratch, n * sizeof **scale, scale, fold->err);
    if (st == ST_OK)
        st = arena_alloc(&fold->scratch, n * sizeof **shift, shift, fold->err);
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        (*scale)[i] = (double)w[i] / sqrt((double)var[i] + norm_eps);
        (*shift)[i] = (double)b[i] - (double)mean[i] * (*scale)[i];
    }
    return st;
}

enum status conv_fold_add_identity(struct conv_fold *fold, struct conv_kernel *k, const char *at,
                                   double sign)
{
    double *scale, *shift;
    enum status st = conv_fold_norm(fold, at, k->out, &scale, &shift);

    for (size_t o = 0; o < k->out && st == ST_OK; o++) {
        size_t i = k->in == 1 ? 0 : o; /* its own channel */

        k->w[((o * k->in + i) * k->rows + k->rows / 2) * k->columns + k->columns / 2] +=
            sign * scale[o];
        k->b[o] += sign * shift[o];
    }
    return st;
}

enum status conv_fold_add_conv(struct conv_fold *fold, struct conv_kernel *k, size_t rows,
                               size_t columns, const char *at)
{
    size_t above = (k->rows - rows) / 2, before = (k->columns - columns) / 2;
    const float *w;
    double *scale, *shift;
    char norm[CONV_FOLD_MAX_NAME];
    enum status st =
        conv_fold_get(fold, WEIGHTS_SHAPE(k->out, k->in, rows, columns), &w, "%sconv.weight", at);

    (void)snprintf(norm, sizeof norm, "%s%s", at, fold->names->norm);
    if (st == ST_OK)
        st = conv_fold_norm(fold, norm, k->out, &scale, &shift);
    if (st != ST_OK)
        return st;
    for (size_t oi = 0; oi < k->out * k->in; oi++)
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < columns; c++)
                k->w[(oi * k->rows + r + above) * k->columns + c + before] +=
                    scale[oi / k->in] * (double)w[(oi * rows + r) * columns + c];
    for (size_t o = 0; o < k->out; o++)
        k->b[o] += shift[o];
    return ST_OK;
}

enum status conv_fold_add_plain(struct conv_fold *fold, struct conv_kernel *k, const char *at)
{
    size_t n = k->in * k->rows * k->columns;
    const float *w, *b;
    enum status st =
        conv_fold_get(fold, WEIGHTS_SHAPE(k->out, k->in, k->rows, k->columns), &w, "%sweight", at);

    if (st == ST_OK)
        st = conv_fold_get(fold, WEIGHTS_SHAPE(k->out), &b, "%sbias", at);
    for (size_t i = 0; i < k->out * n && st == ST_OK; i++)
        k->w[i] += (double)w[i];
    for (size_t o = 0; o < k->out && st == ST_OK; o++)
        k->b[o] += (double)b[o];
    return st;
}

enum status conv_fold_add_mobile_one(struct conv_fold *fold, struct conv_kernel *k, const char *at)
{
    const struct conv_fold_names *names = fold->names;
    char name[CONV_FOLD_MAX_NAME];
    enum status st;

    (void)snprintf(name, sizeof name, "%sreparam_conv.", at);
    if (conv_fold_has(fold, "%sweight", name))
        return conv_fold_add_plain(fold, k, name);
    (void)snprintf(name, sizeof name, "%s%s", at, names->conv);
    st = conv_fold_add_conv(fold, k, k->rows, k->columns, name);
    (void)snprintf(name, sizeof name, "%s%s", at, names->scale);
    if (st == ST_OK && conv_fold_has(fold, "%sconv.weight", name))
        st = conv_fold_add_conv(fold, k, 1, 1, name);
    (void)snprintf(name, sizeof name, "%s%s", at, names->identity);
    if (st == ST_OK && conv_fold_has(fold, "%sweight", name))
        st = conv_fold_add_identity(fold, k, name, 1);
    return st;
}

enum status conv_fold_to_depthwise(struct conv_fold *fold, const struct conv_kernel *k,
                                   size_t stride, struct conv_depthwise *out)
{
    size_t taps = k->rows * k->columns;
    float *w, *b;
    enum status st = floats(fold, taps * k->out, &w);

    if (st == ST_OK)
        st = floats(fold, k->out, &b);
    for (size_t c = 0; c < k->out && st == ST_OK; c++) {
        for (size_t t = 0; t < taps; t++)
            w[t * k->out + c] = (float)k->w[c * taps + t];
        b[c] = (float)k->b[c];
    }
    if (st == ST_OK)
        *out = (struct conv_depthwise){w, b, k->out, k->rows, k->columns, stride};
    return st;
}

/* Row after row over (row, column, channel). */
static void write_rows(const struct conv_kernel *k, float *w, float *b)
{
    size_t taps = k->rows * k->columns, n = taps * k->in;

    for (size_t o = 0; o < k->out; o++) {
        for (size_t i = 0; i < k->in; i++)
            for (size_t t = 0; t < taps; t++)
                w[o * n + t * k->in + i] = (float)k->w[(o * k->in + i) * taps + t];
        b[o] = (float)k->b[o];
    }
}

enum status conv_fold_to_linear(struct conv_fold *fold, const struct conv_kernel *k,
                                struct linear *out)
{
    size_t n = k->rows * k->columns * k->in;
    float *w, *b;
    enum status st = floats(fold, k->out * n, &w);

    if (st == ST_OK)
        st = floats(fold, k->out, &b);
    if (st != ST_OK)
        return st;
    write_rows(k, w, b);
    *out = (struct linear){.w = w, .b = b, .in = n, .out = k->out};
    return ST_OK;
}

enum status conv_fold_to_matrix(struct conv_fold *fold, const struct conv_kernel *k, const char *at,
                                enum matrix_form form, struct block_linear *out)
{
    size_t n = k->rows * k->columns * k->in;
    struct arena mark = fold->scratch;
    float *w, *b;
    enum status st = arena_alloc(&fold->scratch, k->out * n * sizeof *w, &w, fold->err);

    if (st == ST_OK)
        st = floats(fold, k->out, &b);
    if (st == ST_OK) {
        write_rows(k, w, b);
        st = block_linear_pack(fold->weights, at, w, form, n, k->out, out, fold->err);
        out->b = b;
    }
    arena_rewind(&fold->scratch, &mark);
    return st;
}
