#include "reinforce/curate/super_batch.h"

#include "reinforce/base/parallel.h"
#include "reinforce/nn/convert.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 8, ROWS_A_TURN = 256 };

static const double norm_tolerance = 1e-2;

/* |u|^2, |v|^2 and u . v in 8 lanes, added up in a fixed tree. */
KERNEL_CLONES static void moments(const float *u, const float *v, size_t D, double out[3])
{
    double uu[LANES] = {0}, vv[LANES] = {0}, uv[LANES] = {0};
    size_t d = 0;

    for (; d + LANES <= D; d += LANES)
        for (size_t l = 0; l < LANES; l++) {
            double a = (double)u[d + l], b = (double)v[d + l];

            uu[l] += a * a;
            vv[l] += b * b;
            uv[l] += a * b;
        }
    for (size_t l = 0; d < D; d++, l++) {
        uu[l] += (double)u[d] * (double)u[d];
        vv[l] += (double)v[d] * (double)v[d];
        uv[l] += (double)u[d] * (double)v[d];
    }
    for (size_t half = LANES / 2; half > 0; half /= 2)
        for (size_t l = 0; l < half; l++) {
            uu[l] += uu[l + half];
            vv[l] += vv[l + half];
            uv[l] += uv[l + half];
        }
    out[0] = uu[0];
    out[1] = vv[0];
    out[2] = uv[0];
}

double pair_softplus(double x)
{
    return fmax(x, 0) + log1p(exp(-fabs(x)));
}

void pair_rows_get(const struct pair_rows *rows, enum pair_side side, size_t i, float *row)
{
    size_t D = rows->model.D, row_bytes = D * tensor_dtype_size(rows->model.dtype);
    const uint8_t *from = rows->model.rows[side].data + i * row_bytes;

    if (rows->model.dtype == TENSOR_BF16)
        convert_bf16(from, D, row);
    else if (rows->model.dtype == TENSOR_F16)
        convert_f16(from, D, row);
    else
        memcpy(row, from, row_bytes);
}

/* Shared by threads, each with one row of scratch for each side. */
struct measuring {
    struct pair_rows *rows;
    size_t B;
    bool *usable;
    float *scratch; /* [n_threads][2 D] */
    atomic_size_t next;
};

static bool is_unit(double norm)
{
    return fabs(norm - 1) <= norm_tolerance; /* false for NaN */
}

static enum status measure(void *ctx, size_t thread, struct error *err)
{
    struct measuring *work = ctx;
    struct pair_rows *rows = work->rows;
    size_t D = rows->model.D, begin;
    float *image = work->scratch + thread * 2 * D, *text = image + D;

    (void)err;
    while ((begin = atomic_fetch_add(&work->next, ROWS_A_TURN)) < work->B)
        for (size_t i = begin; i < MIN(begin + ROWS_A_TURN, work->B); i++) {
            double sums[3], image_norm, text_norm;

            pair_rows_get(rows, PAIR_IMAGE, i, image);
            pair_rows_get(rows, PAIR_TEXT, i, text);
            moments(image, text, D, sums);
            image_norm = sqrt(sums[0]);
            text_norm = sqrt(sums[1]);
            rows->inverse[PAIR_IMAGE][i] = 1 / image_norm;
            rows->inverse[PAIR_TEXT][i] = 1 / text_norm;
            rows->logit[i] = rows->scale * (sums[2] / (image_norm * text_norm)) + rows->bias;
            if (!is_unit(image_norm) || !is_unit(text_norm))
                work->usable[i] = false;
        }
    return ST_OK;
}

static enum status check(const struct pair_model *model, const char *name, size_t B,
                         struct error *err)
{
    static const char *const sides[PAIR_SIDES] = {"images", "texts"};

