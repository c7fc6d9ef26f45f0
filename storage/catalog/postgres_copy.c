#include "storage/catalog/postgres_copy.h"

#include "reinforce/base/utf8.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>

/* Puts of this size are the fastest; one row may be larger. */
enum { PUT_BYTES = 128 << 10, MAX_BYTES = 1 << 30 };

static enum status put(struct postgres_copy *copy, struct error *err)
{
    int rc = PQputCopyData(copy->db->conn, (const char *)copy->buf.data, (int)copy->buf.len);

    byte_buf_reset(&copy->buf);
    return rc == 1 ? ST_OK : postgres_db_error(copy->db, NULL, err);
}

/* The header: signature, flags, length of the extension. */
enum status postgres_copy_begin(struct postgres_db *db, const char *sql, struct postgres_copy *copy,
                                struct error *err)
{
    static const uint8_t header[19] = "PGCOPY\n\377\r\n";
    PGresult *result = PQexec(db->conn, sql);
    enum status st = ST_OK;

    *copy = (struct postgres_copy){.db = db};
    byte_buf_init(&copy->buf, MAX_BYTES);
    if (PQresultStatus(result) != PGRES_COPY_IN)
        st = postgres_db_error(db, result, err);
    PQclear(result);
    copy->open = st == ST_OK;
    return st == ST_OK ? byte_buf_append(&copy->buf, header, sizeof header, err) : st;
}

static enum status append_number(struct byte_buf *buf, uint64_t value, int n_bytes,
                                 struct error *err)
{
    uint8_t bytes[8];

    for (int i = 0; i < n_bytes; i++)
        bytes[i] = (uint8_t)(value >> (8 * (n_bytes - 1 - i)));
    return byte_buf_append(buf, bytes, (size_t)n_bytes, err);
}

/* A field: its length in 4 bytes, then itself, all big-endian. */
static enum status append_field(struct byte_buf *buf, uint64_t value, int n_bytes,
                                struct error *err)
{
    enum status st = append_number(buf, (uint64_t)n_bytes, 4, err);

    return st == ST_OK ? append_number(buf, value, n_bytes, err) : st;
}

static enum status append_text(struct byte_buf *buf, struct bytes_view text, const char *what,
                               struct error *err)
{
    enum status st;

    if (text.len > 0 && memchr(text.data, '\0', text.len) != NULL)
        return error_set(err, ST_INVALID, "%s holds a NUL byte, which Postgres cannot store", what);
    if (!utf8_is_valid(text))
        return error_set(err, ST_INVALID, "%s is not valid UTF-8, which Postgres cannot store",
                         what);
    if (text.len > MAX_BYTES / 2)
        return error_set(err, ST_INVALID, "%s is too long for Postgres: %zu bytes", what, text.len);
    st = append_number(buf, text.len, 4, err);
    return st == ST_OK ? byte_buf_append(buf, text.data, text.len, err) : st;
}

static enum status append_value(struct byte_buf *buf, char type, va_list *ap, const char *what,
                                struct error *err)
{
    const char *string;
    uint64_t bits;
    double real;

    switch (type) {
    case 'i':
        return append_field(buf, (uint64_t)va_arg(*ap, int64_t), 8, err);
    case 'd':
        return append_field(buf, (uint64_t)va_arg(*ap, int32_t), 4, err);
    case 'h':
        return append_field(buf, (uint64_t)va_arg(*ap, int), 2, err);
    case 'r':
        real = va_arg(*ap, double);
        memcpy(&bits, &real, sizeof bits);
        return isnan(real) ? append_number(buf, UINT32_MAX, 4, err)
                           : append_field(buf, bits, 8, err);
    case 's':
        string = va_arg(*ap, const char *);
        return string == NULL ? append_number(buf, UINT32_MAX, 4, err)
                              : append_text(buf, bytes_of_string(string), what, err);
    default:
        assert(type == 'b');
        return append_text(buf, *va_arg(*ap, const struct bytes_view *), what, err);
    }
}

enum status postgres_copy_row(struct postgres_copy *copy, const char *what, struct error *err,
                              const char *types, ...)
{
    enum status st = append_number(&copy->buf, strlen(types), 2, err);
    va_list ap;

    va_start(ap, types);
    for (const char *type = types; *type != '\0' && st == ST_OK; type++)
        st = append_value(&copy->buf, *type, &ap, what, err);
    va_end(ap);
    return st == ST_OK && copy->buf.len >= PUT_BYTES ? put(copy, err) : st;
}

enum status postgres_copy_end(struct postgres_copy *copy, enum status st, struct error *err)
{
    struct postgres_db *db = copy->db;
    PGresult *result;

    if (copy->open && st == ST_OK)
        st = append_number(&copy->buf, UINT16_MAX, 2, err); /* the trailer: -1 fields */
    if (copy->open && st == ST_OK)
        st = put(copy, err);
    if (copy->open && PQputCopyEnd(db->conn, st == ST_OK ? NULL : "given up") != 1 && st == ST_OK)
        st = postgres_db_error(db, NULL, err);
    while (copy->open && (result = PQgetResult(db->conn)) != NULL) {
        if (PQresultStatus(result) != PGRES_COMMAND_OK && st == ST_OK)
            st = postgres_db_error(db, result, err);
        PQclear(result);
    }
    byte_buf_release(&copy->buf);
    return st;
}
