/* SentencePiece's compiled normalization rules, as tokenizer.json's Precompiled normalizer holds
 * them. */
#ifndef REINFORCE_TEXT_CHARSMAP_H
#define REINFORCE_TEXT_CHARSMAP_H

#include "reinforce/base/bytes.h"

/*
 * The decoded bytes, little-endian:
 *
 *     u32 n                 bytes of the trie, a multiple of 4
 *     u32 unit[n / 4]       a double array (Yata et al., darts-clone):
 *                             bits 0-7 label, 8 has a leaf, 9 and 10-31 offset to the children;
 *                             a leaf is bit 31 and the position of its replacement
 *     replacements          NUL-terminated UTF-8, to the end
 */

/** Immutable after charsmap_init. A zeroed one is released safely. */
struct charsmap {
    struct byte_buf bytes;
    size_t n_units;
};

/** `base64` is the member precompiled_charsmap. ST_CORRUPT: not base64, or cut short. */
NODISCARD enum status charsmap_init(struct charsmap *map, struct bytes_view base64,
                                    struct error *err);
void charsmap_release(struct charsmap *map);

/**
 * Appends `text` (valid UTF-8) with every grapheme of less than 6 bytes, else every character,
 * replaced that the rules know. As in the reference the shortest rule that begins a grapheme
 * replaces the whole of it. ST_CORRUPT: the map points outside itself, or to invalid UTF-8.
 */
NODISCARD enum status charsmap_run(const struct charsmap *map, struct bytes_view text,
                                   struct byte_buf *out, struct error *err);

#endif
