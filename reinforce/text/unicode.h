/* Unicode on UTF-8 through ICU: classes, case, normalization. Tables are Unicode 15 (ICU 72). */
#ifndef REINFORCE_TEXT_UNICODE_H
#define REINFORCE_TEXT_UNICODE_H

#include "reinforce/base/bytes.h"

enum unicode_form { UNICODE_NFC, UNICODE_NFD, UNICODE_NFKC, UNICODE_NFKD };

/** White_Space, as Rust's char::is_whitespace and Oniguruma's \s. */
bool unicode_is_space(uint32_t cp);

/** What Python's str.strip and str.split take for white space: White_Space and U+001C..1F. */
bool unicode_is_space_python(uint32_t cp);

/** \w of Rust's regex: Alphabetic, M, Nd, Pc or Join_Control. */
bool unicode_is_word(uint32_t cp);

/** Nd: Python's \d. */
bool unicode_is_digit(uint32_t cp);

/** Lower case of one character without context (Rust's char::to_lowercase); returns 1 or 2. */
size_t unicode_lower_char(uint32_t cp, uint32_t out[2]);

/** Appends the lower case of valid UTF-8 `text`, with the final sigma rule (Python's str.lower). */
NODISCARD enum status unicode_lower(struct bytes_view text, struct byte_buf *out,
                                    struct error *err);

/** Appends the full upper case (Python's str.upper). */
NODISCARD enum status unicode_upper(struct bytes_view text, struct byte_buf *out,
                                    struct error *err);

/** Appends `text` in a normalization form. `text` must be valid UTF-8. */
NODISCARD enum status unicode_normalize(enum unicode_form form, struct bytes_view text,
                                        struct byte_buf *out, struct error *err);

/** Appends one code point as UTF-8. */
NODISCARD enum status unicode_put(uint32_t cp, struct byte_buf *out, struct error *err);

/** The code point before position `end` (> 0); *start is where it begins. A byte that ends no
 * well-formed character is U+FFFD by itself. */
uint32_t unicode_prev(struct bytes_view text, size_t end, size_t *start);

/** Valid UTF-8 of `text`: the view itself, or `fixed` with U+FFFD for each ill-formed part. */
NODISCARD enum status unicode_repair(struct bytes_view text, struct byte_buf *fixed,
                                     struct bytes_view *out, struct error *err);

#endif
