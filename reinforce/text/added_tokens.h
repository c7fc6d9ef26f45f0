/* Added tokens: spellings that are found in the text before the model sees it. */
#ifndef REINFORCE_TEXT_ADDED_TOKENS_H
#define REINFORCE_TEXT_ADDED_TOKENS_H

#include "reinforce/text/bpe.h"
#include "reinforce/text/normalizer.h"
#include "reinforce/text/pieces.h"

/** Immutable after init. A zeroed one is released safely. */
struct added_tokens {
    struct added_token *items;
    size_t n_items;
    struct token_map map;          /* spelling <-> id */
    int32_t *item_of_id;           /* [map.n_ids] index into items, or -1 */
    struct trie *raw, *normalized; /* which spellings are looked for where; NULL: none */
};

/**
 * From the "added_tokens" array (NULL: none). A token that the model lacks gets the next free id,
 * as in the reference; ST_CORRUPT when the file says another.
 */
NODISCARD enum status added_tokens_init(struct added_tokens *added, const json_t *json,
                                        const struct bpe *bpe, const struct normalizer *normalizer,
                                        struct error *err);
void added_tokens_release(struct added_tokens *added);

/**
 * Fills the empty `pieces` with the normalized pieces of `text` (valid UTF-8) and the tokens found
 * between them. Without `special`, the spelling of a special token is text.
 */
NODISCARD enum status added_tokens_split(const struct added_tokens *added,
                                         const struct normalizer *normalizer,
                                         struct bytes_view text, bool special,
                                         struct pieces *pieces, struct error *err);

/** The spelling of an id, if an added token has it. */
bool added_tokens_spelling(const struct added_tokens *added, int64_t id, struct bytes_view *token);

/** True if the id is that of a special token. */
bool added_tokens_is_special(const struct added_tokens *added, int64_t id);

#endif
