/* A folder of plain images, with captions beside them, as lists that the JSONL reader takes. */
#ifndef REINFORCE_STORAGE_FOLDER_H
#define REINFORCE_STORAGE_FOLDER_H

#include "storage/object/object_store.h"

/*
 * What belongs to a sample, by relative path:
 *
 *     a/cat.jpg             the image: jpg jpeg png webp gif, in any case
 *     a/cat.txt             its caption, or
 *     a/cat.json            an object: "text" or "caption" is the caption, the rest is carried
 * along captions.tsv          at the top, instead: lines "a/cat.jpg<TAB>a sleeping cat", or
 *     captions.jsonl        lines {"file_name": "a/cat.jpg", "text": "a sleeping cat", ...}
 *
 * Parts of a path that begin with "." are passed over, and so is "_reinforce/", where jobs keep
 * their lists. The line of a sample is
 *
 *     {"uid": "a%2Fcat", "image_key": "a/cat.jpg", "text": ...}   or "text_key", "json_key"
 *
 * with the uid of the path without its extension (record_key_make). Of images that differ in the
 * extension alone the first in byte order has that uid, each other "+" and its extension behind it.
 */

/** One line with its newline; it lives until the callback returns. Anything but ST_OK ends the
 * listing with that status. */
typedef enum status folder_line_fn(void *ctx, struct bytes_view line, struct error *err);

/** True if a key's extension is that of an image. */
bool folder_is_image(const char *key);

/** True for "captions.tsv" and "captions.jsonl": a folder's captions, not a dataset. */
bool folder_is_captions_file(const char *key);

/**
 * Calls `each` per image under `prefix` ("" or a path that ends in "/"), in an order that depends
 * on the keys alone (byte order, but a sample comes once all keys that could belong to it have gone
 * by), while the listing runs. Memory: a captions file (at most 256 MiB) and a few keys.
 * ST_INVALID: a line of the captions file that says nothing, or a file none of whose names is an
 * image's.
 */
NODISCARD enum status folder_list(struct object_store *store, const char *prefix,
                                  folder_line_fn *each, void *ctx, struct error *err);

#endif
