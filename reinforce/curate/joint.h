/* Joint selection, chunk by chunk: what every candidate adds to the chosen ones, kept up to date.
 */
#ifndef REINFORCE_CURATE_JOINT_H
#define REINFORCE_CURATE_JOINT_H

#include "reinforce/curate/selection_options.h"

enum joint_model {
    JOINT_LEARNER = 0,
    JOINT_REFERENCE = 1,
    JOINT_MODELS = 2,
};

/* Columns a block of chosen rows has at most: bounds memory. Sums are closed after every block and
 * group, so all three are part of the result's last bits. */
enum { JOINT_BLOCK = 2048, JOINT_GROUP = 128 };

/** The log of a growing sum of exponentials: most + log(sum); no terms yet: sum is 0. */
struct running_log_sum {
    double most, sum;
};

/**
 * The candidates of one place. Scores are sums over pairs, s_ij = +- loss_ij of the learner +- of
 * the reference, so that adding k to the chosen set S gains
 *
 *     s_kk + sum over j in S of (s_kj + s_jk)
 *
 * for a sigmoid, and each chunk only adds its own terms: no matrix of B x B. A softmax's loss is no
 * such sum; there a candidate gains +- (-x_kk + (lse_j x_kj + lse_j x_jk) / 2), its loss with the
 * chosen ones as its negatives.
 *
 * A super-batch may be spread over several places, `first` telling each where it begins: gains and
 * noise depend on a candidate and the chosen rows alone.
 */
struct joint {
    const struct selection_options *options;
    const struct example_id *ids; /* [n]; borrowed */
    const uint16_t *strata;       /* [n] or NULL; borrowed */
    size_t first, n;
    bool *usable;                                           /* [n] and not chosen yet */
    double sign[JOINT_MODELS];                              /* 0: the model is not read */
    struct pair_rows rows[JOINT_MODELS];                    /* zeroed where sign is 0 */
    double *marginal;                                       /* [n] s_kk */
    double *gain;                                           /* [n] sigmoid: what k adds to S */
    struct running_log_sum *logs[JOINT_MODELS][PAIR_SIDES]; /* [n] softmax, by k's side */
    uint32_t *room;                                         /* [n_strata] scratch of joint_best() */
    size_t n_chosen;        /* |S|, here and elsewhere; the caller's to add to */
    uint64_t multiply_adds; /* in products, padding included */
};

/** A candidate that was drawn; `index` is in the super-batch. */
struct pick {
    double key, gain, marginal;
    uint32_t index;
};

/** Chosen rows, as every place needs them to bring its gains up to date: unit rows of at most
 * JOINT_BLOCK examples, packed. */
struct chosen_rows {
    size_t n;
    float *strips[JOINT_MODELS][PAIR_SIDES]; /* NULL where the model is not read */
    size_t D[JOINT_MODELS];
};

/**
 * Gumbel noise of one candidate in one chunk: -log(-log u), u uniform with 53 bits, of Philox keyed
 * by the seed, with id, step and chunk as its counter.
 */
double joint_noise(uint64_t seed, uint32_t step, uint32_t chunk, struct example_id id);

/** Scores n candidates. usable[n] is the caller's and lives on here; pairs that cannot be scored
 * are cleared in it. Options are checked. Errors of pair_rows_init(). */
NODISCARD enum status joint_init(struct joint *joint, const struct selection_options *options,
                                 const struct pair_model models[JOINT_MODELS],
                                 const struct example_id *ids, const uint16_t *strata, size_t first,
                                 size_t n, bool *usable, struct arena *arena, struct error *err);

/** What candidate i (of this place) gains now. */
double joint_gain(const struct joint *joint, size_t i);

/**
 * The `m` candidates with the largest keys (gain * options.gain + noise; with top_k the gain; in
 * SELECTION_UNIFORM_CHUNK the noise), largest first, equal ones by index: a draw without
 * replacement. left [n_strata]: at most so many of each stratum; NULL: any. picks has room for n;
 * returns how many there are, fewer than m when candidates run out. A gain that is not finite makes
 * its candidate unusable.
 */
size_t joint_best(struct joint *joint, uint32_t chunk, size_t m, const uint32_t *left,
                  struct pick *picks);

/** Orders n picks as joint_best() does and keeps the first m for which there is room, a pick of
 * stratum strata[index] taking one of room[]; NULL: all. Merges what several places propose;
 * returns how many are left. */
size_t picks_keep(struct pick *picks, size_t n, size_t m, const uint16_t *strata, uint32_t *room);

/** Takes picks out of the candidates of this place (others are skipped). */
void joint_remove(struct joint *joint, const struct pick *picks, size_t n);

/** Room for min(n, JOINT_BLOCK) rows of this place's models. */
NODISCARD enum status chosen_rows_init(struct chosen_rows *chosen, const struct joint *joint,
                                       size_t n, struct arena *arena, struct error *err);

/** Packs the rows of those picks [n <= JOINT_BLOCK] that are of this place; pick p becomes row p.
 */
NODISCARD enum status chosen_rows_pack(struct chosen_rows *chosen, const struct joint *joint,
                                       const struct pick *picks, size_t n, struct arena *arena,
                                       struct error *err);

/** Brings every candidate's gain up to date with chosen rows. ST_TIMEOUT past the deadline; the
 * gains are then worth nothing. */
NODISCARD enum status joint_take(struct joint *joint, const struct chosen_rows *chosen,
                                 struct arena *arena, struct error *err);

/** joint_take() in double precision, of picks of this very place. */
NODISCARD enum status joint_take_exact(struct joint *joint, const struct pick *picks, size_t n,
                                       struct arena *arena, struct error *err);

/** *sum = sum over i in picks [n], of this place, and j in `chosen` of s_ij under the sigmoid loss,
 * every pair taken for a negative one. */
NODISCARD enum status joint_sum_negatives(struct joint *joint, const struct pick *picks, size_t n,
                                          const struct chosen_rows *chosen, double *sum,
                                          struct arena *arena, struct error *err);

#endif
