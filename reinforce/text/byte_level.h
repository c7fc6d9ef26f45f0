/* GPT-2's reversible writing of bytes as printable characters. */
#ifndef REINFORCE_TEXT_BYTE_LEVEL_H
#define REINFORCE_TEXT_BYTE_LEVEL_H

#include "reinforce/base/bytes.h"

/** The character of a byte: itself for 33-126, 161-172, 174-255; the other 68, ascending, are
 * U+0100, U+0101, ... */
uint32_t byte_level_char(uint8_t byte);

/** The byte of a character, or -1. */
int byte_level_byte(uint32_t cp);

/** Appends `bytes` written so. */
NODISCARD enum status byte_level_encode(struct bytes_view bytes, struct byte_buf *out,
                                        struct error *err);

/** Appends the bytes of `text`; a text with another character in it is appended as it is. */
NODISCARD enum status byte_level_decode(struct bytes_view text, struct byte_buf *out,
                                        struct error *err);

#endif
