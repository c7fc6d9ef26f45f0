#include "reinforce/base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bytes_view bytes_of_string(const char *text)
{
    return bytes_view_of(text, strlen(text));
}

bool bytes_equal(struct bytes_view a, struct bytes_view b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

void byte_buf_init(struct byte_buf *buf, size_t max_len)
{
    memset(buf, 0, sizeof *buf);
    buf->max_len = max_len;
}

enum status byte_buf_extend(struct byte_buf *buf, size_t len, uint8_t **out, struct error *err)
{
    size_t need;

    *out = NULL;
    if (__builtin_add_overflow(buf->len, len, &need) || need > buf->max_len)
        return error_set(err, ST_NO_MEMORY, "buffer would pass its limit of %zu bytes",
                         buf->max_len);
    if (need > buf->capacity || buf->data == NULL) {
        size_t capacity =
            MIN(MAX(MAX(need, buf->capacity * 2), (size_t)256), MAX(buf->max_len, (size_t)1));
        uint8_t *data = realloc(buf->data, capacity);

        if (data == NULL)
            return error_set(err, ST_NO_MEMORY, "could not allocate %zu bytes", capacity);
        buf->data = data;
        buf->capacity = capacity;
    }
    *out = buf->data + buf->len;
    buf->len = need;
    return ST_OK;
}

enum status byte_buf_append(struct byte_buf *buf, const void *data, size_t len, struct error *err)
{
    uint8_t *to;
    enum status st = byte_buf_extend(buf, len, &to, err);

    if (st == ST_OK && len > 0)
        memcpy(to, data, len);
    return st;
}

enum status byte_buf_append_string(struct byte_buf *buf, const char *text, struct error *err)
{
    return byte_buf_append(buf, text, strlen(text), err);
}

enum status byte_buf_printf(struct byte_buf *buf, struct error *err, const char *fmt, ...)
{
    va_list ap, again;
    uint8_t *to;
    enum status st;
    int n;

    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        va_end(again);
        return error_set(err, ST_INTERNAL, "cannot format \"%s\"", fmt);
    }
    st = byte_buf_extend(buf, (size_t)n + 1, &to, err); /* one more for snprintf's NUL */
    if (st == ST_OK) {
        (void)vsnprintf((char *)to, (size_t)n + 1, fmt, again);
        buf->len--;
    }
    va_end(again);
    return st;
}

enum status byte_buf_c_str(struct byte_buf *buf, const char **out, struct error *err)
{
    enum status st = byte_buf_append(buf, "", 1, err);

    *out = NULL;
    if (st != ST_OK)
        return st;
    buf->len--;
    *out = (const char *)buf->data;
    return ST_OK;
}

void byte_buf_reset(struct byte_buf *buf)
{
    buf->len = 0;
}

void byte_buf_release(struct byte_buf *buf)
{
    free(buf->data);
    memset(buf, 0, sizeof *buf);
}
