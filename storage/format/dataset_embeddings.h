/* The two layouts of embeddings: both read into the current one, either written. */
#ifndef REINFORCE_STORAGE_DATASET_EMBEDDINGS_H
#define REINFORCE_STORAGE_DATASET_EMBEDDINGS_H

#include "storage/format/dataset.h"

/**
 * Brings a record that was just read to the current layout: when its one column has no
 * `<column>_emb` and text_emb has more rows than there are real captions, the last rows are the
 * column's (the v2 trainer's rule). The name that early RayGen wrote literally,
 * "image_emb{self.tag_suffix}", becomes image_emb. Nothing is copied but the list.
 */
NODISCARD enum status dataset_embeddings_normalize(struct record *record, struct arena *arena,
                                                   struct error *err);

/**
 * The arrays to write: the options' layout, every array in the options' dtype (bfloat16 rounded to
 * nearest even, float32 widened exactly). *arrays and what had to be converted live in `arena`; the
 * rest is the record's. ST_INVALID: legacy asked for and the record has a column other than
 * syn_text, or row counts that do not fit.
 */
NODISCARD enum status dataset_embeddings_prepare(const struct record *record,
                                                 const struct dataset_write_options *options,
                                                 struct arena *arena,
                                                 struct record_embedding **arrays, size_t *n,
                                                 struct error *err);

#endif
