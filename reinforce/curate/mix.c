#include "reinforce/curate/mix.h"

enum status mix_quotas(size_t n_a, size_t n_b, double share, size_t *keep_a, size_t *keep_b,
                       struct error *err)
{
    /* Ratios such as 0.9 / 0.1 fall short of whole numbers by their rounding. */
    const double slack = 1e-9;
    double most_a = (double)n_b * share / (1 - share) * (1 + slack);
    double most_b = (double)n_a * (1 - share) / share * (1 + slack);

    *keep_a = n_a;
    *keep_b = n_b;
    if (n_a == 0 || n_b == 0)
        return error_set(err, ST_INVALID,
                         "a share of %g needs samples of both kinds; there are %zu and %zu", share,
                         n_a, n_b);
    if ((double)n_a > most_a)
        *keep_a = (size_t)most_a;
    else
        *keep_b = (size_t)(most_b < (double)n_b ? most_b : (double)n_b);
    return ST_OK;
}
