/* Which models a dataset was made with: _reinforce/models.json of the output. */
#ifndef REINFORCE_COORDINATOR_MODEL_RECORD_H
#define REINFORCE_COORDINATOR_MODEL_RECORD_H

#include "storage/object/object_store.h"
#include "worker/engine.h"

#define MODEL_RECORD_KEY "_reinforce/models.json"

/**
 * Writes name, model, family and identity (teacher_info.weights_digest) of every model:
 *
 *   {"captioners": [{"name", "model", "family", "digest"}], "teachers": [...]}
 *
 * A model of that name that was another one in an earlier run of the job is a line in the log:
 * bytes of local weights do not change by themselves, but servers are updated.
 */
NODISCARD enum status model_record_write(const struct engine *engine, struct object_store *output,
                                         struct error *err);

#endif
