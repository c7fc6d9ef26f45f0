#include "reinforce/base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum status error_set_at(struct error *err, enum status code, int sys_errno, const char *file,
                         int line, const char *fmt, ...)
{
    va_list ap;
    int n;

    err->code = code;
    err->sys_errno = sys_errno;
    err->file = file;
    err->line = line;
    err->context[0] = '\0';
    va_start(ap, fmt);
    n = vsnprintf(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    if (sys_errno != 0 && n >= 0 && (size_t)n < sizeof err->message - 2) {
        char text[96] = "";

        if (strerror_r(sys_errno, text, sizeof text) != 0)
            (void)snprintf(text, sizeof text, "errno %d", sys_errno);
        (void)snprintf(err->message + n, sizeof err->message - (size_t)n, ": %s", text);
    }
    return code;
}

void error_add_context(struct error *err, const char *fmt, ...)
{
    char where[sizeof err->context], inner[sizeof err->context];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(where, sizeof where, fmt, ap);
    va_end(ap);
    memcpy(inner, err->context, sizeof inner);
    if (inner[0] != '\0') {
        size_t used = strlen(where);

        memcpy(err->context, where, used + 1);
        (void)snprintf(err->context + used, sizeof err->context - used, ": %s", inner);
    } else {
        memcpy(err->context, where, strlen(where) + 1);
    }
}

bool status_is_retryable(enum status code)
{
    return code == ST_UNAVAILABLE || code == ST_TIMEOUT || code == ST_FULL;
}

const char *status_name(enum status code)
{
    switch (code) {
    case ST_OK:
        return "ok";
    case ST_INVALID:
        return "invalid";
    case ST_NOT_FOUND:
        return "not_found";
    case ST_CONFLICT:
        return "conflict";
    case ST_CORRUPT:
        return "corrupt";
    case ST_UNAVAILABLE:
        return "unavailable";
    case ST_TIMEOUT:
        return "timeout";
    case ST_FULL:
        return "full";
    case ST_NO_MEMORY:
        return "no_memory";
    case ST_CANCELLED:
        return "cancelled";
    case ST_INTERNAL:
        return "internal";
    case ST_END:
        return "end";
    }
    return "unknown";
}
