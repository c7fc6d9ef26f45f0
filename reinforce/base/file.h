/* Local files: whole reads with a limit, read-only maps. Object stores build on this; nobody else
 * writes files. */
#ifndef REINFORCE_BASE_FILE_H
#define REINFORCE_BASE_FILE_H

#include "reinforce/base/bytes.h"

/** Reads all of `path` to the end of `buf`. ST_NOT_FOUND; ST_NO_MEMORY past the buffer's limit;
 * ST_UNAVAILABLE. */
NODISCARD enum status file_read(const char *path, struct byte_buf *buf, struct error *err);

/** Takes a file's next bytes; anything but ST_OK ends the reading with that status. */
typedef enum status file_piece_fn(void *ctx, struct bytes_view piece, struct error *err);

/** Reads all of `path` in pieces, through memory that does not grow with it: for hashing what is
 * larger than memory, or mapped already. ST_NOT_FOUND; ST_UNAVAILABLE; what `each` returned. */
NODISCARD enum status file_read_pieces(const char *path, file_piece_fn *each, void *ctx,
                                       struct error *err);

/** Writes `data` to a temporary name beside `path`, syncs, and renames: a reader sees all or
 * nothing. */
NODISCARD enum status file_write_atomic(const char *path, struct bytes_view data,
                                        struct error *err);

/** Creates `path` and its parents. */
NODISCARD enum status file_make_dirs(const char *path, struct error *err);

/** A file mapped read-only. */
struct file_map {
    struct bytes_view bytes;
};

/** Maps `path`; an empty file gives a view of length 0. */
NODISCARD enum status file_map_open(const char *path, struct file_map *map, struct error *err);
void file_map_close(struct file_map *map);

/** Pages of a map, or of a part of it, that need not stay in memory: reading them reads the file
 * again. Advice, which cannot fail. */
void file_drop_pages(struct bytes_view mapped);

#endif
