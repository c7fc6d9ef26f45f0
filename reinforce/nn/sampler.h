/* From a row of logits to the next token: rules, cuts, one draw; and the bookkeeping of one row. */
#ifndef REINFORCE_NN_SAMPLER_H
#define REINFORCE_NN_SAMPLER_H

#include "reinforce/base/arena.h"
#include "reinforce/base/philox.h"

/**
 * How tokens are drawn. Plain data. Rules are applied in this order: minimum length, repetition
 * penalty, pad mask, top-k, top-p on what top-k left, one draw. The temperature works either before
 * the cuts (transformers) or after them (open_clip up to 3.3).
 */
struct sampler_config {
    bool greedy;               /* the largest logit; cuts and temperature are not used */
    double temperature;        /* > 0 */
    bool temperature_first;    /* true: transformers' order; false: open_clip's */
    int top_k;                 /* 0: off; logits equal to the k-th stay, as in both references */
    double top_p;              /* >= 1: off; 0 keeps the largest only */
    double repetition_penalty; /* > 0, 1: off; per distinct id of the row, the start included */
    int min_tokens; /* while the row is shorter than this (start counted) `end` cannot be drawn */
    int max_tokens; /* row length, start and end included; the last place gets `end` undrawn */
    int32_t end, pad;
    bool mask_pad; /* never draw `pad`: in CoCa's vocabulary it is also "!" */
};

/** Memory for one draw over V logits; one thread at a time. Lives in its arena. */
struct sampler_scratch {
    size_t n_vocab;
    float *logits;    /* [V] after the rules */
    double *weight;   /* [V] */
    double *bin_mass; /* a histogram over distance from the largest logit */
    uint32_t *bin_count;
    int32_t *order; /* [V] ids of the one bin that a cut goes through */
};

/** One sequence. `ids` is the caller's, [max_tokens]; ids[0..n_ids) are set, the start first. */
struct sampler_row {
    int32_t *ids;
    int n_ids;
    bool ended;          /* by `end`, or by a drawn `pad` (open_clip's rule) */
    int n_drawn;         /* tokens drawn, so without start and forced end */
    double log_prob_sum; /* of the drawn tokens, under the model's own softmax */
    struct philox rng;   /* not used when greedy */
};

/** ST_INVALID names the value that cannot be. */
NODISCARD enum status sampler_config_check(const struct sampler_config *config, size_t n_vocab,
                                           struct error *err);

NODISCARD enum status sampler_scratch_init(struct sampler_scratch *scratch, size_t n_vocab,
                                           struct arena *arena, struct error *err);

/**
 * logits float32 [V], changed in place by minimum length, repetition penalty (in float32, as the
 * references compute it) and pad mask. ids int32 [n_ids] is the row so far.
 */
void sampler_apply_rules(const struct sampler_config *config, const int32_t *ids, int n_ids,
                         float *logits, size_t n_vocab);

/** Id of the largest logit, the lowest of equals. ST_CORRUPT: a NaN, or nothing above -inf. */
NODISCARD enum status sampler_argmax(const float *logits, size_t n_vocab, int32_t *id,
                                     struct error *err);

/** log(sum(exp(logits))) in double. logits without NaN, the largest finite. */
double sampler_log_sum_exp(const float *logits, size_t n_vocab);

/**
 * Cuts and draws: the id at which the cumulative weight of the kept ids, in ascending order of id,
 * first passes u times their sum. logits float32 [V] after the rules; u in [0, 1), supplied by the
 * caller so that tests and replays can. Ties at the top-p cut go to the lower id. All arithmetic is
 * double in a fixed order, so the bits do not depend on the machine's vector width.
 * ST_CORRUPT as for sampler_argmax().
 */
NODISCARD enum status sampler_draw(const struct sampler_config *config, const float *logits,
                                   double u, struct sampler_scratch *scratch, int32_t *id,
                                   struct error *err);

/** Uniform in [0, 1) with 53 bits: two words of the stream. */
double sampler_uniform(struct philox *rng);

/** Begins a row in `ids` with `start`. `rng` is copied. */
void sampler_row_init(struct sampler_row *row, int32_t *ids, int32_t start,
                      const struct philox *rng);

/** True if the next token is the end forced by max_tokens: it needs no logits. */
bool sampler_row_is_forced(const struct sampler_config *config, const struct sampler_row *row);

/** Appends the forced end. The row must not have ended. */
void sampler_row_force_end(const struct sampler_config *config, struct sampler_row *row);

/**
 * One more token from the model's logits for this row, float32 [scratch->n_vocab], not changed.
 * The row must not have ended nor be forced.
 */
NODISCARD enum status sampler_row_step(const struct sampler_config *config, struct sampler_row *row,
                                       const float *logits, struct sampler_scratch *scratch,
                                       struct error *err);

/** Fills an ended row with `pad` up to max_tokens (open_clip's fixed_output_length). */
void sampler_row_pad(const struct sampler_config *config, struct sampler_row *row);

#endif
