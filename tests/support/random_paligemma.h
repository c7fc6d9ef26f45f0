/* A PaliGemma of any shape with random weights in bfloat16, in memory. Knows no test library:
 * benchmarks use it too. */
#ifndef REINFORCE_TESTS_RANDOM_PALIGEMMA_H
#define REINFORCE_TESTS_RANDOM_PALIGEMMA_H

#include "reinforce/models/snapshot.h"
#include "reinforce/nn/weights.h"

enum {
    RANDOM_PALIGEMMA_TENSORS = 1024,
    RANDOM_PALIGEMMA_NAME = 120,
    RANDOM_PALIGEMMA_POOLS = 16,
    RANDOM_PALIGEMMA_EXTRA_ROWS = 64, /* of the table, as published files have */
};

/**
 * Values are uniform with variance 1 / fan-in, of vectors within 0.1. Tensors of one fan-in are
 * pieces of one pool, each at another place: as a whole they would take several times the memory.
 */
struct random_paligemma {
    struct tensor tensors[RANDOM_PALIGEMMA_TENSORS];
    char names[RANDOM_PALIGEMMA_TENSORS][RANDOM_PALIGEMMA_NAME];
    size_t n, parameters;
    struct {
        size_t fan_in; /* 0: of vectors */
        size_t count;
        uint16_t *data;
    } pools[RANDOM_PALIGEMMA_POOLS];
    size_t n_pools;
};

/** Tensors of a model that `snapshot` describes. False: no memory, or too many tensors. */
bool random_paligemma_init(struct random_paligemma *m, const struct snapshot *snapshot);
void random_paligemma_release(struct random_paligemma *m);

/** Bytes that the tensors say they have, and that the pools take. */
size_t random_paligemma_stored_bytes(const struct random_paligemma *m);
size_t random_paligemma_pool_bytes(const struct random_paligemma *m);

/** google/paligemma2-3b-pt-224, as its config.json describes it. */
void paligemma2_3b_snapshot(struct snapshot *snapshot);

#endif
