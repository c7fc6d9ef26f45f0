/* Log lines: a stable snake_case event, then key=value fields; one line per call, safe from any
 * thread. */
#ifndef REINFORCE_BASE_LOG_H
#define REINFORCE_BASE_LOG_H

#include "reinforce/base/macros.h"

enum log_level {
    LOG_ERROR = 0, /* wakes someone */
    LOG_WARN = 1,  /* was handled */
    LOG_INFO = 2,  /* one line per shard or lease */
    LOG_DEBUG = 3, /* off */
};

/** Lines above `level` are dropped. Set once, at start; the default is LOG_WARN. */
void log_set_level(enum log_level level);

/** Writes `2026-01-31T12:00:00.000Z WARN event key=value ...` to standard error. Never log
 * credentials. */
void log_at(enum log_level level, const char *event, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
