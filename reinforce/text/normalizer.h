/* The "normalizer" of tokenizer.json. */
#ifndef REINFORCE_TEXT_NORMALIZER_H
#define REINFORCE_TEXT_NORMALIZER_H

#include "reinforce/base/json.h"

/** A flat list of steps, sequences unrolled. Immutable after init; zeroed is released safely. */
struct normalizer {
    struct normalizer_step *steps;
    size_t n_steps;
};

/**
 * NFC, NFD, NFKC, NFKD, Lowercase, Replace, Strip, Prepend, Precompiled, Sequence; NULL or null is
 * no step. Another kind is ST_INVALID by name. On failure as released.
 */
NODISCARD enum status normalizer_init(struct normalizer *normalizer, const json_t *json,
                                      struct error *err);
void normalizer_release(struct normalizer *normalizer);

/** Appends the normalized `text` (valid UTF-8) to `out`. */
NODISCARD enum status normalizer_run(const struct normalizer *normalizer, struct bytes_view text,
                                     struct byte_buf *out, struct error *err);

/** True if the first character of a text may vanish or become several: then whether a piece begins
 * where the user's text does is not known afterwards. */
bool normalizer_moves_start(const struct normalizer *normalizer);

#endif
