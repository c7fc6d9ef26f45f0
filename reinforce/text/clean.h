/* Caption cleaning by named steps. */
#ifndef REINFORCE_TEXT_CLEAN_H
#define REINFORCE_TEXT_CLEAN_H

#include "reinforce/base/arena.h"
#include "reinforce/base/bytes.h"

/**
 * What open_clip does to a text before its tokenizer: Unicode repair as ftfy's defaults (all but
 * mojibake, which is reported in *suspect_mojibake and left alone), HTML unescape twice, strip,
 * whitespace runs to one space, lower case. *out is in `arena`.
 */
NODISCARD enum status clean_open_clip(struct bytes_view text, struct arena *arena,
                                      struct bytes_view *out, bool *suspect_mojibake,
                                      struct error *err);

/** RayGen's cut: what is before the first end marker and after the last start marker, up to the
 * first ".", right-trimmed. */
struct bytes_view clean_first_sentence(struct bytes_view text);

/** Without white space at both ends (Unicode White_Space). */
struct bytes_view clean_trim(struct bytes_view text);

#endif
