/* Pickled numpy arrays, the embeddings of the JSONL form, read and written without Python. */
#ifndef REINFORCE_STORAGE_NUMPY_PICKLE_H
#define REINFORCE_STORAGE_NUMPY_PICKLE_H

#include "storage/format/array_limits.h"

/**
 * Appends pickle protocol 5 of a C-contiguous float32 [rows, dim] array that numpy 1 and 2 both
 * load; a bfloat16 array is widened, which is exact. The array's name is not stored.
 * ST_INVALID: larger than 2 GiB. ST_NO_MEMORY. On failure `out` is as it was.
 */
NODISCARD enum status numpy_pickle_write(const struct record_embedding *array, struct byte_buf *out,
                                         struct error *err);

/**
 * Reads pickle protocols 3 to 5 of one 2-D float array (float16, float32, float64; either byte
 * order, C or Fortran order), as numpy 1 and 2 write them; comes out as RECORD_F32 with a NULL
 * name. Opcodes and globals outside the list are refused by name and offset; nothing is executed.
 *
 * array->data lives in `arena`; `bytes` is not kept. ST_CORRUPT, ST_NO_MEMORY (arena full).
 */
NODISCARD enum status numpy_pickle_read(struct bytes_view bytes, const struct array_limits *limits,
                                        struct arena *arena, struct record_embedding *array,
                                        struct error *err);

/** The JSONL value, base64(gzip(pickle)), without quotes: plain ASCII that JSON need not escape. */
NODISCARD enum status numpy_pickle_write_text(const struct record_embedding *array,
                                              struct byte_buf *out, struct error *err);
/** Reads it back; standard base64 with padding, nothing else. */
NODISCARD enum status numpy_pickle_read_text(struct bytes_view text,
                                             const struct array_limits *limits, struct arena *arena,
                                             struct record_embedding *array, struct error *err);

/** True if `text` begins as such a value does ("H4sI", the base64 of a gzip header): how a reader
 * of JSONL tells an embedding from another string. */
bool numpy_pickle_text_matches(struct bytes_view text);

#endif
