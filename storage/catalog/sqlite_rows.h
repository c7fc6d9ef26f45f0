/* What the files of the SQLite catalog share: its statements, its handle, columns as our types.
 * Private to storage/catalog. */
#ifndef REINFORCE_STORAGE_SQLITE_ROWS_H
#define REINFORCE_STORAGE_SQLITE_ROWS_H

#include "reinforce/base/file_lock.h"
#include "storage/catalog/catalog.h"
#include "storage/catalog/sqlite_db.h"

enum statement {
    JOB_INSERT,
    JOB_SELECT,
    JOB_SET_STATE,
    JOB_START,
    JOB_MEND,
    JOB_PLANNING_AS,
    JOB_SET_CONFIG,
    JOB_MOVE,
    JOB_SET_PRIORITY,
    JOB_SET_QUOTA,
    JOB_REOPEN,
    JOB_GATE,
    JOB_SET_RATE,
    JOB_LIST,
    SHARD_INSERT,
    SHARD_FAIL_SPENT,
    SHARD_NEXT,
    SHARD_TAKE,
    SHARD_LEASE,
    SHARD_FIRST_EXPIRY,
    SHARD_RENEW,
    SHARD_PROBE,
    SHARD_RELEASE,
    SHARD_RIVAL,
    SHARD_SETTLE,
    SHARD_OF_EPOCH,
    SHARD_SPLIT,
    PIECE_INSERT,
    PIECE_FIND,
    FAMILY_UNFINISHED,
    SHARD_WAIT,
    PIECES_DONE,
    SHARD_ADVANCE,
    SHARD_DONE,
    SHARD_EXTEND,
    SHARD_RESET,
    SHARD_EXTEND_LEASES,
    SHARD_RETRY,
    SHARD_LIST,
    PART_INSERT,
    PART_SELECT,
    PART_LIST,
    PART_DELETE_ALL,
    PART_DELETE_SHARD,
    SHARD_COUNT,
    SHARD_SAME,
    SHARD_REDO,
    SAMPLE_INSERT,
    SAMPLE_OF_UID,
    SAMPLE_DELETE,
    CAPTION_INSERT,
    CAPTION_PUT,
    COST_INSERT,
    RETRY_INSERT,
    RETRY_TAKE_OVER,
    RETRY_RECOUNT,
    SCORE_INSERT,
    OUTPUT_INSERT,
    OUTPUT_OF_EPOCH,
    OUTPUT_LIST,
    PROGRESS,
    REASON_LIST,
    SOURCE_LIST,
    ACCOUNT_LIST,
    WORKER_SEEN,
    WORKER_FORGET,
    WORKER_LIST,
    SAMPLE_FIND,
    SAMPLE_LIST,
    SHARD_SAMPLE_LIST,
    CAPTION_LIST,
    SCORE_LIST,
    INGEST_OFFSET_INSERT,
    INGEST_OFFSET_MOVE,
    INGEST_OFFSET_SELECT,
    INGEST_RANGE_INSERT,
    INGEST_RANGE_FIND,
    INGEST_SEEN,
    INGEST_LIST,
    INGEST_ARRIVED,
    INGEST_PACE,
    JOB_SET_EVENTS,
    OUTBOX_INSERT,
    OUTBOX_LIST,
    OUTBOX_DELETE,
    OUTBOX_COUNT,
    N_STATEMENTS,
};

/** Texts by number. */
extern const char *const sqlite_statements[N_STATEMENTS];

struct catalog_of_sqlite {
    struct catalog base;
    struct sqlite_db db;
    struct file_lock coordination; /* of "<path>.lock"; fd -1: not held */
};

/** How many shards a job has, pieces not counted: the number of the next one. */
NODISCARD enum status sqlite_rows_count_shards(struct sqlite_db *db, int64_t job, int64_t *n,
                                               struct error *err);

struct sqlite_db *sqlite_rows_db(struct catalog *c);

/** Text of column `i`, or NULL; until the statement steps on. */
const char *sqlite_rows_text(sqlite3_stmt *row, int i);

/** A copy in `arena`; NULL becomes "". */
NODISCARD enum status sqlite_rows_copy(sqlite3_stmt *row, int i, struct arena *arena,
                                       const char **out, struct error *err);

/** The same into an array, cut when it does not fit. */
void sqlite_rows_copy_fixed(sqlite3_stmt *row, int i, char *to, size_t capacity);

#endif
