/* cmocka with what it needs in front, and checks that print the error's story. */
#ifndef REINFORCE_TESTS_TEST_H
#define REINFORCE_TESTS_TEST_H

#include "reinforce/base/error.h"

/* cmocka needs these first. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

/** Fails with message and context unless `expr` is ST_OK. Needs `err` in scope. */
#define assert_ok(expr)                                                                            \
    do {                                                                                           \
        enum status assert_st_ = (expr);                                                           \
        if (assert_st_ != ST_OK)                                                                   \
            fail_msg("%s: %s: %s: %s", #expr, status_name(assert_st_), err.context, err.message);  \
    } while (0)

/** Fails unless `expr` gives `want`. */
#define assert_status(expr, want)                                                                  \
    do {                                                                                           \
        enum status assert_st_ = (expr);                                                           \
        if (assert_st_ != (want))                                                                  \
            fail_msg("%s: got %s, want %s", #expr, status_name(assert_st_), status_name(want));    \
    } while (0)

#endif
