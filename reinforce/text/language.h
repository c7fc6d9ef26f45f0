/* Which language a caption is written in, for filters. */
#ifndef REINFORCE_TEXT_LANGUAGE_H
#define REINFORCE_TEXT_LANGUAGE_H

#include "reinforce/base/bytes.h"

/** A language by its code as libcld2 has them (ISO 639-1 where there is one: "en", "de", "zh",
 * "zh-Hant"), or -1. */
int text_language_find(const char *code);

/**
 * The share of a text that is written in a language, 0..1; NaN when it cannot be told, as of a word
 * or two, of ill-formed UTF-8, of more than 2 GiB. Guessed from sequences of letters by libcld2
 * (83 languages): the same for the same text.
 */
double text_language_share(struct bytes_view text, int language);

#endif
