#include "reinforce/base/log.h"

#include "reinforce/base/clock.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

static atomic_int threshold = LOG_WARN;

void log_set_level(enum log_level level)
{
    atomic_store(&threshold, (int)level);
}

void log_at(enum log_level level, const char *event, const char *fmt, ...)
{
    static const char *const names[] = {"ERROR", "WARN", "INFO", "DEBUG"};
    char when[CLOCK_TEXT_LEN + 1], fields[1024];
    va_list ap;

    if ((int)level > atomic_load(&threshold))
        return;
    va_start(ap, fmt);
    (void)vsnprintf(fields, sizeof fields, fmt, ap);
    va_end(ap);
    for (char *c = fields; *c != '\0'; c++)
        if (*c == '\n' || *c == '\r')
            *c = ' ';
    clock_text(clock_wall_ms(), when);
    (void)fprintf(stderr, "%s %s %s %s\n", when, names[level], event, fields);
}
