/* BPE and unigram tokenizers read from Hugging Face tokenizer.json. Immutable after creation: any
 * number of threads may use one. */
#ifndef REINFORCE_TEXT_TOKENIZER_H
#define REINFORCE_TEXT_TOKENIZER_H

#include "reinforce/base/arena.h"
#include "reinforce/base/bytes.h"

struct tokenizer;

/** Whose rules prepare a text for the model. */
enum tokenizer_rules {
    TOKENIZER_RULES_OF_FILE = 0, /* normalizer and pre-tokenizer of tokenizer.json */
    /* open_clip's SimpleTokenizer, for CLIP vocabularies: no normalizer (the text has been through
     * clean_open_clip), words split without regard to case, special tokens spelled
     * <start_of_text> and <end_of_text>. */
    TOKENIZER_RULES_OPEN_CLIP = 1,
};

/** How a text becomes a row of ids. */
struct tokenizer_encoding {
    bool add_special_tokens;     /* as the post-processor says: <start>, <end>, <bos>, ... */
    bool special_tokens_in_text; /* false: text that spells a special token is split like any other
                                    (untrusted data) */
};

/**
 * Parses `json` (the bytes of tokenizer.json, not kept). ST_CORRUPT: broken; ST_INVALID: a
 * normalizer, pre-tokenizer, model or post-processor kind we do not have, by name. "truncation" and
 * "padding" are left to the caller.
 */
NODISCARD enum status tokenizer_create(struct bytes_view json, struct tokenizer **out,
                                       struct error *err);

/** The same with other rules; ST_INVALID when they ask for a CLIP vocabulary and it is none. */
NODISCARD enum status tokenizer_create_with_rules(struct bytes_view json,
                                                  enum tokenizer_rules rules,
                                                  struct tokenizer **out, struct error *err);

/** The CLIP tokenizer from the bytes of vocab.json and merges.txt, as snapshots without
 * tokenizer.json have them. */
NODISCARD enum status tokenizer_create_from_vocab_merges(struct bytes_view vocab,
                                                         struct bytes_view merges,
                                                         enum tokenizer_rules rules,
                                                         struct tokenizer **out, struct error *err);

/**
 * The tokenizer of a snapshot folder: tokenizer.json, else vocab.json with merges.txt.
 * ST_NOT_FOUND says which file to add.
 */
NODISCARD enum status tokenizer_open(const char *model_dir, enum tokenizer_rules rules,
                                     struct tokenizer **out, struct error *err);

/**
 * text UTF-8 (invalid sequences count as U+FFFD); *ids int32 [*n_ids] in `arena`, not truncated,
 * not padded. Equal to Tokenizer.encode(text).ids of Hugging Face tokenizers.
 */
NODISCARD enum status tokenizer_encode(const struct tokenizer *tok, struct bytes_view text,
                                       const struct tokenizer_encoding *how, struct arena *arena,
                                       int32_t **ids, size_t *n_ids, struct error *err);

/**
 * ids to text by the file's decoder; unknown ids are ST_INVALID. Equal to Tokenizer.decode(), with
 * one addition: where the model marks the end of a word ("</w>") and the decoder only undoes the
 * byte level, each mark becomes a space, as open_clip's decode and transformers' CLIPTokenizerFast
 * do. *text is in `arena` and NUL-terminated; text_len does not count the NUL.
 */
NODISCARD enum status tokenizer_decode(const struct tokenizer *tok, const int32_t *ids,
                                       size_t n_ids, bool skip_special_tokens, struct arena *arena,
                                       char **text, size_t *text_len, struct error *err);

/** One more than the largest id, added tokens included: the rows an embedding table needs. */
size_t tokenizer_vocab_size(const struct tokenizer *tok);

/** Id of a token by its exact spelling, or -1. */
int32_t tokenizer_token_id(const struct tokenizer *tok, const char *token);

/** True for the ids that skip_special_tokens leaves out. */
bool tokenizer_is_special(const struct tokenizer *tok, int32_t id);

void tokenizer_destroy(struct tokenizer **tok);

/**
 * The row layout of CLIP and CoCa: [start] + ids + [end], cut to `context` (>= 1) with `end` forced
 * into the last place, padded with `pad`.   row int32 [context]; returns how many come before the
 * padding.
 */
size_t tokenizer_clip_row(const int32_t *ids, size_t n_ids, int32_t start, int32_t end, int32_t pad,
                          size_t context, int32_t *row);

#endif
