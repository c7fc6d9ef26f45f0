/* What is selected from a super-batch, and how. */
#ifndef REINFORCE_CURATE_SELECTION_OPTIONS_H
#define REINFORCE_CURATE_SELECTION_OPTIONS_H

#include "reinforce/curate/super_batch.h"

/** Which losses make a pair's score. Stored in selection logs: never renumber. */
enum selection_criterion {
    SELECT_LEARNABILITY = 1,   /* learner's loss - reference's: hard yet, but not for good */
    SELECT_EASY_REFERENCE = 2, /* - reference's loss; the learner is not read */
    SELECT_HARD_LEARNER = 3,   /* learner's loss; the reference is not read */
    SELECT_UNIFORM = 4,        /* no scores: a seeded permutation */
};

/**
 * A selection's parameters; plain data. selection_options_default(), then n_selected at least.
 *
 * Examples are drawn in chunks without replacement, with probabilities in proportion to
 * e^(gain * score), where a score counts what was drawn in earlier chunks (one chunk: independent
 * selection). Source: JEST, arXiv 2406.17711; chunks of equal size, the last one takes what is
 * left.
 */
struct selection_options {
    enum selection_criterion criterion;
    enum pair_loss loss;
    size_t n_selected;       /* b: 1..B */
    size_t n_chunks;         /* 1..b, below 65,535 */
    double gain;             /* 0: uniform; finite and not negative */
    bool normalise_by_count; /* sigmoid: conditional scores are divided by 2 |S| + 1 */
    bool top_k;              /* the highest scores instead of a draw: the limit of a large gain */
    double uniform_share;    /* 0..1 of b that is drawn first, uniformly */
    const uint32_t *quotas;  /* [n_strata] at most so many of each stratum; NULL: no limits */
    size_t n_strata;
    uint64_t seed;
    uint32_t step; /* of training: every super-batch has noise of its own */
    /* Double precision instead of float32 products: for verification, and as slow as it sounds. */
    bool exact;
    bool batch_scores; /* also computes stats.batch_score and its expectation: 3 % more work */
    /* These change nothing but the time. */
    size_t tile_rows;    /* candidates a thread scores at a time; 0: a good default */
    size_t n_threads;    /* 1..64 */
    int64_t deadline_ns; /* by clock_monotonic_ns(); ST_TIMEOUT once it has passed; 0: none */
};

/** Learnability under the sigmoid loss, 16 chunks, gain 1, one thread: JEST's settings, which
 * SigLIP 2 does not contradict. n_selected is 0. */
void selection_options_default(struct selection_options *options);

/** SigLIP 2's two settings: batches of 32,768. Source: arXiv 2502.14786, section 2.5. */
enum selection_preset {
    SELECT_ACID_HALF = 1,           /* ViT-B/16: half of 65,536 */
    SELECT_ACID_THREE_QUARTERS = 2, /* ViT-B/32: three quarters of 131,072 are dropped */
};

/** Defaults with a preset's n_selected; returns the B it is meant for. */
size_t selection_options_preset(struct selection_options *options, enum selection_preset preset);

/** ST_INVALID names the option that is out of range for B examples. */
NODISCARD enum status selection_options_check(const struct selection_options *options, size_t B,
                                              struct error *err);

/** The chunk of a draw that no score has a part in. */
enum { SELECTION_UNIFORM_CHUNK = UINT16_MAX };

/** +1, 0 or -1: how a model's loss counts in the score. */
double selection_learner_sign(const struct selection_options *options);
double selection_reference_sign(const struct selection_options *options);

#endif
