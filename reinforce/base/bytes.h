/* Borrowed bytes and growing buffers. */
#ifndef REINFORCE_BASE_BYTES_H
#define REINFORCE_BASE_BYTES_H

#include "reinforce/base/error.h"

#include <stdint.h>

/** Borrows; whoever hands it out says until when. */
struct bytes_view {
    const uint8_t *data;
    size_t len;
};

/** Owns heap memory up to `max_len`, fixed at init. A zeroed one is released safely. */
struct byte_buf {
    uint8_t *data;
    size_t len;
    size_t capacity;
    size_t max_len;
};

static inline struct bytes_view bytes_view_of(const void *data, size_t len)
{
    return (struct bytes_view){.data = data, .len = len};
}

/** Little endian, whatever the machine. */
static inline uint64_t bytes_get_u64(const uint8_t *from)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < 8; i++)
        value |= (uint64_t)from[i] << 8 * i;
    return value;
}

static inline void bytes_put_u64(uint8_t *to, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++)
        to[i] = (uint8_t)(value >> 8 * i);
}

/** View of a C string without its NUL. */
struct bytes_view bytes_of_string(const char *text);

/** True if both hold the same bytes. */
bool bytes_equal(struct bytes_view a, struct bytes_view b);

/** Nothing is allocated yet; cannot fail. */
void byte_buf_init(struct byte_buf *buf, size_t max_len);

/** Copies `len` bytes to the end. ST_NO_MEMORY past max_len or when the system has none; then
 * nothing was added. */
NODISCARD enum status byte_buf_append(struct byte_buf *buf, const void *data, size_t len,
                                      struct error *err);

/** Grows by `len` bytes, not initialised, and returns where they are (until the next call). */
NODISCARD enum status byte_buf_extend(struct byte_buf *buf, size_t len, uint8_t **out,
                                      struct error *err);

NODISCARD enum status byte_buf_append_string(struct byte_buf *buf, const char *text,
                                             struct error *err);

NODISCARD enum status byte_buf_printf(struct byte_buf *buf, struct error *err, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

/** Puts a NUL behind the content without counting it, and returns it as a C string. */
NODISCARD enum status byte_buf_c_str(struct byte_buf *buf, const char **out, struct error *err);

static inline struct bytes_view byte_buf_view(const struct byte_buf *buf)
{
    return (struct bytes_view){.data = buf->data, .len = buf->len};
}

/** Empties it and keeps the memory. */
void byte_buf_reset(struct byte_buf *buf);
void byte_buf_release(struct byte_buf *buf);

#endif
