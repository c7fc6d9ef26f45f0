/* Where the rest of a shard is cut in two. */
#ifndef REINFORCE_WORKER_SPLIT_H
#define REINFORCE_WORKER_SPLIT_H

#include "storage/format/dataset.h"

struct split_point {
    uint64_t offset, index; /* about the middle */
    uint64_t n_left;        /* samples from where the reader was */
};

/**
 * Passes over all that is left before `end_index` (0: to the end), which leaves the reader there.
 * The middle is exact where 8192 samples or fewer are left, else within a 4096th of them.
 */
NODISCARD enum status split_find(struct dataset_reader *reader, uint64_t end_index,
                                 struct split_point *out, struct error *err);

#endif
