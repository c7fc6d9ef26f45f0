/*
 * A list of samples of other inputs: what a shard reads that tries samples again, or that is made
 * again. An object _reinforce/plan/... of the output:
 *
 *   {"version": 1, "sources": [
 *     {"from": "input", "key": "train/0007.tar", "format": "webdataset", "begin": 0, "end": 0,
 *      "samples": [3, 17]}, ...]}
 *
 * from     "input": the job's input; "plan": the output, where planned lists are
 * key, format, begin, end   of a planned shard's input, as in the catalog
 * samples  places in it, ascending; in the list they are samples 0, 1, ... in this order
 */
#ifndef REINFORCE_WORKER_SAMPLE_LIST_H
#define REINFORCE_WORKER_SAMPLE_LIST_H

#include "storage/catalog/catalog.h"
#include "storage/format/dataset.h"

/** What catalog_shard_plan.input_format says of such an input. */
#define SAMPLE_LIST_FORMAT "list"

/** The list's text. `sources` by source_shard and source_index, each once. */
NODISCARD enum status sample_list_write(const struct catalog_source *sources, size_t n,
                                        struct byte_buf *out, struct error *err);

/**
 * A reader of the samples on the list `key` in `output`, whose positions are places in the list.
 * `options` as for a reader of the job's input; both stores must outlive it. A sample that is no
 * longer there is a reject, "missing_sample". ST_CORRUPT: not such a list.
 */
NODISCARD enum status sample_list_open(struct object_store *input, struct object_store *output,
                                       const char *key, const struct dataset_read_options *options,
                                       const struct dataset_position *from,
                                       struct dataset_reader **out, struct error *err);

#endif
