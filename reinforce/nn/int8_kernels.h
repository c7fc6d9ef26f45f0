/* One tile of rows times one panel of columns, for each instruction set. Private to reinforce/nn
 * and its tests. */
#ifndef REINFORCE_NN_INT8_KERNELS_H
#define REINFORCE_NN_INT8_KERNELS_H

#include "reinforce/base/macros.h"

#include <stdint.h>

/**
 * total float32 [rows, INT8_COLUMNS] = x w^T but for w's scale; rows in 1..INT8_ROWS, K values of a
 * tile of struct int8_rows and a panel of struct int8_matrix. Exact sums of each group, as float32,
 * times its scale, rounded, are added up from the first group on, from 0.
 */
typedef void int8_tile_fn(float *total, const int8_t *x, size_t rows, const uint8_t *w, size_t K);

struct int8_kernel {
    const char *name;
    int8_tile_fn *tile;
};

/** Kernels that this processor runs, the fastest first; the last is plain C. */
const struct int8_kernel *int8_kernels(size_t *n);

#endif
