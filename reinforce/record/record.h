/* The dataset-reinforcement sample record: what is read from a shard, filled by a worker, and
 * written again. */
#ifndef REINFORCE_RECORD_RECORD_H
#define REINFORCE_RECORD_RECORD_H

#include "reinforce/base/arena.h"
#include "reinforce/base/bytes.h"
#include "reinforce/base/json.h"
#include "reinforce/image/augment.h"

/** Stored element types. Values are ours. */
enum record_dtype {
    RECORD_F32 = 1,
    RECORD_BF16 = 2, /* round-to-nearest-even of float32 */
};

/** One named 2-D array, row-major: "image_emb", "text_emb", "syn_text_emb". */
struct record_embedding {
    const char *name;
    enum record_dtype dtype;
    size_t rows, dim;
    const void *data; /* little-endian, rows * dim elements */
};

/** One synthetic caption column: "syn_text", "syn_text_coca". Order of texts is significant. */
struct record_column {
    const char *name;
    size_t n_texts;
    const struct bytes_view *texts; /* UTF-8 */
};

/** A tar member we do not interpret, carried through unchanged. */
struct record_member {
    const char *ext; /* behind the first dot of the base name: "cls", "seg.png" */
    struct bytes_view body;
};

/**
 * One sample. Everything it points at lives in its arena (or in what the reader mapped, until the
 * reader's next call), except `meta`, a jansson object that record_release() lets go. Absent things
 * have NULL data or a count of 0.
 */
struct record {
    struct bytes_view uid;   /* = tar key */
    struct bytes_view image; /* encoded, never re-encoded */
    const char *image_ext;   /* "jpg", "png", "webp", "jpeg" */
    struct bytes_view url;
    size_t n_captions; /* G: real captions */
    const struct bytes_view *captions;
    size_t n_columns;
    struct record_column *columns;
    size_t n_views; /* A */
    struct augment_params *views;
    size_t n_embeddings;
    struct record_embedding *embeddings;
    size_t n_members;
    struct record_member *members;
    json_t *meta; /* unknown JSON fields, in order; NULL: none */
};

/** Drops `meta` and zeroes; arena memory is not touched. Safe on a zeroed record. */
void record_release(struct record *record);

/** The column or embedding of that name, or NULL; borrowed. */
const struct record_column *record_find_column(const struct record *record, const char *name);
const struct record_embedding *record_find_embedding(const struct record *record, const char *name);

/** Adds or replaces; copies the struct, not what it points at. */
NODISCARD enum status record_set_column(struct record *record, const struct record_column *column,
                                        struct arena *arena, struct error *err);
NODISCARD enum status record_set_embedding(struct record *record,
                                           const struct record_embedding *embedding,
                                           struct arena *arena, struct error *err);

/**
 * What the trainers need (dims: D of image_emb; 0 when no teacher ran): key without "." and "/",
 * image, views = rows of image_emb, a row per caption and per synthetic caption, equal D, finite
 * values. ST_INVALID says what is missing.
 */
NODISCARD enum status record_check(const struct record *record, struct error *err);

/** n float32 values to bfloat16 bits, round to nearest even; NaN stays NaN. */
void record_bf16_from_f32(const float *in, size_t n, uint16_t *out);
void record_f32_from_bf16(const uint16_t *in, size_t n, float *out);

#endif
