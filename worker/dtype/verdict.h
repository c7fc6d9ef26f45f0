/*
 * What comparing a model with itself in float32 has said: an object _reinforce/fidelity/... of the
 * output, written once and read by every other worker and every later run.
 *
 *   {"dtype": "auto", "least": 0.999, "chosen": "int8",
 *    "images": {"n", "cosine_mean", "cosine_p01", "cosine_min"}, "texts": {...}}
 *
 * dtype, least  what the job asks for
 * chosen        what the model is run as
 * images, texts of teachers, with int8 (or what dtype says); texts: where images have captions
 * captions      of captioners: {"n", "same", "log_probability_difference"}
 * why           instead of figures: nothing was compared, and auto is float32
 */
#ifndef REINFORCE_WORKER_VERDICT_H
#define REINFORCE_WORKER_VERDICT_H

#include "reinforce/base/json.h"
#include "reinforce/job/job.h"
#include "reinforce/teach/fidelity.h"
#include "storage/object/object_store.h"

enum { VERDICT_TEXT_BYTES = 256 };

/** What is asked, of whom: the verdict's key. All of it but the name, which is for logs, is part of
 * the job's digest. */
struct verdict_question {
    const char *role; /* "teacher", "captioner" */
    size_t index;     /* of that role, in the job's order, which only grows */
    const char *name, *model, *input;
    enum job_dtype dtype;
    double least;
};

struct verdict {
    enum matrix_form form; /* what the model is to be run as */
    json_t *said;          /* the object above; owned. NULL: nobody has asked */
};

/** "float32", "int8", "bf16". */
const char *verdict_form_name(enum matrix_form form);

/**
 * Decides for teachers, and for captioners; figures of n 0 count for nothing. auto is int8 when the
 * mean cosine of images, and that of texts, or the share of equal captions, is `least` or more;
 * without any figure it is float32, as nothing says that int8 would keep it. `why` is for that
 * case. Another dtype is what it says. *verdict is the caller's.
 */
NODISCARD enum status verdict_of_cosines(const struct verdict_question *question,
                                         const struct fidelity_cosines *images,
                                         const struct fidelity_cosines *texts, const char *why,
                                         struct verdict *verdict, struct error *err);
NODISCARD enum status verdict_of_captions(const struct verdict_question *question,
                                          const struct fidelity_captions *captions, const char *why,
                                          struct verdict *verdict, struct error *err);

/** ST_NOT_FOUND: nobody has written it; ST_CORRUPT: it is not as above. */
NODISCARD enum status verdict_read(struct object_store *output,
                                   const struct verdict_question *question, struct verdict *verdict,
                                   struct error *err);

/** Writes it, unless somebody was faster: then *verdict is theirs. */
NODISCARD enum status verdict_keep(struct object_store *output,
                                   const struct verdict_question *question, struct verdict *verdict,
                                   struct error *err);

/** Whether its figures are what was asked for. */
bool verdict_is_kept(const json_t *said);

/** A line for people: "auto: int8, mean cosine 0.99995 (first percentile 0.99989) of 32 images, ...
 * at least 0.999 is asked for". */
void verdict_describe(const json_t *said, char text[VERDICT_TEXT_BYTES]);

/** Safe on a zeroed one. */
void verdict_release(struct verdict *verdict);

#endif
