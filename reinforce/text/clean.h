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

/** The same up to HTML; then as "canonicalize" of its tokenizers has it: "_" to space, no ASCII
 * punctuation, lower case, white space runs to one space. SigLIP's snapshots of open_clip. */
NODISCARD enum status clean_open_clip_canonical(struct bytes_view text, struct arena *arena,
                                                struct bytes_view *out, bool *suspect_mojibake,
                                                struct error *err);

/** As transformers' SiglipTokenizer (SigLIP 1): lower case, no ASCII punctuation, white space runs
 * to one space. *out is in `arena`. */
NODISCARD enum status clean_canonical(struct bytes_view text, struct arena *arena,
                                      struct bytes_view *out, struct error *err);

/** Lower case and nothing else: of A to Z, as SigLIP 2 was trained, or of every letter, as
 * transformers' Siglip2Tokenizer does. *out is in `arena`. */
NODISCARD enum status clean_lower_ascii(struct bytes_view text, struct arena *arena,
                                        struct bytes_view *out, struct error *err);
NODISCARD enum status clean_lower_unicode(struct bytes_view text, struct arena *arena,
                                          struct bytes_view *out, struct error *err);

/** RayGen's cut: what is before the first end marker and after the last start marker, up to the
 * first ".", right-trimmed. */
struct bytes_view clean_first_sentence(struct bytes_view text);

/** Without white space at both ends (Unicode White_Space). */
struct bytes_view clean_trim(struct bytes_view text);

#endif
