#include "reinforce/base/wake.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum status wake_init(struct wake *wake, struct error *err)
{
    wake->fds[0] = wake->fds[1] = -1;
    if (pipe(wake->fds) != 0)
        return error_set_errno(err, ST_UNAVAILABLE, "could not create a pipe");
    for (int i = 0; i < 2; i++) {
        (void)fcntl(wake->fds[i], F_SETFL, O_NONBLOCK);
        (void)fcntl(wake->fds[i], F_SETFD, FD_CLOEXEC);
    }
    return ST_OK;
}

void wake_signal(const struct wake *wake)
{
    int saved = errno;
    ssize_t n = write(wake->fds[1], "", 1); /* a full pipe is readable all the same */

    (void)n;
    errno = saved;
}

void wake_drain(const struct wake *wake)
{
    char buf[256];

    while (read(wake->fds[0], buf, sizeof buf) > 0)
        continue;
}

void wake_release(struct wake *wake)
{
    for (int i = 0; i < 2; i++)
        if (wake->fds[i] >= 0)
            (void)close(wake->fds[i]);
    wake->fds[0] = wake->fds[1] = -1;
}
