/* The examples a training batch is chosen from, as two models see them. */
#ifndef REINFORCE_CURATE_SUPER_BATCH_H
#define REINFORCE_CURATE_SUPER_BATCH_H

#include "reinforce/base/arena.h"
#include "reinforce/base/bytes.h"
#include "reinforce/nn/safetensors.h"

/** Stable name of an example: a 64-bit one has high = 0. */
struct example_id {
    uint64_t high, low;
};

/** Below, at or above 0, as numbers. */
int example_id_compare(struct example_id x, struct example_id y);

enum pair_side {
    PAIR_IMAGE = 0,
    PAIR_TEXT = 1,
    PAIR_SIDES = 2,
};

/**
 * What one model says about B pairs; all borrowed. The logit of image i with text j is
 * scale * (u_i . v_j) + bias over unit vectors.
 */
struct pair_model {
    struct bytes_view rows[PAIR_SIDES]; /* [B, D] row-major, any alignment */
    enum tensor_dtype dtype;            /* F32, F16 or BF16 */
    size_t D;
    float scale; /* linear, not its logarithm */
    float bias;
    /* Optional: float32 [B], the pairs' own logits instead of rows (which are then empty): four
     * bytes an example, enough for selection in one chunk. */
    const float *logits;
};

/** What the loss is. Stored in selection logs: never renumber. */
enum pair_loss {
    PAIR_SIGMOID = 1,
    PAIR_SOFTMAX = 2,
};

/** A model's pairs, checked: norms, and every pair's own logit. */
struct pair_rows {
    struct pair_model model;
    double scale, bias;          /* bias 0 for a softmax, which does not see it */
    double *inverse[PAIR_SIDES]; /* [B] one over each row's norm; NULL with logits given */
    double *logit;               /* [B] scale * cos + bias */
};

/**
 * Checks a model of B pairs (D from 1, lengths, finite scale and bias; ST_INVALID) and computes
 * norms and logits into `arena` on `n_threads`. usable[i] becomes false where a row is not finite
 * or its norm is not 1 +- 1e-2. `name` is for messages: "learner".
 */
NODISCARD enum status pair_rows_init(struct pair_rows *rows, const struct pair_model *model,
                                     const char *name, enum pair_loss loss, size_t B,
                                     size_t n_threads, bool *usable, struct arena *arena,
                                     struct error *err);

/** log(1 + e^x): the loss of a negative pair of logit x, and of a positive one of -x. */
double pair_softplus(double x);

/** Row i of a side as float32 [D], as it came: not yet unit. */
void pair_rows_get(const struct pair_rows *rows, enum pair_side side, size_t i, float *row);

/** Clears usable[i] where an earlier usable example has the same key; returns how many it cleared.
 */
NODISCARD enum status example_drop_duplicates(const struct example_id *keys, size_t B, bool *usable,
                                              size_t *n_dropped, struct arena *arena,
                                              struct error *err);

#endif
