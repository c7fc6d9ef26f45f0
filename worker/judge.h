/* The rules of a job's section `curate` with what they are asked with. Immutable after
 * judge_init(): any number of threads. */
#ifndef REINFORCE_WORKER_JUDGE_H
#define REINFORCE_WORKER_JUDGE_H

#include "reinforce/job/job.h"
#include "worker/sample_score.h"

/** Zeroed, it has no rules. */
struct judge {
    const struct rule *keep; /* the job's */
    size_t n_scores;
    struct score_spec *specs;         /* [n_scores] the job's, with what it leaves to the models */
    struct sample_score_tools *tools; /* [n_scores] */
};

/** `job` must outlive the judge; `teachers` are the job's, in its order. ST_INVALID: a score needs
 * what a teacher does not have; errors name the rules' score or the tokenizer's folder. */
NODISCARD enum status judge_init(struct judge *judge, const struct job *job,
                                 struct teacher *const *teachers, struct error *err);
/** Safe on a zeroed judge. */
void judge_release(struct judge *judge);

/** Why the rule does not hold for the one sample of `pool`: "similarity of text (mean) by clip-a is
 * 0.05, below 0.2", several reasons with "; " between them. Cut when it does not fit. */
void judge_explain(const struct rule *rule, const struct pool *pool, char *text, size_t size);

#endif
