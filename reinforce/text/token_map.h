/* The two hash maps of a BPE model: token spelling -> id and (left id, right id) -> merge. */
#ifndef REINFORCE_TEXT_TOKEN_MAP_H
#define REINFORCE_TEXT_TOKEN_MAP_H

#include "reinforce/base/bytes.h"

/** Spellings and ids, both ways. Plain data for its functions; a zeroed one is released safely. */
struct token_map {
    struct byte_buf bytes;      /* all spellings, one behind the other */
    struct token_spelling *ids; /* by id */
    size_t n_ids;               /* one more than the largest id */
    size_t ids_capacity;
    int32_t *slots; /* open addressing: id or -1 */
    size_t n_slots; /* a power of two */
    size_t n_tokens;
    int64_t max_id; /* what a token may have */
};

/**
 * Prepares for `n_tokens` entries; more may be added later. Ids may have holes, but not so many
 * that a small file could ask for a large table.
 */
NODISCARD enum status token_map_init(struct token_map *map, size_t n_tokens, struct error *err);
void token_map_release(struct token_map *map);

/** ST_CORRUPT when the spelling or the id is taken, or the id is out of range. */
NODISCARD enum status token_map_add(struct token_map *map, struct bytes_view token, int64_t id,
                                    struct error *err);

/** The id of a spelling, or -1. */
int32_t token_map_find(const struct token_map *map, struct bytes_view token);

/** The spelling of an id, until the map changes; false for an id nobody has. */
bool token_map_spelling(const struct token_map *map, int64_t id, struct bytes_view *token);

/** What a pair becomes. */
struct merge {
    uint32_t rank; /* smaller merges first */
    int32_t id;    /* of the joined token */
};

struct merge_map {
    struct merge_slot *slots;
    size_t n_slots; /* a power of two */
};

/** Room for `n_merges` pairs. */
NODISCARD enum status merge_map_init(struct merge_map *map, size_t n_merges, struct error *err);
void merge_map_release(struct merge_map *map);

/** A repeated pair takes the later rank, as in Hugging Face tokenizers. At most n_merges calls. */
void merge_map_put(struct merge_map *map, int32_t left, int32_t right, struct merge merge);

/** NULL when the pair does not merge. */
const struct merge *merge_map_find(const struct merge_map *map, int32_t left, int32_t right);

#endif
