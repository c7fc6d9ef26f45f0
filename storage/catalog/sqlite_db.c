#include "storage/catalog/sqlite_db.h"

#include "reinforce/base/clock.h"
#include "reinforce/base/file.h"
#include "storage/catalog/migrations.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <unistd.h>

enum { BUSY_TIMEOUT_MS = 30000, WAL_RETRY_MS = 10 };

enum status sqlite_db_error(struct sqlite_db *db, struct error *err)
{
    const char *text = db->handle != NULL ? sqlite3_errmsg(db->handle) : "out of memory";
    int code = db->handle != NULL ? sqlite3_errcode(db->handle) & 0xff : SQLITE_NOMEM;

    switch (code) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return error_set(err, ST_UNAVAILABLE, "catalog \"%s\" is busy", db->path);
    case SQLITE_FULL:
        return error_set(err, ST_UNAVAILABLE,
                         "the disk of catalog \"%s\" is full; free some space and run again",
                         db->path);
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return error_set(err, ST_UNAVAILABLE, "could not use catalog \"%s\": %s", db->path, text);
    case SQLITE_NOMEM:
        return error_set(err, ST_NO_MEMORY, "catalog \"%s\": out of memory", db->path);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return error_set(
            err, ST_CORRUPT,
            "catalog \"%s\" is damaged or not a SQLite database (%s); restore it from a backup",
            db->path, text);
    default:
        return error_set(err, ST_INTERNAL, "catalog \"%s\": %s", db->path, text);
    }
}

static enum status execute(struct sqlite_db *db, const char *sql, struct error *err)
{
    return sqlite3_exec(db->handle, sql, NULL, NULL, NULL) == SQLITE_OK ? ST_OK
                                                                        : sqlite_db_error(db, err);
}

static enum status read_version(struct sqlite_db *db, int *version, struct error *err)
{
    sqlite3_stmt *statement = NULL;
    enum status st = ST_OK;

    *version = 0;
    if (sqlite3_prepare_v2(db->handle, "pragma user_version", -1, &statement, NULL) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW)
        st = sqlite_db_error(db, err);
    else
        *version = sqlite3_column_int(statement, 0);
    (void)sqlite3_finalize(statement);
    return st;
}

/* Before anything is written: version 0 with tables in it is not ours. One statement, so that
 * another process that migrates meanwhile is seen before or after. */
static enum status refuse_foreign(struct sqlite_db *db, struct error *err)
{
    sqlite3_stmt *statement = NULL;
    enum status st = ST_OK;

    if (sqlite3_prepare_v2(db->handle,
                           "select user_version, (select count(*) from sqlite_schema) from "
                           "pragma_user_version",
                           -1, &statement, NULL) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW)
        st = sqlite_db_error(db, err);
    else if (sqlite3_column_int(statement, 0) == 0 && sqlite3_column_int64(statement, 1) > 0)
        st = error_set(err, ST_INVALID,
                       "\"%s\" is a SQLite database of another program; choose another path for "
                       "the catalog",
                       db->path);
    (void)sqlite3_finalize(statement);
    return st;
}

static enum status migrate(struct sqlite_db *db, struct error *err)
{
    int version;
    char sql[64];
    enum status st = read_version(db, &version, err);

    if (st != ST_OK || version == sqlite_n_migrations)
        return st;
    if (version > sqlite_n_migrations)
        return error_set(err, ST_INVALID,
                         "catalog \"%s\" has schema version %d, this program knows up to %d; use a "
                         "newer release",
                         db->path, version, sqlite_n_migrations);
    st = sqlite_db_begin(db, err); /* one migrates; others wait and find it done */
    if (st == ST_OK)
        st = read_version(db, &version, err);
    for (; st == ST_OK && version < sqlite_n_migrations; version++)
        st = execute(db, sqlite_migrations[version], err);
    (void)snprintf(sql, sizeof sql, "pragma user_version = %d", version);
    if (st == ST_OK)
        st = execute(db, sql, err);
    return sqlite_db_end(db, st, err);
}

/* The busy timeout does not cover this: two that switch a new file at once would wait for each
 * other, so SQLite tells one of them at once that it is busy. */
static enum status switch_to_wal(struct sqlite_db *db, struct error *err)
{
    int64_t deadline_ms = clock_monotonic_ms() + BUSY_TIMEOUT_MS;
    enum status st = execute(db, "pragma journal_mode = wal", err);

    while (st != ST_OK && (sqlite3_errcode(db->handle) & 0xff) == SQLITE_BUSY &&
           clock_monotonic_ms() < deadline_ms) {
        clock_sleep_ms(WAL_RETRY_MS, NULL);
        st = execute(db, "pragma journal_mode = wal", err);
    }
    return st;
}

static enum status make_folder(const char *path, struct error *err)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');

    if (slash == NULL || slash == path)
        return ST_OK;
    if ((size_t)(slash - path) >= sizeof folder)
        return error_set(err, ST_INVALID, "catalog path \"%s\" is too long", path);
    memcpy(folder, path, (size_t)(slash - path));
    folder[slash - path] = '\0';
    return file_make_dirs(folder, err);
}

enum status sqlite_db_open(const char *path, const char *const *sql, struct sqlite_db *db,
                           struct error *err)
{
    enum status st;

