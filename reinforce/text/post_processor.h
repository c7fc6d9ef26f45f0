/* The "post_processor" of tokenizer.json: special tokens around a sequence. */
#ifndef REINFORCE_TEXT_POST_PROCESSOR_H
#define REINFORCE_TEXT_POST_PROCESSOR_H

#include "reinforce/base/json.h"

/** What comes out for one text: ids, and -1 where the text's own ids go. Zeroed: the text alone. */
struct post_processor {
    struct byte_buf plan; /* int32 */
    bool has_plan;
};

/**
 * RobertaProcessing, TemplateProcessing (its "single"), ByteLevel (offsets only), Sequence; NULL or
 * null is none. Another kind is ST_INVALID by name. On failure as released.
 */
NODISCARD enum status post_processor_init(struct post_processor *post, const json_t *json,
                                          struct error *err);
void post_processor_release(struct post_processor *post);

/** The largest id it adds, or -1. */
int32_t post_processor_max_id(const struct post_processor *post);

/** Appends the int32 ids of a text whose own are `ids` to `out`. */
NODISCARD enum status post_processor_run(const struct post_processor *post, struct bytes_view ids,
                                         bool add_special_tokens, struct byte_buf *out,
                                         struct error *err);

#endif
