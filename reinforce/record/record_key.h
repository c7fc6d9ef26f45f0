/* Sample keys: how paths become names that tar members, JSON and SQL can all carry. */
#ifndef REINFORCE_RECORD_KEY_H
#define REINFORCE_RECORD_KEY_H

#include "reinforce/base/bytes.h"

enum { RECORD_KEY_MAX = 200 }; /* bytes */

/** ST_INVALID says why the key cannot name the members of a shard: empty, longer than
 * RECORD_KEY_MAX, ".", "/", control characters, not UTF-8. */
NODISCARD enum status record_key_check(struct bytes_view key, struct error *err);

/** What else is escaped. */
enum record_key_source {
    RECORD_KEY_OF_SAMPLE, /* a tar key or a uid: one that passes record_key_check() stays as it is
                           */
    RECORD_KEY_OF_FILE,   /* a relative path: "%" and "+" are escaped always, so that a caller may
                             append "+png" and two paths never give one key */
};

/**
 * Writes a key that passes record_key_check(), and a NUL. "/", ".", "%", control characters and
 * bytes that are not UTF-8 become %XX, as in URLs, so urllib.parse.unquote() gives the path back; a
 * leading "./" is dropped. What would be longer than RECORD_KEY_MAX keeps its beginning and ends in
 * "~" and 16 digits of the whole text's SHA-256. Two sources of one kind give two keys, but for a
 * tar that holds both "a/b" and a literal "a%2Fb": readers report the second as repeated.
 *
 * Returns the length; 0 when nothing is left to name.
 */
size_t record_key_make(struct bytes_view source, enum record_key_source kind,
                       char key[RECORD_KEY_MAX + 1]);

#endif
