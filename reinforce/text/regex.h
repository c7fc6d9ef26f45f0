/* Regular expressions of tokenizer.json (Oniguruma, Rust's regex) on PCRE2. */
#ifndef REINFORCE_TEXT_REGEX_H
#define REINFORCE_TEXT_REGEX_H

#include "reinforce/base/bytes.h"

/** Immutable: any number of threads may match with one. */
struct regex;

/**
 * Compiles `pattern` in Oniguruma's syntax, or for `literal` the text itself. What PCRE2 would read
 * otherwise (\s, \w, \b, \h, scripts, inline options) is translated; what it cannot do (class
 * intersections, POSIX brackets, other escapes) is ST_INVALID by name. An empty pattern too.
 */
NODISCARD enum status regex_create(struct bytes_view pattern, bool literal, bool ignore_case,
                                   struct regex **out, struct error *err);
void regex_destroy(struct regex **regex);

/** Walks over the matches in one text, valid UTF-8 that must outlive the walk. */
struct regex_iter {
    const struct regex *regex;
    struct bytes_view text;
    void *match_data;
    size_t from;
    size_t last_end; /* SIZE_MAX before the first match */
};

NODISCARD enum status regex_iter_init(struct regex_iter *iter, const struct regex *regex,
                                      struct bytes_view text, struct error *err);

/** The next match [*start, *end), or ST_END. An empty match right behind the last is skipped. */
NODISCARD enum status regex_iter_next(struct regex_iter *iter, size_t *start, size_t *end,
                                      struct error *err);
void regex_iter_release(struct regex_iter *iter);

/** Appends `text` with every match replaced by `content`. */
NODISCARD enum status regex_replace(const struct regex *regex, struct bytes_view text,
                                    struct bytes_view content, struct byte_buf *out,
                                    struct error *err);

#endif
