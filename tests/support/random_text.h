/* The random texts of tests/golden/make_text.py: same index, same bytes. */
#ifndef REINFORCE_TESTS_RANDOM_TEXT_H
#define REINFORCE_TESTS_RANDOM_TEXT_H

#include "reinforce/base/json.h"

/** Lists of tests/golden/text_parts.json, and the words of its sentences. */
struct random_text {
    json_t *parts, *words;
};

NODISCARD enum status random_text_init(struct random_text *source, struct error *err);
void random_text_release(struct random_text *source);

/** Appends text `index`: words of 35 languages, symbols, odd spaces, broken UTF-8. */
NODISCARD enum status random_text_make(const struct random_text *source, uint64_t index,
                                       struct byte_buf *out, struct error *err);

/** FNV-1a, 32 bits: what the .sums files hold. */
uint32_t random_text_sum(struct bytes_view data);

/** SplitMix64 in [0, n). Source: Steele et al. 2014. */
uint64_t random_text_below(uint64_t *state, uint64_t n);

#endif
