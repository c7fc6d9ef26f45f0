/* Dataset formats: shards of records, read one sample at a time and written part by part. */
#ifndef REINFORCE_STORAGE_DATASET_H
#define REINFORCE_STORAGE_DATASET_H

#include "reinforce/record/record.h"
#include "storage/object/object_store.h"

struct dataset_reader;
struct dataset_writer;

/** Where the next sample begins: what a part's commit stores and a resumed lease starts from. */
struct dataset_position {
    uint64_t offset; /* bytes into the (uncompressed) shard object */
    uint64_t index;  /* samples before it, failed ones included */
};

/** Why a sample could not be had although the shard could; the sample is counted, the reader goes
 * on. */
struct dataset_reject {
    char uid[256]; /* "line 17" when the sample has no uid */
    enum status code;
    char reason[48]; /* stable, snake_case: "bad_json", "missing_image", "duplicate_member" */
    char detail[256];
};

struct dataset_read_options {
    size_t max_sample_bytes; /* all members together; more is a reject */
    uint64_t end_offset;     /* stop at this offset; 0: to the end (a slice of a JSONL file) */
    struct object_store
        *references; /* where image references of JSONL and folder lists resolve; may be NULL */
};

/** How embeddings are stored in a record's members. */
enum dataset_layout {
    DATASET_LAYOUT_CURRENT = 1, /* text_emb [G, D] and one <column>_emb [S, D] per column */
    DATASET_LAYOUT_LEGACY = 2,  /* text_emb [G+S, D]; one column named syn_text */
};

struct dataset_write_options {
    enum dataset_layout layout;
    enum record_dtype dtype; /* RECORD_F32: npz; RECORD_BF16: pth.gz (WebDataset) */
};

/** One format: a constant, named by its dispatcher's array. */
struct dataset_format {
    const char *name;      /* "webdataset", "jsonl", "jsonl.gz", "jsonl.zst" */
    const char *extension; /* of a shard, with its dot: ".tar" */

    /* Required. True if the key's suffix or the first bytes are this format's. */
    bool (*matches)(const char *key, struct bytes_view head);

    /* Required. Starts at *from (a position that tell() gave, or zeros). Reads ahead; owns its
     * buffers. */
    enum status (*open)(struct object_store *store, const char *key,
                        const struct dataset_read_options *options,
                        const struct dataset_position *from, struct dataset_reader **out,
                        struct error *err);

    /*
     * Required. Appends one record's bytes to `out`. The bytes depend on the record and the options
     * alone, so parts can be cut anywhere and joined by concatenation. ST_INVALID: the record
     * cannot be written, and why.
     */
    enum status (*append)(const struct record *record, const struct dataset_write_options *options,
                          struct byte_buf *out, struct error *err);

    /* Required. What ends a shard of `body_bytes` bytes: a tar's zero blocks and padding; may be
     * nothing. */
    enum status (*tail)(uint64_t body_bytes, struct byte_buf *out, struct error *err);
};

struct dataset_reader_ops {
    /*
     * Required. ST_OK: a record, its bytes in `arena`. ST_END. ST_CORRUPT: one sample is bad,
     * *reject says which and why, call again. Anything else: the shard cannot be read on.
     */
    enum status (*next)(struct dataset_reader *reader, struct arena *arena, struct record *record,
                        struct dataset_reject *reject, struct error *err);
    /* Required. Position behind what next() gave last. */
    void (*tell)(const struct dataset_reader *reader, struct dataset_position *position);
    /* Required. Cannot fail. */
    void (*close)(struct dataset_reader *reader);
};

struct dataset_reader { /* first member of each kind's own struct */
    const struct dataset_reader_ops *ops;
};

/** By name, or by suffix and first bytes; NULL if there is none. Formats are constants. */
const struct dataset_format *dataset_format_by_name(const char *name);
const struct dataset_format *dataset_format_detect(const char *key, struct bytes_view head);

NODISCARD enum status dataset_reader_open(const struct dataset_format *format,
                                          struct object_store *store, const char *key,
                                          const struct dataset_read_options *options,
                                          const struct dataset_position *from,
                                          struct dataset_reader **out, struct error *err);
NODISCARD enum status dataset_reader_next(struct dataset_reader *reader, struct arena *arena,
                                          struct record *record, struct dataset_reject *reject,
                                          struct error *err);
void dataset_reader_tell(const struct dataset_reader *reader, struct dataset_position *position);
void dataset_reader_close(struct dataset_reader **reader);

#endif
