/* Filter coefficients along one axis: the part of Pillow's resampler that is floating point. */
#ifndef REINFORCE_IMAGE_RESAMPLE_AXIS_H
#define REINFORCE_IMAGE_RESAMPLE_AXIS_H

#include "reinforce/base/arena.h"
#include "reinforce/image/resample.h"

enum { RESAMPLE_PRECISION_BITS = 32 - 8 - 2 };

/** Output sample first + i reads n[i] input samples from lo[i] on, weighted by k[i * stride + j].
 */
struct resample_axis {
    int first, count; /* the output samples covered */
    int stride;       /* of k, in coefficients */
    int max_n;
    int *lo, *n; /* [count]; lo and lo + n never decrease */
    int32_t *k;  /* [count, stride], in units of 2^-RESAMPLE_PRECISION_BITS */
};

/** Input along one axis: n samples, of which `length` from `offset` on are resized. Parts of
 * samples are where a box of a reduced image begins and ends between them. */
struct resample_span {
    int n;
    double offset, length;
};

/** The span of stored pixels [begin, begin + n) in samples of an image reduced by 1, 2 or 4.
 * Returns the first of the span->n samples that hold them. */
int resample_span_of(int begin, int n, int reduction, struct resample_span *span);

/** Whether `out` samples are the span as it is. */
bool resample_span_is_copy(const struct resample_span *span, int out);

/**
 * Coefficients of outputs [first, first + count) of a span resized to `out`; not for
 * RESAMPLE_NEAREST. Everything is in `arena`. The integers need not sum to 2^22; they are Pillow's.
 * Source: Pillow src/libImaging/Resample.c, precompute_coeffs and normalize_coeffs_8bpc.
 */
NODISCARD enum status resample_axis_init(struct resample_axis *axis,
                                         const struct resample_span *span, int out, int first,
                                         int count, enum resample_filter filter,
                                         struct arena *arena, struct error *err);

#endif
