/* How scores become probabilities in int8. Private to reinforce/nn and its tests. */
#ifndef REINFORCE_NN_INT8_PROBABILITIES_H
#define REINFORCE_NN_INT8_PROBABILITIES_H

#include <stddef.h>
#include <stdint.h>

/**
 * softmax(scale * scores) of float32 [rows, n], rows `apart` floats apart and at most INT8_ROWS,
 * as a tile of struct int8_rows: 2 int8_group_bytes(rows, n) bytes that begin a cache line, two
 * groups of each row, n filled up to whole chunks. A probability, before it is
 * divided by their sum, is at most 1 and is kept in 14 bits, 128 high + low: the high halves are
 * the first group, the low ones the second. One byte would not do: when a query looks at one key
 * most, what it sees of all others together is often below half of its step. A NaN or an infinity
 * among the scores of a row makes both scales NaN.
 */
void int8_put_probabilities(const float *scores, size_t apart, size_t rows, size_t n, float scale,
                            int8_t *tile);

/** The same, bit-equal, for processors without AVX-512. */
void int8_put_probabilities_plain(const float *scores, size_t apart, size_t rows, size_t n,
                                  float scale, int8_t *tile);

#endif
