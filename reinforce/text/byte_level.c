#include "reinforce/text/byte_level.h"

#include "reinforce/base/utf8.h"

/* Bytes without a character of their own come in three runs: 0-32, 127-160 and 173. */
enum { LOW_END = 33, MIDDLE = 127, MIDDLE_END = 161, SOFT_HYPHEN = 173, N_REMAPPED = 68 };

uint32_t byte_level_char(uint8_t byte)
{
    if (byte < LOW_END)
        return 0x100u + byte;
    if (byte >= MIDDLE && byte < MIDDLE_END)
        return 0x100u + LOW_END + (byte - MIDDLE);
    if (byte == SOFT_HYPHEN)
        return 0x100u + N_REMAPPED - 1;
    return byte;
}

int byte_level_byte(uint32_t cp)
{
    if (cp < 0x100)
        return byte_level_char((uint8_t)cp) == cp ? (int)cp : -1;
    cp -= 0x100;
    if (cp >= N_REMAPPED)
        return -1;
    if (cp < LOW_END)
        return (int)cp;
    return cp == N_REMAPPED - 1 ? SOFT_HYPHEN : (int)(cp - LOW_END + MIDDLE);
}

enum status byte_level_encode(struct bytes_view bytes, struct byte_buf *out, struct error *err)
{
    uint8_t *to;
    size_t n = 0;
    enum status st;

    if (bytes.len > SIZE_MAX / 2)
        return error_set(err, ST_INVALID, "text is too long");
    st = byte_buf_extend(out, bytes.len * 2, &to, err); /* no character needs more than 2 bytes */
    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < bytes.len; i++)
        n += utf8_put(byte_level_char(bytes.data[i]), to + n);
    out->len -= bytes.len * 2 - n;
    return ST_OK;
}

enum status byte_level_decode(struct bytes_view text, struct byte_buf *out, struct error *err)
{
    size_t before = out->len;
    enum status st = ST_OK;

    for (size_t i = 0; i < text.len && st == ST_OK;) {
        int byte = byte_level_byte(utf8_next(text, &i));

        if (byte < 0) {
            out->len = before;
            return byte_buf_append(out, text.data, text.len, err);
        }
        st = byte_buf_append(out, &(uint8_t){(uint8_t)byte}, 1, err);
    }
    return st;
}
