#include "reinforce/curate/agreement.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double alarm_at = 0.3;

struct ranked {
    double score;
    size_t i;
};

static int highest_first(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->i < y->i ? -1 : 1;
}

/* rank[i] from 1; equal scores share the mean of theirs. `order` is left sorted. */
static void rank(const double *scores, size_t n, struct ranked *order, double *ranks)
{
    for (size_t i = 0; i < n; i++)
        order[i] = (struct ranked){scores[i], i};
    qsort(order, n, sizeof *order, highest_first);
    for (size_t begin = 0, end; begin < n; begin = end) {
        for (end = begin + 1; end < n && order[end].score == order[begin].score;)
            end++;
        for (size_t k = begin; k < end; k++)
            ranks[order[k].i] = (double)(begin + 1 + end) / 2;
    }
}

static double correlation(const double *x, const double *y, size_t n)
{
    double mean_x = 0, mean_y = 0, xx = 0, yy = 0, xy = 0;

    for (size_t i = 0; i < n; i++) {
        mean_x += x[i] / (double)n;
        mean_y += y[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        xx += (x[i] - mean_x) * (x[i] - mean_x);
        yy += (y[i] - mean_y) * (y[i] - mean_y);
        xy += (x[i] - mean_x) * (y[i] - mean_y);
    }
    if (xx == 0 || yy == 0)
        return xx == yy ? 1 : 0;
    return xy / sqrt(xx * yy);
}

enum status score_agreement(struct score_agreement *agreement, const double *used,
                            const double *right, size_t n, size_t n_top, double gain,
                            struct arena *arena, struct error *err)
{
    struct arena mark = *arena;
    double *ranks = NULL, mean = 0, square = 0;
    struct ranked *order = NULL;
    bool *in_top = NULL;
    size_t n_both = 0;
    enum status st = arena_calloc(arena, 2 * n, sizeof *ranks, &ranks, err);

    if (st == ST_OK)
        st = arena_calloc(arena, n, sizeof *order, &order, err);
    if (st == ST_OK)
        st = arena_calloc(arena, n, sizeof *in_top, &in_top, err);
    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < n; i++)
        mean += (right[i] - used[i]) / (double)n;
    for (size_t i = 0; i < n; i++)
        square += (right[i] - used[i] - mean) * (right[i] - used[i] - mean);
    rank(used, n, order, ranks);
    for (size_t k = 0; k < n_top; k++)
        in_top[order[k].i] = true;
    rank(right, n, order, ranks + n);
    for (size_t k = 0; k < n_top; k++)
        n_both += in_top[order[k].i];
    agreement->sigma = sqrt(square / (double)n);
    agreement->spearman = correlation(ranks, ranks + n, n);
    agreement->overlap = (double)n_both / (double)n_top;
    agreement->alarm = gain * agreement->sigma > alarm_at;
    arena_rewind(arena, &mark);
    return ST_OK;
}
