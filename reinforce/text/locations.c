#include "reinforce/text/locations.h"

#include "reinforce/text/clean.h"

#include <string.h>

enum { LOC_DIGITS = 4, SEG_DIGITS = 3, BOX_TOKENS = 4 };

/* `<` kind digits `>` at `at`: its number, or -1. `at` moves behind it. */
static int read_token(struct bytes_view text, const char *kind, size_t digits, int end, size_t *at)
{
    const char *bytes = (const char *)text.data;
    size_t i = *at, kind_len = strlen(kind);
    int number = 0;

    if (text.len - i < kind_len + digits + 1 || memcmp(bytes + i, kind, kind_len) != 0)
        return -1;
    i += kind_len;
    for (size_t d = 0; d < digits; d++, i++) {
        if (bytes[i] < '0' || bytes[i] > '9')
            return -1;
        number = 10 * number + (bytes[i] - '0');
    }
    if (bytes[i] != '>' || number >= end)
        return -1;
    *at = i + 1;
    return number;
}

/* Spaces may stand between the tokens. */
static void skip_spaces(struct bytes_view text, size_t *at)
{
    while (*at < text.len && text.data[*at] == ' ')
        (*at)++;
}

static bool read_box(struct bytes_view text, size_t *at, struct location *out)
{
    uint16_t *const sides[BOX_TOKENS] = {&out->top, &out->left, &out->bottom, &out->right};
    size_t i = *at;

    for (size_t s = 0; s < BOX_TOKENS; s++) {
        int number = read_token(text, "<loc", LOC_DIGITS, LOCATION_BINS, &i);

        if (number < 0)
            return false;
        *sides[s] = (uint16_t)number;
        skip_spaces(text, &i);
    }
    *at = i;
    return true;
}

static bool read_mask(struct bytes_view text, size_t *at, struct location *out)
{
    size_t i = *at;

    for (size_t c = 0; c < LOCATION_MASK_CODES; c++) {
        int number = read_token(text, "<seg", SEG_DIGITS, LOCATION_CODES, &i);

        if (number < 0)
            return false;
        out->mask[c] = (uint8_t)number;
        skip_spaces(text, &i);
    }
    *at = i;
    return true;
}

/* Up to the ';' or the next token of a place. */
static struct bytes_view read_label(struct bytes_view text, size_t *at)
{
    const uint8_t *begin = text.data + *at;
    size_t len = 0;

    for (; *at + len < text.len && begin[len] != ';'; len++) {
        size_t probe = *at + len;

        if (read_token(text, "<loc", LOC_DIGITS, LOCATION_BINS, &probe) >= 0 ||
            read_token(text, "<seg", SEG_DIGITS, LOCATION_CODES, &probe) >= 0)
            break;
    }
    *at += len;
    return clean_trim(bytes_view_of(begin, len));
}

/* The next place from `at` on; false: none. */
static bool next_location(struct bytes_view text, size_t *at, struct location *out)
{
    for (; *at < text.len; (*at)++) {
        *out = (struct location){0};
        if (text.data[*at] == '<' && read_box(text, at, out)) {
            out->has_mask = read_mask(text, at, out);
            out->label = read_label(text, at);
            return true;
        }
    }
    return false;
}

enum status locations_parse(struct bytes_view text, struct arena *arena, struct location **out,
                            size_t *n, struct error *err)
{
    struct location location;
    size_t at = 0;
    enum status st;

    *n = 0;
    while (next_location(text, &at, &location))
        (*n)++;
    st = arena_calloc(arena, *n, sizeof **out, out, err);
    at = 0;
    for (size_t i = 0; i < *n && st == ST_OK; i++)
        (void)next_location(text, &at, &(*out)[i]);
    return st;
}

static enum status append_place(json_t *list, const struct location *p, struct error *err)
{
    json_t *mask = p->has_mask ? json_array() : NULL;
    json_t *label = json_stringn((const char *)p->label.data, p->label.len), *place;

    for (int c = 0; c < LOCATION_MASK_CODES && mask != NULL; c++)
        (void)json_array_append_new(mask, json_integer(p->mask[c]));
    if (label == NULL) {
        json_decref(mask);
        return error_set(err, ST_INVALID, "a place's label is not UTF-8");
    }
    place = json_pack("{s:[i,i,i,i], s:o, s:o*}", "box", p->top, p->left, p->bottom, p->right,
                      "label", label, "mask", mask);
    if (json_array_append_new(list, place) == 0 &&
        (!p->has_mask || json_array_size(json_object_get(place, "mask")) == LOCATION_MASK_CODES))
        return ST_OK;
    return error_set(err, ST_NO_MEMORY, "could not allocate a place");
}

enum status locations_json(struct bytes_view text, struct arena *arena, json_t **out,
                           struct error *err)
{
    struct location *places;
    size_t n = 0;
    enum status st = locations_parse(text, arena, &places, &n, err);

    *out = NULL;
    if (st != ST_OK || n == 0)
        return st;
    *out = json_array();
    for (size_t i = 0; i < n && st == ST_OK; i++)
        st = append_place(*out, &places[i], err);
    if (st != ST_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return st;
}
