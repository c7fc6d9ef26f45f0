#include "reinforce/curate/selection_stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const double selection_quantiles[SELECTION_QUANTILES] = {0.05, 0.25, 0.5, 0.75, 0.95};

static int ascending(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

enum status selection_stats_scores(struct selection_stats *stats, const double *scores,
                                   const bool *usable, size_t B, double gain, struct arena *arena,
                                   struct error *err)
{
    struct arena mark = *arena;
    double *sorted, sum = 0, weights = 0, squares = 0;
    size_t n = 0;
    enum status st = arena_alloc(arena, B * sizeof *sorted, &sorted, err);

    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < B; i++)
        if (usable[i]) {
            sorted[n++] = scores[i];
            sum += scores[i];
        }
    qsort(sorted, n, sizeof *sorted, ascending);
    for (size_t i = 0; i < n; i++) {
        double w = exp(gain * (sorted[i] - sorted[n - 1]));

        weights += w;
        squares += w * w;
    }
    stats->marginal_mean = n > 0 ? sum / (double)n : 0;
    stats->effective_sample_size = n > 0 ? weights * weights / squares : 0;
    for (size_t q = 0; q < SELECTION_QUANTILES && n > 0; q++) {
        double at = selection_quantiles[q] * (double)(n - 1);
        size_t low = (size_t)at, high = MIN(low + 1, n - 1);

        stats->marginal_quantiles[q] =
            sorted[low] + (at - (double)low) * (sorted[high] - sorted[low]);
    }
    arena_rewind(arena, &mark);
    return ST_OK;
}

void selection_stats_shares(double *share, size_t n_strata, const uint16_t *strata, size_t n,
                            const uint32_t *index, const bool *usable)
{
    size_t total = 0;

    memset(share, 0, n_strata * sizeof *share);
    for (size_t i = 0; i < n; i++)
        if (index != NULL || usable[i]) {
            share[strata[index != NULL ? index[i] : i]]++;
            total++;
        }
    for (size_t s = 0; s < n_strata && total > 0; s++)
        share[s] /= (double)total;
}
