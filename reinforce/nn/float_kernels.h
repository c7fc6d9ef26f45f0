/* One tile of float32 rows times one strip of columns, for each instruction set, all with the same
 * bits. Private to reinforce/nn and its tests. */
#ifndef REINFORCE_NN_FLOAT_KERNELS_H
#define REINFORCE_NN_FLOAT_KERNELS_H

#include "reinforce/base/macros.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    FLOAT_COLUMNS = 32,  /* of a strip */
    FLOAT_MAX_ROWS = 14, /* of a panel, of any kernel */
    FLOAT_SLACK = 16,    /* floats behind a packed panel that packing may overwrite */
};

/**
 * y[rows, 32], rows ldy apart, = panel strip, or that added to y. Each sum is one chain of fused
 * multiply-adds from 0 in the order of k.
 *
 * panel  float32 [K][rows], rows in 1..kernel->rows    strip  float32 [K][32]
 */
typedef void float_tile_fn(float *y, size_t ldy, const float *panel, const float *strip,
                           size_t rows, size_t K, bool add);

/**
 * packed[k][r] = x[r][k] for r < rows <= width, zeros up to width. x: float32, or uint16_t that
 * hold bfloat16, rows ldx elements apart. width is `rows` of a panel, or 32.
 */
typedef void float_pack_fn(float *packed, size_t width, const void *x, size_t ldx, size_t rows,
                           size_t K);

struct float_kernel {
    const char *name;
    size_t rows; /* of a panel, at most */
    float_tile_fn *tile;
    float_pack_fn *pack, *pack_bf16;
};

/** Kernels that this processor runs, the widest first; the last is plain C. */
const struct float_kernel *float_kernels(size_t *n);

#endif
