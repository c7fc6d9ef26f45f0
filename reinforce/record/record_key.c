#include "reinforce/record/record_key.h"

#include "reinforce/base/sha256.h"
#include "reinforce/base/utf8.h"

enum { DIGEST_DIGITS = 16 };

enum status record_key_check(struct bytes_view key, struct error *err)
{
    if (key.len == 0)
        return error_set(err, ST_INVALID, "sample has an empty key");
    if (key.len > RECORD_KEY_MAX)
        return error_set(err, ST_INVALID, "key of %zu bytes is longer than %d", key.len,
                         (int)RECORD_KEY_MAX);
    for (size_t i = 0; i < key.len; i++) {
        uint8_t c = key.data[i];

        if (c == '.' || c == '/')
            return error_set(err, ST_INVALID, "key \"%.*s\" holds \"%c\"", (int)key.len,
                             (const char *)key.data, c);
        if (c < 0x20 || c == 0x7f)
            return error_set(err, ST_INVALID, "key holds control character 0x%02x at byte %zu", c,
                             i);
    }
    if (!utf8_is_valid(key))
        return error_set(err, ST_INVALID, "key is not UTF-8");
    return ST_OK;
}

/* Length of the sequence at `pos` if it is well-formed, else 0. */
static size_t valid_sequence(struct bytes_view text, size_t pos)
{
    size_t end = pos;
    struct bytes_view one;

    (void)utf8_next(text, &end);
    one = bytes_view_of(text.data + pos, end - pos);
    return utf8_is_valid(one) ? one.len : 0;
}

static bool is_escaped(uint8_t c, enum record_key_source kind)
{
    return c == '.' || c == '/' || c == '%' || c < 0x20 || c == 0x7f ||
           (c == '+' && kind == RECORD_KEY_OF_FILE);
}

size_t record_key_make(struct bytes_view source, enum record_key_source kind,
                       char key[RECORD_KEY_MAX + 1])
{
    static const char hex[16] = "0123456789ABCDEF";
    struct error ignored;
    size_t len = 0,
           cut = 0; /* cut: where the last whole piece ends that leaves room for a digest */

    while (source.len >= 2 && source.data[0] == '.' && source.data[1] == '/')
        source = bytes_view_of(source.data + 2, source.len - 2);
    if (kind == RECORD_KEY_OF_SAMPLE && record_key_check(source, &ignored) == ST_OK) {
        memcpy(key, source.data, source.len);
        key[source.len] = '\0';
        return source.len;
    }
    for (size_t i = 0; i < source.len;) {
        size_t n = valid_sequence(source, i);
        char piece[4];
        size_t piece_len = n;

        if (n == 0 || is_escaped(source.data[i], kind)) {
            piece[0] = '%';
            piece[1] = hex[source.data[i] >> 4];
            piece[2] = hex[source.data[i] & 15];
            piece_len = 3;
            n = 1;
        } else {
            memcpy(piece, source.data + i, n);
        }
        if (len + piece_len > RECORD_KEY_MAX) {
            char digest[SHA256_HEX_LEN + 1];

            sha256_of(source, digest);
            key[cut] = '~';
            memcpy(key + cut + 1, digest, DIGEST_DIGITS);
            len = cut + 1 + DIGEST_DIGITS;
            break;
        }
        memcpy(key + len, piece, piece_len);
        len += piece_len;
        if (len <= RECORD_KEY_MAX - 1 - DIGEST_DIGITS)
            cut = len;
        i += n;
    }
    key[len] = '\0';
    return len;
}
