/* Inside of resample.c: its weighted sums by products of bytes, four taps to an instruction, on
 * processors with AVX-512 VNNI.
 *
 * A coefficient k is split to three signed bytes, k = low + 2^8 middle + 2^16 high, each of which
 * gets a sum of its own; together they are the same integers as sums of k. */
#ifndef REINFORCE_IMAGE_RESAMPLE_VNNI_H
#define REINFORCE_IMAGE_RESAMPLE_VNNI_H

#include "reinforce/image/resample_axis.h"

enum { RESAMPLE_QUAD = 4, RESAMPLE_VNNI_ROWS = 21, RESAMPLE_VNNI_LANES = 64 };

/** Coefficients by fours. Output i has those of inputs lo[i] to lo[i] + n[i], zeros where the axis
 * has none. */
struct resample_quads {
    int count, max_n;
    int *lo, *n; /* [count]; n has whole quads, lo too if aligned */
    size_t stride;
    int32_t *k; /* [count, stride]: low, middle, high, four bytes each, quad by quad */
};

/** Whether this processor has the instructions. */
bool resample_vnni_is_there(void);

/**
 * Splits an axis. `aligned`: lo is rounded down to a multiple of four. *fits is false, and `quads`
 * of no use, if a coefficient is too large to split (past +-1.98). Everything is in `arena`.
 */
NODISCARD enum status resample_quads_init(struct resample_quads *quads,
                                          const struct resample_axis *axis, bool aligned,
                                          bool *fits, struct arena *arena, struct error *err);

/**
 * RGB of RESAMPLE_VNNI_ROWS rows to turned [n_quads, 64, 4]: four columns of a row's red, of its
 * green, of its blue, the same of the next row. The rows have `columns` pixels; what is not there
 * is zero.
 */
void resample_vnni_turn(const uint8_t *const *rows, int columns, int n_quads, uint8_t *turned);

/** Outputs [begin, end) of 64 lanes each from turned columns, the first of which is `base`. */
void resample_vnni_columns(const uint8_t *turned, int base, const struct resample_quads *quads,
                           int begin, int end, uint8_t *to);

/** One output row of `bytes` bytes: output i from the n rows at `from`, `stride` apart. */
void resample_vnni_rows(const uint8_t *from, size_t stride, const struct resample_quads *quads,
                        int i, int n, size_t bytes, uint8_t *to);

#endif
