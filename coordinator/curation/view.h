/* A view of a dataset: which of its samples are kept. It holds no image and no record; the dataset
 * stays as it is. */
#ifndef REINFORCE_COORDINATOR_CURATION_VIEW_H
#define REINFORCE_COORDINATOR_CURATION_VIEW_H

#include "coordinator/curation/curation_run.h"
#include "storage/format/side_files.h"

/*
 *     _reinforce/view.json
 *                     {"dataset": URL, "config_digest": ..., "samples": ..., "kept": ..., "rules":
 *                     [...], "steps": [...], "curation": the file's text}; written last: without it
 *                     there is no view
 *     manifest.jsonl  a line per shard of the dataset: {"shard": "00000000", "num_uids": kept,
 *                     "object": "00000000.tar", "bytes": ..., "sha256": "...", "n_records": ...,
 *                     "kept": base64 of a bit per record, in the object's order, the first in the
 *                     lowest bit of the first byte}
 *     sizes.json      {"00000000.tar": kept, ...}
 *     kept.npy        the kept ids: DataComp's subset file (subset.h)
 *     drops.jsonl     a line per dropped sample: {"uid", "shard", "index", "rule", "verdict",
 *                     "of", "score", "threshold"}, and where they say more, "because": all that
 *                     decided, and "kept": the uid of the sample that it is a duplicate of
 */
#define VIEW_KEY          SIDE_FILES_VIEW
#define VIEW_MANIFEST_KEY "manifest.jsonl"
#define VIEW_SIZES_KEY    "sizes.json"
#define VIEW_IDS_KEY      "kept.npy"
#define VIEW_DROPS_KEY    "drops.jsonl"

/** What a curation came to, as JSON: "samples", "kept", "rules" and "steps" with their counts and
 * thresholds. A new reference; NULL: no memory. */
json_t *view_summary(const struct curation_run *run);

/**
 * Writes the view into `store`, over one that is there. ST_CONFLICT: a dataset is there. `dataset`
 * is the URL as readers of the view will need it.
 */
NODISCARD enum status view_write(const struct curation_run *run, const char *dataset,
                                 struct object_store *store, struct error *err);

/** A view as it is read; plain data but for what it owns. */
struct view {
    struct object_store *store;
    json_t *about;           /* VIEW_KEY */
    const char *dataset;     /* of it */
    struct bytes_view lines; /* manifest.jsonl */
    struct arena arena;
};

/** Opens the view at `url`. ST_NOT_FOUND: there is none. `options` may be NULL. */
NODISCARD enum status view_open(const char *url, const struct object_store_options *options,
                                struct view *view, struct error *err);
/** Safe on a zeroed view. */
void view_close(struct view *view);

/** One shard of a view; borrowed from it until it is closed, strings until the line is let go. */
struct view_shard {
    json_t *line; /* let go by view_shard_release() */
    const char *name, *object_key, *sha256;
    uint64_t bytes;
    size_t n_records, n_kept;
    struct byte_buf bits;
};

/** The shard behind *at (0 to begin with), and moves *at on. ST_END. ST_CORRUPT: a line is not as
 * above, or its count is not that of its bits. */
NODISCARD enum status view_next_shard(const struct view *view, size_t *at, struct view_shard *shard,
                                      struct error *err);
void view_shard_release(struct view_shard *shard);

static inline bool view_shard_keeps(const struct view_shard *shard, size_t record)
{
    return record < shard->n_records && (shard->bits.data[record / 8] >> record % 8 & 1) != 0;
}

/** What a view says of a sample: *drop is its line of drops.jsonl, a new reference, or NULL; *kept
 * is false too for one that is not in the dataset. */
NODISCARD enum status view_find(struct view *view, struct bytes_view uid, bool *kept, json_t **drop,
                                struct error *err);

/**
 * Hashes the dataset's shards and compares with the view, and counts its ids. ST_OK also when there
 * are problems.
 */
NODISCARD enum status view_verify(struct view *view, struct object_store *dataset,
                                  output_problem_fn *problem, void *ctx,
                                  struct output_verdict *verdict, struct error *err);

/** Takes a piece of a stream; anything but ST_OK ends it with that status. */
typedef enum status view_piece_fn(void *ctx, struct bytes_view piece, struct error *err);

/**
 * The kept samples of a shard as a tar of their own, byte for byte as the dataset has them, in
 * pieces. ST_INVALID: the dataset's shards are no tars. ST_CORRUPT: it has another number of
 * records than the view says.
 */
NODISCARD enum status view_stream_shard(const struct view_shard *shard,
                                        struct object_store *dataset, view_piece_fn *each,
                                        void *ctx, struct error *err);

#endif
