/* Counter-based randomness: the same key and counter give the same numbers on every machine, in any
 * order. */
#ifndef REINFORCE_BASE_PHILOX_H
#define REINFORCE_BASE_PHILOX_H

#include "reinforce/base/bytes.h"

#include <stdint.h>

/** What a stream of random numbers is for. Stored results depend on the values: never reuse or
 * renumber. */
enum philox_stage {
    PHILOX_STAGE_AUGMENT = 1, /* index = view */
    PHILOX_STAGE_CAPTION = 2, /* index = captioner << 16 | caption */
    PHILOX_STAGE_SELECT = 3,  /* index = batch */
    PHILOX_STAGE_MIX = 4,     /* index = step */
    PHILOX_STAGE_BALANCE = 5, /* index = step */
};

/** Position in one stream; copyable plain data. */
struct philox {
    uint32_t key[2];
    uint32_t counter[4]; /* [0] runs; [1..3] say which stream */
    uint32_t block[4];
    int n_left;
};

/**
 * One block of Philox 4x32-10: counter[4], key[2] -> out[4].
 * Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; Random123 test
 * vectors.
 */
void philox_4x32_10(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/**
 * The stream of (job seed, sample uid, stage, index). The key is the seed; the counter's upper
 * words are a 64-bit FNV-1a hash of the uid mixed with stage and index through one Philox block, so
 * streams do not overlap.
 */
void philox_init(struct philox *rng, uint64_t seed, struct bytes_view uid, enum philox_stage stage,
                 uint32_t index);

uint32_t philox_u32(struct philox *rng);

/** Uniform in [0, 1): 24 bits, exact in float32. */
float philox_f32(struct philox *rng);

/** Uniform in [0, n), n >= 1, without bias (Lemire's rejection). */
uint32_t philox_below(struct philox *rng, uint32_t n);

#endif
