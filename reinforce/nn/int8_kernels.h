/* One tile of rows times one panel of columns, for each instruction set. Private to reinforce/nn
 * and its tests. */
#ifndef REINFORCE_NN_INT8_KERNELS_H
#define REINFORCE_NN_INT8_KERNELS_H

#include "reinforce/base/macros.h"
#include "reinforce/nn/int8.h"

#include <stdint.h>

/* Of the AMX kernel's tiles: rows of x, and their bytes. */
enum { AMX_ROWS = 14, AMX_BYTES = 64 };

/** Of a group of a tile's rows: what stands before the values, which begin a cache line (tiles
 * whose rows cross one load six times as slowly), and all of it. */
static inline size_t int8_head_bytes(size_t rows)
{
    return (2 * sizeof(float) * rows + 63) / 64 * 64;
}

static inline size_t int8_group_bytes(size_t rows)
{
    return int8_head_bytes(rows) + rows * INT8_GROUP;
}

/** Of a matrix of K columns. */
static inline size_t int8_panel_bytes(size_t K)
{
    return (K + INT8_GROUP - 1) / INT8_GROUP * INT8_GROUP * INT8_COLUMNS;
}

enum { INT8_TOTALS = INT8_ROWS * INT8_COLUMNS }; /* of a tile of rows and a panel */

/**
 * total float32 [n_panels][INT8_ROWS][INT8_COLUMNS], of which `rows` are written, = x w^T but for
 * w's scale; rows in 1..INT8_ROWS, K values of a tile of struct int8_rows and of n_panels >= 1
 * panels of struct int8_matrix, one behind the other. Exact sums of each group, as float32, times
 * its scale, rounded, are added up from the first group on, from 0. May read INT8_SLACK bytes
 * behind the tile.
 */
typedef void int8_tile_fn(float *total, const int8_t *x, size_t rows, const uint8_t *w,
                          size_t n_panels, size_t K);

struct int8_kernel {
    const char *name;
    int8_tile_fn *tile;
    /* Around any number of tiles, on the thread that runs them; NULL: nothing to do. */
    void (*begin)(void);
    void (*end)(void);
};

/** Kernels that this processor runs; the last is plain C. */
const struct int8_kernel *int8_kernels(size_t *n);

/** The fastest for a product of so many rows; measured by the first call. */
const struct int8_kernel *int8_kernel_for(size_t rows);

#endif
