/* Lines of a text object, plain, gzip'd or zstd'd, one at a time and of bounded length. */
#ifndef REINFORCE_STORAGE_JSONL_LINES_H
#define REINFORCE_STORAGE_JSONL_LINES_H

#include "storage/object/object_store.h"

enum jsonl_packing {
    JSONL_PLAIN = 1,
    JSONL_GZIP = 2, /* any number of members */
    JSONL_ZSTD = 3, /* any number of frames */
};

struct jsonl_lines;

/** One line without its end ("\n" or "\r\n"); offsets count uncompressed bytes. */
struct jsonl_line {
    struct bytes_view text; /* until the next call; empty when too_long */
    uint64_t begin, end;    /* end: where the next line begins */
    bool too_long;
};

/** Lines of more than max_line_bytes are passed over and marked. */
NODISCARD enum status jsonl_lines_open(struct object_store *store, const char *key,
                                       enum jsonl_packing packing, size_t max_line_bytes,
                                       struct jsonl_lines **out, struct error *err);

/** Goes on at `offset`, which lies ahead or, in a plain object, anywhere; compressed bytes are
 * decompressed up to there. ST_CORRUPT: damaged before it; ST_INVALID: the text is shorter. */
NODISCARD enum status jsonl_lines_seek(struct jsonl_lines *lines, uint64_t offset,
                                       struct error *err);

/** ST_END. ST_CORRUPT: the compressed bytes are damaged or cut, and where; then comes ST_END, and
 * line->begin is what could be read. */
NODISCARD enum status jsonl_lines_next(struct jsonl_lines *lines, struct jsonl_line *line,
                                       struct error *err);

void jsonl_lines_close(struct jsonl_lines **lines);

#endif
