/* Names that nobody else has. */
#ifndef REINFORCE_BASE_UNIQUE_H
#define REINFORCE_BASE_UNIQUE_H

enum { UNIQUE_TEXT_LEN = 16 };

/** 64 random bits of the system in hexadecimal digits: for names that must not meet another's,
 * never for results. */
void unique_text(char text[UNIQUE_TEXT_LEN + 1]);

#endif
