#include "reinforce/teach/paligemma_text.h"

enum status paligemma_text_open(const struct snapshot *snapshot, struct paligemma_text *out,
                                struct error *err)
{
    size_t V = snapshot->decoder.vocab_size;
    enum status st;

    memset(out, 0, sizeof *out);
    st = tokenizer_open(snapshot->dir, TOKENIZER_RULES_OF_FILE, &out->tokenizer, err);
    if (st != ST_OK)
        return st;
    out->bos = tokenizer_token_id(out->tokenizer, "<bos>");
    out->newline = tokenizer_token_id(out->tokenizer, "\n");
    if (out->bos < 0 || out->newline < 0 || (size_t)out->bos >= V || (size_t)out->newline >= V)
        st = error_set(err, ST_INVALID, "the tokenizer has no <bos> or no newline of Gemma's");
    else if (tokenizer_vocab_size(out->tokenizer) < V)
        st = error_set(err, ST_INVALID, "the tokenizer has %zu ids, the model says %zu",
                       tokenizer_vocab_size(out->tokenizer), V);
    if (st != ST_OK)
        paligemma_text_close(out);
    return st;
}

enum status paligemma_text_row(const struct paligemma_text *text, struct bytes_view prompt,
                               struct arena *arena, int32_t **row, size_t *n, struct error *err)
{
    const struct tokenizer_encoding how = {.special_tokens_in_text = true};
    int32_t *ids;
    size_t n_ids;
    enum status st = tokenizer_encode(text->tokenizer, prompt, &how, arena, &ids, &n_ids, err);

    if (st == ST_OK)
        st = arena_alloc(arena, (n_ids + 2) * sizeof *ids, row, err);
    if (st != ST_OK)
        return st;
    *n = n_ids + 2;
    (*row)[0] = text->bos;
    memcpy(*row + 1, ids, n_ids * sizeof *ids);
    (*row)[n_ids + 1] = text->newline;
    return ST_OK;
}

void paligemma_text_close(struct paligemma_text *text)
{
    tokenizer_destroy(&text->tokenizer);
}
