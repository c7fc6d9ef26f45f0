/* Unicode repair as ftfy 6.3 does it by default, all but mojibake. */
#ifndef REINFORCE_TEXT_FIX_TEXT_H
#define REINFORCE_TEXT_FIX_TEXT_H

#include "reinforce/base/bytes.h"

/**
 * Appends the repaired `text` (valid UTF-8). Line by line, until nothing changes: HTML references
 * with a semicolon (not from the first line with a "<" on), C1 controls as windows-1252, Latin
 * ligatures, half and full width forms, curly quotes, line breaks, terminal escapes, control
 * characters, NFC. *suspect_mojibake: some characters, read as bytes of windows-1252, are UTF-8, so
 * ftfy might decode them. Source: the behaviour of ftfy 6.3.1's fix_text.
 */
NODISCARD enum status fix_text(struct bytes_view text, struct byte_buf *out, bool *suspect_mojibake,
                               struct error *err);

#endif
