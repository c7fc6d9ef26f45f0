/* libcld2, which is C++, in C. Private to language.c. */
#ifndef REINFORCE_TEXT_LANGUAGE_CLD2_H
#define REINFORCE_TEXT_LANGUAGE_CLD2_H

#include <stdio.h> /* libcld2's own header forgets it */

#ifdef __cplusplus
extern "C" {
#endif

enum { CLD2_LANGUAGES = 3 };

/** A language by its code ("en", "zh-Hant"); -1: not known. */
int cld2_find(const char *code);

/**
 * Up to three languages of `len` bytes of UTF-8, and the percentage of the text in each. Returns
 * how many; 0: the text is too short or too mixed to tell, or is not UTF-8.
 */
int cld2_detect(const char *text, int len, int languages[CLD2_LANGUAGES],
                int percents[CLD2_LANGUAGES]);

#ifdef __cplusplus
}
#endif

#endif
