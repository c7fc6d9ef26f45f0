/* From a text to the row of ids that SigLIP reads: cleaning, tokens, end, pads. */
#ifndef REINFORCE_TEACH_SIGLIP_TEXT_H
#define REINFORCE_TEACH_SIGLIP_TEXT_H

#include "reinforce/models/snapshot.h"
#include "reinforce/teach/teacher.h"
#include "reinforce/text/tokenizer.h"

/** Immutable after opening. */
struct siglip_text {
    struct tokenizer *tokenizer;
    enum teacher_clean clean; /* never auto */
    bool special_tokens_in_text;
    int32_t end, pad;
    size_t context;
};

/**
 * Opens the snapshot's tokenizer: Gemma's (ends with <eos>, pads with <pad>: SigLIP 2) or T5's
 * (</s> for both: SigLIP 1). ST_INVALID: it is neither, or has more ids than the model.
 */
NODISCARD enum status siglip_text_open(const struct snapshot *snapshot, enum teacher_clean clean,
                                       bool special_tokens_in_text, struct siglip_text *out,
                                       struct error *err);

/** *row int32 [context] in `arena`: tokens cut so that the end fits, the end, pads. Neither the
 * tokenizer's own start nor its end is asked for. */
NODISCARD enum status siglip_text_row(const struct siglip_text *text, struct bytes_view from,
                                      struct arena *arena, int32_t **row, struct error *err);

void siglip_text_close(struct siglip_text *text);

#endif
