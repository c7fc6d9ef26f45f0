#include "reinforce/base/utf8.h"

/* Returns how many continuation bytes follow `lead`, and the allowed range of the first of them; -1
 * if not a lead. */
static int sequence_of(uint8_t lead, uint8_t *low, uint8_t *high)
{
    *low = 0x80;
    *high = 0xBF;
    if (lead >= 0xC2 && lead <= 0xDF)
        return 1;
    if (lead >= 0xE0 && lead <= 0xEF) {
        *low = lead == 0xE0 ? 0xA0 : 0x80;
        *high = lead == 0xED ? 0x9F : 0xBF;
        return 2;
    }
    if (lead >= 0xF0 && lead <= 0xF4) {
        *low = lead == 0xF0 ? 0x90 : 0x80;
        *high = lead == 0xF4 ? 0x8F : 0xBF;
        return 3;
    }
    return -1;
}

static uint32_t next(struct bytes_view text, size_t *pos, bool *valid)
{
    uint8_t lead = text.data[(*pos)++], low, high;
    uint32_t cp;
    int n;

    if (lead < 0x80)
        return lead;
    n = sequence_of(lead, &low, &high);
    if (n < 0) {
        *valid = false;
        return UTF8_REPLACEMENT;
    }
    cp = lead & (0x3Fu >> n);
    for (int i = 0; i < n; i++) {
        if (*pos >= text.len || text.data[*pos] < low || text.data[*pos] > high) {
            *valid = false;
            return UTF8_REPLACEMENT;
        }
        cp = cp << 6 | (text.data[(*pos)++] & 0x3Fu);
        low = 0x80;
        high = 0xBF;
    }
    return cp;
}

uint32_t utf8_next(struct bytes_view text, size_t *pos)
{
    bool valid = true;

    return next(text, pos, &valid);
}

size_t utf8_put(uint32_t cp, uint8_t out[4])
{
    if (cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF))
        cp = UTF8_REPLACEMENT;
    if (cp < 0x80) {
        out[0] = (uint8_t)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (uint8_t)(0xC0 | cp >> 6);
        out[1] = (uint8_t)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (uint8_t)(0xE0 | cp >> 12);
        out[1] = (uint8_t)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (uint8_t)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (uint8_t)(0xF0 | cp >> 18);
    out[1] = (uint8_t)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (uint8_t)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (uint8_t)(0x80 | (cp & 0x3F));
    return 4;
}

bool utf8_is_valid(struct bytes_view text)
{
    bool valid = true;

    for (size_t i = 0; i < text.len && valid;)
        (void)next(text, &i, &valid);
    return valid;
}
