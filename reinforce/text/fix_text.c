#include "reinforce/text/fix_text.h"

#include "reinforce/base/utf8.h"
#include "reinforce/text/html_entities.h"
#include "reinforce/text/pieces.h"
#include "reinforce/text/unicode.h"
#include "reinforce/text/windows_1252.h"

/* A caption of nested "&amp;amp;..." would take a round for each; nobody nests deeper than this. */
enum { MAX_ROUNDS = 64, MAX_ENTITY_NAME = 24, ESCAPE = 0x1B };

/* What ftfy takes apart: typographic ligatures, and digraphs made for old encodings. */
static const struct {
    uint16_t cp, parts[3];
} ligatures[] = {
    {0x132, {'I', 'J'}},       {0x133, {'i', 'j'}},       {0x149, {0x2BC, 'n'}},
    {0x1C4, {'D', 0x17D}},     {0x1C5, {'D', 0x17E}},     {0x1C6, {'d', 0x17E}},
    {0x1C7, {'L', 'J'}},       {0x1C8, {'L', 'j'}},       {0x1C9, {'l', 'j'}},
    {0x1CA, {'N', 'J'}},       {0x1CB, {'N', 'j'}},       {0x1CC, {'n', 'j'}},
    {0x1F1, {'D', 'Z'}},       {0x1F2, {'D', 'z'}},       {0x1F3, {'d', 'z'}},
    {0xFB00, {'f', 'f'}},      {0xFB01, {'f', 'i'}},      {0xFB02, {'f', 'l'}},
    {0xFB03, {'f', 'f', 'i'}}, {0xFB04, {'f', 'f', 'l'}}, {0xFB05, {0x17F, 't'}},
    {0xFB06, {'s', 't'}},
};

/* ---- mojibake ---- */

/* How many characters at `at` are one UTF-8 sequence when read as bytes; 0: none. */
static size_t sequence_at(struct bytes_view text, size_t at, size_t *end, int *lead)
{
    uint8_t bytes[4];
    size_t n = 0, want, i = at;

    *lead = windows_1252_byte(utf8_next(text, &i));
    if (*lead < 0xC2 || *lead > 0xF4)
        return 0;
    bytes[n++] = (uint8_t)*lead;
    want = *lead < 0xE0 ? 2 : *lead < 0xF0 ? 3 : 4;
    while (n < want && i < text.len) {
        int byte = windows_1252_byte(utf8_next(text, &i));

        if (byte < 0x80 || byte > 0xBF)
            return 0;
        bytes[n++] = (uint8_t)byte;
    }
    *end = i;
    return n == want && utf8_is_valid(bytes_view_of(bytes, n)) ? n : 0;
}

/* What may well stand behind a letter: quotes, dashes, an ellipsis, a bullet, a degree sign. */
static bool is_common_behind_letter(uint32_t cp)
{
    static const uint16_t common[] = {0xA0,   0xA9,   0xAB,   0xAE,   0xB0,   0xB7,   0xBB,
                                      0x2018, 0x2019, 0x201A, 0x201C, 0x201D, 0x201E, 0x2013,
                                      0x2014, 0x2022, 0x2026, 0x2039, 0x203A, 0x2122};

    for (size_t i = 0; i < ARRAY_LEN(common); i++)
        if (common[i] == cp)
            return true;
    return false;
}

static bool suspects_mojibake(struct bytes_view text)
{
    bool pair_before = false; /* "É»" may end a quotation; two such pairs in a row do not */
    uint32_t last = 0;

    for (size_t i = 0; i < text.len;) {
        size_t end = i, behind = i, n, at;
        int lead;
        uint32_t cp = utf8_next(text, &behind);

        /* a C1 control was never meant, and a no-break space in mojibake often became a space */
        if (last >= 0x80 && ((cp >= 0x80 && cp < 0xA0) ||
                             ((last == 0xC2 || last == 0xC3) && (cp == ' ' || cp == 0xA0))))
            return true;
        last = cp;
        if (cp < 0x80) {
            pair_before = false;
            i = behind;
            continue;
        }
        n = sequence_at(text, i, &end, &lead);
        if (n > 2 || (n == 2 && (lead <= 0xC3 || pair_before ||
                                 !is_common_behind_letter(unicode_prev(text, end, &at)))))
            return true;
        pair_before = n == 2;
        if (n > 0) {
            i = end;
            last = 0x80;
        } else {
            i = behind;
        }
    }
    return false;
}

