/* Opens files below one folder and never outside of it: links are followed only where they stay
 * inside. */
#ifndef REINFORCE_STORAGE_FILE_ROOT_H
#define REINFORCE_STORAGE_FILE_ROOT_H

#include "reinforce/base/error.h"

#include <limits.h>
#include <sys/stat.h>

/** A key (relative, checked) with what its links lead to put in their place. */
struct file_root_path {
    char text[PATH_MAX]; /* "" is the root itself */
};

/** Splits at the last slash: *folder is "" for a key at the top; the result points into `key`.
 * ST_INVALID when it is too long for a path. */
NODISCARD enum status file_root_split(const char *key, struct file_root_path *folder,
                                      const char **leaf, struct error *err);

/**
 * Opens the folder `path` below `root`; *fd is the caller's to close. Links in `path` are replaced
 * by where they lead. With `create`, missing folders (and the root) are made, and synced into their
 * parents so that they outlive a power cut.
 *
 * ST_NOT_FOUND; ST_INVALID: a link leads outside, or no right to enter; ST_CONFLICT: a file is
 * where a folder should be.
 *
 * Safe from several threads and against links that change meanwhile: every step is taken from the
 * folder before it, without following links.
 */
NODISCARD enum status file_root_open_folder(const char *root, struct file_root_path *path,
                                            bool create, int *fd, struct error *err);

/** Opens the regular file `key` for reading; *fd is the caller's. ST_NOT_FOUND when it is a folder
 * or not there; ST_INVALID when it is neither, cannot be read, or leads outside. */
NODISCARD enum status file_root_open_object(const char *root, const char *key, int *fd,
                                            struct stat *info, struct error *err);

/** What an errno of reading says, with `what` ("could not open") and the path in the message. */
enum status file_root_fail(const char *what, const char *root, const char *key, int sys_errno,
                           struct error *err);

#endif
