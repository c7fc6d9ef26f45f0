/* Files that tests/run.sh fetches: a test that needs one fails without it, and skips only where
 * nothing was fetched at all. */
#ifndef REINFORCE_TESTS_TEST_DATA_H
#define REINFORCE_TESTS_TEST_DATA_H

#include "reinforce/base/file.h"
#include "tests/support/test.h"

/** Reads $REINFORCE_TEST_DATA/<name> to `buf`, which the caller releases. */
static inline void test_data_read(const char *name, struct byte_buf *buf)
{
    const char *dir = getenv("REINFORCE_TEST_DATA"); /* NOLINT(concurrency-mt-unsafe): one thread */
    struct error err = {0};
    char path[1024];

    byte_buf_init(buf, (size_t)1 << 28);
    if (dir == NULL || dir[0] == '\0') {
        print_message("REINFORCE_TEST_DATA is not set: tests/run.sh fetches it\n");
        skip();
    } else {
        (void)snprintf(path, sizeof path, "%s/%s", dir, name);
        if (file_read(path, buf, &err) != ST_OK)
            fail_msg("%s: %s; tests/integration/fetch_*.sh put it there", path, err.message);
    }
}

#endif