/* ---- HTML references ---- */

static bool is_ascii_alnum(uint8_t c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

/* "PEREZ" as in "P&EACUTE;REZ": the upper case of a name that is all lower case, unless HTML reads
 * the upper one in some way itself. */
static enum status unescape_shouted(struct bytes_view reference, bool *done, struct byte_buf *out,
                                    struct error *err)
{
    char lower[MAX_ENTITY_NAME + 2];
    size_t n = reference.len - 1;
    const char *text;
    struct byte_buf plain;
    enum status st;

    *done = false;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = reference.data[i + 1];

        if (c >= 'a' && c <= 'z')
            return ST_OK;
        lower[i] = (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    text = html_entity_find(bytes_view_of(lower, n));
    if (text == NULL)
        return ST_OK;
    byte_buf_init(&plain, 256);
    st = html_unescape(reference, &plain, err);
    if (st == ST_OK && bytes_equal(byte_buf_view(&plain), reference)) {
        *done = true;
        st = unicode_upper(bytes_of_string(text), out, err);
    }
    byte_buf_release(&plain);
    return st;
}

/* One "&name;" or "&#123;". */
static enum status unescape_one(struct bytes_view reference, struct byte_buf *out,
                                struct error *err)
{
    struct bytes_view name = bytes_view_of(reference.data + 1, reference.len - 1);
    size_t before = out->len;
    const char *text;
    bool done = false;
    enum status st;

    if (name.data[0] == '#') {
        st = html_unescape(reference, out, err);
        /* not all of it was read */
        if (st == ST_OK && out->len > before &&
            memchr(out->data + before, ';', out->len - before) != NULL) {
            out->len = before;
            st = byte_buf_append(out, reference.data, reference.len, err);
        }
        return st;
    }
    text = html_entity_find(name);
    if (text != NULL)
        return byte_buf_append_string(out, text, err);
    st = unescape_shouted(reference, &done, out, err);
    if (st == ST_OK && !done)
        st = byte_buf_append(out, reference.data, reference.len, err);
    return st;
}

static enum status unescape(struct bytes_view text, struct byte_buf *out, struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < text.len && st == ST_OK;) {
        size_t name = i + 1, end;

        if (text.data[i] == '&') {
            name += name < text.len && text.data[name] == '#';
            for (end = name; end < text.len && is_ascii_alnum(text.data[end]);)
                end++;
            if (end > name && end - name <= MAX_ENTITY_NAME && end < text.len &&
                text.data[end] == ';') {
                st = unescape_one(bytes_view_of(text.data + i, end + 1 - i), out, err);
                i = end + 1;
                continue;
            }
        }
        st = byte_buf_append(out, text.data + i, 1, err);
        i++;
    }
    return st;
}

/* ---- characters ---- */

static uint32_t uncurl(uint32_t cp)
{
    if (cp == 0x2BC || (cp >= 0x2018 && cp <= 0x201B))
        return '\'';
    return cp >= 0x201C && cp <= 0x201F ? '"' : cp;
}

static enum status put_width(uint32_t cp, struct byte_buf *out, struct error *err)
{
    uint8_t bytes[4];

    if (cp == 0x3000)
        return byte_buf_append(out, " ", 1, err);
    if (cp >= 0xFF01 && cp < 0xFFF0) /* none of these becomes a curly quote */
        return unicode_normalize(UNICODE_NFKC, bytes_view_of(bytes, utf8_put(cp, bytes)), out, err);
    return unicode_put(uncurl(cp), out, err);
}

static enum status put_character(uint32_t cp, struct byte_buf *out, struct error *err)
{
    enum status st = ST_OK;

    if (cp < 0x80) /* most are */
        return byte_buf_append(out, &(uint8_t){(uint8_t)cp}, 1, err);
    if (cp < 0xA0)
        cp = windows_1252_char((uint8_t)cp);
    for (size_t i = 0; i < ARRAY_LEN(ligatures); i++) {
        if (ligatures[i].cp != cp)
            continue;
        for (int k = 0; k < 3 && ligatures[i].parts[k] != 0 && st == ST_OK; k++)
            st = put_width(ligatures[i].parts[k], out, err);
        return st;
    }
    return put_width(cp, out, err);
}

static enum status fix_characters(struct bytes_view text, struct byte_buf *out, struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < text.len && st == ST_OK;)
        st = put_character(utf8_next(text, &i), out, err);
    return st;
}

