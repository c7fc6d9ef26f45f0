/* The CLIP tokenizer as a tokenizer.json, from the older vocab.json and merges.txt. */
#ifndef REINFORCE_TEXT_CLIP_VOCAB_H
#define REINFORCE_TEXT_CLIP_VOCAB_H

#include "reinforce/base/json.h"

/**
 * vocab   bytes of vocab.json: {"!": 0, ...}
 * merges  bytes of merges.txt: a header line, then "a b" a line in rank order
 *
 * *out, the caller's, is what Hugging Face writes for openai/clip-*: NFC, white space to one space,
 * lower case; words split, byte-level; </w>; start and end token around. ST_CORRUPT when a start or
 * end token is missing.
 */
NODISCARD enum status clip_vocab_to_json(struct bytes_view vocab, struct bytes_view merges,
                                         json_t **out, struct error *err);

/** Ids of the start and end token in a CLIP vocabulary object, in either spelling; or ST_INVALID.
 */
NODISCARD enum status clip_vocab_specials(const json_t *vocab, int32_t *start, int32_t *end,
                                          struct error *err);

#endif
