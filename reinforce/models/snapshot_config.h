/* The two config dialects of a snapshot, and what the families' readers share. Private to
 * reinforce/models. */
#ifndef REINFORCE_MODELS_SNAPSHOT_CONFIG_H
#define REINFORCE_MODELS_SNAPSHOT_CONFIG_H

#include "reinforce/base/json.h"
#include "reinforce/models/snapshot.h"

/**
 * How one family is told from the others and read. A snapshot's `family` is set before its reader
 * is called; a reader refuses by name what it does not know. To add a family: one of these in a
 * file of its own, and a line in snapshot_families.c.
 */
struct snapshot_rules {
    const char *name;

    /* transformers' config.json; NULL: not published so. */
    const char *model_type, *architecture;
    enum status (*read_transformers)(const json_t *config, const json_t *processor,
                                     struct snapshot *out, struct error *err);

    /* open_clip's model_cfg; claims NULL: read when nobody claims it, or not published so. */
    bool (*claims_open_clip)(const json_t *model_cfg);
    enum status (*read_open_clip)(const json_t *config, const json_t *model_cfg,
                                  struct snapshot *out, struct error *err);
};

extern const struct snapshot_rules snapshot_rules_clip, snapshot_rules_coca, snapshot_rules_siglip,
    snapshot_rules_siglip2, snapshot_rules_mobileclip, snapshot_rules_paligemma;

/** open_clip_config.json: {"model_cfg": ..., "preprocess_cfg": ...} or the model_cfg itself. */
NODISCARD enum status snapshot_config_open_clip(const json_t *config, struct snapshot *out,
                                                struct error *err);

/** transformers' config.json; `processor` is preprocessor_config.json or NULL. */
NODISCARD enum status snapshot_config_transformers(const json_t *config, const json_t *processor,
                                                   struct snapshot *out, struct error *err);

/** OpenAI's mean and std, bicubic, shortest side: what either dialect means by silence. */
void snapshot_preprocess_default(struct preprocess *pre, int size);
/** Mean 0, std 1, bilinear, shortest side: most of MobileCLIP. */
void snapshot_preprocess_plain(struct preprocess *pre, int size);

/** Whether a config is in the form of apple/ml-mobileclip, with its image_cfg; and such a one read.
 */
bool snapshot_is_apple_config(const json_t *config);
NODISCARD enum status snapshot_config_apple(const json_t *config, struct snapshot *out,
                                            struct error *err);

/**
 * A folder without config: sizes from the tensors' shapes under any naming, heads by the widths
 * that published models have. What leaves no trace in tensors is the default, and the activation
 * the caller's: NULL is refused, unless Apple's names tell it. ST_INVALID: no CLIP, CoCa or
 * MobileCLIP of Apple's.
 */
NODISCARD enum status snapshot_infer(const struct weights *weights,
                                     const enum activation *activation, struct snapshot *out,
                                     struct error *err);

/**
 * Fills in what a timm trunk's name does not say, from the tensors under "visual.trunk.": width,
 * layers, MLP, patch.
 */
NODISCARD enum status snapshot_infer_trunk(const struct weights *weights, struct vision_config *out,
                                           struct error *err);

/* What may stand under a config key. The reference refuses unknown keys too, so whatever is not in
 * a table is refused: a key that changes the model must never be passed over. */
enum key_rule {
    KEY_READ,  /* its reader checks it */
    KEY_INERT, /* changes nothing at inference */
    KEY_UNSET, /* only null, false, zero or {}: anything else is a model we do not have */
    KEY_TEXT,  /* only the string `text`, or null */
};

struct config_key {
    const char *name;
    enum key_rule rule;
    const char *text;
};

NODISCARD enum status config_check_keys(const json_t *object, const char *where,
                                        const struct config_key *keys, size_t n, struct error *err);

/** A positive integer; `otherwise` when absent or null. */
NODISCARD enum status config_size(const json_t *object, const char *key, size_t otherwise,
                                  size_t *out, struct error *err);
/** The same for pixels: also [S, S]. */
NODISCARD enum status config_side(const json_t *object, const char *key, size_t otherwise, int *out,
                                  struct error *err);
/** Three finite numbers; `out` stays when absent or null. */
NODISCARD enum status config_floats(const json_t *value, const char *key, float out[3],
                                    struct error *err);
NODISCARD enum status config_check_heads(const struct transformer_shape *shape, const char *where,
                                         struct error *err);

/** open_clip: mlp_ratio times shape->width; the sizes of a text_cfg; a preprocess_cfg over `pre`.
 */
NODISCARD enum status config_mlp_ratio(const json_t *cfg, struct transformer_shape *shape,
                                       struct error *err);
NODISCARD enum status config_open_clip_text(const json_t *cfg, const char *where, size_t context,
                                            struct text_config *out, struct error *err);
NODISCARD enum status config_open_clip_preprocess(const json_t *cfg, struct preprocess *pre,
                                                  struct error *err);

/** transformers: a copy of tower `name`, which the legacy `*_config_dict` overrides key by key. */
NODISCARD enum status config_hf_tower(const json_t *config, const char *name, const char *legacy,
                                      json_t **out, struct error *err);
/** Its sizes, activation and eps; absent ones as `otherwise` says. */
NODISCARD enum status config_hf_shape(const json_t *cfg, const char *where,
                                      const struct transformer_shape *otherwise,
                                      struct transformer_shape *out, struct error *err);
/** image_size, patch_size and that there are three channels. */
NODISCARD enum status config_hf_image(const json_t *vision, int image_size, int patch_size,
                                      struct vision_config *out, struct error *err);
/** preprocessor_config.json over `pre`: steps, mean, std and filter; */
NODISCARD enum status config_hf_values(const json_t *processor, struct preprocess *pre,
                                       struct error *err);
/** and the same with its sizes, which must give one square of pre->size. NULL: nothing changes. */
NODISCARD enum status config_hf_preprocess(const json_t *processor, struct preprocess *pre,
                                           struct error *err);

#endif
