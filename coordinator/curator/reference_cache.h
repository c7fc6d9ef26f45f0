/*
 * Reference embeddings by id in a file that is mapped: made once from what they come from, read by
 * any number of curators, and no larger in memory than the pages in use.
 *
 *     0  "RCURREF1"
 *     8  uint64 n | uint64 n_slots, a power of two | uint64 D | float32 scale | float32 bias
 *    40  key, 64 hex digits
 *   104  version, 128 bytes, NUL-terminated; zeros up to byte 256
 *   256  slots  uint64 [n_slots]  a row's number + 1, 0: none
 *   ...  rows   n times: id (low half, high half), image float16 [D], text float16 [D], zeros up to
 *        a multiple of 16 bytes
 *
 * All little endian. An id's row is named by the first slot from hash(id) on, round the end, that
 * is empty or names a row of that id. The key is a digest of everything the rows depend on; with
 * another one it is another file.
 */
#ifndef REINFORCE_COORDINATOR_CURATOR_REFERENCE_CACHE_H
#define REINFORCE_COORDINATOR_CURATOR_REFERENCE_CACHE_H

#include "coordinator/curator/inputs.h"
#include "reinforce/base/sha256.h"

/** What a cache is of. */
struct reference_facts {
    size_t D;
    float scale, bias;
    char version[128];
    char key[SHA256_HEX_LEN + 1];
};

struct reference_cache;

/**
 * Maps the cache at `path`. ST_NOT_FOUND: there is none. ST_CORRUPT: it is none, of another length
 * than it says, or its key is not `key`.
 */
NODISCARD enum status reference_cache_open(const char *path, const char *key,
                                           struct reference_cache **out, struct error *err);
void reference_cache_close(struct reference_cache **cache);

/** Lives as long as the cache; scale and bias are those it was made with. */
const struct curator_references *reference_cache_get(const struct reference_cache *cache);

struct reference_writer;

/** Begins a cache of at most max_n rows under a temporary name beside `path`. ST_UNAVAILABLE: no
 * room for it. */
NODISCARD enum status reference_writer_open(const char *path, const struct reference_facts *facts,
                                            uint64_t max_n, struct reference_writer **out,
                                            struct error *err);

/** Adds a row; float32 image [D] and text [D]. ST_CONFLICT: the id is there, and stays as it was.
 * ST_FULL: there are max_n. */
NODISCARD enum status reference_writer_add(struct reference_writer *writer, struct example_id id,
                                           const float *image, const float *text,
                                           struct error *err);

/** Puts it in place, whole; takes the writer, also on failure. */
NODISCARD enum status reference_writer_finish(struct reference_writer **writer, struct error *err);

/** Leaves nothing behind. */
void reference_writer_abandon(struct reference_writer **writer);

#endif