static bool is_removed(uint32_t cp)
{
    return cp < 0x09 || cp == 0x0B || (cp >= 0x0E && cp < 0x20) || cp == 0x7F ||
           (cp >= 0x206A && cp < 0x2070) || cp == 0xFEFF || (cp >= 0xFFF9 && cp < 0xFFFD);
}

/* Behind a terminal escape that begins at `at`, or `at`. */
static size_t skip_terminal_escape(struct bytes_view text, size_t at)
{
    size_t i = at + 1;

    if (text.len - at < 3 || text.data[at] != ESCAPE || text.data[i++] != '[')
        return at;
    while (i < text.len) {
        size_t next = i;
        uint32_t cp = utf8_next(text, &next);

        if (cp != ';' && !unicode_is_digit(cp))
            return (cp | 0x20) >= 'a' && (cp | 0x20) <= 'z' ? next : at;
        i = next;
    }
    return at;
}

/* Line breaks to LF, and without terminal escapes. */
static enum status fix_lines(struct bytes_view text, struct byte_buf *out, struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < text.len && st == ST_OK;) {
        size_t escape = skip_terminal_escape(text, i);
        uint32_t cp;

        if (escape > i) {
            i = escape;
            continue;
        }
        cp = utf8_next(text, &i);
        if (cp == '\r' && i < text.len && text.data[i] == '\n')
            i++;
        if (cp == '\r' || cp == 0x2028 || cp == 0x2029)
            cp = '\n';
        if (!is_removed(cp))
            st = unicode_put(cp, out, err);
    }
    return st;
}

/* ---- a line until nothing changes ---- */

static enum status fix_line(struct bytes_view line, bool html, struct byte_buf *out, bool *suspect,
                            struct error *err)
{
    struct byte_buf now, a, b;
    bool stable = false;
    enum status st;

    byte_buf_init(&now, PIECES_MAX_TEXT_BYTES);
    byte_buf_init(&a, PIECES_MAX_TEXT_BYTES);
    byte_buf_init(&b, PIECES_MAX_TEXT_BYTES);
    st = byte_buf_append(&now, line.data, line.len, err);
    for (int round = 0; round < MAX_ROUNDS && !stable && st == ST_OK; round++) {
        byte_buf_reset(&a);
        byte_buf_reset(&b);
        st = html ? unescape(byte_buf_view(&now), &a, err)
                  : byte_buf_append(&a, now.data, now.len, err);
        if (st == ST_OK && suspects_mojibake(byte_buf_view(&a)))
            *suspect = true;
        if (st == ST_OK)
            st = fix_characters(byte_buf_view(&a), &b, err);
        byte_buf_reset(&a);
        if (st == ST_OK)
            st = fix_lines(byte_buf_view(&b), &a, err);
        byte_buf_reset(&b);
        if (st == ST_OK)
            st = unicode_normalize(UNICODE_NFC, byte_buf_view(&a), &b, err);
        stable = bytes_equal(byte_buf_view(&now), byte_buf_view(&b));
        byte_buf_reset(&now);
        if (st == ST_OK)
            st = byte_buf_append(&now, b.data, b.len, err);
    }
    if (st == ST_OK)
        st = byte_buf_append(out, now.data, now.len, err);
    byte_buf_release(&now);
    byte_buf_release(&a);
    byte_buf_release(&b);
    return st;
}

static bool needs_no_fix(struct bytes_view line)
{
    for (size_t i = 0; i < line.len; i++)
        if (line.data[i] >= 0x7F || line.data[i] == '&' || line.data[i] == '\r' ||
            is_removed(line.data[i]))
            return false;
    return true;
}

enum status fix_text(struct bytes_view text, struct byte_buf *out, bool *suspect_mojibake,
                     struct error *err)
{
    bool html = true; /* a "<" turns it off for good, as in ftfy */
    enum status st = ST_OK;

    *suspect_mojibake = false;
    for (size_t i = 0; i < text.len && st == ST_OK;) {
        const uint8_t *stop = memchr(text.data + i, '\n', text.len - i);
        size_t end = stop != NULL ? (size_t)(stop - text.data) + 1 : text.len;
        struct bytes_view line = bytes_view_of(text.data + i, end - i);

        if (memchr(line.data, '<', line.len) != NULL)
            html = false;
        st = needs_no_fix(line) ? byte_buf_append(out, line.data, line.len, err)
                                : fix_line(line, html, out, suspect_mojibake, err);
        i = end;
    }
    return st;
}
