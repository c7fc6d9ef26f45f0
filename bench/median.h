/* What a row of timings comes to. */
#ifndef REINFORCE_BENCH_MEDIAN_H
#define REINFORCE_BENCH_MEDIAN_H

#include <stdlib.h>

static inline int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/** The middle of n >= 1 values, the upper one of two; sorts them. */
static inline double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, compare_doubles);
    return values[n / 2];
}

#endif
