/* The models of a job, loaded once per process and shared by all its workers. Immutable after
 * opening. */
#ifndef REINFORCE_WORKER_ENGINE_H
#define REINFORCE_WORKER_ENGINE_H

#include "worker/dtype/dtype_choice.h"
#include "worker/judge.h"

struct engine {
    const struct job *job; /* must outlive the engine */
    size_t n_teachers;
    struct teacher **teachers;
    size_t *teacher_column; /* [n_teachers + 1]: first column of each teacher's slice; last = D */
    size_t *teacher_size;   /* [n_teachers]: index into `sizes` */
    size_t n_captioners;
    struct captioner **captioners;
    size_t n_sizes;
    int *sizes;                    /* distinct teacher input sizes, pixels, in order of first use */
    struct augment_config augment; /* what views are drawn with; .size resolved */
    struct judge judge;            /* of the job's rules */
    struct verdict *verdicts;      /* [n_captioners + n_teachers]; NULL: nobody has asked */
};

/** How models are loaded; borrowed. */
struct engine_options {
    const struct job_place *place; /* of a run; NULL: there is none, and `dtype: auto` is refused */
    size_t threads;                /* to compare forms on; 0: one */
    const atomic_bool *stop;       /* outlives the engine; may be NULL */
};

/**
 * Loads every model of the job, in the form that its dtype says or has chosen. Errors name teacher
 * or captioner, its folder and the reason. Once `stop` is true, what waits for a hub or a server
 * gives up with ST_CANCELLED, here and in every later call of a served model.
 */
NODISCARD enum status engine_open(const struct job *job, const struct engine_options *options,
                                  struct engine **out, struct error *err);

/**
 * The same with models that are open already, as many as the job names and in its order. ST_OK: the
 * engine owns them (the arrays stay the caller's); on failure all stay the caller's.
 */
NODISCARD enum status engine_create(const struct job *job, struct teacher *const *teachers,
                                    struct captioner *const *captioners, struct engine **out,
                                    struct error *err);
void engine_close(struct engine **engine);

/** What was found of a model's fidelity (worker/dtype/verdict.h), borrowed; NULL: nobody has asked.
 */
const json_t *engine_captioner_fidelity(const struct engine *engine, size_t i);
const json_t *engine_teacher_fidelity(const struct engine *engine, size_t i);

/** D: columns of a stored row; 0 without teachers. */
size_t engine_dim(const struct engine *engine);

#endif
