/* The byte-pair model: a pre-token to ids. */
#ifndef REINFORCE_TEXT_BPE_H
#define REINFORCE_TEXT_BPE_H

#include "reinforce/base/json.h"
#include "reinforce/text/token_map.h"

/** Immutable after bpe_init. A zeroed one is released safely. */
struct bpe {
    struct token_map vocab;
    struct merge_map merges;
    struct byte_buf prefix, suffix; /* continuing_subword_prefix, end_of_word_suffix */
    bool has_unk;
    int32_t unk_id; /* -1: named, but not in the vocabulary */
    bool fuse_unk, byte_fallback, ignore_merges;
    int32_t byte_ids[256]; /* of <0x00>.. or -1 */
};

/** From the "model" of tokenizer.json. ST_INVALID: another model or dropout; ST_CORRUPT: a merge
 * out of the vocabulary, a repeated id. On failure `bpe` is as released. */
NODISCARD enum status bpe_init(struct bpe *bpe, const json_t *model, struct error *err);
void bpe_release(struct bpe *bpe);

/** Working memory of one thread, reused from word to word. Zero-initialise it by its init. */
struct bpe_scratch {
    struct byte_buf symbols, heap, spelling;
};
void bpe_scratch_init(struct bpe_scratch *scratch);
void bpe_scratch_release(struct bpe_scratch *scratch);

/**
 * Appends the int32 ids of `word` (valid UTF-8) to `ids`. O(n log n): merges wait in a heap by
 * rank, then position. Source: Sennrich et al. 2016, with the order of Hugging Face tokenizers.
 */
NODISCARD enum status bpe_encode(const struct bpe *bpe, struct bytes_view word,
                                 struct bpe_scratch *scratch, struct byte_buf *ids,
                                 struct error *err);

#endif
