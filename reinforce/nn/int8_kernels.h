/* One tile of rows times one panel of columns, for each instruction set. Private to reinforce/nn
 * and its tests. */
#ifndef REINFORCE_NN_INT8_KERNELS_H
#define REINFORCE_NN_INT8_KERNELS_H

#include "reinforce/base/macros.h"

#include <stdint.h>

/**
 * sum int32 [rows, INT8_COLUMNS] = offset + x w^T, exact; rows in 1..INT8_ROWS. x and panel as in
 * struct int8_rows and struct int8_matrix, `quads` times four deep.
 */
typedef void int8_tile_fn(int32_t *sum, const uint8_t *x, size_t rows, const int8_t *panel,
                          const int32_t *offset, size_t quads);

struct int8_kernel {
    const char *name;
    int8_tile_fn *tile;
};

/** Kernels that this processor runs, the fastest first; the last is plain C. */
const struct int8_kernel *int8_kernels(size_t *n);

#endif
