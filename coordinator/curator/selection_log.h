/*
 * What was selected, so that it can be selected again: a file that only grows.
 *
 *   file    "RCURLOG1", then records
 *   record  uint32 n_parts | uint32 checksum of the head | uint32 checksum of the parts | uint32 0
 *           uint64 time | uint64 bytes of each part | parts
 *   parts   SelectRequest | SelectReply | indices | SHA-256 of the ids, 64 hex digits | frames
 *
 * All little endian. Checksums are zlib's CRC-32, the head's of all that is before the parts but
 * itself, so that a cut record is told from a damaged one; time is in ms since 1970. Indices are
 * those of the reply, in its order, as uint16 where the super-batch has at most 65,536 examples and
 * uint32 else. The request's frames (docs/curator-protocol.md) are there when inputs are logged. A
 * record is written as a whole behind the last one; one that a crash has cut is cut off when the
 * file is opened to be written again.
 */
#ifndef REINFORCE_COORDINATOR_CURATOR_SELECTION_LOG_H
#define REINFORCE_COORDINATOR_CURATOR_SELECTION_LOG_H

#include "proto/curator.h"

struct task;
struct selection_log;

/**
 * Opens a log to add to, or begins it. ST_CONFLICT: another process writes it. ST_CORRUPT: it is no
 * such log, or damaged before its end; it is left as it is.
 */
NODISCARD enum status selection_log_open(const char *path, bool with_inputs,
                                         struct selection_log **out, struct error *err);
void selection_log_close(struct selection_log **log);

/** Adds a task's answer, on one thread. What cannot be written is counted, and said in the log the
 * first time; the file is as it was. */
void selection_log_write(struct selection_log *log, const struct task *task);

/** How many records were written and how many were not, on any thread. */
void selection_log_count(const struct selection_log *log, uint64_t *n_logged,
                         uint64_t *n_not_logged);

enum {
    SELECTION_LOG_FRAME = 4,
    SELECTION_LOG_MAX_PARTS = SELECTION_LOG_FRAME + CURATOR_MAX_FRAMES
};

/** A record's parts, where they lie. */
struct selection_record {
    uint64_t wall_ms;
    struct bytes_view parts[SELECTION_LOG_MAX_PARTS];
    size_t n_parts;
};

/** The record at *at in a log's bytes; *at (0 at first) moves behind it. ST_END: there is none.
 * ST_CORRUPT names the byte; *is_cut: the file ends before the record does. */
NODISCARD enum status selection_log_next(struct bytes_view log, size_t *at,
                                         struct selection_record *record, bool *is_cut,
                                         struct error *err);

/** What a record says; views stay in the log, the rest is the arena's. */
struct logged_selection {
    struct curator_request request; /* without rows when has_inputs is false */
    struct curator_reply reply;     /* its message alone */
    bool has_inputs;
    uint32_t *index; /* [reply.n_selected] */
};

/** ST_CORRUPT: parts are missing or do not fit each other. */
NODISCARD enum status selection_record_read(const struct selection_record *record,
                                            struct logged_selection *logged, struct arena *arena,
                                            struct error *err);

/** The head of a record of these parts, all but the parts themselves, behind `out`. */
NODISCARD enum status selection_record_head(const struct selection_record *record,
                                            struct byte_buf *out, struct error *err);

#endif
