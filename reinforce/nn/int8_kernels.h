/* One tile of rows times one panel of columns, for each instruction set. Private to reinforce/nn
 * and its tests. */
#ifndef REINFORCE_NN_INT8_KERNELS_H
#define REINFORCE_NN_INT8_KERNELS_H

#include "reinforce/base/macros.h"
#include "reinforce/nn/int8.h"

#include <stdbool.h>
#include <stdint.h>

/* Of the AMX kernel's tiles: rows of x, and their bytes. */
enum { AMX_ROWS = 16, AMX_BYTES = 64 };

enum { INT8_QUAD = 4 }; /* values of a row that lie side by side in a panel */

/** Of a group of a tile's rows: what stands before the values, which begin a cache line (tiles
 * whose rows cross one load six times as slowly), and all of it. */
static inline size_t int8_head_bytes(size_t rows)
{
    return (2 * sizeof(float) * rows + 63) / 64 * 64;
}

static inline size_t int8_group_bytes(size_t rows, size_t n_values)
{
    return int8_head_bytes(rows) + rows * int8_whole_chunks(n_values);
}

/** Where rows begin in memory of int8_rows_floats(). */
static inline int8_t *int8_aligned(float *memory)
{
    return (int8_t *)memory + (64 - (uintptr_t)memory % 64) % 64;
}

/** Of a matrix of K columns. */
static inline size_t int8_panel_bytes(size_t K)
{
    return int8_whole_chunks(K) * INT8_COLUMNS;
}

/** Of a matrix of so many rows. */
static inline size_t int8_panels(size_t out)
{
    return (out + INT8_COLUMNS - 1) / INT8_COLUMNS;
}

/** Row n of a matrix of K columns: every INT8_COLUMNS quads one of its own. */
static inline uint8_t *int8_quads_at(uint8_t *panels, size_t K, size_t n)
{
    return panels + n / INT8_COLUMNS * int8_panel_bytes(K) + n % INT8_COLUMNS * INT8_QUAD;
}

/** Writes row x [n] of a matrix, quads filled up to whole chunks; returns its scale, NaN if x holds
 * a NaN or an infinity. */
float int8_pack_row(const float *x, size_t n, uint8_t *quads);

/** A tile of struct int8_rows: `rows` in 1..INT8_ROWS, of K values in groups of `group`. */
struct int8_tile {
    const int8_t *data;
    size_t rows, K, group;
    bool w_is_far;       /* the panels come from memory: no other tile has just met them */
    const uint8_t *next; /* what a kernel may ask memory for meanwhile: panels to come */
    size_t next_lines;   /* of it, 64 bytes each */
};

enum { INT8_TOTALS = INT8_ROWS * INT8_COLUMNS }; /* of a tile of rows and a panel */

/** Where a tile times panels goes, y [rows, 32 of each panel], and what else is done to it. */
struct int8_result {
    float *y; /* rows ldy apart */
    size_t ldy;
    const float *scale, *bias; /* of the panels' columns */
    bool add;                  /* to what y holds */
};

/** Panels that one call multiplies at most. */
enum { INT8_PANELS = 16 };

/**
 * y = (x w^T) scale + bias; w is n_panels panels of struct int8_matrix, one behind the other, 1 to
 * INT8_PANELS. Exact sums of each group, as float32, times its scale, rounded, are added up from
 * the first group on; then come the column's scale, the bias, and what is added to. May read
 * INT8_SLACK bytes behind the tile.
 */
typedef void int8_tile_fn(const struct int8_result *to, const struct int8_tile *x, const uint8_t *w,
                          size_t n_panels);

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
