/* A Postgres connection that comes back when it is lost: parameters, results, transactions, errors
 * as ours. Statements stay prepared where the session is the server's own; behind a pooler, which
 * may give every transaction another session, none does. Private to storage/catalog. */
#ifndef REINFORCE_STORAGE_POSTGRES_DB_H
#define REINFORCE_STORAGE_POSTGRES_DB_H

#include "reinforce/base/arena.h"
#include "reinforce/base/bytes.h"

#include <libpq-fe.h>

enum { POSTGRES_DB_PREPARED_MAX = 64 };

struct postgres_db {
    PGconn *conn;   /* NULL or broken: made anew by the next transaction */
    bool is_direct; /* no pooler between: the session is ours */
    char *prepared[POSTGRES_DB_PREPARED_MAX]; /* texts; number i is prepared as "i" */
    size_t n_prepared;
    char bound[8]; /* name of the statement that postgres_db_bind() gives values to */
    char *url;
    char name[200];      /* for messages: host, port and database, never a password */
    char sqlstate[6];    /* of the last failure; "" when the server did not say */
    uint64_t random;     /* for jitter and tokens */
    int64_t patience_ms; /* how long what may work next time is tried again */
};

/** Connects once. `rest` is the URL behind "postgres:". ST_INVALID: not a URL, or it holds a
 * password, which belongs into PGPASSWORD or ~/.pgpass. */
NODISCARD enum status postgres_db_open(const char *rest, struct postgres_db *db, struct error *err);
void postgres_db_close(struct postgres_db *db);

/** A number that no other call is likely to get. */
uint64_t postgres_db_random(struct postgres_db *db);

/**
 * One statement with its values by the letters of `types`: i int64_t, r double (NaN is NULL), s
 * const char * (NULL is NULL), b struct bytes_view *. *out may be NULL; else it is the caller's to
 * PQclear(), and NULL unless ST_OK.
 */
NODISCARD enum status postgres_db_query(struct postgres_db *db, PGresult **out, struct error *err,
                                        const char *sql, const char *types, ...);

/**
 * One statement for each of `n` rows of values: in one round trip, and, without a
 * transaction around it, all or nothing. `bind` calls postgres_db_bind() with the values of row i;
 * `take` reads what it gave, which lives until it returns. At most a few hundred rows: the server
 * is not listened to while they are sent.
 */
struct postgres_batch {
    const char *sql;
    size_t n;
    enum status (*bind)(struct postgres_db *db, void *ctx, size_t i, struct error *err);
    enum status (*take)(void *ctx, size_t i, const PGresult *result, struct error *err);
    void *ctx;
};
NODISCARD enum status postgres_db_batch(struct postgres_db *db, const struct postgres_batch *batch,
                                        struct error *err);
/** Values as in postgres_db_query(). */
NODISCARD enum status postgres_db_bind(struct postgres_db *db, struct error *err, const char *types,
                                       ...);

/** Statements without values, separated by semicolons. */
NODISCARD enum status postgres_db_execute(struct postgres_db *db, const char *sql,
                                          struct error *err);

/** The last failure as ours; `result` may be NULL. */
enum status postgres_db_error(struct postgres_db *db, const PGresult *result, struct error *err);

/** `repeated`: it was tried before and nobody knows how that ended. */
typedef enum status postgres_work_fn(struct postgres_db *db, void *ctx, bool repeated,
                                     struct error *err);

/**
 * Runs `work` between `begin` (as "begin") and commit, or rolls back when it fails; with `begin`
 * NULL it is one statement that stands alone. A lost connection, and what the server says may work
 * next time, is tried again with growing random pauses for patience_ms, a minute at first.
 */
NODISCARD enum status postgres_db_transact(struct postgres_db *db, const char *begin,
                                           postgres_work_fn *work, void *ctx, struct error *err);

/**
 * Runs one statement that stands alone and may be said again, with values as postgres_db_query()
 * takes them, borrowed until it returns. Tried again as by postgres_db_transact(), which is for
 * what has to know of earlier tries; ST_UNAVAILABLE when that was not enough. `rows`
 * may be NULL; else *rows is the caller's to PQclear(), and NULL unless ST_OK.
 */
NODISCARD enum status postgres_db_ask(struct postgres_db *db, PGresult **rows, struct error *err,
                                      const char *sql, const char *types, ...);

/** Columns of a result row. */
int64_t postgres_db_int(const PGresult *result, int row, int column);
double postgres_db_real(const PGresult *result, int row, int column);      /* NULL is NaN */
const char *postgres_db_text(const PGresult *result, int row, int column); /* NULL is NULL */
struct bytes_view postgres_db_view(const PGresult *result, int row, int column);
NODISCARD enum status postgres_db_copy_text(const PGresult *result, int row, int column,
                                            struct arena *arena, const char **out,
                                            struct error *err);

#endif
