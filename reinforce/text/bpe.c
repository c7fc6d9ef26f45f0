#include "reinforce/text/bpe.h"

#include "reinforce/base/utf8.h"
#include "reinforce/text/json_field.h"

enum { MAX_SYMBOLS = 1 << 28, MAX_AFFIX_BYTES = 256 };

struct symbol {
    int32_t id; /* -1: merged into its left neighbour */
    int32_t prev, next;
};

struct candidate {
    uint32_t rank;
    int32_t pos; /* of the left symbol */
    int32_t id;  /* what the pair became when this was queued */
};

/* ---- reading ---- */

static enum status read_affix(const json_t *model, const char *key, struct byte_buf *affix,
                              struct error *err)
{
    struct bytes_view text;
    enum status st = json_field_string(model, key, false, &text, err);

    byte_buf_init(affix, MAX_AFFIX_BYTES);
    if (st == ST_OK && text.len > MAX_AFFIX_BYTES)
        return error_set(err, ST_INVALID, "\"%s\" is longer than %d bytes", key,
                         (int)MAX_AFFIX_BYTES);
    return st == ST_OK ? byte_buf_append(affix, text.data, text.len, err) : st;
}

static enum status read_flags(struct bpe *bpe, const json_t *model, struct error *err)
{
    const json_t *dropout = json_object_get(model, "dropout");
    enum status st;

    if (dropout != NULL && !json_is_null(dropout) &&
        !(json_is_number(dropout) && json_number_value(dropout) == 0.0))
        return error_set(err, ST_INVALID,
                         "\"dropout\" makes ids random and is not supported: set it to null");
    st = json_field_bool(model, "fuse_unk", false, &bpe->fuse_unk, err);
    if (st == ST_OK)
        st = json_field_bool(model, "byte_fallback", false, &bpe->byte_fallback, err);
    if (st == ST_OK)
        st = json_field_bool(model, "ignore_merges", false, &bpe->ignore_merges, err);
    if (st == ST_OK)
        st = read_affix(model, "continuing_subword_prefix", &bpe->prefix, err);
    if (st == ST_OK)
        st = read_affix(model, "end_of_word_suffix", &bpe->suffix, err);
    return st;
}

static enum status read_vocab(struct bpe *bpe, const json_t *vocab, struct error *err)
{
    union { /* jansson's iterator takes a non-const object but changes nothing */
        const json_t *in;
        json_t *object;
    } cast = {.in = vocab};
    enum status st;

    if (!json_is_object(vocab))
        return error_set(err, ST_CORRUPT, "\"vocab\" is not an object");
    st = token_map_init(&bpe->vocab, json_object_size(vocab), err);
    for (void *it = json_object_iter(cast.object); it != NULL && st == ST_OK;
         it = json_object_iter_next(cast.object, it)) {
        const json_t *id = json_object_iter_value(it);
        struct bytes_view token =
            bytes_view_of(json_object_iter_key(it), json_object_iter_key_len(it));

        if (!json_is_integer(id))
            st = error_set(err, ST_CORRUPT, "id of token \"%.*s\" is not an integer",
                           (int)MIN(token.len, 60), token.data);
        else
            st = token_map_add(&bpe->vocab, token, json_integer_value(id), err);
    }
    return st;
}

/* The two sides of a merge in either form, "a b" or ["a", "b"]. */
static enum status merge_sides(const json_t *merge, bool pairs, struct bytes_view side[2],
                               struct error *err)
{
    struct bytes_view line;
    const uint8_t *space;

    if (pairs) {
        if (json_array_size(merge) != 2 || !json_is_string(json_array_get(merge, 0)) ||
            !json_is_string(json_array_get(merge, 1)))
            return error_set(err, ST_CORRUPT, "not a pair of strings");
        side[0] = json_view(json_array_get(merge, 0));
        side[1] = json_view(json_array_get(merge, 1));
        return ST_OK;
    }
    if (!json_is_string(merge))
        return error_set(err, ST_CORRUPT, "not a string, as the first merge is");
    line = json_view(merge);
    space = line.len > 0 ? memchr(line.data, ' ', line.len) : NULL;
    if (space == NULL)
        return error_set(err, ST_CORRUPT, "no space between two tokens");
    side[0] = bytes_view_of(line.data, (size_t)(space - line.data));
    side[1] = bytes_view_of(space + 1, line.len - side[0].len - 1);
    if (side[1].len > 0 && memchr(side[1].data, ' ', side[1].len) != NULL)
        return error_set(err, ST_CORRUPT, "more than one space");
    return ST_OK;
}

