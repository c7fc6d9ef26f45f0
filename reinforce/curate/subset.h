/* Which examples of a dataset are kept by a score, and the list of them that other tools read. */
#ifndef REINFORCE_CURATE_SUBSET_H
#define REINFORCE_CURATE_SUBSET_H

#include "reinforce/curate/super_batch.h"

/**
 * The score from which on the top `fraction` (0..1) of n >= 1 scores is kept: the one at place
 * int(n * fraction) of the descending order, so that one more is kept, and ties with it. A fraction
 * that reaches the end keeps all; NaNs come last and are below any threshold. Source: DataComp's
 * baselines.
 */
NODISCARD enum status subset_threshold(const float *scores, size_t n, double fraction,
                                       float *threshold, struct arena *arena, struct error *err);

/**
 * Appends the ids as a NumPy file of pairs of uint64 (the halves of a 128-bit id), sorted, each
 * once: DataComp's subset file. ids are put in order and *n is lowered to those that were written.
 *
 *     93 'NUMPY' 01 00 | uint16 header_len | header, padded to 64 | n x (uint64 high, uint64 low)
 *     {'descr': [('f0', '<u8'), ('f1', '<u8')], 'fortran_order': False, 'shape': (n,), }
 *
 * All little endian. Errors of byte_buf_extend().
 */
NODISCARD enum status subset_encode(struct example_id *ids, size_t *n, struct byte_buf *out,
                                    struct error *err);

/** Reads what subset_encode() or numpy.save() wrote, into the arena. ST_CORRUPT: another kind of
 * array, a wrong length, or ids that are not in ascending order. */
NODISCARD enum status subset_decode(struct bytes_view file, struct example_id **ids, size_t *n,
                                    struct arena *arena, struct error *err);

/** True if a sorted list holds the id. */
bool subset_holds(const struct example_id *ids, size_t n, struct example_id id);

#endif
