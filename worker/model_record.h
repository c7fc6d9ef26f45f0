/* Which models a dataset was made with: _reinforce/models.json of the output. */
#ifndef REINFORCE_WORKER_MODEL_RECORD_H
#define REINFORCE_WORKER_MODEL_RECORD_H

#include "storage/object/object_store.h"
#include "worker/engine.h"

#define MODEL_RECORD_KEY "_reinforce/models.json"

/**
 * Writes name, model, family and identity (teacher_info.weights_digest) of every model:
 *
 *   {"captioners": [{"name", "model", "family", "digest", "weights_type", "attention_cap",
 *                    "final_cap", "sliding_window", "fidelity"}],
 *    "teachers": [{"name", "model", "family", "digest", "weights_type", "image_size", "mean",
 * "std", "dim", "logit_scale", "logit_bias", "fidelity"}]}
 *
 * weights_type is what the decoder multiplies with, absent where it is not known; caps and window
 * are what Gemma's decoder runs with (0: none), absent for others; fidelity is there where the job
 * asked for it (verdict.h has the form). How captions are drawn stands in
 * the job (_reinforce/job.json), what was said of each in the samples (worker/caption_facts.h).
 *
 * A model of that name that was another one in an earlier run of the job is a line in the log:
 * bytes of local weights do not change by themselves, but servers are updated.
 */
NODISCARD enum status model_record_write(const struct engine *engine, struct object_store *output,
                                         struct error *err);

/** What the side files of a dataset say of its models; all a coordinator, which has none, needs. */
struct model_facts {
    double mean[3], std[3]; /* of the first teacher; 0 without teachers */
    int image_size;         /* the largest of the teachers, pixels */
};

/** Of the record that a worker has written. ST_NOT_FOUND: none has; ST_CORRUPT: not as above. */
NODISCARD enum status model_record_read(struct object_store *output, struct model_facts *facts,
                                        struct error *err);

/** One teacher of a dataset, as the record says; its columns of a stored row are `dim` from `first`
 * on. */
struct model_teacher {
    char name[128];
    size_t first, dim;
    float logit_scale; /* linear; 1 of a served model, as servers do not say */
    float logit_bias;  /* 0: the model has none */
    char digest[65];   /* of all that is said of it: weights, preprocessing, ... */
};

/** `name` NULL: the only one. ST_INVALID names those that are there; ST_NOT_FOUND, ST_CORRUPT: as
 * model_record_read(). */
NODISCARD enum status model_record_teacher(struct object_store *output, const char *name,
                                           struct model_teacher *teacher, struct error *err);

#endif
