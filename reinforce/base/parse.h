/* Numbers from text, whole or not at all. */
#ifndef REINFORCE_BASE_PARSE_H
#define REINFORCE_BASE_PARSE_H

#include "reinforce/base/error.h"

#include <stdint.h>

/** Decimal integer in [min, max]; trailing junk, blanks and overflow are ST_INVALID with the
 * reason. */
NODISCARD enum status parse_i64(const char *text, int64_t min, int64_t max, int64_t *out,
                                struct error *err);
/** Finite decimal number in [min, max]. */
NODISCARD enum status parse_f64(const char *text, double min, double max, double *out,
                                struct error *err);

/** Shortest decimal text that reads back as the same double, as Python's repr: "0.1", "178.5",
 * "7.0", "1e-07". */
void format_f64(double value, char text[32]);

#endif
