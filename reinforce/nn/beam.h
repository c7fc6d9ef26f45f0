/* Beam search over any model that can say the next logits of some rows: the model is a callback. */
#ifndef REINFORCE_NN_BEAM_H
#define REINFORCE_NN_BEAM_H

#include "reinforce/base/arena.h"

enum { BEAM_MAX_BEAMS = 64 };

/**
 * Three searches in one loop. Plain data.
 *
 * raw_logits false: log-softmax, then rules, then sums; a finished sequence scores
 *   sum / n^length_penalty with n tokens generated (the start not counted, the end counted).
 *   Equal to transformers' beam search with a one-token prompt.
 * raw_logits true: open_clip 2.x to 3.3: sums of raw logits, n counts the start too. There the
 *   `n_groups` groups of n_beams / n_groups beams run the same computation and find the same
 *   results, so one group is run.
 * ends_always true: big_vision's, of PaliGemma: every open sequence may also end at each step,
 *   whatever its rank, and the end never takes a beam's place; over when the best finished sequence
 *   beats the best open one. Published with length_penalty 0: sums.
 */
struct beam_config {
    int n_beams;
    int n_groups; /* 1 unless raw_logits; divides n_beams */
    bool raw_logits;
    bool ends_always; /* not with raw_logits */
    double length_penalty;
    double repetition_penalty; /* > 0, 1: off */
    int min_tokens;            /* as in sampler_config */
    int max_tokens;            /* a row that reaches it stops as it is, without an end */
    int32_t start, end, pad;
    bool mask_pad;
};

struct beam_hypothesis {
    int32_t *ids; /* start first; the end last if `ended`; [n_ids], in the arena */
    int n_ids;
    bool ended;
    double score;        /* what the search ranks by */
    double log_prob_sum; /* of all but the start, under the model's own softmax */
};

/**
 * Computes float32 logits [n_rows, V] for the token at `position` (0 = the start) of each row. Row
 * r continues what was row parent[r] in the call before (0 in the first call). May block.
 */
typedef enum status beam_step_fn(void *context, const int *parent, const int32_t *token, int n_rows,
                                 int position, float *logits, struct error *err);

/** ST_INVALID names the value that cannot be. */
NODISCARD enum status beam_config_check(const struct beam_config *config, size_t n_vocab,
                                        struct error *err);

/** Rows that a step may be asked for at once: n_beams / n_groups. */
int beam_group_size(const struct beam_config *config);

/**
 * Searches and gives the best `n_wanted` hypotheses, best first, in out[0..*n_out); fewer when the
 * search ends with fewer. Equal scores at a cut go to the earlier beam, then to the lower id; of
 * equal final scores the later found is better (as in open_clip). All memory is in `arena`.
 * ST_CORRUPT when a logit is NaN; errors of `step` pass through.
 */
NODISCARD enum status beam_search(const struct beam_config *config, size_t n_vocab,
                                  beam_step_fn *step, void *context, int n_wanted,
                                  struct arena *arena, struct beam_hypothesis *out, int *n_out,
                                  struct error *err);

#endif
