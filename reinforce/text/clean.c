#include "reinforce/text/clean.h"

#include "reinforce/base/utf8.h"
#include "reinforce/text/fix_text.h"
#include "reinforce/text/html_entities.h"
#include "reinforce/text/pieces.h"
#include "reinforce/text/unicode.h"

/* Words one space apart, nothing at the ends. */
static enum status join_words(struct bytes_view text, struct byte_buf *out, struct error *err)
{
    bool space = false;
    enum status st = ST_OK;

    for (size_t i = 0; i < text.len && st == ST_OK;) {
        uint32_t cp = utf8_next(text, &i);

        if (unicode_is_space_python(cp)) {
            space = true;
            continue;
        }
        if (space && out->len > 0)
            st = byte_buf_append(out, " ", 1, err);
        space = false;
        if (st == ST_OK)
            st = unicode_put(cp, out, err);
    }
    return st;
}

enum status clean_open_clip(struct bytes_view text, struct arena *arena, struct bytes_view *out,
                            bool *suspect_mojibake, struct error *err)
{
    struct byte_buf a, b;
    const char *clean;
    char *copy;
    enum status st;

    *out = bytes_view_of(NULL, 0);
    *suspect_mojibake = false;
    if (text.len > PIECES_MAX_TEXT_BYTES / 4)
        return error_set(err, ST_INVALID, "text of %zu bytes is too long", text.len);
    byte_buf_init(&a, PIECES_MAX_TEXT_BYTES);
    byte_buf_init(&b, PIECES_MAX_TEXT_BYTES);
    st = unicode_repair(text, &b, &text, err);
    if (st == ST_OK)
        st = fix_text(text, &a, suspect_mojibake, err);
    byte_buf_reset(&b);
    if (st == ST_OK)
        st = html_unescape(byte_buf_view(&a), &b, err);
    byte_buf_reset(&a);
    if (st == ST_OK)
        st = html_unescape(byte_buf_view(&b), &a, err);
    byte_buf_reset(&b);
    if (st == ST_OK)
        st = join_words(byte_buf_view(&a), &b, err);
    byte_buf_reset(&a);
    if (st == ST_OK)
        st = unicode_lower(byte_buf_view(&b), &a, err);
    if (st == ST_OK)
        st = byte_buf_c_str(&a, &clean, err);
    if (st == ST_OK)
        st = arena_strndup(arena, clean, a.len, &copy, err);
    if (st == ST_OK)
        *out = bytes_view_of(copy, a.len);
    byte_buf_release(&a);
    byte_buf_release(&b);
    return st;
}

/* Position of the first (or last) of the markers, SIZE_MAX for none; *len is how long it is. */
static size_t find_marker(struct bytes_view text, const char *const markers[2], bool last,
                          size_t *len)
{
    size_t found = SIZE_MAX;

    for (size_t at = 0; at < text.len; at++) {
        if (text.data[at] != '<')
            continue;
        for (int i = 0; i < 2; i++) {
            size_t n = strlen(markers[i]);

            if (n > text.len - at || memcmp(text.data + at, markers[i], n) != 0)
                continue;
            found = at;
            *len = n;
            if (!last)
                return found;
        }
    }
    return found;
}

struct bytes_view clean_first_sentence(struct bytes_view text)
{
    static const char *const ends[2] = {"<end_of_text>", "<|endoftext|>"};
    static const char *const starts[2] = {"<start_of_text>", "<|startoftext|>"};
    size_t len = 0, at = find_marker(text, ends, false, &len), before;
    const uint8_t *stop;

    if (at != SIZE_MAX)
        text.len = at;
    at = find_marker(text, starts, true, &len);
    if (at != SIZE_MAX)
        text = bytes_view_of(text.data + at + len, text.len - at - len);
    stop = text.len > 0 ? memchr(text.data, '.', text.len) : NULL;
    if (stop != NULL)
        text.len = (size_t)(stop - text.data);
    while (text.len > 0 && unicode_is_space_python(unicode_prev(text, text.len, &before)))
        text.len = before;
    return text;
}

struct bytes_view clean_trim(struct bytes_view text)
{
    size_t start = 0, at;

    while (text.len > 0 && unicode_is_space(unicode_prev(text, text.len, &at)))
        text.len = at;
    while (start < text.len) {
        at = start;
        if (!unicode_is_space(utf8_next(text, &at)))
            break;
        start = at;
    }
    return bytes_view_of(text.data + start, text.len - start);
}
