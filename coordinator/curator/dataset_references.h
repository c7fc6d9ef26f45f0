/* The reference embeddings of a dataset that `reinforce run` has written: one teacher's, cached. */
#ifndef REINFORCE_COORDINATOR_CURATOR_DATASET_REFERENCES_H
#define REINFORCE_COORDINATOR_CURATOR_DATASET_REFERENCES_H

#include "coordinator/curator/reference_cache.h"
#include "reinforce/record/record.h"
#include "storage/object/object_store.h"

struct dataset_references_options {
    const char *url;                          /* of the dataset; its job is done */
    const struct object_store_options *store; /* may be NULL */
    const char *teacher;                      /* NULL: the only one */
    const char *column;      /* "syn_text_coca": the first caption there; NULL: the real caption */
    const char *cache;       /* folder, which may be new */
    const atomic_bool *stop; /* may be NULL */
};

/**
 * Maps the cache of such a dataset, and makes it when there is none. The key digests the manifest
 * (with the hash of every shard), all that is said of the teacher (weights, preprocessing), and the
 * column: what has changed is another file. A sample's image is the mean of its views, made unit;
 * ids are example_id_of_uid(). Samples without the caption have no reference; of a uid that is
 * there twice the first stays.
 *
 * ST_NOT_FOUND: no finished dataset is there. ST_INVALID: no such teacher or column. ST_CANCELLED.
 */
NODISCARD enum status dataset_references_open(const struct dataset_references_options *options,
                                              struct reference_cache **out, struct error *err);

/** The mean of all rows over columns [first, first + D) as a unit vector [D], in double; false: it
 * has no length. */
bool dataset_reference_mean(const struct record_embedding *from, size_t first, size_t D,
                            float *out);

#endif
