/* The JSON fields of a record: caption columns, augmentation parameters, everything else. */
#ifndef REINFORCE_RECORD_JSON_H
#define REINFORCE_RECORD_JSON_H

#include "reinforce/record/record.h"

/* Outside input says how many there are; these are far above any real sample and below harm. */
enum {
    RECORD_MAX_VIEWS = 4096,
    RECORD_MAX_TEXTS = 16384, /* in all columns of a record together */
    RECORD_MAX_COLUMNS = 256,
    RECORD_MAX_JSON_VALUES = 1000000, /* in one document: parsed values take far more than text */
};

/** Parses one JSON object. *out is the caller's (json_decref). ST_CORRUPT: no JSON, no object, or
 * more than RECORD_MAX_JSON_VALUES values. */
NODISCARD enum status record_json_parse(struct bytes_view text, json_t **out, struct error *err);

/** True for what the published data calls a caption column: begins with "syn_text" or contains
 * "_captions", and does not end in "emb" or "embedding". */
bool record_json_is_column(const char *name);

/**
 * Moves the caption columns out of `object` into the record; texts are copied to `arena`.
 * ST_CORRUPT: a column is not a list of strings.
 */
NODISCARD enum status record_json_take_columns(struct record *record, json_t *object,
                                               struct arena *arena, struct error *err);

/**
 * Moves `param_aug` out of `object` into record->views; an array, or (dataset hubs do that) a
 * string that holds the array. Absent or null: nothing. ST_CORRUPT names the entry.
 */
NODISCARD enum status record_json_take_views(struct record *record, json_t *object,
                                             struct arena *arena, struct error *err);

/** A string value as a view into `arena`. ST_CORRUPT when it is none. */
NODISCARD enum status record_json_text(const json_t *value, const char *name, struct arena *arena,
                                       struct bytes_view *text, struct error *err);

/**
 * Moves what is left of `object` to record->meta, in order. ST_CORRUPT: a name is already there
 * with another value.
 */
NODISCARD enum status record_json_take_rest(struct record *record, json_t *object,
                                            struct error *err);

/** Appends `["...", ...]`. */
NODISCARD enum status record_json_write_texts(const struct bytes_view *texts, size_t n,
                                              struct byte_buf *out, struct error *err);
/** Appends `[[[top, left, height, width], [[op, magnitude], ...]], ...]`: always the array. */
NODISCARD enum status record_json_write_views(const struct record *record, struct byte_buf *out,
                                              struct error *err);

#endif
