/* The "pre_tokenizer" of tokenizer.json: cuts pieces into words. */
#ifndef REINFORCE_TEXT_PRE_TOKENIZER_H
#define REINFORCE_TEXT_PRE_TOKENIZER_H

#include "reinforce/base/json.h"
#include "reinforce/text/pieces.h"
#include "reinforce/text/regex.h"

/** What becomes of what a pattern matches; of "the-final--countdown" by "-": */
enum split_behavior {
    SPLIT_REMOVED,       /* the | final | countdown */
    SPLIT_ISOLATED,      /* the | - | final | - | - | countdown */
    SPLIT_WITH_PREVIOUS, /* the- | final- | - | countdown */
    SPLIT_WITH_NEXT,     /* the | -final | - | -countdown */
    SPLIT_CONTIGUOUS,    /* the | - | final | -- | countdown */
};

/** A flat list of steps, sequences unrolled. Immutable after init; zeroed is released safely. */
struct pre_tokenizer {
    struct pre_tokenizer_step *steps;
    size_t n_steps;
};

/**
 * Split, ByteLevel, Whitespace, Metaspace, Sequence; NULL or null is no step. Another kind is
 * ST_INVALID by name. On failure as released.
 */
NODISCARD enum status pre_tokenizer_init(struct pre_tokenizer *pre, const json_t *json,
                                         struct error *err);
void pre_tokenizer_release(struct pre_tokenizer *pre);

/** Runs all steps over `pieces`; `spare` is working memory. */
NODISCARD enum status pre_tokenizer_run(const struct pre_tokenizer *pre, struct pieces *pieces,
                                        struct pieces *spare, struct error *err);

/** One split of every piece that is text; with `invert` what lies between the matches counts as
 * the match. */
NODISCARD enum status pre_tokenizer_split(const struct regex *regex, bool invert,
                                          enum split_behavior behavior, struct pieces *pieces,
                                          struct pieces *spare, struct error *err);

/** Writes every piece that is text in byte-level characters. */
NODISCARD enum status pre_tokenizer_byte_level(struct pieces *pieces, struct pieces *spare,
                                               struct error *err);

/** True if a step asks where the user's text begins. */
bool pre_tokenizer_needs_start(const struct pre_tokenizer *pre);

#endif