    if (!isfinite(model->scale) || !isfinite(model->bias))
        return error_set(err, ST_INVALID, "the %s's scale or bias is not finite", name);
    if (model->logits != NULL)
        return ST_OK;
    if (model->dtype != TENSOR_F32 && model->dtype != TENSOR_F16 && model->dtype != TENSOR_BF16)
        return error_set(err, ST_INVALID,
                         "the %s's embeddings are %s; they can be F32, F16 or BF16", name,
                         tensor_dtype_name(model->dtype));
    if (model->D == 0 || model->D > (1 << 20))
        return error_set(err, ST_INVALID, "the %s's embeddings have %zu dimensions", name,
                         model->D);
    for (int s = 0; s < PAIR_SIDES; s++) {
        size_t row_bytes = model->D * tensor_dtype_size(model->dtype);

        if (model->rows[s].len / row_bytes != B || model->rows[s].len % row_bytes != 0)
            return error_set(err, ST_INVALID,
                             "the %s's %s have %zu bytes, expected %zu rows of %zu %s values: %zu "
                             "bytes",
                             name, sides[s], model->rows[s].len, B, model->D,
                             tensor_dtype_name(model->dtype), B * row_bytes);
    }
    return ST_OK;
}

enum status pair_rows_init(struct pair_rows *rows, const struct pair_model *model, const char *name,
                           enum pair_loss loss, size_t B, size_t n_threads, bool *usable,
                           struct arena *arena, struct error *err)
{
    struct measuring work = {.rows = rows, .B = B, .usable = usable};
    enum status st = check(model, name, B, err);
    struct arena mark;

    *rows = (struct pair_rows){.model = *model,
                               .scale = (double)model->scale,
                               .bias = loss == PAIR_SOFTMAX ? 0 : (double)model->bias};
    if (st == ST_OK)
        st = arena_calloc(arena, B, sizeof *rows->logit, &rows->logit, err);
    if (st != ST_OK)
        return st;
    if (model->logits != NULL) {
        for (size_t i = 0; i < B; i++) {
            rows->logit[i] = (double)model->logits[i];
            if (!isfinite(rows->logit[i]))
                usable[i] = false;
        }
        return ST_OK;
    }
    for (int s = 0; s < PAIR_SIDES && st == ST_OK; s++)
        st = arena_calloc(arena, B, sizeof *rows->inverse[s], &rows->inverse[s], err);
    mark = *arena;
    if (st == ST_OK)
        st =
            arena_calloc(arena, n_threads * 2 * model->D, sizeof *work.scratch, &work.scratch, err);
    if (st == ST_OK)
        st = parallel_run(n_threads, n_threads, measure, &work, err);
    arena_rewind(arena, &mark);
    return st;
}

int example_id_compare(struct example_id x, struct example_id y)
{
    if (x.high != y.high)
        return x.high < y.high ? -1 : 1;
    return (x.low > y.low) - (x.low < y.low);
}

struct keyed {
    struct example_id key;
    size_t i;
};

static int by_key(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    int by_id = example_id_compare(x->key, y->key);

    return by_id != 0 ? by_id : x->i < y->i ? -1 : 1;
}

enum status example_drop_duplicates(const struct example_id *keys, size_t B, bool *usable,
                                    size_t *n_dropped, struct arena *arena, struct error *err)
{
    struct arena mark = *arena;
    struct keyed *sorted;
    size_t n = 0;
    enum status st = arena_calloc(arena, B, sizeof *sorted, &sorted, err);

    *n_dropped = 0;
    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < B; i++)
        if (usable[i])
            sorted[n++] = (struct keyed){keys[i], i};
    qsort(sorted, n, sizeof *sorted, by_key);
    for (size_t k = 1; k < n; k++)
        if (sorted[k].key.high == sorted[k - 1].key.high &&
            sorted[k].key.low == sorted[k - 1].key.low) {
            usable[sorted[k].i] = false;
            (*n_dropped)++;
        }
    arena_rewind(arena, &mark);
    return ST_OK;
}
