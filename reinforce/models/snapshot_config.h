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

/** OpenAI's mean and std, bicubic, shortest side: what either dialect means by silence. */
void snapshot_preprocess_default(struct preprocess *pre, int size);

/**
 * A folder without config: sizes from the tensors' shapes under either naming, heads by the widths
 * that published models have. What leaves no trace in tensors, activation and preprocessing, is the
 * caller's and the default. ST_INVALID: not a CLIP or CoCa.
 */
NODISCARD enum status snapshot_infer(const struct weights *weights, enum activation activation,
                                     struct snapshot *out, struct error *err);

#endif
