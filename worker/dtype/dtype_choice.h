/* Which form a job's model is run in, and the model opened in it. */
#ifndef REINFORCE_WORKER_DTYPE_CHOICE_H
#define REINFORCE_WORKER_DTYPE_CHOICE_H

#include "worker/dtype/first_images.h"
#include "worker/dtype/verdict.h"

/** For all models of a job, one after the other. Zero `first` and release it at the end. */
struct dtype_choice {
    const struct job *job;
    const struct job_place *place; /* NULL: nothing can be compared or kept, so auto is refused */
    const atomic_bool *stop;       /* may be NULL */
    size_t threads;                /* to compare on */
    struct first_images first;     /* read when they are needed first */
    bool has_first;
};

/**
 * Opens a model of the job, `spec` being one of its list, as its dtype says. With a fidelity, the
 * output's verdict is read, and where there is none yet the model is compared with itself in
 * float32 on the job's first images, one form loaded at a time, and the verdict is kept: so every
 * worker and every later run runs the same form. *verdict is the caller's; nothing was asked: its
 * `said` is NULL. ST_INVALID: auto without a place; else as model_open_teacher(),
 * first_images_read() and the stores say.
 */
NODISCARD enum status dtype_choice_teacher(struct dtype_choice *choice,
                                           const struct job_teacher *spec, struct teacher **out,
                                           struct verdict *verdict, struct error *err);
NODISCARD enum status dtype_choice_captioner(struct dtype_choice *choice,
                                             const struct job_captioner *spec,
                                             struct captioner **out, struct verdict *verdict,
                                             struct error *err);
void dtype_choice_release(struct dtype_choice *choice);

#endif