static enum status add_merge(struct bpe *bpe, const struct bytes_view side[2], uint32_t rank,
                             struct byte_buf *joined, struct error *err)
{
    int32_t id[2] = {-1, -1}, joined_id = -1;
    enum status st = ST_OK;

    for (int i = 0; i < 2; i++) {
        id[i] = token_map_find(&bpe->vocab, side[i]);
        if (id[i] < 0)
            return error_set(err, ST_CORRUPT, "\"%.*s\" is not in the vocabulary",
                             (int)MIN(side[i].len, 60), side[i].data);
    }
    if (side[1].len < bpe->prefix.len)
        return error_set(err, ST_CORRUPT, "\"%.*s\" is shorter than the subword prefix",
                         (int)MIN(side[1].len, 60), side[1].data);
    byte_buf_reset(joined);
    st = byte_buf_append(joined, side[0].data, side[0].len, err);
    if (st == ST_OK)
        st = byte_buf_append(joined, side[1].data + bpe->prefix.len, side[1].len - bpe->prefix.len,
                             err);
    if (st != ST_OK)
        return st;
    joined_id = token_map_find(&bpe->vocab, byte_buf_view(joined));
    if (joined_id < 0)
        return error_set(err, ST_CORRUPT, "the joined \"%.*s\" is not in the vocabulary",
                         (int)MIN(joined->len, 60), joined->data);
    merge_map_put(&bpe->merges, id[0], id[1], (struct merge){rank, joined_id});
    return ST_OK;
}

static enum status read_merges(struct bpe *bpe, const json_t *merges, struct error *err)
{
    size_t n = json_array_size(merges);
    bool pairs = json_is_array(json_array_get(merges, 0));
    struct byte_buf joined;
    uint32_t rank = 0;
    enum status st;

    if (n > MAX_SYMBOLS)
        return error_set(err, ST_INVALID, "%zu merges are too many", n);
    byte_buf_init(&joined, SIZE_MAX);
    st = merge_map_init(&bpe->merges, n, err);
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        const json_t *merge = json_array_get(merges, i);
        struct bytes_view side[2] = {{NULL, 0}, {NULL, 0}};

        if (!pairs && json_is_string(merge) &&
            strncmp(json_string_value(merge), "#version", 8) == 0)
            continue;
        st = merge_sides(merge, pairs, side, err);
        if (st == ST_OK)
            st = add_merge(bpe, side, rank++, &joined, err);
        if (st != ST_OK)
            error_add_context(err, "merge %zu", i);
    }
    byte_buf_release(&joined);
    return st;
}

static enum status read_unk(struct bpe *bpe, const json_t *model, struct error *err)
{
    struct bytes_view unk;
    enum status st = json_field_string(model, "unk_token", false, &unk, err);

    bpe->has_unk = unk.data != NULL;
    bpe->unk_id = st == ST_OK && bpe->has_unk ? token_map_find(&bpe->vocab, unk) : -1;
    for (int i = 0; i < 256; i++) {
        char code[8];

        (void)snprintf(code, sizeof code, "<0x%02X>", i);
        bpe->byte_ids[i] = token_map_find(&bpe->vocab, bytes_of_string(code));
    }
    return st;
}

enum status bpe_init(struct bpe *bpe, const json_t *model, struct error *err)
{
    const char *type = json_string_value(json_object_get(model, "type"));
    const json_t *merges = NULL;
    enum status st = ST_OK;

    memset(bpe, 0, sizeof *bpe);
    if (!json_is_object(model))
        st = error_set(err, ST_CORRUPT, "there is no \"model\" object");
    else if (type != NULL && strcmp(type, "BPE") != 0) /* files before 2021 have no type */
        st = error_set(err, ST_INVALID,
                       "model kind \"%.60s\" is not supported, only BPE and Unigram are", type);
    if (st == ST_OK)
        st = json_field_array(model, "merges", &merges, err);
    if (st == ST_OK)
        st = read_flags(bpe, model, err);
    if (st == ST_OK)
        st = read_vocab(bpe, json_object_get(model, "vocab"), err);
    if (st == ST_OK)
        st = read_merges(bpe, merges, err);
    if (st == ST_OK)
        st = read_unk(bpe, model, err);
    if (st != ST_OK) {
        error_add_context(err, "model");
        bpe_release(bpe);
    }
    return st;
}

