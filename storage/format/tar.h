/* tar archives: members read one after another from an object, and written with reproducible bytes.
 */
#ifndef REINFORCE_STORAGE_TAR_H
#define REINFORCE_STORAGE_TAR_H

#include "storage/format/dataset_stream.h"

/*
 * A member is a 512-byte header, its body, and zeros up to a multiple of 512:
 *
 *     0    name      100      156  type        1   '0', NUL, '7': a file; 'x' 'g' 'L' 'K': below
 *     100  mode        8      157  link name 100
 *     108  uid         8      257  magic       8   "ustar" NUL "00", or GNU's "ustar  " NUL
 *     116  gid         8      265  uname      32
 *     124  size       12      297  gname      32
 *     136  mtime      12      329  devmajor, devminor 8 + 8
 *     148  checksum    8      345  prefix    155   (ustar alone: prefix "/" name)
 *
 * Numbers are octal text; a size whose first byte is 0x80 is big-endian binary (GNU). The checksum
 * is the sum of the header's bytes with blanks in its own field. The body of an 'x' (next member)
 * or 'g' (all that follow) header holds records "LEN KEY=VALUE\n"; path and size matter here. The
 * body of 'L' is the next member's name, of 'K' its link name. A zero block ends the archive.
 * Source: POSIX.1-2017 pax; GNU tar manual, "Basic Tar Format".
 */

enum {
    TAR_BLOCK = 512,
    TAR_RECORD = 10240,
    TAR_MAX_NAME = 4096,
    TAR_MAX_EXTENDED_BYTES = 1 << 20, /* of one 'x' or 'g' body */
};

/** One regular file of an archive. */
struct tar_member {
    const char *name; /* until the next tar_reader_next(); cut at TAR_MAX_NAME is an error */
    uint64_t bytes;   /* of the body */
    uint64_t offset;  /* of its first block, extended headers included: reading may start here */
    uint64_t body;    /* offset of the body */
    bool sparse;      /* the body is a map and pieces (GNU.sparse): not the file's bytes */
};

/** Plain data with heap buffers; one owner thread. */
struct tar_reader {
    struct dataset_stream stream;
    uint64_t next; /* offset of the next header */
    char name[TAR_MAX_NAME + 1];
    char global_name[TAR_MAX_NAME + 1]; /* of a 'g' header; empty: none */
    bool has_global_size, global_sparse;
    uint64_t global_bytes;
    struct byte_buf extended;
    bool ended;
};

/** Starts at the archive's first byte. On failure there is nothing to close. */
NODISCARD enum status tar_reader_open(struct tar_reader *reader, struct object_store *store,
                                      const char *key, size_t buffer_bytes, struct error *err);

/**
 * Goes to the next regular file; folders, links and devices are passed over. ST_END: a zero block,
 * or the end of the object at a member's boundary (end marks are often lost). ST_CORRUPT: the
 * archive is cut or damaged, and at which byte; after it comes ST_END. member->name is then what is
 * known of the name. Other statuses are the object store's.
 */
NODISCARD enum status tar_reader_next(struct tar_reader *reader, struct tar_member *member,
                                      struct error *err);

/** The whole body: member->bytes bytes into `out`. Members may be read in any order. */
NODISCARD enum status tar_reader_body(struct tar_reader *reader, const struct tar_member *member,
                                      void *out, struct error *err);

/** Safe on a zeroed reader. */
void tar_reader_close(struct tar_reader *reader);

/** True if `head` begins with a header block whose checksum is right. */
bool tar_matches(struct bytes_view head);

/**
 * Appends a header (mode 0444, uid and gid 0, owner "bigdata", mtime 0; a PAX header before it only
 * when the name is longer than 100 bytes); the caller appends the body and calls tar_write_end()
 * with *mark. ST_INVALID: no name, or longer than TAR_MAX_NAME.
 */
NODISCARD enum status tar_write_begin(struct byte_buf *out, const char *name, size_t *mark,
                                      struct error *err);
/** Pads the body and puts its size and the checksum into the header. ST_INVALID: 8 GiB or more. */
NODISCARD enum status tar_write_end(struct byte_buf *out, size_t mark, struct error *err);

/** Appends what ends an archive of `body_bytes`: two zero blocks, then zeros to a multiple of
 * 10240. */
NODISCARD enum status tar_write_tail(uint64_t body_bytes, struct byte_buf *out, struct error *err);

#endif
