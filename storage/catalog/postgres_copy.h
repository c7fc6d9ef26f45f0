/* Rows into a Postgres table by COPY in its binary format. Private to storage/catalog. */
#ifndef REINFORCE_STORAGE_POSTGRES_COPY_H
#define REINFORCE_STORAGE_POSTGRES_COPY_H

#include "storage/catalog/postgres_db.h"

struct postgres_copy {
    struct postgres_db *db;
    struct byte_buf buf;
    bool open; /* the server waits for rows */
};

/** `sql` is "copy T (...) from stdin (format binary)". End it whatever happens in between. */
NODISCARD enum status postgres_copy_begin(struct postgres_db *db, const char *sql,
                                          struct postgres_copy *copy, struct error *err);

/**
 * One row by the letters of `types`: i int64_t (bigint), d int32_t (integer), h int16_t as int
 * (smallint), r double (NaN is NULL), s const char * (NULL is NULL), b struct bytes_view *.
 * ST_INVALID: a text that Postgres cannot hold, NUL or what is not UTF-8; `what` names the row.
 */
NODISCARD enum status postgres_copy_row(struct postgres_copy *copy, const char *what,
                                        struct error *err, const char *types, ...);

/** Ends the COPY: all rows are in when st is ST_OK, else none. Returns what came of it. */
NODISCARD enum status postgres_copy_end(struct postgres_copy *copy, enum status st,
                                        struct error *err);

#endif
