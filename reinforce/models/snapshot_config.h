/* The two config dialects of a snapshot. Private to reinforce/models. */
#ifndef REINFORCE_MODELS_SNAPSHOT_CONFIG_H
#define REINFORCE_MODELS_SNAPSHOT_CONFIG_H

#include "reinforce/base/json.h"
#include "reinforce/models/snapshot.h"

/** open_clip_config.json: {"model_cfg": ..., "preprocess_cfg": ...} or the model_cfg itself. */
NODISCARD enum status snapshot_config_open_clip(const json_t *config, struct snapshot *out,
                                                struct error *err);

/** transformers' config.json of a CLIPModel; `processor` is preprocessor_config.json or NULL. */
NODISCARD enum status snapshot_config_transformers(const json_t *config, const json_t *processor,
                                                   struct snapshot *out, struct error *err);

#endif
