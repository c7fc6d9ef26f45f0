#include "reinforce/text/unicode.h"

#include "reinforce/base/utf8.h"

#include <limits.h>
#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/ustring.h>

/* No normalization form changes a text whose code points are all below: U+0300 is the first
 * combining mark; U+00A0 and U+00C0 the first with a compatibility and a canonical mapping. */
static const uint32_t first_changed[] = {
    [UNICODE_NFC] = 0x300, [UNICODE_NFD] = 0xC0, [UNICODE_NFKC] = 0xA0, [UNICODE_NFKD] = 0xA0};

enum { MAX_UTF16 = INT_MAX / 8 }; /* ICU counts in int32_t, and NFKD may grow a text 18 times */

bool unicode_is_space(uint32_t cp)
{
    if (cp < 0x80)
        return cp == ' ' || (cp >= 9 && cp <= 13);
    return u_isUWhiteSpace((UChar32)cp);
}

bool unicode_is_space_python(uint32_t cp)
{
    return (cp >= 0x1C && cp <= 0x1F) || unicode_is_space(cp);
}

bool unicode_is_word(uint32_t cp)
{
    const uint32_t more = U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK;

    return (U_GET_GC_MASK((UChar32)cp) & more) != 0 || u_isUAlphabetic((UChar32)cp) ||
           cp == 0x200C || cp == 0x200D;
}

bool unicode_is_digit(uint32_t cp)
{
    return u_charType((UChar32)cp) == U_DECIMAL_DIGIT_NUMBER;
}

size_t unicode_lower_char(uint32_t cp, uint32_t out[2])
{
    if (cp == 0x130) { /* the only character whose lower case is longer without context */
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    out[0] = (uint32_t)u_tolower((UChar32)cp);
    return 1;
}

enum status unicode_put(uint32_t cp, struct byte_buf *out, struct error *err)
{
    uint8_t bytes[4];

    return byte_buf_append(out, bytes, utf8_put(cp, bytes), err);
}

uint32_t unicode_prev(struct bytes_view text, size_t end, size_t *start)
{
    size_t i = end - 1, next;
    uint32_t cp;

    while (i > 0 && end - i < 4 && (text.data[i] & 0xC0) == 0x80)
        i--;
    next = i;
    cp = utf8_next(bytes_view_of(text.data, end), &next);
    if (next != end) { /* not a whole character */
        *start = end - 1;
        return UTF8_REPLACEMENT;
    }
    *start = i;
    return cp;
}

enum status unicode_repair(struct bytes_view text, struct byte_buf *fixed, struct bytes_view *out,
                           struct error *err)
{
    enum status st = ST_OK;

    *out = text;
    if (utf8_is_valid(text))
        return ST_OK;
    for (size_t i = 0; i < text.len && st == ST_OK;)
        st = unicode_put(utf8_next(text, &i), fixed, err);
    *out = byte_buf_view(fixed);
    return st;
}

/* Final_Sigma of Unicode's SpecialCasing: a cased letter before, none after, skipping what is
 * case-ignorable. */
static bool sigma_is_final(struct bytes_view text, size_t sigma, size_t behind)
{
    bool cased = false;

    for (size_t i = sigma; i > 0;) {
        uint32_t cp = unicode_prev(text, i, &i);

        if (!u_hasBinaryProperty((UChar32)cp, UCHAR_CASE_IGNORABLE)) {
            cased = u_hasBinaryProperty((UChar32)cp, UCHAR_CASED);
            break;
        }
    }
    if (!cased)
        return false;
    for (size_t i = behind; i < text.len;) {
        uint32_t cp = utf8_next(text, &i);

        if (!u_hasBinaryProperty((UChar32)cp, UCHAR_CASE_IGNORABLE))
            return !u_hasBinaryProperty((UChar32)cp, UCHAR_CASED);
    }
    return true;
}

enum status unicode_lower(struct bytes_view text, struct byte_buf *out, struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < text.len && st == ST_OK;) {
        size_t at = i;
        uint32_t cp = utf8_next(text, &i), lower[2];
        size_t n = unicode_lower_char(cp, lower);

        if (cp == 0x3A3 && sigma_is_final(text, at, i))
            lower[0] = 0x3C2;
        for (size_t k = 0; k < n && st == ST_OK; k++)
            st = unicode_put(lower[k], out, err);
    }
    return st;
}

static enum status to_utf16(struct bytes_view text, struct byte_buf *out, struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < text.len && st == ST_OK;) {
        uint32_t cp = utf8_next(text, &i);
        UChar unit[2] = {(UChar)cp, 0};

        if (cp >= 0x10000) {
            unit[0] = (UChar)(0xD800 + ((cp - 0x10000) >> 10));
            unit[1] = (UChar)(0xDC00 + ((cp - 0x10000) & 0x3FF));
        }
        st = byte_buf_append(out, unit, cp >= 0x10000 ? 4 : 2, err);
    }
    if (st == ST_OK && out->len / sizeof(UChar) > MAX_UTF16)
        st = error_set(err, ST_INVALID, "text of %zu bytes is too long", text.len);
    return st;
}

