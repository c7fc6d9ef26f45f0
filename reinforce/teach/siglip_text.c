#include "reinforce/teach/siglip_text.h"

#include "reinforce/text/clean.h"

/* Which vocabulary it is, by its marks. */
static enum status read_marks(struct siglip_text *text, bool *gemma, struct error *err)
{
    int32_t pad = tokenizer_token_id(text->tokenizer, "<pad>");
    int32_t eos = tokenizer_token_id(text->tokenizer, "<eos>");
    int32_t slash = tokenizer_token_id(text->tokenizer, "</s>");

    *gemma = pad >= 0 && eos >= 0;
    text->end = *gemma ? eos : slash;
    text->pad = *gemma ? pad : slash;
    return text->end >= 0
               ? ST_OK
               : error_set(err, ST_INVALID,
                           "the tokenizer has neither <eos> and <pad> (SigLIP 2) nor </s> "
                           "(SigLIP 1)");
}

enum status siglip_text_open(const struct snapshot *snapshot, enum teacher_clean clean,
                             bool special_tokens_in_text, struct siglip_text *out,
                             struct error *err)
{
    bool gemma = false;
    enum status st;

    memset(out, 0, sizeof *out);
    out->clean = clean;
    out->special_tokens_in_text = special_tokens_in_text;
    out->context = snapshot->text.context_length;
    st = tokenizer_open(snapshot->dir, TOKENIZER_RULES_OF_FILE, &out->tokenizer, err);
    if (st == ST_NOT_FOUND)
        st = error_set(err, ST_NOT_FOUND,
                       "\"%.120s\" has no tokenizer.json; spiece.model alone is not read",
                       snapshot->dir);
    if (st == ST_OK)
        st = read_marks(out, &gemma, err);
    if (st == ST_OK && tokenizer_vocab_size(out->tokenizer) > snapshot->text.vocab_size)
        st = error_set(err, ST_INVALID, "the tokenizer has %zu ids, the model's vocabulary %zu",
                       tokenizer_vocab_size(out->tokenizer), snapshot->text.vocab_size);
    if (clean == TEACHER_CLEAN_AUTO && snapshot->naming == NAMING_OPEN_CLIP)
        out->clean = TEACHER_CLEAN_OPEN_CLIP;
    else if (clean == TEACHER_CLEAN_AUTO)
        out->clean = gemma ? TEACHER_CLEAN_LOWER_ASCII : TEACHER_CLEAN_CANONICAL;
    if (st != ST_OK)
        siglip_text_close(out);
    return st;
}

static enum status clean_text(enum teacher_clean how, struct bytes_view from, struct arena *arena,
                              struct bytes_view *out, struct error *err)
{
    bool suspect_mojibake;

    switch (how) {
    case TEACHER_CLEAN_OPEN_CLIP:
        return clean_open_clip_canonical(from, arena, out, &suspect_mojibake, err);
    case TEACHER_CLEAN_LOWER_ASCII:
        return clean_lower_ascii(from, arena, out, err);
    case TEACHER_CLEAN_LOWER_UNICODE:
        return clean_lower_unicode(from, arena, out, err);
    case TEACHER_CLEAN_CANONICAL:
        return clean_canonical(from, arena, out, err);
    case TEACHER_CLEAN_AUTO:
    case TEACHER_CLEAN_TOKENIZER_JSON:
        break;
    }
    *out = from;
    return ST_OK;
}

/* How much of a text may be encoded at once. Gemma's file does not mark <mask> as special, so a
 * text that spells it would become it: cut behind its "<", it stays text. */
static size_t whole_part(const struct siglip_text *text, struct bytes_view from)
{
    static const char mask[] = "<mask>";

    for (size_t i = 0; !text->special_tokens_in_text && i + sizeof mask - 1 <= from.len; i++)
        if (memcmp(from.data + i, mask, sizeof mask - 1) == 0)
            return i + 1;
    return from.len;
}

enum status siglip_text_row(const struct siglip_text *text, struct bytes_view from,
                            struct arena *arena, int32_t **row, struct error *err)
{
    const struct tokenizer_encoding how = {.special_tokens_in_text = text->special_tokens_in_text};
    size_t n = 0, most = text->context - 1;
    enum status st = clean_text(text->clean, from, arena, &from, err);

    if (st == ST_OK)
        st = arena_calloc(arena, text->context, sizeof **row, row, err);
    while (st == ST_OK && from.len > 0) {
        size_t part = whole_part(text, from), n_ids = 0;
        int32_t *ids;

        st = tokenizer_encode(text->tokenizer, bytes_view_of(from.data, part), &how, arena, &ids,
                              &n_ids, err);
        for (size_t i = 0; i < n_ids && n < most && st == ST_OK; i++)
            (*row)[n++] = ids[i];
        from = bytes_view_of(from.data + part, from.len - part);
    }
    if (st != ST_OK)
        return st;
    (*row)[n++] = text->end;
    while (n < text->context)
        (*row)[n++] = text->pad;
    return ST_OK;
}

void siglip_text_close(struct siglip_text *text)
{
    tokenizer_destroy(&text->tokenizer);
}