void bpe_release(struct bpe *bpe)
{
    token_map_release(&bpe->vocab);
    merge_map_release(&bpe->merges);
    byte_buf_release(&bpe->prefix);
    byte_buf_release(&bpe->suffix);
    memset(bpe, 0, sizeof *bpe);
}

/* ---- encoding ---- */

void bpe_scratch_init(struct bpe_scratch *scratch)
{
    byte_buf_init(&scratch->symbols, (size_t)MAX_SYMBOLS * sizeof(struct symbol));
    byte_buf_init(&scratch->heap, (size_t)MAX_SYMBOLS * sizeof(struct candidate));
    byte_buf_init(&scratch->spelling, MAX_AFFIX_BYTES * 3);
}

void bpe_scratch_release(struct bpe_scratch *scratch)
{
    byte_buf_release(&scratch->symbols);
    byte_buf_release(&scratch->heap);
    byte_buf_release(&scratch->spelling);
}

static enum status add_symbol(struct byte_buf *symbols, int32_t id, struct error *err)
{
    int32_t at = (int32_t)(symbols->len / sizeof(struct symbol));

    return byte_buf_append(symbols, &(struct symbol){id, at - 1, at + 1}, sizeof(struct symbol),
                           err);
}

/* True when every byte of `text` has a token <0xXX>, appended then. */
static enum status fall_back(const struct bpe *bpe, struct bytes_view text,
                             struct byte_buf *symbols, bool *done, struct error *err)
{
    enum status st = ST_OK;

    *done = false;
    for (size_t i = 0; i < text.len; i++)
        if (bpe->byte_ids[text.data[i]] < 0)
            return ST_OK;
    *done = true;
    for (size_t i = 0; i < text.len && st == ST_OK; i++)
        st = add_symbol(symbols, bpe->byte_ids[text.data[i]], err);
    return st;
}

/* One character as the vocabulary spells it: prefixed unless first, suffixed when last. */
static enum status spell(const struct bpe *bpe, struct bytes_view character, bool first, bool last,
                         struct byte_buf *buf, struct bytes_view *out, struct error *err)
{
    const struct byte_buf *prefix = &bpe->prefix, *suffix = &bpe->suffix;
    enum status st = ST_OK;

    *out = character;
    if ((first || prefix->len == 0) && (!last || suffix->len == 0))
        return ST_OK;
    byte_buf_reset(buf);
    if (!first)
        st = byte_buf_append(buf, prefix->data, prefix->len, err);
    if (st == ST_OK)
        st = byte_buf_append(buf, character.data, character.len, err);
    if (st == ST_OK && last)
        st = byte_buf_append(buf, suffix->data, suffix->len, err);
    *out = byte_buf_view(buf);
    return st;
}

static enum status split_characters(const struct bpe *bpe, struct bytes_view word,
                                    struct bpe_scratch *scratch, struct error *err)
{
    struct byte_buf *symbols = &scratch->symbols;
    bool unk_waits = false; /* as in the reference, an unknown is added when the next known comes:
                               bytes of a fallback may overtake it */
    enum status st = ST_OK;

    for (size_t i = 0; i < word.len && st == ST_OK;) {
        size_t at = i;
        struct bytes_view text;
        bool done = false;
        int32_t id;

        (void)utf8_next(word, &i);
        st = spell(bpe, bytes_view_of(word.data + at, i - at), at == 0, i == word.len,
                   &scratch->spelling, &text, err);
        if (st != ST_OK)
            return st;
        id = token_map_find(&bpe->vocab, text);
        if (id >= 0) {
            if (unk_waits)
                st = add_symbol(symbols, bpe->unk_id, err);
            unk_waits = false;
            if (st == ST_OK)
                st = add_symbol(symbols, id, err);
            continue;
        }
        if (bpe->byte_fallback)
            st = fall_back(bpe, text, symbols, &done, err);
        if (st != ST_OK || done || !bpe->has_unk)
            continue;
        if (bpe->unk_id < 0)
            return error_set(err, ST_INVALID,
                             "text has a character without a token, and the tokenizer's unk_token "
                             "is not in its vocabulary");
        if (unk_waits && !bpe->fuse_unk)
            st = add_symbol(symbols, bpe->unk_id, err);
        unk_waits = true;
    }
    return st == ST_OK && unk_waits ? add_symbol(symbols, bpe->unk_id, err) : st;
}

