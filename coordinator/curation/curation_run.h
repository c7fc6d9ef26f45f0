/* A curation from its file to a decision about every sample; nothing is written here. */
#ifndef REINFORCE_COORDINATOR_CURATION_RUN_H
#define REINFORCE_COORDINATOR_CURATION_RUN_H

#include "coordinator/curation/dataset_pool.h"
#include "reinforce/job/curation.h"

/** What has decided: 0, 1, then the steps: duplicates, the joint selection, balances and
 * mixes, each in the order of the file. */
enum {
    CURATION_KEPT = 0,
    CURATION_DROPPED_BY_RULE = 1,
    CURATION_FIRST_STEP = 2,
    CURATION_MAX_DECISIONS = CURATION_FIRST_STEP + 3 * CURATION_MAX_STEPS + 1,
};

/** Everything that is known when all is decided. */
struct curation_run {
    struct curation *curation; /* borrowed; its fractions are bounds now */
    struct output *out;        /* borrowed */
    struct dataset_pool pool;
    uint8_t *decisions; /* [n] */
    uint32_t *twins;    /* [n] of duplicates: the row that is kept instead */
    /* [n] of duplicates: distance from it; of the selection: its score by itself; of a balance: the
     * probability that it had; of a mix: the score, NaN by lot */
    float *values;
    double violations[CURATION_MAX_STEPS]; /* of balances: what could not be met */
    size_t counts[CURATION_MAX_DECISIONS]; /* samples by decision */
    struct arena arena;
};

/** Reads the dataset and decides. Errors name rule or step. */
NODISCARD enum status curation_run(struct curation_run *run, struct curation *curation,
                                   struct output *out, struct error *err);
/** Safe on a zeroed run. */
void curation_run_release(struct curation_run *run);

/** What kind of step, and which of its kind. */
enum curation_step_kind {
    CURATION_STEP_DUPLICATES,
    CURATION_STEP_SELECT,
    CURATION_STEP_BALANCE,
    CURATION_STEP_MIX,
};

/** The decision behind step `k` of a kind, and back. */
size_t curation_decision(const struct curation *curation, enum curation_step_kind kind, size_t k);
enum curation_step_kind curation_step(const struct curation *curation, size_t decision, size_t *k);

size_t curation_n_steps(const struct curation *curation);

/** Name of the step behind a decision; of rules "keep". */
const char *curation_step_name(const struct curation *curation, size_t decision);

/** The first rule of the file's list that does not hold, of a sample dropped by rule. */
const struct rule *curation_run_rule(const struct curation_run *run, size_t row);

#endif
