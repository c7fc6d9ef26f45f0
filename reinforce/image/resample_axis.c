#include "reinforce/image/resample_axis.h"

#include <assert.h>
#include <math.h>

static const double pi = 3.14159265358979323846;

static double sinc(double x)
{
    if (x == 0.0)
        return 1.0;
    x = x * pi;
    return sin(x) / x;
}

static double filter_radius(enum resample_filter filter)
{
    switch (filter) {
    case RESAMPLE_BOX:
        return 0.5;
    case RESAMPLE_BILINEAR:
        return 1.0;
    case RESAMPLE_BICUBIC:
        return 2.0;
    case RESAMPLE_LANCZOS:
        return 3.0;
    case RESAMPLE_NEAREST:
        break;
    }
    return 0.0;
}

/* The order of the operations is part of the result. */
static double filter_weight(enum resample_filter filter, double x)
{
    static const double a = -0.5;
    double abs_x = fabs(x);

    switch (filter) {
    case RESAMPLE_BOX:
        return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
    case RESAMPLE_BILINEAR:
        return abs_x < 1.0 ? 1.0 - abs_x : 0.0;
    case RESAMPLE_BICUBIC:
        if (abs_x < 1.0)
            return ((a + 2.0) * abs_x - (a + 3.0)) * abs_x * abs_x + 1;
        return abs_x < 2.0 ? (((abs_x - 5) * abs_x + 8) * abs_x - 4) * a : 0.0;
    case RESAMPLE_LANCZOS:
        return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
    case RESAMPLE_NEAREST:
        break;
    }
    return 0.0;
}

int resample_span_of(int begin, int n, int reduction, struct resample_span *span)
{
    int first = begin / reduction;

    *span = (struct resample_span){
        .n = (begin + n + reduction - 1) / reduction - first,
        .offset = (double)(begin % reduction) / reduction,
        .length = (double)n / reduction,
    };
    return first;
}

bool resample_span_is_copy(const struct resample_span *span, int out)
{
    return span->n == out && span->length >= out;
}

enum status resample_axis_init(struct resample_axis *axis, const struct resample_span *span,
                               int out, int first, int count, enum resample_filter filter,
                               struct arena *arena, struct error *err)
{
    static const double one = 1 << RESAMPLE_PRECISION_BITS;
    double scale = (double)(float)span->length / out;
    double filter_scale = MAX(scale, 1.0);
    double support = filter_radius(filter) * filter_scale;
    double inverse_scale = 1.0 / filter_scale;
    double *weight;
    enum status st;

    assert(filter != RESAMPLE_NEAREST);
    axis->first = first;
    axis->count = count;
    axis->stride = (int)ceil(support) * 2 + 1;
    axis->max_n = 0;
    st = arena_calloc(arena, (size_t)count, sizeof *axis->lo, &axis->lo, err);
    if (st == ST_OK)
        st = arena_calloc(arena, (size_t)count, sizeof *axis->n, &axis->n, err);
    if (st == ST_OK)
        st = arena_calloc(arena, (size_t)count * (size_t)axis->stride, sizeof *axis->k, &axis->k,
                          err);
    if (st == ST_OK)
        st = arena_calloc(arena, (size_t)axis->stride, sizeof *weight, &weight, err);
    if (st != ST_OK)
        return st;
    for (int i = 0; i < count; i++) {
        double center = span->offset + (first + i + 0.5) * scale;
        int lo = MAX((int)(center - support + 0.5), 0);
        int n = (int)MIN(center + support + 0.5, (double)span->n) - lo;
        int32_t *k = axis->k + (size_t)i * (size_t)axis->stride;
        double sum = 0.0;

        for (int j = 0; j < n; j++) {
            weight[j] = filter_weight(filter, (j + lo - center + 0.5) * inverse_scale);
            sum += weight[j];
        }
        for (int j = 0; j < n; j++) {
            double w = sum != 0.0 ? weight[j] / sum : weight[j];

            k[j] = (int32_t)(w < 0 ? -0.5 + w * one : 0.5 + w * one);
        }
        axis->lo[i] = lo;
        axis->n[i] = n;
        axis->max_n = MAX(axis->max_n, n);
    }
    return ST_OK;
}
