#include "storage/catalog/postgres_db.h"

#include "reinforce/base/clock.h"
#include "reinforce/base/log.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { RETRY_MS = 60000, PAUSE_MIN_MS = 20, PAUSE_MAX_MS = 4000, MAX_VALUES = 16, NUMBER_LEN = 40 };

static const char own_settings[][2][28] = {
    {"application_name", "reinforce"}, {"client_encoding", "UTF8"},   {"connect_timeout", "10"},
    {"keepalives_idle", "30"},         {"keepalives_interval", "10"}, {"keepalives_count", "3"},
    {"tcp_user_timeout", "60000"},
};

static void ignore_notice(void *arg, const PGresult *result)
{
    (void)arg;
    (void)result;
}

/* A URL goes into the job's stored configuration and into messages: it may not hold a secret. What
 * libpq says about a malformed one may quote it, so that is not passed on. */
static enum status check_url(const char *url, struct error *err)
{
    PQconninfoOption *options = PQconninfoParse(url, NULL);
    enum status st = ST_OK;

    if (options == NULL)
        return error_set(err, ST_INVALID,
                         "the catalog's URL is not as postgres://USER@HOST:PORT/DATABASE");
    for (const PQconninfoOption *o = options; o->keyword != NULL && st == ST_OK; o++)
        if ((strcmp(o->keyword, "password") == 0 || strcmp(o->keyword, "sslpassword") == 0) &&
            o->val != NULL)
            st = error_set(
                err, ST_INVALID,
                "the catalog's URL holds a password; put it into PGPASSWORD or ~/.pgpass");
    PQconninfoFree(options);
    return st;
}

static bool is_lost(const struct postgres_db *db)
{
    return PQstatus(db->conn) != CONNECTION_OK;
}

/* Said by the server, but not for ever: shutdown, failover, too many connections, deadlock, a
 * prepared statement that is gone. */
static bool may_work_later(const struct postgres_db *db)
{
    static const char *const states[] = {"08", "57P", "40001", "40P01", "53300", "25006", "26000"};

    for (size_t i = 0; i < ARRAY_LEN(states); i++)
        if (strncmp(db->sqlstate, states[i], strlen(states[i])) == 0)
            return true;
    return false;
}

enum status postgres_db_error(struct postgres_db *db, const PGresult *result, struct error *err)
{
    const char *state = result != NULL ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    const char *text = result != NULL ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    enum status code = ST_INTERNAL;

    if (text == NULL || text[0] == '\0')
        text = PQerrorMessage(db->conn);
    (void)snprintf(db->sqlstate, sizeof db->sqlstate, "%s", state != NULL ? state : "");
    if (strcmp(db->sqlstate, "26000") == 0)
        db->is_direct = false; /* somebody between us and the server changes sessions after all */
    if (is_lost(db))
        return error_set(err, ST_UNAVAILABLE, "could not reach catalog \"%s\": %.*s", db->name,
                         (int)strcspn(text, "\n"), text);
    if (may_work_later(db) || strncmp(db->sqlstate, "53", 2) == 0)
        code = ST_UNAVAILABLE;
    else if (strcmp(db->sqlstate, "42501") == 0 || strncmp(db->sqlstate, "22", 2) == 0)
        code = ST_INVALID;
    return error_set(err, code, "catalog \"%s\": %.*s", db->name, (int)strcspn(text, "\n"), text);
}

static void forget_prepared(struct postgres_db *db)
{
    for (size_t i = 0; i < db->n_prepared; i++)
        free(db->prepared[i]);
    db->n_prepared = 0;
    db->is_direct = false;
}

/* A pooler gives its clients process ids of its own: the server's says that there is none. */
static enum status look_for_pooler(struct postgres_db *db, struct error *err)
{
    PGresult *row = PQexec(db->conn, "select pg_backend_pid()");
    enum status st = ST_OK;

    if (PQresultStatus(row) == PGRES_TUPLES_OK)
        db->is_direct = postgres_db_int(row, 0, 0) == PQbackendPID(db->conn);
    else
        st = postgres_db_error(db, row, err);
    PQclear(row);
    return st;
}

