/* What duplicates are told by: one pass over the images and embeddings of a written dataset. */
#ifndef REINFORCE_COORDINATOR_CURATION_DATASET_IMAGES_H
#define REINFORCE_COORDINATOR_CURATION_DATASET_IMAGES_H

#include "coordinator/curation/dataset_pool.h"

/** Embeddings under one teacher, each put where its sample ranks. */
struct dataset_embeddings {
    const char *array;    /* "image_emb", "text_emb", "syn_text_emb" */
    size_t first, dim;    /* columns of a stored row: model_record_teacher() */
    const uint32_t *rank; /* [n] of every row that is wanted */
    float *rows;          /* [ranks, dim] out: unit mean over the array's rows */
};

/** What is wanted of every sample; plain data, memory is the caller's. */
struct dataset_images {
    struct example_id *content; /* [n] out: half of the image's SHA-256; NULL: not wanted */
    uint64_t *hashes;           /* [n] out: perceptual_hash(); NULL: not wanted */
    size_t n_embeddings;
    struct dataset_embeddings *embeddings;
};

/**
 * Reads the shards that have wanted rows, some at a time on `n_threads`, and fills what `images`
 * asks for. ST_CORRUPT: a shard does not hold the samples that the catalog says; ST_NOT_FOUND: a
 * sample has no image or embedding.
 */
NODISCARD enum status dataset_images_read(struct output *out, const struct dataset_pool *pool,
                                          const bool *wanted, size_t n_threads,
                                          const struct dataset_images *images, struct error *err);

#endif
