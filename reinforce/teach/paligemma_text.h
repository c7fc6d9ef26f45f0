/* From a prompt to the ids that PaliGemma reads behind an image's tokens. */
#ifndef REINFORCE_TEACH_PALIGEMMA_TEXT_H
#define REINFORCE_TEACH_PALIGEMMA_TEXT_H

#include "reinforce/models/snapshot.h"
#include "reinforce/text/tokenizer.h"

/** Immutable after opening. */
struct paligemma_text {
    struct tokenizer *tokenizer;
    int32_t bos, newline;
};

/** Opens the snapshot's tokenizer. ST_INVALID: it has fewer ids than the model, or no <bos> or
 * newline of Gemma's. */
NODISCARD enum status paligemma_text_open(const struct snapshot *snapshot,
                                          struct paligemma_text *out, struct error *err);

/**
 * *row int32 [*n] in `arena`: <bos>, the prompt's tokens, a newline. The job's author wrote the
 * prompt: <loc0042> in it is a token.
 */
NODISCARD enum status paligemma_text_row(const struct paligemma_text *text,
                                         struct bytes_view prompt, struct arena *arena,
                                         int32_t **row, size_t *n, struct error *err);

void paligemma_text_close(struct paligemma_text *text);

#endif
