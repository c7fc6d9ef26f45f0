/* JSONL: one JSON object per line is a sample; plain, gzip'd or zstd'd. */
#ifndef REINFORCE_STORAGE_JSONL_H
#define REINFORCE_STORAGE_JSONL_H

#include "storage/format/dataset.h"

/*
 * Fields of a line, in the order written (readers take any order):
 *
 *     uid          the sample's key; `id` where there is no uid; a string or an integer
 *     text         the real caption, or a list of them; `caption` where there is no text
 *     url          where the image came from
 *     syn_text...  ["...", ...]                     record.columns
 *     param_aug    [...]                            record.views
 *     ..._emb      base64(gzip(pickle of float32))  record.embeddings
 *     <other>      anything                         record.meta
 *     tar_json     {...}   fields of meta whose names are taken above
 *     tar_members  {"cls": base64, ...}             record.members
 *     image        base64 of the encoded image
 *
 * A list of objects, such as folder_list() makes, has instead of text and image
 *
 *     image_key    object key of the image, in dataset_read_options.references
 *     text_key     object key of a text file that is the caption
 *     json_key     object key of a JSON object whose fields join the line's
 *
 * and records of streams may have
 *
 *     image_url    http or https URL of the image, fetched by dataset_read_options.web
 */

/** The parsed line's key and whether it is new; what both reading and resuming need. */
struct jsonl_uid {
    struct bytes_view source; /* as the line has it: text of the JSON, or `digits` */
    char digits[24];          /* of an integer */
    char key[201];            /* RECORD_KEY_MAX and a NUL */
    const char *field;        /* "uid" or "id"; NULL: there is none */
};

/** The line's uid. False: none, or one that is neither text nor an integer. Points into `object`.
 */
bool jsonl_read_uid(const json_t *object, struct jsonl_uid *uid);

/**
 * Interprets a parsed line; `object` loses its fields. Everything is copied to `arena`.
 * ST_CORRUPT: *reject says why the sample is bad; other statuses are not its fault.
 */
NODISCARD enum status jsonl_read_object(json_t *object, const struct jsonl_uid *uid,
                                        const struct dataset_read_options *options,
                                        struct byte_buf *scratch, struct arena *arena,
                                        struct record *record, struct dataset_reject *reject,
                                        struct error *err);

/** Appends one line with its newline. */
NODISCARD enum status jsonl_write_line(const struct record *record,
                                       const struct dataset_write_options *options,
                                       struct byte_buf *out, struct error *err);

#endif