/* One try. */
static enum status connect_once(struct postgres_db *db, struct error *err)
{
    const char *keys[ARRAY_LEN(own_settings) + 2], *values[ARRAY_LEN(own_settings) + 2];
    size_t n = 0;

    for (; n < ARRAY_LEN(own_settings); n++) {
        keys[n] = own_settings[n][0];
        values[n] = own_settings[n][1];
    }
    keys[n] = "dbname"; /* the URL, whose own settings win */
    values[n++] = db->url;
    keys[n] = values[n] = NULL;
    PQfinish(db->conn);
    forget_prepared(db);
    db->conn = PQconnectdbParams(keys, values, 1);
    if (db->conn == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a connection");
    (void)PQsetNoticeReceiver(db->conn, ignore_notice, NULL);
    if (PQhost(db->conn) != NULL)
        (void)snprintf(db->name, sizeof db->name, "postgres://%.80s:%.8s/%.80s", PQhost(db->conn),
                       PQport(db->conn), PQdb(db->conn) != NULL ? PQdb(db->conn) : "");
    db->sqlstate[0] = '\0';
    return is_lost(db) ? postgres_db_error(db, NULL, err) : look_for_pooler(db, err);
}

enum status postgres_db_open(const char *rest, struct postgres_db *db, struct error *err)
{
    size_t len = strlen(rest) + sizeof "postgresql:";
    enum status st;

