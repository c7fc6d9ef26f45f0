#include "reinforce/base/json.h"

#include "reinforce/base/parse.h"
#include "reinforce/base/utf8.h"

enum { MAX_DEPTH = 512 };

enum status json_parse(struct bytes_view text, json_t **out, struct error *err)
{
    json_error_t why;

    *out = json_loadb((const char *)text.data, text.len,
                      JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    if (*out == NULL && json_error_code(&why) == json_error_numeric_overflow)
        *out = json_loadb((const char *)text.data, text.len,
                          JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL |
                              JSON_DECODE_INT_AS_REAL,
                          &why);
    if (*out == NULL)
        return error_set(
            err, json_error_code(&why) == json_error_out_of_memory ? ST_NO_MEMORY : ST_CORRUPT,
            "cannot parse JSON at line %d, column %d: %s", why.line, why.column, why.text);
    return ST_OK;
}

enum status json_write_string(struct bytes_view text, struct byte_buf *out, struct error *err)
{
    enum status st = byte_buf_append(out, "\"", 1, err);

    for (size_t i = 0; i < text.len && st == ST_OK;) {
        uint32_t cp = utf8_next(text, &i);

        if (cp == '"' || cp == '\\')
            st = byte_buf_printf(out, err, "\\%c", (char)cp);
        else if (cp >= 0x20 && cp < 0x7f)
            st = byte_buf_append(out, &(char){(char)cp}, 1, err);
        else if (cp == '\n')
            st = byte_buf_append(out, "\\n", 2, err);
        else if (cp == '\r')
            st = byte_buf_append(out, "\\r", 2, err);
        else if (cp == '\t')
            st = byte_buf_append(out, "\\t", 2, err);
        else if (cp == '\b')
            st = byte_buf_append(out, "\\b", 2, err);
        else if (cp == '\f')
            st = byte_buf_append(out, "\\f", 2, err);
        else if (cp < 0x10000)
            st = byte_buf_printf(out, err, "\\u%04x", (unsigned)cp);
        else
            st = byte_buf_printf(out, err, "\\u%04x\\u%04x",
                                 0xd800u + ((unsigned)(cp - 0x10000) >> 10),
                                 0xdc00u + ((unsigned)(cp - 0x10000) & 0x3ff));
    }
    return st == ST_OK ? byte_buf_append(out, "\"", 1, err) : st;
}

static enum status write_value(const json_t *value, int depth, struct byte_buf *out,
                               struct error *err);

static enum status write_object(const json_t *value, int depth, struct byte_buf *out,
                                struct error *err)
{
    /* jansson's iterator takes a non-const object but changes nothing */
    union {
        const json_t *in;
        json_t *object;
    } cast = {.in = value};
    enum status st = byte_buf_append(out, "{", 1, err);
    const char *separator = "", *key;
    json_t *member;

    json_object_foreach(cast.object, key, member)
    {
        if (st == ST_OK)
            st = byte_buf_append_string(out, separator, err);
        if (st == ST_OK)
            st = json_write_string(bytes_of_string(key), out, err);
        if (st == ST_OK)
            st = byte_buf_append(out, ": ", 2, err);
        if (st == ST_OK)
            st = write_value(member, depth + 1, out, err);
        separator = ", ";
    }
    return st == ST_OK ? byte_buf_append(out, "}", 1, err) : st;
}

static enum status write_array(const json_t *value, int depth, struct byte_buf *out,
                               struct error *err)
{
    enum status st = byte_buf_append(out, "[", 1, err);

    for (size_t i = 0; i < json_array_size(value) && st == ST_OK; i++) {
        if (i > 0)
            st = byte_buf_append(out, ", ", 2, err);
        if (st == ST_OK)
            st = write_value(json_array_get(value, i), depth + 1, out, err);
    }
    return st == ST_OK ? byte_buf_append(out, "]", 1, err) : st;
}

static enum status write_value(const json_t *value, int depth, struct byte_buf *out,
                               struct error *err)
{
    char number[32];

    if (depth > MAX_DEPTH)
        return error_set(err, ST_INVALID, "JSON nests deeper than %d", MAX_DEPTH);
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return write_object(value, depth, out, err);
    case JSON_ARRAY:
        return write_array(value, depth, out, err);
    case JSON_STRING:
        return json_write_string(bytes_view_of(json_string_value(value), json_string_length(value)),
                                 out, err);
    case JSON_INTEGER:
        return byte_buf_printf(out, err, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    case JSON_REAL:
        format_f64(json_real_value(value), number);
        return byte_buf_append_string(out, number, err);
    case JSON_TRUE:
        return byte_buf_append(out, "true", 4, err);
    case JSON_FALSE:
        return byte_buf_append(out, "false", 5, err);
    case JSON_NULL:
        return byte_buf_append(out, "null", 4, err);
    }
    return error_set(err, ST_INTERNAL, "unknown JSON type %d", (int)json_typeof(value));
}

enum status json_write(const json_t *value, struct byte_buf *out, struct error *err)
{
    return write_value(value, 0, out, err);
}
