#include "reinforce/text/charsmap.h"

#include "reinforce/base/utf8.h"

#include <string.h>
#include <unicode/ubrk.h>

enum { MAX_MAP_BYTES = 1 << 24, MAX_GRAPHEME_BYTES = 6, LEAF = 1u << 8 };

static int sextet(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static enum status decode_base64(struct bytes_view text, struct byte_buf *out, struct error *err)
{
    uint32_t bits = 0;
    int n_bits = 0;
    enum status st = ST_OK;

    while (text.len > 0 && text.data[text.len - 1] == '=')
        text.len--;
    for (size_t i = 0; i < text.len && st == ST_OK; i++) {
        int value = sextet(text.data[i]);

        if (value < 0)
            return error_set(err, ST_CORRUPT, "precompiled_charsmap is not base64");
        bits = bits << 6 | (uint32_t)value;
        n_bits += 6;
        if (n_bits >= 8) {
            uint8_t byte = (uint8_t)(bits >> (n_bits - 8));

            n_bits -= 8;
            st = byte_buf_append(out, &byte, 1, err);
        }
    }
    return st;
}

static uint32_t read_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

enum status charsmap_init(struct charsmap *map, struct bytes_view base64, struct error *err)
{
    enum status st;

    memset(map, 0, sizeof *map);
    byte_buf_init(&map->bytes, MAX_MAP_BYTES);
    st = decode_base64(base64, &map->bytes, err);
    if (st == ST_OK && (map->bytes.len < 4 || read_u32(map->bytes.data) % 4 != 0 ||
                        read_u32(map->bytes.data) > map->bytes.len - 4))
        st = error_set(err, ST_CORRUPT, "precompiled_charsmap is cut short");
    if (st != ST_OK) {
        charsmap_release(map);
        return st;
    }
    map->n_units = read_u32(map->bytes.data) / 4;
    return ST_OK;
}

void charsmap_release(struct charsmap *map)
{
    byte_buf_release(&map->bytes);
    memset(map, 0, sizeof *map);
}

/* False outside the array, as a wrong map may ask for. */
static bool unit_at(const struct charsmap *map, size_t i, uint32_t *unit)
{
    if (i >= map->n_units)
        return false;
    *unit = read_u32(map->bytes.data + 4 + 4 * i);
    return true;
}

static size_t offset_of(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
}

/* The replacement of the shortest rule that begins `key`; *found false: none does. */
static enum status find_rule(const struct charsmap *map, struct bytes_view key, bool *found,
                             struct bytes_view *to, struct error *err)
{
    size_t node = 0, texts = 4 + 4 * map->n_units, at;
    uint32_t unit = 0, leaf = 0;
    const uint8_t *end;

    *found = false;
    if (!unit_at(map, node, &unit))
        return ST_OK;
    node ^= offset_of(unit);
    for (size_t i = 0; i < key.len && key.data[i] != 0; i++) {
        node ^= key.data[i];
        if (!unit_at(map, node, &unit) || (unit & (1u << 31 | 0xff)) != key.data[i])
            return ST_OK;
        node ^= offset_of(unit);
        if ((unit & LEAF) != 0)
            break;
    }
    if ((unit & LEAF) == 0 || node == 0 || !unit_at(map, node, &leaf))
        return ST_OK;
    at = texts + (leaf & ~(1u << 31));
    end = at < map->bytes.len ? memchr(map->bytes.data + at, 0, map->bytes.len - at) : NULL;
    if (end == NULL)
        return error_set(err, ST_CORRUPT, "precompiled_charsmap points outside itself");
    *to = bytes_view_of(map->bytes.data + at, (size_t)(end - map->bytes.data) - at);
    if (!utf8_is_valid(*to)) /* what comes behind relies on it */
        return error_set(err, ST_CORRUPT, "precompiled_charsmap replaces by invalid UTF-8");
    *found = true;
    return ST_OK;
}

/* One grapheme, as a whole or character by character. */
static enum status put_grapheme(const struct charsmap *map, struct bytes_view grapheme,
                                struct byte_buf *out, struct error *err)
{
    struct bytes_view to;
    bool found = false;
    enum status st = ST_OK;

    if (grapheme.len < MAX_GRAPHEME_BYTES)
        st = find_rule(map, grapheme, &found, &to, err);
    if (st == ST_OK && found)
        return byte_buf_append(out, to.data, to.len, err);
    for (size_t i = 0, next = 0; i < grapheme.len && st == ST_OK; i = next) {
        struct bytes_view one;

        (void)utf8_next(grapheme, &next);
        one = bytes_view_of(grapheme.data + i, next - i);
        st = find_rule(map, one, &found, &to, err);
        if (st == ST_OK)
            st = found ? byte_buf_append(out, to.data, to.len, err)
                       : byte_buf_append(out, one.data, one.len, err);
    }
    return st;
}

enum status charsmap_run(const struct charsmap *map, struct bytes_view text, struct byte_buf *out,
                         struct error *err)
{
    UErrorCode code = U_ZERO_ERROR;
    UBreakIterator *breaks;
    UText *view;
    enum status st = ST_OK;
    int64_t start = 0;

    if (text.len == 0)
        return ST_OK;
    view = utext_openUTF8(NULL, (const char *)text.data, (int64_t)text.len, &code);
    breaks = ubrk_open(UBRK_CHARACTER, "", NULL, 0, &code);
    ubrk_setUText(breaks, view, &code);
    if (U_FAILURE(code))
        st = error_set(err, ST_NO_MEMORY, "could not find graphemes: %s", u_errorName(code));
    while (st == ST_OK && start < (int64_t)text.len) {
        int32_t end = ubrk_next(breaks);

        if (end == UBRK_DONE)
            break;
        st = put_grapheme(map, bytes_view_of(text.data + start, (size_t)(end - start)), out, err);
        start = end;
    }
    ubrk_close(breaks);
    (void)utext_close(view);
    return st;
}
