/* The captions file of a folder: from an image's path to what is said of it. */
#ifndef REINFORCE_STORAGE_FOLDER_CAPTIONS_H
#define REINFORCE_STORAGE_FOLDER_CAPTIONS_H

#include "reinforce/base/json.h"
#include "storage/object/object_store.h"

/* Plain data with heap buffers; a zeroed one has no captions. */
struct folder_captions {
    const char *file; /* "captions.tsv", "captions.jsonl"; NULL: none */
    struct byte_buf text, names;
    struct folder_caption *entries; /* by name */
    size_t n;
    size_t n_found; /* lookups that succeeded */
};

/** Reads whichever file is there under `prefix`; none is fine. ST_INVALID names file and line. */
NODISCARD enum status folder_captions_read(struct object_store *store, const char *prefix,
                                           struct folder_captions *captions, struct error *err);

/** What is said of the image: a JSON object with "text" and, from JSONL, more. *fields is the
 * caller's; NULL when nothing is. */
NODISCARD enum status folder_captions_find(struct folder_captions *captions, const char *path,
                                           json_t **fields, struct error *err);

void folder_captions_release(struct folder_captions *captions);

#endif
