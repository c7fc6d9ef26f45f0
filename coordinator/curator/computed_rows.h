/*
 * Reference embeddings that a teacher has computed, in a sparse file with room for every example of
 * an input: written one by one at their places, read where they are mapped.
 *
 *     0  "RCURROW1" | key, 64 hex digits; zeros up to byte 128
 *   128  rows  n times, by place: uint32 CRC-32 of the rest | uint32 kind: 0 none, 1 a row, 2 the
 *        example cannot be embedded | id (low half, high half) | image float16 [D] | text float16
 *        [D], zeros up to a multiple of 8 bytes
 *
 * All little endian. A row that a crash has torn has another checksum, and is none: so nothing is
 * synced, and several processes may write, the same bytes to the same place. The key is a digest of
 * all the rows depend on; with another one it is another file.
 */
#ifndef REINFORCE_COORDINATOR_CURATOR_COMPUTED_ROWS_H
#define REINFORCE_COORDINATOR_CURATOR_COMPUTED_ROWS_H

#include "reinforce/base/arena.h"
#include "reinforce/base/sha256.h"
#include "reinforce/curate/super_batch.h"

struct computed_rows;

enum computed_row {
    COMPUTED_NONE = 0,
    COMPUTED_ROW = 1,
    COMPUTED_IMPOSSIBLE = 2, /* the example cannot be embedded */
};

/** Opens the file of n rows of D values, and makes it if there is none. ST_CORRUPT: it is another
 * file; it may be removed. */
NODISCARD enum status computed_rows_open(const char *path, const char key[SHA256_HEX_LEN + 1],
                                         uint64_t n, size_t D, struct computed_rows **out,
                                         struct error *err);
void computed_rows_close(struct computed_rows **rows);

/** Fills float16 image [D] and text [D] of COMPUTED_ROW; both may be NULL. Any thread. */
enum computed_row computed_rows_get(const struct computed_rows *rows, uint64_t place,
                                    struct example_id id, void *image, void *text);

/** Writes float32 image [D] and text [D]; both NULL: COMPUTED_IMPOSSIBLE. Any thread.
 * ST_UNAVAILABLE: the disk is full. */
NODISCARD enum status computed_rows_put(const struct computed_rows *rows, uint64_t place,
                                        struct example_id id, const float *image, const float *text,
                                        struct arena *scratch, struct error *err);

#endif
