/* Of samples that are alike, the best is kept. Samples come best first; one is kept unless a kept
 * one before it is alike, so every dropped sample has a kept one to show for it, and no two kept
 * ones are alike. What is kept depends on the samples and their order alone. */
#ifndef REINFORCE_CURATE_DUPLICATES_H
#define REINFORCE_CURATE_DUPLICATES_H

#include "reinforce/curate/super_batch.h"

#define DUPLICATE_OF_NONE UINT32_MAX

/** Which sample stands for which; both arrays are the caller's. */
struct duplicates {
    uint32_t *of;    /* [n] the first kept sample that it is like, or DUPLICATE_OF_NONE: kept */
    float *distance; /* [n] from it; 0 for kept ones */
};

/**
 * Stable order of n scores, the highest first, NaNs last: order[rank] = i. Scratch in `arena` is
 * given back. n <= UINT32_MAX - 1, here and below.
 */
NODISCARD enum status duplicates_rank(const float *scores, size_t n, uint32_t *order,
                                      struct arena *arena, struct error *err);

/** Alike are equal keys, such as those of a hash of the bytes. Distances are 0. */
NODISCARD enum status duplicates_by_key(const struct example_id *keys, size_t n,
                                        const struct duplicates *found, struct arena *arena,
                                        struct error *err);

/**
 * Alike are hashes [n] that differ in at most `max_bits` (0..DUPLICATES_MAX_BITS) of 64. Two such
 * agree in one of max_bits + 1 bands, so only those that share a band's bits are compared: exact.
 * Memory: 4 (max_bits + 1) bytes a sample.
 */
enum { DUPLICATES_MAX_BITS = 15 };
NODISCARD enum status duplicates_by_bits(const uint64_t *hashes, size_t n, int max_bits,
                                         const struct duplicates *found, struct arena *arena,
                                         struct error *err);

/**
 * Alike are unit rows float32 [n, D] whose cosine distance 1 - cos is at most `radius` (0..2).
 * Exact: every sample against every kept one before it, block by block on reinforce/nn/dots, so
 * that neither blocks nor threads decide anything. Time n_kept n D; memory of a block, whatever n,
 * beside the rows, which are read in order and may be a mapped file.
 */
NODISCARD enum status duplicates_by_embedding(const float *rows, size_t n, size_t D, double radius,
                                              size_t n_threads, const struct duplicates *found,
                                              struct arena *arena, struct error *err);

#endif
