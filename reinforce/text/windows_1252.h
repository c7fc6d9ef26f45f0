/* Windows-1252, with the five bytes it leaves open standing for themselves. */
#ifndef REINFORCE_TEXT_WINDOWS_1252_H
#define REINFORCE_TEXT_WINDOWS_1252_H

#include "reinforce/base/bytes.h"

/** The character of a byte. */
uint32_t windows_1252_char(uint8_t byte);

/** The byte of a character, or -1. C1 controls count as their byte. */
int windows_1252_byte(uint32_t cp);

#endif
