#include "reinforce/base/parse.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum status parse_i64(const char *text, int64_t min, int64_t max, int64_t *out, struct error *err)
{
    char *end = NULL;
    long long value;

    *out = 0;
    errno = 0;
    value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || isspace((unsigned char)text[0]))
        return error_set(err, ST_INVALID, "\"%s\" is not an integer", text);
    if (errno == ERANGE || value < min || value > max)
        return error_set(err, ST_INVALID, "%s is outside %lld..%lld", text, (long long)min,
                         (long long)max);
    *out = value;
    return ST_OK;
}

enum status parse_f64(const char *text, double min, double max, double *out, struct error *err)
{
    char *end = NULL;
    double value;

    *out = 0;
    value = strtod(text, &end);
    if (end == text || *end != '\0' || isspace((unsigned char)text[0]) || !isfinite(value))
        return error_set(err, ST_INVALID, "\"%s\" is not a number", text);
    if (value < min || value > max)
        return error_set(err, ST_INVALID, "%s is outside %g..%g", text, min, max);
    *out = value;
    return ST_OK;
}

void format_f64(double value, char text[32])
{
    char digits[32], *exponent;
    int exp10, precision;

    if (value == 0 || !isfinite(value)) {
        (void)snprintf(text, 32, "%s", value != 0 ? "null" : signbit(value) ? "-0.0" : "0.0");
        return;
    }
    for (precision = 0; precision < 17; precision++) { /* significant digits - 1 */
        (void)snprintf(digits, sizeof digits, "%.*e", precision, value);
        if (strtod(digits, NULL) == value)
            break;
    }
    exponent = strchr(digits, 'e');
    exp10 = (int)strtol(exponent + 1, NULL, 10);
    if (exp10 < -4 || exp10 >= 16) { /* Python's repr switches here */
        (void)snprintf(text, 32, "%.*s", (int)(exponent - digits), digits);
        (void)snprintf(text + strlen(text), 32 - strlen(text), "e%c%02d", exp10 < 0 ? '-' : '+',
                       abs(exp10));
    } else {
        (void)snprintf(text, 32, "%.*f", MAX(1, precision - exp10), value);
    }
}
