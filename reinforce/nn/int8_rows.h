/* How rows of float32 become rows of int8. Private to reinforce/nn. */
#ifndef REINFORCE_NN_INT8_ROWS_H
#define REINFORCE_NN_INT8_ROWS_H

#include "reinforce/nn/int8_kernels.h"
#include "reinforce/nn/int8_rounding.h"

/** The scale of x float32 [n], NaN if it holds a NaN or an infinity, and what its values are
 * multiplied by: 127 / the largest magnitude, or 0 where the scale is NaN or 0. */
float int8_scale_of(const float *x, size_t n, float *inverse);

/** q int8 [n]: x float32 [n] times `inverse`, rounded; zeros where that is 0, whatever x holds. */
void int8_quantize_values(const float *x, size_t n, float inverse, int8_t *q);

/** Bytes of a tile of struct int8_rows: `rows` of K values in groups of `group`. */
size_t int8_tile_bytes(size_t rows, size_t K, size_t group);

/** What stands before the values of a tile's group, of its r-th row, whose values have this sum. */
static ALWAYS_INLINE void int8_put_head(int8_t *group, size_t r, size_t rows, float scale,
                                        uint32_t sum)
{
    uint32_t offset = 0 - (uint32_t)INT8_ZERO * sum;

    memcpy(group + 4 * r, &scale, sizeof scale);
    memcpy(group + 4 * (rows + r), &offset, sizeof offset);
}

/** x float32 [K] as the r-th of the `rows` rows of a tile that begins, or goes on with a group, at
 * `tile`. */
void int8_quantize_row(const float *x, size_t K, size_t group, int8_t *tile, size_t r, size_t rows);

#endif
