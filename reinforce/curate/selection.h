/* Selects a training batch from a super-batch: independently, or jointly in chunks (JEST, ACID). */
#ifndef REINFORCE_CURATE_SELECTION_H
#define REINFORCE_CURATE_SELECTION_H

#include "reinforce/curate/selection_options.h"
#include "reinforce/curate/selection_stats.h"

/** B pairs under two models; all borrowed. A model the criterion does not read may be zeroed. */
struct super_batch {
    size_t B;
    const struct example_id *ids; /* [B] */
    const struct example_id
        *content;           /* [B] digests of image and text; NULL: ids alone are compared */
    const uint16_t *strata; /* [B], below n_strata; NULL: none */
    struct pair_model learner, reference;
};

/** A batch, in the order of selection, which is not one of quality; arrays live in the arena. */
struct selection {
    size_t n;           /* b */
    uint32_t *index;    /* [b] positions in the super-batch, all different */
    uint16_t *chunk;    /* [b] from 0; SELECTION_UNIFORM_CHUNK: drawn without scores */
    float *marginal;    /* [b] s_ii */
    float *conditional; /* [b] what it added to those of earlier chunks */
    float *marginals;   /* [B] s_ii; 0 where the example is not usable */
    struct selection_stats stats;
};

/**
 * Selects options->n_selected of batch->B examples.
 *
 * The result depends on options and data alone: not on tiles, threads or machine. Memory beside the
 * arrays of the result: 34 bytes an example (a softmax: 98) and at most JOINT_BLOCK rows of both
 * models and sides as float32, in the same arena.
 *
 * ST_INVALID: options or sizes do not fit, or fewer examples are usable (or allowed by quotas) than
 * are to be selected. ST_TIMEOUT: past options->deadline_ns; `selection` is then empty.
 */
NODISCARD enum status selection_run(const struct super_batch *batch,
                                    const struct selection_options *options,
                                    struct selection *selection, struct arena *arena,
                                    struct error *err);

/**
 * What is returned when nothing can be scored in time: the first b of a permutation that depends on
 * the seed, step and ids alone (duplicate ids dropped; quotas kept). Reads no embeddings; a
 * millisecond for every 10,000 examples. Scores are 0.
 */
NODISCARD enum status selection_uniform(const struct super_batch *batch,
                                        const struct selection_options *options,
                                        struct selection *selection, struct arena *arena,
                                        struct error *err);

#endif
