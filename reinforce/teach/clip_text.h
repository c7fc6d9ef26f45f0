/* From a text to the row of ids that CLIP-like models read: cleaning, tokens, start and end. */
#ifndef REINFORCE_TEACH_CLIP_TEXT_H
#define REINFORCE_TEACH_CLIP_TEXT_H

#include "reinforce/models/snapshot.h"
#include "reinforce/teach/teacher.h"
#include "reinforce/text/tokenizer.h"

/** Immutable after opening. */
struct clip_text {
    struct tokenizer *tokenizer;
    bool clean_open_clip;
    bool special_tokens_in_text;
    int32_t start, end;
    size_t context;
};

/** Opens the snapshot's tokenizer. ST_INVALID: it has more ids than the model, or no start and end
 * token. */
NODISCARD enum status clip_text_open(const struct snapshot *snapshot, enum teacher_clean clean,
                                     bool special_tokens_in_text, size_t context,
                                     struct clip_text *out, struct error *err);

/** *row int32 [*n] in `arena`: start, tokens, end; cut to the context, not padded. */
NODISCARD enum status clip_text_row(const struct clip_text *text, struct bytes_view from,
                                    struct arena *arena, int32_t **row, size_t *n,
                                    struct error *err);

void clip_text_close(struct clip_text *text);

#endif
