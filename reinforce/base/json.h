/* JSON: jansson reads, this writes the one form our files use (that of Python's json.dumps). */
#ifndef REINFORCE_BASE_JSON_H
#define REINFORCE_BASE_JSON_H

#include "reinforce/base/bytes.h"

#include <jansson.h>

/**
 * Parses one JSON value that fills `text`. *out is the caller's (json_decref). ST_CORRUPT names
 * line and column. Repeated keys and trailing junk are refused. Integers beyond 64 bits become
 * reals.
 */
NODISCARD enum status json_parse(struct bytes_view text, json_t **out, struct error *err);

/**
 * Appends `value` with separators ", " and ": ", non-ASCII as \uxxxx, object keys in insertion
 * order, reals in shortest round-trip form, no newline.
 */
NODISCARD enum status json_write(const json_t *value, struct byte_buf *out, struct error *err);

/** The same for a JSON string alone; `text` is UTF-8, invalid bytes become U+FFFD. */
NODISCARD enum status json_write_string(struct bytes_view text, struct byte_buf *out,
                                        struct error *err);

#endif