    memset(db, 0, sizeof *db);
    if (path[0] == '\0') /* SQLite would open a private file and forget it */
        return error_set(err, ST_INVALID, "the catalog has no path; write sqlite:PATH");
    db->sql = sql;
    db->path = strdup(path);
    if (db->path == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a catalog");
    st = make_folder(path, err);
    if (st == ST_OK &&
        sqlite3_open_v2(path, &db->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) !=
            SQLITE_OK)
        st = sqlite_db_error(db, err);
    if (st == ST_OK) {
        (void)sqlite3_busy_timeout(db->handle, BUSY_TIMEOUT_MS);
        st = refuse_foreign(db, err);
    }
    if (st == ST_OK)
        st = switch_to_wal(db, err);
    /* full: a commit that was acknowledged survives a power cut, like the objects it speaks of */
    if (st == ST_OK)
        st = execute(db, "pragma synchronous = full; pragma foreign_keys = on", err);
    if (st == ST_OK)
        st = migrate(db, err);
    if (st != ST_OK)
        sqlite_db_close(db);
    return st;
}

enum status sqlite_db_version(const char *path, int *version, struct error *err)
{
    struct sqlite_db db = {.path = strdup(path)};
    enum status st = ST_OK;

    *version = 0;
    if (db.path == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a catalog");
    if (access(path, F_OK) == 0) {
        if (sqlite3_open_v2(path, &db.handle, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK)
            st = sqlite_db_error(&db, err);
        if (st == ST_OK)
            st = refuse_foreign(&db, err);
        if (st == ST_OK)
            st = read_version(&db, version, err);
    }
    sqlite_db_close(&db);
    return st;
}

void sqlite_db_close(struct sqlite_db *db)
{
    for (int i = 0; i < SQLITE_DB_MAX_STATEMENTS; i++)
        (void)sqlite3_finalize(db->prepared[i]);
    (void)sqlite3_close(db->handle);
    free(db->path);
    memset(db, 0, sizeof *db);
}

enum status sqlite_db_prepare(struct sqlite_db *db, int number, sqlite3_stmt **out,
                              struct error *err)
{
    assert(number >= 0 && number < SQLITE_DB_MAX_STATEMENTS);
    if (db->prepared[number] == NULL &&
        sqlite3_prepare_v3(db->handle, db->sql[number], -1, SQLITE_PREPARE_PERSISTENT,
                           &db->prepared[number], NULL) != SQLITE_OK)
        return sqlite_db_error(db, err);
    *out = db->prepared[number];
    (void)sqlite3_reset(*out);
    (void)sqlite3_clear_bindings(*out);
    return ST_OK;
}

static enum status bind_list(struct sqlite_db *db, sqlite3_stmt *statement, const char *types,
                             va_list *ap, struct error *err)
{
    for (int i = 0; types[i] != '\0'; i++) {
        int rc = SQLITE_OK;

        if (types[i] == 'i') {
            rc = sqlite3_bind_int64(statement, i + 1, va_arg(*ap, int64_t));
        } else if (types[i] == 'r') {
            rc = sqlite3_bind_double(statement, i + 1, va_arg(*ap, double));
        } else if (types[i] == 's') {
            rc = sqlite3_bind_text(statement, i + 1, va_arg(*ap, const char *), -1, SQLITE_STATIC);
        } else {
            const struct bytes_view *text = va_arg(*ap, const struct bytes_view *);

            assert(types[i] == 'b');
            rc = sqlite3_bind_text64(statement, i + 1,
                                     text->data != NULL ? (const char *)text->data : "", text->len,
                                     SQLITE_STATIC, SQLITE_UTF8);
        }
        if (rc != SQLITE_OK)
            return sqlite_db_error(db, err);
    }
    return ST_OK;
}

enum status sqlite_db_bind(struct sqlite_db *db, sqlite3_stmt *statement, struct error *err,
                           const char *types, ...)
{
    enum status st;
    va_list ap;

    va_start(ap, types);
    st = bind_list(db, statement, types, &ap, err);
    va_end(ap);
    return st;
}

enum status sqlite_db_step(struct sqlite_db *db, sqlite3_stmt *statement, struct error *err)
{
    int rc = sqlite3_step(statement);
    enum status st;

    if (rc == SQLITE_ROW)
        return ST_OK;
    st = rc == SQLITE_DONE ? ST_END : sqlite_db_error(db, err);
    (void)sqlite3_reset(statement); /* lets go of locks and of bound memory */
    return st;
}

enum status sqlite_db_run(struct sqlite_db *db, int number, int64_t *n_changed, struct error *err,
                          const char *types, ...)
{
    sqlite3_stmt *statement;
    enum status st = sqlite_db_prepare(db, number, &statement, err);
    va_list ap;

    if (st != ST_OK)
        return st;
    va_start(ap, types);
    st = bind_list(db, statement, types, &ap, err);
    va_end(ap);
    if (st == ST_OK)
        st = sqlite_db_step(db, statement, err);
    (void)sqlite3_reset(statement);
    if (n_changed != NULL)
        *n_changed = sqlite3_changes64(db->handle);
    return st == ST_END ? ST_OK : st;
}

enum status sqlite_db_begin(struct sqlite_db *db, struct error *err)
{
    return execute(db, "begin immediate", err);
}

enum status sqlite_db_end(struct sqlite_db *db, enum status st, struct error *err)
{
    struct error ignored;

    if (st == ST_OK)
        st = execute(db, "commit", err);
    if (st != ST_OK && sqlite3_get_autocommit(db->handle) == 0)
        (void)execute(db, "rollback", &ignored);
    return st;
}
