/* The unigram model of SentencePiece: a pre-token to the ids of its likeliest segmentation. */
#ifndef REINFORCE_TEXT_UNIGRAM_H
#define REINFORCE_TEXT_UNIGRAM_H

#include "reinforce/base/json.h"
#include "reinforce/text/token_map.h"

/** Immutable after unigram_init. A zeroed one is released safely. */
struct unigram {
    double *scores; /* log probability, by id */
    size_t n;
    size_t longest; /* bytes of the longest piece */
    double unk_score;
    int32_t unk_id; /* -1: none */
    bool byte_fallback;
    int32_t byte_ids[256]; /* of <0x00>.. or -1 */
};

/**
 * From the "model" of tokenizer.json, whose pieces go to `vocab` (not yet initialised; the
 * caller's). ST_CORRUPT: a repeated piece, a score that is no number. On failure as released.
 */
NODISCARD enum status unigram_init(struct unigram *unigram, const json_t *model,
                                   struct token_map *vocab, struct error *err);
void unigram_release(struct unigram *unigram);

/**
 * Appends the int32 ids of `word` (valid UTF-8) to `ids`: the segmentation of the largest sum of
 * scores, of equal ones the first found; neighbouring unknown characters are one unknown. O(n) look
 * ups of at most `longest` bytes. Source: Kudo 2018, as Hugging Face tokenizers has it.
 */
NODISCARD enum status unigram_encode(const struct unigram *unigram, const struct token_map *vocab,
                                     struct bytes_view word, struct byte_buf *ids,
                                     struct error *err);

#endif
