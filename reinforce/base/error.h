/* How functions fail: a status by value, the story in a caller-owned struct error. */
#ifndef REINFORCE_BASE_ERROR_H
#define REINFORCE_BASE_ERROR_H

#include "reinforce/base/macros.h"

#include <stdbool.h>

enum status {
    ST_OK = 0,
    ST_INVALID = 1,     /* the caller or the configuration is wrong */
    ST_NOT_FOUND = 2,   /* no such key, row or record */
    ST_CONFLICT = 3,    /* someone else holds it or wrote it first */
    ST_CORRUPT = 4,     /* bytes do not match their format or checksum */
    ST_UNAVAILABLE = 5, /* a peer failed; may work later */
    ST_TIMEOUT = 6,     /* deadline passed: the outcome is unknown */
    ST_FULL = 7,        /* queue or quota is full: back-pressure */
    ST_NO_MEMORY = 8,
    ST_CANCELLED = 9,
    ST_INTERNAL = 10,
    ST_END = 11, /* an iterator has nothing more; not an error */
};

/** Meaningful only when the call that got it did not return ST_OK. Allocates nothing. */
struct error {
    enum status code;
    int sys_errno;    /* 0 unless a system call failed */
    const char *file; /* where it was detected */
    int line;
    char message[256]; /* "checksum is 1a2b, expected 3c4d" */
    char context[256]; /* "job 7: shard 000117: sample 42" */
};

/** Describes a failure once, where it is detected. Returns `code`, so that `return error_set(...)`
 * reads well. */
#define error_set(err, code, ...)                                                                  \
    ((void)error_set_at((err), (code), 0, __FILE__, __LINE__, __VA_ARGS__), (enum status)(code))
/** The same after a failed system call: keeps errno and appends its text to the message. (That both
 * are expressions ending in `code` is what lets static analysis see that they do not return ST_OK.)
 */
#define error_set_errno(err, code, ...)                                                            \
    ((void)error_set_at((err), (code), errno, __FILE__, __LINE__, __VA_ARGS__), (enum status)(code))

enum status error_set_at(struct error *err, enum status code, int sys_errno, const char *file,
                         int line, const char *fmt, ...) PRINTF_LIKE(6, 7);

/** Says where, not what: puts "shard x" in front of what inner frames have added. Cut off when
 * full. */
void error_add_context(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/** True if the same call may succeed later. Policy lives here, not at call sites. */
bool status_is_retryable(enum status code);

/** Stable lower-case name, for logs and for the catalog's reason column: "corrupt". */
const char *status_name(enum status code);

#endif
