/* HTML character references, as Python's html.unescape reads them. */
#ifndef REINFORCE_TEXT_HTML_ENTITIES_H
#define REINFORCE_TEXT_HTML_ENTITIES_H

#include "reinforce/base/bytes.h"

/** A named reference without its "&": "amp;" or, for the old ones, "amp" too; UTF-8 of its text. */
struct html_entity {
    const char *name, *text;
};

/** Sorted by name (bytes). */
extern const struct html_entity html_entities[];
extern const size_t n_html_entities;

/** The text of a name, or NULL. */
const char *html_entity_find(struct bytes_view name);

/**
 * Appends valid UTF-8 `text` with its references replaced: named ones by the longest name that
 * begins them, numeric ones with HTML's repairs. Source: HTML standard 13.2.5.72, CPython's
 * Lib/html/__init__.py for what it leaves alone.
 */
NODISCARD enum status html_unescape(struct bytes_view text, struct byte_buf *out,
                                    struct error *err);

#endif
