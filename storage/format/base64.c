#include "storage/format/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

enum { NOT_IN_ALPHABET = 0xff };

enum status base64_encode(struct bytes_view in, struct byte_buf *out, struct error *err)
{
    size_t groups = in.len / 3 + (in.len % 3 != 0), text_len;
    uint8_t *to;
    enum status st;

    if (__builtin_mul_overflow(groups, (size_t)4, &text_len))
        return error_set(err, ST_NO_MEMORY, "base64 of %zu bytes is impossible", in.len);
    st = byte_buf_extend(out, text_len, &to, err);
    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < in.len; i += 3, to += 4) {
        size_t n = MIN(in.len - i, (size_t)3);
        uint32_t bits = (uint32_t)in.data[i] << 16;

        bits |= n > 1 ? (uint32_t)in.data[i + 1] << 8 : 0;
        bits |= n > 2 ? (uint32_t)in.data[i + 2] : 0;
        to[0] = (uint8_t)alphabet[bits >> 18];
        to[1] = (uint8_t)alphabet[bits >> 12 & 63];
        to[2] = n > 1 ? (uint8_t)alphabet[bits >> 6 & 63] : '=';
        to[3] = n > 2 ? (uint8_t)alphabet[bits & 63] : '=';
    }
    return ST_OK;
}

static void values_of_alphabet(uint8_t values[256])
{
    memset(values, NOT_IN_ALPHABET, 256);
    for (uint8_t i = 0; i < 64; i++)
        values[(uint8_t)alphabet[i]] = i;
}

enum status base64_decode(struct bytes_view text, struct byte_buf *out, struct error *err)
{
    uint8_t values[256];
    size_t padding = 0, start = out->len;
    uint8_t *to;
    enum status st;

    if (text.len % 4 != 0)
        return error_set(err, ST_CORRUPT, "base64 has %zu characters, not a multiple of 4",
                         text.len);
    if (text.len == 0)
        return ST_OK;
    if (text.data[text.len - 1] == '=')
        padding = text.data[text.len - 2] == '=' ? 2 : 1;
    st = byte_buf_extend(out, text.len / 4 * 3 - padding, &to, err);
    if (st != ST_OK)
        return st;
    values_of_alphabet(values);
    for (size_t i = 0; i < text.len; i += 4) {
        size_t n = i + 4 == text.len ? 4 - padding : 4;
        uint32_t bits = 0;

        for (size_t j = 0; j < n; j++) {
            uint8_t value = values[text.data[i + j]];

            if (value == NOT_IN_ALPHABET) {
                out->len = start;
                return error_set(err, ST_CORRUPT, "character 0x%02x at offset %zu is not base64",
                                 text.data[i + j], i + j);
            }
            bits |= (uint32_t)value << (18 - 6 * j);
        }
        if ((bits & ((1u << (8 * (4 - n))) - 1)) != 0) {
            out->len = start;
            return error_set(err, ST_CORRUPT, "base64 ends in bits that mean nothing");
        }
        *to++ = (uint8_t)(bits >> 16);
        if (n > 2)
            *to++ = (uint8_t)(bits >> 8);
        if (n > 3)
            *to++ = (uint8_t)bits;
    }
    return ST_OK;
}
