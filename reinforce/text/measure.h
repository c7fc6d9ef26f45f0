/* How long a caption is and how it is written, for filters. */
#ifndef REINFORCE_TEXT_MEASURE_H
#define REINFORCE_TEXT_MEASURE_H

#include "reinforce/base/bytes.h"

/** Words between white space: Python's len(text.split()). */
size_t text_words(struct bytes_view text);

/** Code points: Python's len(text); an ill-formed byte counts as one. */
size_t text_characters(struct bytes_view text);

/** A script by its Unicode name or ISO 15924 code ("Latin", "Latn"), or -1. */
int text_script_find(const char *name);

/**
 * The share of a text's letters that are written in a script, 0..1; NaN when it has no letters.
 * Letters that several scripts use are none. A script is not a language: Latin letters spell
 * English and a hundred others, Han Chinese and Japanese.
 */
double text_script_share(struct bytes_view text, int script);

#endif
