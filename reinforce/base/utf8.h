/* UTF-8, with invalid sequences replaced as Python's decode(errors="replace") does. */
#ifndef REINFORCE_BASE_UTF8_H
#define REINFORCE_BASE_UTF8_H

#include "reinforce/base/bytes.h"

#define UTF8_REPLACEMENT 0xFFFDu

/**
 * The code point at *pos (< text.len), and moves *pos behind it. An ill-formed sequence gives
 * U+FFFD and moves over its maximal valid prefix, at least one byte (Unicode 15, section 3.9,
 * "maximal subpart").
 */
uint32_t utf8_next(struct bytes_view text, size_t *pos);

/** Writes 1 to 4 bytes; returns how many. Surrogates and values above U+10FFFF become U+FFFD. */
size_t utf8_put(uint32_t code_point, uint8_t out[4]);

bool utf8_is_valid(struct bytes_view text);

#endif
