/* Functions that are wrong more often than right become compile errors; the comment names what to
 * use. */
#ifndef REINFORCE_BASE_BANNED_H
#define REINFORCE_BASE_BANNED_H

/* System headers first: a macro must not meet their own declarations. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BANNED(func) func##_is_banned_see_banned_h

/* byte_buf or snprintf */
#undef strcpy
#define strcpy(to, from) BANNED(strcpy)
#undef strcat
#define strcat(to, from) BANNED(strcat)
#undef strncpy
#define strncpy(to, from, n) BANNED(strncpy)
#undef strncat
#define strncat(to, from, n) BANNED(strncat)
#undef sprintf
#define sprintf(...) BANNED(sprintf)
#undef vsprintf
#define vsprintf(...) BANNED(vsprintf)
/* strtok_r, or split by hand */
#undef strtok
#define strtok(text, delimiters) BANNED(strtok)
/* parse_i64, parse_f64 */
#undef atoi
#define atoi(text) BANNED(atoi)
#undef atol
#define atol(text) BANNED(atol)
#undef atof
#define atof(text) BANNED(atof)
/* gmtime_r */
#undef gmtime
#define gmtime(t) BANNED(gmtime)
#undef localtime
#define localtime(t) BANNED(localtime)
#undef ctime
#define ctime(t) BANNED(ctime)
#undef asctime
#define asctime(t) BANNED(asctime)
/* philox */
#undef rand
#define rand() BANNED(rand)
#undef srand
#define srand(seed) BANNED(srand)

#endif
