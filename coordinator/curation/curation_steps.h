/* What the steps of a run share. Private to coordinator/curation. */
#ifndef REINFORCE_COORDINATOR_CURATION_STEPS_H
#define REINFORCE_COORDINATOR_CURATION_STEPS_H

#include "coordinator/curation/curation_run.h"

/** Rows that are kept so far, the best first. */
struct curation_ranking {
    uint32_t *rows; /* [n] by rank, in the run's arena */
    size_t n;
};

/** By score `best`, or with CURATION_NO_SCORE in the order of the dataset. */
NODISCARD enum status curation_rank(struct curation_run *run, uint32_t best,
                                    struct curation_ranking *ranking, struct error *err);

/** Sets a row's decision and keeps count. */
void curation_decide(struct curation_run *run, size_t row, size_t decision);

/** All steps of duplicates, after one pass over the shards. */
NODISCARD enum status curation_drop_duplicates(struct curation_run *run, struct error *err);

/** Threads to compute with. */
size_t curation_n_threads(const struct curation *curation);

/** The joint selection. */
NODISCARD enum status curation_select(struct curation_run *run, struct error *err);

/** Balance k, mix k. */
NODISCARD enum status curation_balance(struct curation_run *run, size_t k, struct error *err);
NODISCARD enum status curation_mix(struct curation_run *run, size_t k, struct error *err);

#endif
