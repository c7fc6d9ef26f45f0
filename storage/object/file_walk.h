/* Walks a folder as an object store lists it. Private to storage/object. */
#ifndef REINFORCE_STORAGE_FILE_WALK_H
#define REINFORCE_STORAGE_FILE_WALK_H

#include "storage/object/object_store.h"

#include <sys/stat.h>

/** The contract of object_store_ops.list for the folder `root`. Links to files inside are listed;
 * links to folders are not entered, so that a walk always ends. Memory: the names of the folders on
 * the way down. */
NODISCARD enum status file_walk_list(const char *root, const char *prefix, object_list_fn *each,
                                     void *ctx, struct error *err);

/** The contract of object_store_ops.sweep: removes temporary files whose writer holds no lock any
 * more. */
NODISCARD enum status file_walk_sweep(const char *root, const char *prefix, size_t *n_removed,
                                      struct error *err);

/** Size and etag of a file: the etag changes with size or time of change. */
void file_walk_info(const struct stat *stat, struct object_info *info);

#endif
