/* npz: a zip archive of .npy arrays, as numpy.savez_compressed writes it. */
#ifndef REINFORCE_STORAGE_NPZ_H
#define REINFORCE_STORAGE_NPZ_H

#include "storage/format/array_limits.h"

/**
 * Appends an archive with one deflated member `<name>.npy` per array, in the order given: npy v1.0,
 * '<f4', C order, 2-D. bfloat16 arrays, which numpy lacks, are widened, which is exact. The bytes
 * depend on the arrays alone (timestamps are 1980-01-01).
 *
 * arrays  [n]  names: 1 to 255 bytes of UTF-8 without '/', '\' and control characters, all
 * different
 *
 * ST_INVALID: a name or size that cannot be written. ST_NO_MEMORY. On failure `out` is as it was.
 */
NODISCARD enum status npz_write(const struct record_embedding *arrays, size_t n,
                                struct byte_buf *out, struct error *err);

/**
 * Reads stored and deflated archives of npy v1, v2 and v3 arrays (zip64, for 4 GiB and more, is
 * refused). Every array
 * comes out as RECORD_F32, row-major: '<f4' as it is, '<f2' exactly, '<f8' rounded to nearest, big
 * endian and Fortran order rearranged. Anything that is not a 2-D array of such floats is refused
 * by member name: object arrays (they would need code), integers, booleans, text, other ranks and
 * members that are not .npy.
 *
 * *arrays, their names and data live in `arena`, in the archive's order; `bytes` is not kept.
 * ST_CORRUPT says which member and why. ST_NO_MEMORY: the arena is full.
 * Source: numpy.lib.format; PKWARE APPNOTE 6.3.
 */
NODISCARD enum status npz_read(struct bytes_view bytes, const struct array_limits *limits,
                               struct arena *arena, struct record_embedding **arrays, size_t *n,
                               struct error *err);

#endif
