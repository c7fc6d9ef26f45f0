#include "reinforce/base/file_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum status file_lock_take(const char *path, struct file_lock *lock, struct error *err)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    enum status st;

    lock->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (lock->fd < 0)
        return error_set_errno(err, ST_UNAVAILABLE, "could not open \"%s\"", path);
    if (fcntl(lock->fd, F_SETLK, &whole) == 0)
        return ST_OK;
    if (errno == EACCES || errno == EAGAIN) {
        (void)fcntl(lock->fd, F_GETLK, &whole);
        st =
            error_set(err, ST_CONFLICT, "\"%s\" is locked by process %ld", path, (long)whole.l_pid);
    } else {
        st = error_set_errno(err, ST_UNAVAILABLE, "could not lock \"%s\"", path);
    }
    file_lock_release(lock);
    return st;
}

void file_lock_release(struct file_lock *lock)
{
    if (lock->fd >= 0)
        (void)close(lock->fd);
    lock->fd = -1;
}
