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

/* A text on its way through steps, each of which reads one buffer and fills the other. */
struct bench {
    struct byte_buf filled, spare;
    struct bytes_view text; /* what is filled, or still the input */
};

static enum status bench_init(struct bench *bench, struct bytes_view text, struct error *err)
{
    byte_buf_init(&bench->filled, PIECES_MAX_TEXT_BYTES);
    byte_buf_init(&bench->spare, PIECES_MAX_TEXT_BYTES);
    if (text.len > PIECES_MAX_TEXT_BYTES / 4)
        return error_set(err, ST_INVALID, "text of %zu bytes is too long", text.len);
    return unicode_repair(text, &bench->filled, &bench->text, err);
}

/* A step has filled the spare buffer. */
static void bench_turn(struct bench *bench)
{
    struct byte_buf filled = bench->spare;

    bench->spare = bench->filled;
    bench->filled = filled;
    bench->text = byte_buf_view(&bench->filled);
    byte_buf_reset(&bench->spare);
}

typedef enum status step_fn(struct bytes_view text, struct byte_buf *out, struct error *err);

static enum status bench_run(struct bench *bench, step_fn *const *steps, size_t n,
                             struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < n && st == ST_OK; i++) {
        st = steps[i](bench->text, &bench->spare, err);
        bench_turn(bench);
    }
    return st;
}

/* The result goes to `arena`. */
static enum status bench_finish(struct bench *bench, enum status st, struct arena *arena,
                                struct bytes_view *out, struct error *err)
{
    char *copy = NULL;

    *out = bytes_view_of(NULL, 0);
    if (st == ST_OK)
        st = arena_strndup(arena, bench->text.len > 0 ? (const char *)bench->text.data : "",
                           bench->text.len, &copy, err);
    if (st == ST_OK)
        *out = bytes_view_of(copy, bench->text.len);
    byte_buf_release(&bench->filled);
    byte_buf_release(&bench->spare);
    return st;
}

/* Without ASCII punctuation. */
static enum status drop_punctuation(struct bytes_view text, struct byte_buf *out, struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < text.len && st == ST_OK; i++) {
        uint8_t c = text.data[i];
        bool punctuation = (c >= '!' && c <= '/') || (c >= ':' && c <= '@') ||
                           (c >= '[' && c <= '`') || (c >= '{' && c <= '~');

        if (!punctuation)
            st = byte_buf_append(out, &c, 1, err);
    }
    return st;
}

static enum status underscores_to_spaces(struct bytes_view text, struct byte_buf *out,
                                         struct error *err)
{
    enum status st = byte_buf_append(out, text.data, text.len, err);

    for (size_t i = 0; i < out->len && st == ST_OK; i++)
        if (out->data[i] == '_')
            out->data[i] = ' ';
    return st;
}

static enum status lower_ascii(struct bytes_view text, struct byte_buf *out, struct error *err)
{
    enum status st = byte_buf_append(out, text.data, text.len, err);

    for (size_t i = 0; i < out->len && st == ST_OK; i++)
        if (out->data[i] >= 'A' && out->data[i] <= 'Z')
            out->data[i] = (uint8_t)(out->data[i] + ('a' - 'A'));
    return st;
}

/* open_clip's basic_clean, which begins every one of its ways, then `steps`. */
static enum status open_clip(struct bytes_view text, step_fn *const *steps, size_t n,
                             struct arena *arena, struct bytes_view *out, bool *suspect_mojibake,
                             struct error *err)
{
    static step_fn *const unescape_twice[] = {html_unescape, html_unescape};
    struct bench bench;
    enum status st = bench_init(&bench, text, err);

    *suspect_mojibake = false;
    if (st == ST_OK) {
        st = fix_text(bench.text, &bench.spare, suspect_mojibake, err);
        bench_turn(&bench);
    }
    if (st == ST_OK)
        st = bench_run(&bench, unescape_twice, ARRAY_LEN(unescape_twice), err);
    if (st == ST_OK)
        st = bench_run(&bench, steps, n, err);
    return bench_finish(&bench, st, arena, out, err);
}

enum status clean_open_clip(struct bytes_view text, struct arena *arena, struct bytes_view *out,
                            bool *suspect_mojibake, struct error *err)
{
    static step_fn *const steps[] = {join_words, unicode_lower};

    return open_clip(text, steps, ARRAY_LEN(steps), arena, out, suspect_mojibake, err);
}

enum status clean_open_clip_canonical(struct bytes_view text, struct arena *arena,
                                      struct bytes_view *out, bool *suspect_mojibake,
                                      struct error *err)
{
    static step_fn *const steps[] = {underscores_to_spaces, drop_punctuation, unicode_lower,
                                     join_words};

    return open_clip(text, steps, ARRAY_LEN(steps), arena, out, suspect_mojibake, err);
}

static enum status run(struct bytes_view text, step_fn *const *steps, size_t n, struct arena *arena,
                       struct bytes_view *out, struct error *err)
{
    struct bench bench;
    enum status st = bench_init(&bench, text, err);

    if (st == ST_OK)
        st = bench_run(&bench, steps, n, err);
    return bench_finish(&bench, st, arena, out, err);
}

enum status clean_canonical(struct bytes_view text, struct arena *arena, struct bytes_view *out,
                            struct error *err)
{
    static step_fn *const steps[] = {unicode_lower, drop_punctuation, join_words};

    return run(text, steps, ARRAY_LEN(steps), arena, out, err);
}

enum status clean_lower_ascii(struct bytes_view text, struct arena *arena, struct bytes_view *out,
                              struct error *err)
{
    static step_fn *const steps[] = {lower_ascii};

    return run(text, steps, ARRAY_LEN(steps), arena, out, err);
}

enum status clean_lower_unicode(struct bytes_view text, struct arena *arena, struct bytes_view *out,
                                struct error *err)
{
    static step_fn *const steps[] = {unicode_lower};

    return run(text, steps, ARRAY_LEN(steps), arena, out, err);
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
