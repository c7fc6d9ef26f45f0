#include "reinforce/text/html_entities.h"

#include "reinforce/base/utf8.h"
#include "reinforce/text/unicode.h"
#include "reinforce/text/windows_1252.h"

enum { MAX_NAME_CHARACTERS = 32 };

const char *html_entity_find(struct bytes_view name)
{
    size_t low = 0, high = n_html_entities;

    while (low < high) {
        size_t middle = low + (high - low) / 2, len = strlen(html_entities[middle].name);
        int order = memcmp(html_entities[middle].name, name.data, MIN(len, name.len));

        if (order == 0 && len == name.len)
            return html_entities[middle].text;
        if (order < 0 || (order == 0 && len < name.len))
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* What a numeric reference stands for; false for nothing at all. */
static bool resolve_number(uint32_t number, uint32_t *cp)
{
    *cp = number;
    if (number == 0 || number > 0x10FFFF || (number >= 0xD800 && number <= 0xDFFF)) {
        *cp = UTF8_REPLACEMENT;
        return true;
    }
    if (number >= 0x80 && number <= 0x9F) {
        *cp = windows_1252_char((uint8_t)number);
        return true;
    }
    if (number == '\t' || number == '\n' || number == '\f' || number == '\r')
        return true;
    return number >= 0x20 && number != 0x7F && (number < 0xFDD0 || number > 0xFDEF) &&
           (number & 0xFFFE) != 0xFFFE;
}

static int digit(uint8_t c, uint32_t base)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (base == 16 && (c | 0x20) >= 'a' && (c | 0x20) <= 'f')
        return (c | 0x20) - 'a' + 10;
    return -1;
}

/* "#123;" or "#x7B;" at `at`; *end is behind it, or `at` when it is none. */
static enum status unescape_number(struct bytes_view text, size_t at, size_t *end,
                                   struct byte_buf *out, struct error *err)
{
    uint32_t base = 10, number = 0, cp;
    size_t i = at + 1, first;

    *end = at;
    if (i < text.len && (text.data[i] | 0x20) == 'x') {
        base = 16;
        i++;
    }
    for (first = i; i < text.len && digit(text.data[i], base) >= 0; i++)
        number = MIN(number * base + (uint32_t)digit(text.data[i], base), 0x110000u);
    if (i == first)
        return ST_OK;
    *end = i < text.len && text.data[i] == ';' ? i + 1 : i;
    return resolve_number(number, &cp) ? unicode_put(cp, out, err) : ST_OK;
}

static bool ends_name(uint8_t c)
{
    return c == '\t' || c == '\n' || c == '\f' || c == ' ' || c == '<' || c == '&' || c == '#' ||
           c == ';';
}

/* "amp;", "amp" or "ampersand" at `at`; *end is behind what was read, or `at` for nothing. */
static enum status unescape_name(struct bytes_view text, size_t at, size_t *end,
                                 struct byte_buf *out, struct error *err)
{
    struct bytes_view name;
    const char *found = NULL;
    size_t n_characters = 0, i = at, n_ascii, x;
    enum status st;

    while (i < text.len && n_characters < MAX_NAME_CHARACTERS && !ends_name(text.data[i])) {
        (void)utf8_next(text, &i);
        n_characters++;
    }
    *end = i;
    if (i == at)
        return ST_OK;
    if (i < text.len && text.data[i] == ';')
        *end = ++i;
    name = bytes_view_of(text.data + at, i - at);
    for (n_ascii = 0; n_ascii < name.len && name.data[n_ascii] < 0x80;)
        n_ascii++;
    /* names are ASCII; one letter alone is tried only when it is all there is */
    for (x = n_ascii; x >= 1 && found == NULL; x--)
        if (x == name.len || x >= 2)
            found = html_entity_find(bytes_view_of(name.data, x));
    if (found == NULL) {
        st = byte_buf_append(out, "&", 1, err);
        return st == ST_OK ? byte_buf_append(out, name.data, name.len, err) : st;
    }
    x++; /* the loop went one further */
    st = byte_buf_append_string(out, found, err);
    return st == ST_OK ? byte_buf_append(out, name.data + x, name.len - x, err) : st;
}

enum status html_unescape(struct bytes_view text, struct byte_buf *out, struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < text.len && st == ST_OK;) {
        const uint8_t *amp = memchr(text.data + i, '&', text.len - i);
        size_t stop = amp != NULL ? (size_t)(amp - text.data) : text.len, end;

        st = byte_buf_append(out, text.data + i, stop - i, err);
        i = stop;
        if (st != ST_OK || i == text.len)
            return st;
        i++;
        end = i;
        if (i < text.len)
            st = text.data[i] == '#' ? unescape_number(text, i, &end, out, err)
                                     : unescape_name(text, i, &end, out, err);
        if (st == ST_OK && end == i)
            st = byte_buf_append(out, "&", 1, err);
        i = end;
    }
    return st;
}
