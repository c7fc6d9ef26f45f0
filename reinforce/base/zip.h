/* The part of the zip format that arrays travel in: stored and deflated members, written with fixed
 * times. */
#ifndef REINFORCE_BASE_ZIP_H
#define REINFORCE_BASE_ZIP_H

#include "reinforce/base/arena.h"
#include "reinforce/base/bytes.h"

/** One member; name and packed bytes are borrowed from the archive. */
struct zip_member {
    struct bytes_view name;
    struct bytes_view packed;
    size_t offset; /* of its local header; the header and `packed` are the member's alone */
    bool deflated;
    uint32_t crc;
    uint64_t size; /* unpacked */
};

/**
 * Reads the central directory: sizes and offsets are checked against the archive, names must be
 * plain (no "..", not absolute, no repeats). Refused: encryption, other methods, spanned archives,
 * zip64, members that overlap, more than `max_members`. *members in `arena`, in the directory's
 * order. ST_CORRUPT says what and where.
 */
NODISCARD enum status zip_read(struct bytes_view archive, size_t max_members, struct arena *arena,
                               struct zip_member **members, size_t *n, struct error *err);

/** The member's bytes: borrowed when stored, in `arena` when deflated; CRC checked. ST_CORRUPT past
 * `max_bytes`. */
NODISCARD enum status zip_unpack(const struct zip_member *member, size_t max_bytes,
                                 struct arena *arena, struct bytes_view *out, struct error *err);

/** Writes an archive member by member; all fields are zip.c's. */
struct zip_writer {
    struct byte_buf *out;
    size_t start; /* of the archive in `out` */
    struct byte_buf directory;
    unsigned n_members;
};

/** Members go to the end of `out`, which is borrowed until zip_writer_finish(). Names are UTF-8. */
void zip_writer_init(struct zip_writer *writer, struct byte_buf *out);
NODISCARD enum status zip_writer_add(struct zip_writer *writer, const char *name,
                                     struct bytes_view body, bool deflate, struct error *err);
/** Writes the directory if `st` is ST_OK, else cuts `out` back to where it began; frees; returns
 * what came of it. */
NODISCARD enum status zip_writer_finish(struct zip_writer *writer, enum status st,
                                        struct error *err);

#endif