static bool goes_before(const struct candidate *a, const struct candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->pos < b->pos;
}

static enum status heap_push(struct byte_buf *buf, struct candidate item, struct error *err)
{
    uint8_t *room;
    enum status st = byte_buf_extend(buf, sizeof item, &room, err);
    struct candidate *heap = (struct candidate *)(void *)buf->data;
    size_t i;

    if (st != ST_OK)
        return st;
    for (i = buf->len / sizeof item - 1; i > 0 && goes_before(&item, &heap[(i - 1) / 2]);
         i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = item;
    return ST_OK;
}

static struct candidate heap_pop(struct byte_buf *buf)
{
    struct candidate *heap = (struct candidate *)(void *)buf->data, top = heap[0], last;
    size_t n, i = 0, child;

    buf->len -= sizeof top;
    n = buf->len / sizeof top;
    last = heap[n];
    while ((child = 2 * i + 1) < n) {
        if (child + 1 < n && goes_before(&heap[child + 1], &heap[child]))
            child++;
        if (!goes_before(&heap[child], &last))
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    return top;
}

static enum status queue_pair(const struct bpe *bpe, const struct symbol *symbols, int32_t left,
                              int32_t right, struct byte_buf *heap, struct error *err)
{
    const struct merge *merge = merge_map_find(&bpe->merges, symbols[left].id, symbols[right].id);

    if (merge == NULL)
        return ST_OK;
    return heap_push(heap, (struct candidate){merge->rank, left, merge->id}, err);
}

static enum status merge_all(const struct bpe *bpe, struct symbol *symbols, int32_t n,
                             struct byte_buf *heap, struct error *err)
{
    enum status st = ST_OK;

    byte_buf_reset(heap);
    for (int32_t i = 0; i + 1 < n && st == ST_OK; i++)
        st = queue_pair(bpe, symbols, i, i + 1, heap, err);
    while (heap->len > 0 && st == ST_OK) {
        struct candidate top = heap_pop(heap);
        struct symbol *left = &symbols[top.pos];
        int32_t right = left->next;
        const struct merge *merge;

        if (left->id < 0 || right >= n)
            continue;
        merge = merge_map_find(&bpe->merges, left->id, symbols[right].id);
        if (merge == NULL || merge->id != top.id)
            continue; /* the pair has changed since */
        left->id = top.id;
        left->next = symbols[right].next;
        symbols[right].id = -1;
        if (left->next < n)
            symbols[left->next].prev = top.pos;
        if (left->prev >= 0)
            st = queue_pair(bpe, symbols, left->prev, top.pos, heap, err);
        if (st == ST_OK && left->next < n)
            st = queue_pair(bpe, symbols, top.pos, left->next, heap, err);
    }
    return st;
}

enum status bpe_encode(const struct bpe *bpe, struct bytes_view word, struct bpe_scratch *scratch,
                       struct byte_buf *ids, struct error *err)
{
    struct symbol *symbols;
    int32_t n;
    enum status st;

    if (word.len > MAX_SYMBOLS / 2)
        return error_set(err, ST_INVALID, "a word of %zu bytes is too long", word.len);
    if (bpe->ignore_merges && word.len > 0) {
        int32_t id = token_map_find(&bpe->vocab, word);

        if (id >= 0)
            return byte_buf_append(ids, &id, sizeof id, err);
    }
    byte_buf_reset(&scratch->symbols);
    st = split_characters(bpe, word, scratch, err);
    if (st != ST_OK)
        return st;
    symbols = (struct symbol *)(void *)scratch->symbols.data;
    n = (int32_t)(scratch->symbols.len / sizeof *symbols);
    st = merge_all(bpe, symbols, n, &scratch->heap, err);
    for (int32_t i = 0; i < n && st == ST_OK; i = symbols[i].next)
        st = byte_buf_append(ids, &symbols[i].id, sizeof symbols[i].id, err);
    return st;
}
