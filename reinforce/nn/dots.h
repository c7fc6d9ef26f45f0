/* Dot products of many rows with many rows, for results that must not depend on which rows were
 * computed together. */
#ifndef REINFORCE_NN_DOTS_H
#define REINFORCE_NN_DOTS_H

#include "reinforce/base/macros.h"

/*
 * A product is one chain of fused multiply-adds in the order of k, so its bits depend on its two
 * rows alone: not on its place in a tile, the number of rows, threads, or the processor. A BLAS
 * promises none of this. Both sides are packed first:
 *
 *     strip  [K][DOTS_COLUMNS]  the rows that stay, k by k
 *     panel  [K][dots_rows()]   the rows that pass by
 */
enum { DOTS_COLUMNS = 32, DOTS_MAX_ROWS = 16 };

/** Rows in a panel on this machine, at most DOTS_MAX_ROWS. */
size_t dots_rows(void);

/** Row `r` [K] of what becomes a panel or strip `width` rows wide, multiplied by `scale`. Rows that
 * are not written must be zeroed by the caller: all `width` are read. */
void dots_pack(float *packed, size_t width, size_t r, const float *row, float scale, size_t K);

/** y[i, j] = panel_i . strip_j for dots_rows() x DOTS_COLUMNS, rows ldy apart. */
void dots_product(float *y, size_t ldy, const float *panel, const float *strip, size_t K);

#endif
