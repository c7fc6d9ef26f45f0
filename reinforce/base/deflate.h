/* Whole buffers through zlib: raw deflate for zip members, gzip around everything else. */
#ifndef REINFORCE_BASE_DEFLATE_H
#define REINFORCE_BASE_DEFLATE_H

#include "reinforce/base/bytes.h"

/* Deflate cannot make more than this many bytes out of one: what declares more lies. */
#define DEFLATE_MAX_RATIO 1032u

/** Appends `in` as a raw deflate stream. Same input, same zlib: same bytes. ST_NO_MEMORY. */
NODISCARD enum status deflate_raw(struct bytes_view in, struct byte_buf *out, struct error *err);

/** Decompresses a raw deflate stream that must give exactly `out_len` bytes and end there.
 * ST_CORRUPT, ST_NO_MEMORY. */
NODISCARD enum status inflate_raw(struct bytes_view in, uint8_t *out, size_t out_len,
                                  struct error *err);

/** Appends `in` as one gzip member with time 0 and no name. ST_NO_MEMORY. */
NODISCARD enum status gzip_compress(struct bytes_view in, struct byte_buf *out, struct error *err);

/**
 * Appends what one or more gzip members hold. `out` may grow by `max_bytes`: more is ST_CORRUPT, as
 * are a bad checksum, a cut stream and bytes behind the last member. On failure `out` is as it was.
 */
NODISCARD enum status gzip_decompress(struct bytes_view in, size_t max_bytes, struct byte_buf *out,
                                      struct error *err);

/** True if `bytes` begin a gzip member. */
bool gzip_matches(struct bytes_view bytes);

#endif
