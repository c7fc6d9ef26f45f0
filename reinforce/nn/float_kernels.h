/* One tile of float32 rows times one strip of columns, for each instruction set. Private to
 * reinforce/nn and its tests. */
#ifndef REINFORCE_NN_FLOAT_KERNELS_H
#define REINFORCE_NN_FLOAT_KERNELS_H

#include "reinforce/base/macros.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    FLOAT_COLUMNS = 32, /* of a strip */
    FLOAT_HALF = FLOAT_COLUMNS / 2,
    FLOAT_MAX_ROWS = 32, /* of a panel, of any kernel */
    FLOAT_SLACK = 16,    /* floats behind a packed panel or strip that packing may overwrite */
    FLOAT_BLOCK_ROWS = 280,
    FLOAT_PARTS = 3, /* bfloat16 whose sum is a float32 */
    FLOAT_AMX_GROUP = 512,
    FLOAT_AMX_PANELS = 9, /* of a block: 257 rows are one */
};

/** Rows as a kernel takes them: float32 [K][rows], or where they lie, or as its float_parts say. */
struct float_panel {
    const void *data;
    size_t ld; /* floats from row to row where they lie; 0: packed */
    size_t rows;
    size_t tallest; /* of the panels of its block: has `rows`, or one more */
};

/** Columns: float32 [K][32], or as float_parts say. */
struct float_strip {
    const void *data;
    size_t K;
    bool is_half; /* the first 16 columns alone are wanted; not for float_parts */
    /* What a tile fetches meanwhile for those that follow: with each k a cache line, this many
     * bytes further on. All at once they would have to wait for each other. */
    const char *ahead;
    size_t ahead_step;
    /* Rows of results that are wanted when the tile is done, as many as the panel has, `ldto`
     * floats apart: those are fetched one by one too. */
    const float *to;
    size_t ldto;
};

/** y[rows, 32], or [rows, 16] of half a strip, rows ldy apart, = panel strip, or that added to y.
 */
typedef void float_tile_fn(float *y, size_t ldy, const struct float_panel *panel,
                           const struct float_strip *strip, bool add);

/**
 * packed[k][r] = x[r][k] for r < rows <= width, zeros up to width. x: float32, or uint16_t that
 * hold bfloat16, rows ldx elements apart. width is `rows` of a panel, or 32.
 */
typedef void float_pack_fn(float *packed, size_t width, const void *x, size_t ldx, size_t rows,
                           size_t K);

/** How a kernel that multiplies bfloat16 takes its factors, in memory that begins a cache line:
 * FLOAT_PARTS for each value of a row, one for a column's; rows and K filled up to 32. */
struct float_parts {
    /* Around the tiles of a block, on the thread that runs them. */
    void (*begin)(size_t tallest);
    void (*end)(void);
    void (*rows)(void *panel, const float *x, size_t ldx, size_t rows, size_t tallest, size_t K);
    void (*strip)(void *tiles, const float *strip, size_t K); /* strip: float32 [K][32] */
};

struct float_kernel {
    const char *name;
    size_t rows;       /* of a panel, at most */
    size_t block_rows; /* packed at once, to stay in a core's second cache */
    size_t group;      /* values of k that are one chain of sums */
    float_tile_fn *tile;
    const struct float_parts *parts; /* NULL: panels and strips are float32, packed by */
    float_pack_fn *pack, *pack_bf16;
};

/** Kernels that this processor runs, the widest first; the last is plain C. All give the same bits:
 * each sum is one chain of fused multiply-adds from 0 in the order of k. */
const struct float_kernel *float_kernels(size_t *n);

/** The one for columns of bfloat16; NULL: this processor has none. Its order of sums is its own:
 * fixed, but not that of the others. */
const struct float_kernel *float_amx(void);

#endif