static enum status from_utf16(const UChar *text, size_t n, struct byte_buf *out, struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < n && st == ST_OK;) {
        uint32_t cp = text[i++];

        if (U16_IS_LEAD(cp) && i < n && U16_IS_TRAIL(text[i]))
            cp = (uint32_t)U16_GET_SUPPLEMENTARY(cp, text[i++]);
        st = unicode_put(cp, out, err);
    }
    return st;
}

enum status unicode_upper(struct bytes_view text, struct byte_buf *out, struct error *err)
{
    struct byte_buf from, to;
    UErrorCode code = U_ZERO_ERROR;
    uint8_t *room;
    int32_t n = 0;
    enum status st;

    byte_buf_init(&from, SIZE_MAX);
    byte_buf_init(&to, SIZE_MAX);
    st = to_utf16(text, &from, err);
    if (st == ST_OK) /* full upper case is at most three times as long */
        st = byte_buf_extend(&to, from.len * 3 + sizeof(UChar), &room, err);
    if (st == ST_OK) {
        n = u_strToUpper((UChar *)(void *)to.data, (int32_t)(to.len / sizeof(UChar)),
                         (const UChar *)(const void *)from.data,
                         (int32_t)(from.len / sizeof(UChar)), "", &code);
        if (U_FAILURE(code))
            st = error_set(err, ST_INTERNAL, "cannot upper-case a text: %s", u_errorName(code));
    }
    if (st == ST_OK)
        st = from_utf16((const UChar *)(const void *)to.data, (size_t)n, out, err);
    byte_buf_release(&from);
    byte_buf_release(&to);
    return st;
}

static const UNormalizer2 *normalizer_of(enum unicode_form form, UErrorCode *code)
{
    switch (form) {
    case UNICODE_NFC:
        return unorm2_getNFCInstance(code);
    case UNICODE_NFD:
        return unorm2_getNFDInstance(code);
    case UNICODE_NFKC:
        return unorm2_getNFKCInstance(code);
    case UNICODE_NFKD:
        return unorm2_getNFKDInstance(code);
    }
    return NULL;
}

static enum status normalize_utf16(const UNormalizer2 *normalizer, const UChar *from, int32_t n,
                                   struct byte_buf *out, struct error *err)
{
    struct byte_buf to;
    UErrorCode code = U_ZERO_ERROR;
    int32_t n_out = n + 32;
    enum status st = ST_OK;

    byte_buf_init(&to, SIZE_MAX);
    for (int round = 0; round < 2 && st == ST_OK; round++) { /* the second with the true length */
        uint8_t *room;

        byte_buf_reset(&to);
        st = byte_buf_extend(&to, (size_t)n_out * sizeof(UChar), &room, err);
        if (st != ST_OK)
            break;
        code = U_ZERO_ERROR;
        n_out = unorm2_normalize(normalizer, from, n, (UChar *)(void *)to.data, n_out, &code);
        if (code != U_BUFFER_OVERFLOW_ERROR)
            break;
    }
    if (st == ST_OK && U_FAILURE(code))
        st = error_set(err, code == U_MEMORY_ALLOCATION_ERROR ? ST_NO_MEMORY : ST_INTERNAL,
                       "cannot normalize a text: %s", u_errorName(code));
    if (st == ST_OK)
        st = from_utf16((const UChar *)(const void *)to.data, (size_t)n_out, out, err);
    byte_buf_release(&to);
    return st;
}

enum status unicode_normalize(enum unicode_form form, struct bytes_view text, struct byte_buf *out,
                              struct error *err)
{
    struct byte_buf from;
    UErrorCode code = U_ZERO_ERROR;
    const UNormalizer2 *normalizer;
    bool inert = true;
    enum status st;

    for (size_t i = 0; i < text.len && inert;)
        inert = utf8_next(text, &i) < first_changed[form];
    if (inert)
        return byte_buf_append(out, text.data, text.len, err);
    normalizer = normalizer_of(form, &code);
    if (U_FAILURE(code) || normalizer == NULL)
        return error_set(err, ST_INTERNAL, "cannot load Unicode normalization data: %s",
                         u_errorName(code));
    byte_buf_init(&from, SIZE_MAX);
    st = to_utf16(text, &from, err);
    if (st == ST_OK) {
        const UChar *units = (const UChar *)(const void *)from.data;
        int32_t n = (int32_t)(from.len / sizeof(UChar));

        if (unorm2_spanQuickCheckYes(normalizer, units, n, &code) == n && U_SUCCESS(code))
            st = byte_buf_append(out, text.data, text.len, err);
        else
            st = normalize_utf16(normalizer, units, n, out, err);
    }
    byte_buf_release(&from);
    return st;
}
