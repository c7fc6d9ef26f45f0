/* BPE tokenizers read from Hugging Face tokenizer.json. Immutable after creation: any number of
 * threads may use one. */
#ifndef REINFORCE_TEXT_TOKENIZER_H
#define REINFORCE_TEXT_TOKENIZER_H

#include "reinforce/base/arena.h"
#include "reinforce/base/bytes.h"

struct tokenizer;

/** How a text becomes a row of ids. */
struct tokenizer_encoding {
    bool add_special_tokens;     /* as the post-processor says: <start>, <end>, <bos>, ... */
    bool special_tokens_in_text; /* false: text that spells a special token is split like any other
                                    (untrusted data) */
};

/**
 * Parses `json` (the bytes of tokenizer.json, not kept). ST_CORRUPT: broken; ST_INVALID: a
 * normalizer, pre-tokenizer, model or post-processor kind we do not have, by name.
 */
NODISCARD enum status tokenizer_create(struct bytes_view json, struct tokenizer **out,
                                       struct error *err);

/**
 * text UTF-8 (invalid sequences count as U+FFFD); *ids int32 [*n_ids] in `arena`, not truncated,
 * not padded. Equal to Tokenizer.encode(text).ids of Hugging Face tokenizers.
 */
NODISCARD enum status tokenizer_encode(const struct tokenizer *tok, struct bytes_view text,
                                       const struct tokenizer_encoding *how, struct arena *arena,
                                       int32_t **ids, size_t *n_ids, struct error *err);

/** ids to text by the file's decoder; unknown ids are ST_INVALID. Equal to Tokenizer.decode(). */
NODISCARD enum status tokenizer_decode(const struct tokenizer *tok, const int32_t *ids,
                                       size_t n_ids, bool skip_special_tokens, struct arena *arena,
                                       char **text, size_t *text_len, struct error *err);

/** Number of ids, added tokens included. */
size_t tokenizer_vocab_size(const struct tokenizer *tok);

/** Id of a token by its exact spelling, or -1. */
int32_t tokenizer_token_id(const struct tokenizer *tok, const char *token);

void tokenizer_destroy(struct tokenizer **tok);

/**
 * The row layout of CLIP and CoCa: [start] + ids + [end], cut to `context` with `end` forced into
 * the last place, padded with `pad`.   row int32 [context]; returns how many come before the
 * padding.
 */
size_t tokenizer_clip_row(const int32_t *ids, size_t n_ids, int32_t start, int32_t end, int32_t pad,
                          size_t context, int32_t *row);

#endif
