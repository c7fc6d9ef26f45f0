/* A SQLite connection with our settings, prepared statements by number, and errors as ours. */
#ifndef REINFORCE_STORAGE_SQLITE_DB_H
#define REINFORCE_STORAGE_SQLITE_DB_H

#include "reinforce/base/bytes.h"

#include <sqlite3.h>

enum { SQLITE_DB_MAX_STATEMENTS = 96 };

struct sqlite_db {
    sqlite3 *handle;
    char *path;
    const char *const *sql;                           /* texts by number, borrowed */
    sqlite3_stmt *prepared[SQLITE_DB_MAX_STATEMENTS]; /* made at first use */
};

/** Opens or creates `path` with its folder, and brings it to the newest version. ST_CORRUPT: not a
 * database, or a newer one than we know. */
NODISCARD enum status sqlite_db_open(const char *path, const char *const *sql, struct sqlite_db *db,
                                     struct error *err);

/** The version that is stored, 0 when there is no file; changes nothing. */
NODISCARD enum status sqlite_db_version(const char *path, int *version, struct error *err);
void sqlite_db_close(struct sqlite_db *db);

/** The last failure of this connection, as ours: names the file, the reason and the next step. */
enum status sqlite_db_error(struct sqlite_db *db, struct error *err);

/** Statement `number`, reset and without values; until the next call for the same number. */
NODISCARD enum status sqlite_db_prepare(struct sqlite_db *db, int number, sqlite3_stmt **out,
                                        struct error *err);

/** Binds by the letters of `types`: i int64_t, r double (NaN is NULL), s const char * (NULL is
 * NULL), b struct bytes_view * as text. Values must live until the statement is stepped. */
NODISCARD enum status sqlite_db_bind(struct sqlite_db *db, sqlite3_stmt *statement,
                                     struct error *err, const char *types, ...);

/** One step: ST_OK a row, ST_END done. */
NODISCARD enum status sqlite_db_step(struct sqlite_db *db, sqlite3_stmt *statement,
                                     struct error *err);

/** Prepares, binds and steps a statement that returns no rows; *n_changed may be NULL. */
NODISCARD enum status sqlite_db_run(struct sqlite_db *db, int number, int64_t *n_changed,
                                    struct error *err, const char *types, ...);

/** Write transactions; sqlite_db_end() commits when st is ST_OK, else rolls back, and returns what
 * came of it. */
NODISCARD enum status sqlite_db_begin(struct sqlite_db *db, struct error *err);
NODISCARD enum status sqlite_db_end(struct sqlite_db *db, enum status st, struct error *err);

#endif
