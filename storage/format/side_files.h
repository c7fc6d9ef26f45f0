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
    const char *input;               /* key of what it was made of; NULL: not known */
    uint64_t input_begin, input_end; /* end 0: to its end */
};

/** What a dataset is made of. Shards are sorted by number; strings are borrowed. */
struct side_dataset {
    const char *name;
    const char *date; /* "2026-01-31T12:00:00", UTC; of the job, not of the moment */
    const char *config_digest;
    const char *extension; /* of a shard, with its dot */
    const struct side_shard *shards;
    size_t n_shards;
    const struct augment_config *augment;
    double mean[3], std[3];    /* of the teachers; loaders put the student's in their place */
    const char *const *models; /* teachers in the order of their slices */
    size_t n_models;
    int n_views;
};

/*
 * Each appends one file's bytes, which depend on the dataset alone. ST_NO_MEMORY: `out` may hold a
 * beginning.
 *
 *     manifest.jsonl       a line per shard: {"shard": "00000000", "num_uids": 1000, "object":
 *                          "00000000.tar", "bytes": ..., "sha256": "...", "n_done": 1000,
 *                          "n_quarantined": 2, "n_filtered": 0, "input": "a.tar", "input_begin":
 *                          0, "input_end": 0, "config_digest": "...", "gap_before": 0}; num_uids
 *                          counts records in the shard; gap_before: shard numbers missing between
 *                          this line and the last
 *     info.json            {"name": ..., "lengths": {"00000000.tar": "1000", ...}, "totalLength":
 *                          "1000", "date": ...}: numbers are strings, as upstream means them
 *     sizes.json           {"00000000.tar": 1000, ...}: where trainers look for counts
 *     config.json          the augmentation object, RayGen's --aug-config
 *     trainer_config.json  the same as {"reinforce": {"image_augmentation": ...}}, for
 *                          --dataset-reinforcement-config
 */
NODISCARD enum status side_files_manifest(const struct side_dataset *dataset, struct byte_buf *out,
                                          struct error *err);
NODISCARD enum status side_files_info(const struct side_dataset *dataset, struct byte_buf *out,
                                      struct error *err);
NODISCARD enum status side_files_sizes(const struct side_dataset *dataset, struct byte_buf *out,
                                       struct error *err);
NODISCARD enum status side_files_config(const struct side_dataset *dataset, struct byte_buf *out,
                                        struct error *err);
NODISCARD enum status side_files_trainer_config(const struct side_dataset *dataset,
                                                struct byte_buf *out, struct error *err);

/** One line of the manifest, for callers that walk their shards. `previous`: number of the shard
 * before it, -1 for the first. */
NODISCARD enum status side_files_manifest_line(const struct side_dataset *dataset,
                                               const struct side_shard *shard, int64_t previous,
                                               struct byte_buf *out, struct error *err);

#endif
