/* One process at a time: an advisory lock on a file, let go by the kernel when the process dies. */
#ifndef REINFORCE_BASE_FILE_LOCK_H
#define REINFORCE_BASE_FILE_LOCK_H

#include "reinforce/base/error.h"

struct file_lock {
    int fd; /* -1: not held */
};

/** Creates `path` if need be and locks it without waiting. ST_CONFLICT names the process that holds
 * it. */
NODISCARD enum status file_lock_take(const char *path, struct file_lock *lock, struct error *err);

/** Safe on a lock that is not held ({.fd = -1}). */
void file_lock_release(struct file_lock *lock);

#endif
