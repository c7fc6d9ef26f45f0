/* Standard base64 (RFC 4648, section 4): how JSONL carries images and arrays. */
#ifndef REINFORCE_STORAGE_BASE64_H
#define REINFORCE_STORAGE_BASE64_H

#include "reinforce/base/bytes.h"

/** Appends `in` in base64 with padding and without line breaks. ST_NO_MEMORY. */
NODISCARD enum status base64_encode(struct bytes_view in, struct byte_buf *out, struct error *err);

/**
 * Appends what `text` says. Padding is required and nothing but the alphabet is allowed, so that
 * every byte string has one spelling. ST_CORRUPT names the offset; ST_NO_MEMORY. On failure `out`
 * is as it was.
 */
NODISCARD enum status base64_decode(struct bytes_view text, struct byte_buf *out,
                                    struct error *err);

#endif