    memset(db, 0, sizeof *db);
    db->random = (uint64_t)clock_monotonic_ns() ^ ((uint64_t)getpid() << 40) ^ (uintptr_t)db;
    db->patience_ms = RETRY_MS;
    (void)snprintf(db->name, sizeof db->name, "postgres");
    db->url = malloc(len);
    if (db->url == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a catalog");
    (void)snprintf(db->url, len, "postgresql:%s", rest);
    st = check_url(db->url, err);
    if (st == ST_OK)
        st = connect_once(db, err);
    if (st != ST_OK)
        postgres_db_close(db);
    return st;
}

void postgres_db_close(struct postgres_db *db)
{
    PQfinish(db->conn);
    forget_prepared(db);
    free(db->url);
    memset(db, 0, sizeof *db);
}

/* SplitMix64: neither secret nor reproducible, only spread. */
uint64_t postgres_db_random(struct postgres_db *db)
{
    uint64_t z = db->random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static enum status check_result(struct postgres_db *db, PGresult *result, PGresult **out,
                                struct error *err)
{
    ExecStatusType kind = PQresultStatus(result);
    enum status st = ST_OK;

    if (kind != PGRES_TUPLES_OK && kind != PGRES_COMMAND_OK)
        st = postgres_db_error(db, result, err);
    if (st == ST_OK && out != NULL)
        *out = result;
    else
        PQclear(result);
    return st;
}

/* Values of one statement as libpq takes them. */
struct values {
    const char *values[MAX_VALUES];
    int lengths[MAX_VALUES], formats[MAX_VALUES];
    char numbers[MAX_VALUES][NUMBER_LEN];
    int n;
};

static void read_values(struct values *v, const char *types, va_list ap)
{
    for (v->n = 0; types[v->n] != '\0'; v->n++) {
        int n = v->n;

        assert(n < MAX_VALUES);
        v->values[n] = v->numbers[n];
        v->lengths[n] = v->formats[n] = 0;
        if (types[n] == 'i') {
            (void)snprintf(v->numbers[n], NUMBER_LEN, "%" PRId64, va_arg(ap, int64_t));
        } else if (types[n] == 'r') {
            double value = va_arg(ap, double);

            (void)snprintf(v->numbers[n], NUMBER_LEN, "%.17g", value);
            if (isnan(value))
                v->values[n] = NULL;
        } else if (types[n] == 's') {
            v->values[n] = va_arg(ap, const char *);
        } else { /* as binary text, which has a length */
            const struct bytes_view *text = va_arg(ap, const struct bytes_view *);

            assert(types[n] == 'b' && text->len <= INT32_MAX);
            v->values[n] = text->data != NULL ? (const char *)text->data : "";
            v->lengths[n] = (int)text->len;
            v->formats[n] = 1;
        }
    }
}

/* Names a statement that the session knows, or knows from now on; "": it is to be sent along. */
static enum status prepare(struct postgres_db *db, const char *sql, char name[8], struct error *err)
{
    size_t i = 0;
    char *copy;
    enum status st;

    name[0] = '\0';
    if (!db->is_direct)
        return ST_OK;
    while (i < db->n_prepared && strcmp(db->prepared[i], sql) != 0)
        i++;
    if (i == POSTGRES_DB_PREPARED_MAX)
        return ST_OK;
    (void)snprintf(name, 8, "%zu", i);
    if (i < db->n_prepared)
        return ST_OK;
    copy = strdup(sql);
    if (copy == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a statement");
    st = check_result(db, PQprepare(db->conn, name, sql, 0, NULL), NULL, err);
    if (st == ST_OK)
        db->prepared[db->n_prepared++] = copy;
    else
        free(copy);
    return st;
}

static enum status query(struct postgres_db *db, PGresult **out, struct error *err, const char *sql,
                         const char *types, va_list ap)
{
    struct values v;
    char name[8];
    enum status st = prepare(db, sql, name, err);
    PGresult *result;

    if (out != NULL)
        *out = NULL;
    if (st != ST_OK)
        return st;
    read_values(&v, types, ap);
    if (name[0] != '\0')
        result = PQexecPrepared(db->conn, name, v.n, v.values, v.lengths, v.formats, 0);
    else
        result = PQexecParams(db->conn, sql, v.n, NULL, v.values, v.lengths, v.formats, 0);
    return check_result(db, result, out, err);
}

enum status postgres_db_query(struct postgres_db *db, PGresult **out, struct error *err,
                              const char *sql, const char *types, ...)
{
    enum status st;
    va_list values;

    va_start(values, types);
    st = query(db, out, err, sql, types, values);
    va_end(values);
    return st;
}

enum status postgres_db_bind(struct postgres_db *db, struct error *err, const char *types, ...)
{
    struct values v;
    va_list ap;

    va_start(ap, types);
    read_values(&v, types, ap);
    va_end(ap);
    if (PQsendQueryPrepared(db->conn, db->bound, v.n, v.values, v.lengths, v.formats, 0) == 1)
        return ST_OK;
    return postgres_db_error(db, NULL, err);
}

/* The next result of a pipeline, past the NULL that ends the one before; NULL: connection lost. */
static PGresult *next_result(struct postgres_db *db)
{
    PGresult *result = PQgetResult(db->conn);

    return result != NULL || is_lost(db) ? result : PQgetResult(db->conn);
}

/* All that was sent is read, whatever it is: the first failure is what is told. */
static enum status take_batch(struct postgres_db *db, const struct postgres_batch *batch,
                              enum status st, struct error *err)
{
    size_t first = db->bound[0] == '\0', i = 0; /* results so far; the first may be of parsing */

    for (;;) {
        PGresult *result = next_result(db);
        ExecStatusType kind = PQresultStatus(result);

        if (result == NULL || kind == PGRES_PIPELINE_SYNC) {
            PQclear(result);
            if (st == ST_OK && i != first + batch->n)
                st = postgres_db_error(db, NULL, err);
            return st;
        }
        if (st == ST_OK && kind != PGRES_TUPLES_OK && kind != PGRES_COMMAND_OK)
            st = postgres_db_error(db, result, err);
        if (st == ST_OK && i >= first && batch->take != NULL)
            st = batch->take(batch->ctx, i - first, result, err);
        PQclear(result);
        i++;
    }
}

enum status postgres_db_batch(struct postgres_db *db, const struct postgres_batch *batch,
                              struct error *err)
{
    enum status st = prepare(db, batch->sql, db->bound, err);

    if (st != ST_OK)
        return st;
    if (PQenterPipelineMode(db->conn) != 1 ||
        (db->bound[0] == '\0' && PQsendPrepare(db->conn, "", batch->sql, 0, NULL) != 1))
        return postgres_db_error(db, NULL, err);
    for (size_t i = 0; i < batch->n && st == ST_OK; i++)
        st = batch->bind(db, batch->ctx, i, err);
    if (PQpipelineSync(db->conn) != 1 && st == ST_OK)
        st = postgres_db_error(db, NULL, err);
    st = take_batch(db, batch, st, err);
    if (!is_lost(db) && PQexitPipelineMode(db->conn) != 1 && st == ST_OK)
        st = postgres_db_error(db, NULL, err);
    return st;
}

enum status postgres_db_execute(struct postgres_db *db, const char *sql, struct error *err)
{
    return check_result(db, PQexec(db->conn, sql), NULL, err);
}

static enum status try_once(struct postgres_db *db, const char *begin, postgres_work_fn *work,
                            void *ctx, bool repeated, struct error *err)
{
    enum status st = ST_OK;

    if (db->conn == NULL || is_lost(db))
        st = connect_once(db, err);
    if (st == ST_OK && begin != NULL)
        st = postgres_db_execute(db, begin, err);
    if (st != ST_OK)
        return st;
    st = work(db, ctx, repeated, err);
    if (begin == NULL)
        return st;
    if (st == ST_OK)
        st = postgres_db_execute(db, "commit", err);
    if (st != ST_OK && !is_lost(db)) {
        PQclear(PQexec(db->conn, "rollback")); /* what failed is in err and in sqlstate */
    }
    return st;
}

enum status postgres_db_transact(struct postgres_db *db, const char *begin, postgres_work_fn *work,
                                 void *ctx, struct error *err)
{
    int64_t deadline_ms = clock_monotonic_ms() + db->patience_ms, limit_ms = PAUSE_MIN_MS;
    enum status st;

    for (int tries = 0;; tries++) {
        int64_t ms;

        db->sqlstate[0] = '\0';
        st = try_once(db, begin, work, ctx, tries > 0, err);
        if (st != ST_UNAVAILABLE || (!is_lost(db) && !may_work_later(db)) ||
            clock_monotonic_ms() >= deadline_ms)
            return st;
        if (tries == 0)
            log_at(LOG_WARN, "catalog_retry", "cause=\"%s\"", err->message);
        ms = 1 + (int64_t)(postgres_db_random(db) % (uint64_t)limit_ms);
        limit_ms = MIN(limit_ms * 2, (int64_t)PAUSE_MAX_MS);
        clock_sleep_ms(ms, NULL);
    }
}

struct ask_call {
    PGresult **rows;
    const char *sql, *types;
    va_list values; /* each try reads a copy */
};

static enum status ask(struct postgres_db *db, void *ctx, bool repeated, struct error *err)
{
    struct ask_call *call = ctx;
    enum status st;
    va_list values;

    (void)repeated;
    va_copy(values, call->values);
    st = query(db, call->rows, err, call->sql, call->types, values);
    va_end(values);
    return st;
}

enum status postgres_db_ask(struct postgres_db *db, PGresult **rows, struct error *err,
                            const char *sql, const char *types, ...)
{
    struct ask_call call = {.rows = rows, .sql = sql, .types = types};
    enum status st;

    if (rows != NULL)
        *rows = NULL; /* for when nothing can be asked */
    va_start(call.values, types);
    st = postgres_db_transact(db, NULL, ask, &call, err);
    va_end(call.values);
    return st;
}

int64_t postgres_db_int(const PGresult *result, int row, int column)
{
    return strtoll(PQgetvalue(result, row, column), NULL, 10);
}

double postgres_db_real(const PGresult *result, int row, int column)
{
    return PQgetisnull(result, row, column) ? (double)NAN
                                            : strtod(PQgetvalue(result, row, column), NULL);
}

const char *postgres_db_text(const PGresult *result, int row, int column)
{
    return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
}

struct bytes_view postgres_db_view(const PGresult *result, int row, int column)
{
    return bytes_view_of(PQgetvalue(result, row, column), (size_t)PQgetlength(result, row, column));
}

enum status postgres_db_copy_text(const PGresult *result, int row, int column, struct arena *arena,
                                  const char **out, struct error *err)
{
    struct bytes_view text = postgres_db_view(result, row, column);
    char *copy;
    enum status st = arena_strndup(arena, (const char *)text.data, text.len, &copy, err);

    *out = copy;
    return st;
}
