/* Float arrays of numeric tests: random ones, and how near two are. */
#ifndef REINFORCE_TESTS_FLOATS_H
#define REINFORCE_TESTS_FLOATS_H

#include "reinforce/base/philox.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>

/** n floats in +-scale / 2, the same for the same stream; malloc'd exactly, so that a sanitizer
 * sees a read behind them. The caller's, to free(). */
static inline float *random_floats(size_t n, uint32_t stream, float scale)
{
    float *out = malloc(MAX(n, (size_t)1) * sizeof *out);
    struct philox rng;

    assert_non_null(out);
    philox_init(&rng, 3, bytes_of_string("test"), PHILOX_STAGE_SELECT, stream);
    for (size_t i = 0; i < n; i++)
        out[i] = (philox_f32(&rng) - 0.5f) * scale;
    return out;
}

/** Fails the test at the first element that is further off than `tolerance`, or not finite. */
static inline void assert_near(const float *got, const float *want, size_t n, double tolerance,
                               const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= tolerance))
            fail_msg("%s: element %zu is %.9g, want %.9g", what, i, (double)got[i],
                     (double)want[i]);
}

#endif
