#include "reinforce/teach/clip_text.h"

#include "reinforce/text/clean.h"

/* The start and end tokens under either of their spellings. */
static int32_t special(const struct tokenizer *tokenizer, const char *spelling,
                       const char *open_clip_spelling)
{
    int32_t id = tokenizer_token_id(tokenizer, spelling);

    return id >= 0 ? id : tokenizer_token_id(tokenizer, open_clip_spelling);
}

enum status clip_text_open(const struct snapshot *snapshot, enum teacher_clean clean,
                           bool special_tokens_in_text, size_t context, struct clip_text *out,
                           struct error *err)
{
    enum status st;

    memset(out, 0, sizeof *out);
    if (clean > TEACHER_CLEAN_TOKENIZER_JSON)
        return error_set(err, ST_INVALID,
                         "clean is auto, open_clip or tokenizer_json for a CLIP; the others are "
                         "SigLIP's");
    out->clean_open_clip = clean == TEACHER_CLEAN_OPEN_CLIP ||
                           (clean == TEACHER_CLEAN_AUTO && snapshot->naming == NAMING_OPEN_CLIP);
    out->special_tokens_in_text = special_tokens_in_text;
    out->context = context;
    st = tokenizer_open(snapshot->dir,
                        out->clean_open_clip ? TOKENIZER_RULES_OPEN_CLIP : TOKENIZER_RULES_OF_FILE,
                        &out->tokenizer, err);
    if (st != ST_OK)
        return st;
    out->start = special(out->tokenizer, "<|startoftext|>", "<start_of_text>");
    out->end = special(out->tokenizer, "<|endoftext|>", "<end_of_text>");
    if (out->start < 0 || out->end < 0)
        st = error_set(err, ST_INVALID, "the tokenizer has no start or end token of CLIP's");
    else if (tokenizer_vocab_size(out->tokenizer) > snapshot->text.vocab_size)
        st = error_set(err, ST_INVALID, "the tokenizer has %zu ids, the model's vocabulary %zu",
                       tokenizer_vocab_size(out->tokenizer), snapshot->text.vocab_size);
    if (st != ST_OK)
        clip_text_close(out);
    return st;
}

enum status clip_text_row(const struct clip_text *text, struct bytes_view from, struct arena *arena,
                          int32_t **row, size_t *n, struct error *err)
{
    const struct tokenizer_encoding how = {.special_tokens_in_text = text->special_tokens_in_text};
    bool suspect_mojibake;
    int32_t *ids;
    size_t n_ids;
    enum status st = ST_OK;

    if (text->clean_open_clip)
        st = clean_open_clip(from, arena, &from, &suspect_mojibake, err);
    if (st == ST_OK)
        st = tokenizer_encode(text->tokenizer, from, &how, arena, &ids, &n_ids, err);
    if (st == ST_OK)
        st = arena_calloc(arena, text->context, sizeof **row, row, err);
    if (st == ST_OK)
        *n = tokenizer_clip_row(ids, n_ids, text->start, text->end, 0, text->context, *row);
    return st;
}

void clip_text_close(struct clip_text *text)
{
    tokenizer_destroy(&text->tokenizer);
}
