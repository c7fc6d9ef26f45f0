/* WebDataset shards: tar archives whose adjacent members of one key are a sample. */
#ifndef REINFORCE_STORAGE_WEBDATASET_H
#define REINFORCE_STORAGE_WEBDATASET_H

#include "storage/format/dataset.h"

/*
 * Members of a sample, in the order written (by bytes of the extension; readers take any order):
 *
 *     <key>.jpg        the image as it came; also jpeg, png, webp, gif
 *     <key>.json       {"sha256": "..."}            record.meta; always written
 *     <key>.npz        float32 embeddings, or       record.embeddings
 *     <key>.pth.gz     bfloat16 embeddings
 *     <key>.paug.json  {"param_aug": [...]}         record.views
 *     <key>.syn.json   {"syn_text": ["...", ...]}   record.columns
 *     <key>.txt        the real caption
 *     <key>.url.txt    where the image came from
 *     <key>.<other>    record.members, byte for byte
 *
 * The key is what stands before the first dot behind the last slash, made flat by
 * record_key_make().
 */

/** One member as it was read. */
struct webdataset_member {
    const char *ext; /* behind the first dot of the base name */
    struct bytes_view body;
};

/**
 * Interprets the members of one sample. What the record points at lives in `arena` or is the
 * members' own. ST_CORRUPT: *reject says why the sample is bad; other statuses are not its fault.
 */
NODISCARD enum status webdataset_read_members(const struct webdataset_member *members, size_t n,
                                              struct bytes_view uid,
                                              const struct dataset_read_options *options,
                                              struct arena *arena, struct record *record,
                                              struct dataset_reject *reject, struct error *err);

/** dataset_format's append slot. */
NODISCARD enum status webdataset_append(const struct record *record,
                                        const struct dataset_write_options *options,
                                        struct byte_buf *out, struct error *err);

#endif
