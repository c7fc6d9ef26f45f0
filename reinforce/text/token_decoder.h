/* The "decoder" of tokenizer.json: spellings of tokens back to text. */
#ifndef REINFORCE_TEXT_TOKEN_DECODER_H
#define REINFORCE_TEXT_TOKEN_DECODER_H

#include "reinforce/base/json.h"

/** A flat list of steps, sequences unrolled. Immutable after init; zeroed is released safely. */
struct token_decoder {
    struct token_decoder_step *steps;
    size_t n_steps;
};

/**
 * ByteLevel, BPEDecoder, Replace, ByteFallback, Fuse, Strip, Metaspace, Sequence; NULL or null is
 * no step. Another kind is ST_INVALID by name. On failure as released.
 */
NODISCARD enum status token_decoder_init(struct token_decoder *decoder, const json_t *json,
                                         struct error *err);
void token_decoder_release(struct token_decoder *decoder);

/** Spellings, each a view into `text`: the list that the steps rewrite. */
struct spellings {
    struct byte_buf text;
    struct byte_buf ends; /* size_t: where each stops */
};

void spellings_init(struct spellings *list);
void spellings_release(struct spellings *list);
NODISCARD enum status spellings_push(struct spellings *list, struct bytes_view spelling,
                                     struct error *err);

/** Runs the steps and appends the text to `out`. Without steps the spellings are joined by spaces.
 */
NODISCARD enum status token_decoder_run(const struct token_decoder *decoder, struct spellings *list,
                                        struct byte_buf *out, struct error *err);

/** True if a step turns byte-level characters back to bytes. */
bool token_decoder_is_byte_level(const struct token_decoder *decoder);

#endif
