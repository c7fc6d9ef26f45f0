#include "reinforce/base/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum status scratch_open(struct scratch *scratch, size_t bytes, struct error *err)
{
    const char *folder = getenv("TMPDIR"); /* NOLINT(concurrency-mt-unsafe): nobody sets it */
    char path[PATH_MAX];
    enum status st = ST_OK;
    int fd, number = 0;

    memset(scratch, 0, sizeof *scratch);
    if (folder == NULL || folder[0] == '\0')
        folder = "/tmp";
    (void)snprintf(path, sizeof path, "%s/reinforce-XXXXXX", folder);
    fd = mkstemp(path);
    if (fd < 0)
        return error_set_errno(err, ST_UNAVAILABLE, "could not make a file in \"%.80s\"", folder);
    (void)unlink(path);
    /* Reserved now: a hole that cannot be filled later would be a SIGBUS. */
    number = posix_fallocate(fd, 0, (off_t)bytes);
    if (number == 0) {
        scratch->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        number = scratch->memory == MAP_FAILED ? errno : 0;
    }
    if (number != 0) {
        scratch->memory = NULL;
        errno = number;
        st = error_set_errno(err, number == ENOSPC ? ST_FULL : ST_UNAVAILABLE,
                             "could not get %zu bytes of scratch space in \"%.80s\" (TMPDIR)",
                             bytes, folder);
    } else {
        scratch->bytes = bytes;
    }
    (void)close(fd);
    return st;
}

void scratch_close(struct scratch *scratch)
{
    if (scratch->memory != NULL)
        (void)munmap(scratch->memory, scratch->bytes);
    memset(scratch, 0, sizeof *scratch);
}
