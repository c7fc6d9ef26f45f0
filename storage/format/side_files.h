/* The files beside the shards: what trainers and RayGen expect there, and a manifest that says
 * more. */
#ifndef REINFORCE_STORAGE_SIDE_FILES_H
#define REINFORCE_STORAGE_SIDE_FILES_H

#include "reinforce/base/bytes.h"
#include "reinforce/image/augment.h"

#define SIDE_FILES_MANIFEST "manifest.jsonl"       /* the one whose name could be a shard's */
#define SIDE_FILES_VIEW     "_reinforce/view.json" /* there is no dataset but a view of one */

/** One finished shard. Strings are borrowed. */
struct side_shard {
    int64_t number;         /* names it; a number left out is a gap */
    const char *object_key; /* "00000000.tar" */
    uint64_t bytes;
    const char *sha256;
    int64_t n_done, n_quarantined, n_filtered;
};

/** What a dataset is made of, but for its shards; strings are borrowed. */
struct side_dataset {
    const char *name;
    const char *date; /* "2026-01-31T12:00:00", UTC; of the job, not of the moment */
    const char *config_digest;
    const char *extension; /* of a shard, with its dot */
    const struct augment_config *augment;
    double mean[3], std[3];    /* of the teachers; loaders put the student's in their place */
    const char *const *models; /* teachers in the order of their slices */
    size_t n_models;
    int n_views;
};

/**
 * The files that have an entry for each shard, as text that has not been taken yet: between two
 * calls a caller may take what is there and reset a buffer, so that a million shards need the
 * memory of a few.
 *
 *     manifest  manifest.jsonl, a line per shard: {"shard": "00000000", "num_uids": 1000, "object":
 *               "00000000.tar", "bytes": ..., "sha256": "...", "n_done": 1000, "n_quarantined": 2,
 *               "n_filtered": 0, "config_digest": "...", "gap_before": 0}; num_uids counts records
 *               in the shard; gap_before: shard numbers missing between this line and the last
 *     info      info.json, {"name": ..., "lengths": {"00000000.tar": "1000", ...}, "totalLength":
 *               "1000", "date": ...}: numbers are strings, as upstream means them
 *     sizes     sizes.json, {"00000000.tar": 1000, ...}: where trainers look for counts
 */
struct side_lists {
    struct byte_buf manifest, info, sizes;
    const struct side_dataset *dataset; /* borrowed */
    int64_t n_shards, previous, total;  /* so far; previous: the last one's number, at first -1 */
};

/** On any status: the caller releases. */
NODISCARD enum status side_lists_begin(struct side_lists *lists, const struct side_dataset *dataset,
                                       struct error *err);
/** Shards come sorted by number. */
NODISCARD enum status side_lists_add(struct side_lists *lists, const struct side_shard *shard,
                                     struct error *err);
NODISCARD enum status side_lists_end(struct side_lists *lists, struct error *err);
void side_lists_release(struct side_lists *lists);

/*
 * Each appends one file's bytes, which depend on the dataset alone. ST_NO_MEMORY: `out` may hold a
 * beginning.
 *
 *     config.json          the augmentation object, RayGen's --aug-config
 *     trainer_config.json  the same as {"reinforce": {"image_augmentation": ...}}, for
 *                          --dataset-reinforcement-config
 */
NODISCARD enum status side_files_config(const struct side_dataset *dataset, struct byte_buf *out,
                                        struct error *err);
NODISCARD enum status side_files_trainer_config(const struct side_dataset *dataset,
                                                struct byte_buf *out, struct error *err);

#endif
