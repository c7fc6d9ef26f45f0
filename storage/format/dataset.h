/* Dataset formats: shards of records, read one sample at a time and written part by part. */
#ifndef REINFORCE_STORAGE_DATASET_H
#define REINFORCE_STORAGE_DATASET_H

#include "reinforce/record/record.h"
#include "storage/object/object_store.h"

struct dataset_reader;
struct http;

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
    char reason[48]; /* stable, snake_case: the reasons are listed in README.md */
    char detail[256];
};

struct dataset_read_options {
    /* All members of a sample, or a line and what it refers to; more is a reject. A sample's arena
     * needs about four times as much. */
    size_t max_sample_bytes;
    /*
     * A slice: samples that begin at begin_offset or later and before end_offset (0: to the end).
     * Both lie where samples begin. A uid that was there before in the slice is a reject; to know
     * that after resuming, a reader goes over what lies between begin_offset and where it starts.
     */
    uint64_t begin_offset, end_offset;
    struct object_store
        *references;  /* where image references of JSONL and folder lists resolve; may be NULL */
    struct http *web; /* what fetches image_url of JSONL lines; may be NULL */
    bool allow_missing_image; /* published sets come without; else such a sample is a reject */
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

    /* Required. True if the first bytes are this format's or, when `head` is empty, the key's
     * suffix is. */
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
     * cannot be written, and why. On failure `out` is as it was.
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
    /* Required. Passes over the next sample without looking at what is in it, or fetching what it
     * refers to. ST_OK, ST_END (also where the shard is damaged), or what reading says. */
    enum status (*skip)(struct dataset_reader *reader, struct error *err);
    /* Required. Where the slice ends, as tell() counts offsets; 0: not known before it is read. */
    uint64_t (*end)(const struct dataset_reader *reader);
    /* Required. Position behind what next() gave last, or skip() passed. */
    void (*tell)(const struct dataset_reader *reader, struct dataset_position *position);
    /* Required. Cannot fail. */
    void (*close)(struct dataset_reader *reader);
};

struct dataset_reader { /* first member of each kind's own struct */
    const struct dataset_reader_ops *ops;
};

/** By name, or by first bytes (512 tell all formats) and else by suffix; NULL if there is none.
 * Formats are constants. */
const struct dataset_format *dataset_format_by_name(const char *name);
const struct dataset_format *dataset_format_detect(const char *key, struct bytes_view head);

/** `store` must outlive the reader. *out is the caller's. */
NODISCARD enum status dataset_reader_open(const struct dataset_format *format,
                                          struct object_store *store, const char *key,
                                          const struct dataset_read_options *options,
                                          const struct dataset_position *from,
                                          struct dataset_reader **out, struct error *err);
/**
 * The next sample; statuses as in dataset_reader_ops. *record is overwritten, not released; after
 * ST_OK its `meta` is the caller's (record_release), after anything else it is empty.
 */
NODISCARD enum status dataset_reader_next(struct dataset_reader *reader, struct arena *arena,
                                          struct record *record, struct dataset_reject *reject,
                                          struct error *err);
NODISCARD enum status dataset_reader_skip(struct dataset_reader *reader, struct error *err);
uint64_t dataset_reader_end(const struct dataset_reader *reader);
void dataset_reader_tell(const struct dataset_reader *reader, struct dataset_position *position);
void dataset_reader_close(struct dataset_reader **reader);

/** A record's bytes at the end of `out`, and what ends a shard: dataset_format's slots. */
NODISCARD enum status dataset_append(const struct dataset_format *format,
                                     const struct record *record,
                                     const struct dataset_write_options *options,
                                     struct byte_buf *out, struct error *err);
NODISCARD enum status dataset_tail(const struct dataset_format *format, uint64_t body_bytes,
                                   struct byte_buf *out, struct error *err);

/* Named by the dispatcher alone. */
extern const struct dataset_format dataset_webdataset;
extern const struct dataset_format dataset_jsonl;
extern const struct dataset_format dataset_jsonl_gz;
extern const struct dataset_format dataset_jsonl_zst;

#endif
