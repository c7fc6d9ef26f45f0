#include "reinforce/text/added_tokens.h"

#include "reinforce/base/utf8.h"
#include "reinforce/text/json_field.h"
#include "reinforce/text/unicode.h"

/* Bounds the walk in the trie from one position of a text. */
enum { MAX_TOKEN_BYTES = 4096 };

struct added_token {
    int32_t id;
    bool special, single_word, lstrip, rstrip, normalized;
};

/* Spellings by byte: a node's child for a byte is the merge_map entry (node, byte) -> id. */
struct trie {
    struct merge_map edges;
    int32_t *item; /* [n_nodes] index of the token that ends here, or -1 */
    size_t n_nodes;
    bool starts[256]; /* bytes some spelling begins with */
};

static void trie_destroy(struct trie **trie)
{
    if (*trie == NULL)
        return;
    merge_map_release(&(*trie)->edges);
    free((*trie)->item);
    free(*trie);
    *trie = NULL;
}

static enum status trie_create(size_t total_bytes, struct trie **out, struct error *err)
{
    struct trie *trie = calloc(1, sizeof *trie);
    enum status st;

    *out = NULL;
    if (trie == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a trie");
    trie->item = malloc((total_bytes + 1) * sizeof *trie->item);
    if (trie->item == NULL) {
        trie_destroy(&trie);
        return error_set(err, ST_NO_MEMORY, "could not allocate a trie of %zu bytes", total_bytes);
    }
    st = merge_map_init(&trie->edges, total_bytes, err);
    if (st != ST_OK) {
        trie_destroy(&trie);
        return st;
    }
    trie->item[0] = -1;
    trie->n_nodes = 1;
    *out = trie;
    return ST_OK;
}

/* The first token with a spelling keeps it. */
static void trie_add(struct trie *trie, struct bytes_view spelling, int32_t item)
{
    int32_t node = 0;

    trie->starts[spelling.data[0]] = true;
    for (size_t i = 0; i < spelling.len; i++) {
        const struct merge *edge = merge_map_find(&trie->edges, node, spelling.data[i]);
        int32_t next = edge != NULL ? edge->id : (int32_t)trie->n_nodes;

        if (edge == NULL) {
            merge_map_put(&trie->edges, node, spelling.data[i], (struct merge){0, next});
            trie->item[trie->n_nodes++] = -1;
        }
        node = next;
    }
    if (trie->item[node] < 0)
        trie->item[node] = item;
}

/* The leftmost, then longest spelling at or behind `from`; false when there is none. */
static bool trie_find(const struct trie *trie, struct bytes_view text, size_t from, size_t *start,
                      size_t *end, int32_t *item)
{
    for (size_t at = from; at < text.len; at++) {
        const struct merge *edge;
        int32_t node = 0;

        if (!trie->starts[text.data[at]])
            continue;
        *item = -1;
        for (size_t i = at; i < text.len; i++) {
            edge = merge_map_find(&trie->edges, node, text.data[i]);
            if (edge == NULL)
                break;
            node = edge->id;
            if (trie->item[node] >= 0) {
                *item = trie->item[node];
                *end = i + 1;
            }
        }
        if (*item >= 0) {
            *start = at;
            return true;
        }
    }
    return false;
}

/* ---- reading ---- */

static enum status read_item(struct added_token *item, const json_t *json,
                             struct bytes_view *content, int64_t *id, struct error *err)
{
    enum status st = json_field_string(json, "content", true, content, err);

    memset(item, 0, sizeof *item);
    if (st == ST_OK)
        st = json_field_int(json, "id", 0, INT32_MAX, -1, id, err);
    if (st == ST_OK && *id < 0)
        st = error_set(err, ST_CORRUPT, "an added token has no \"id\"");
    if (st == ST_OK)
        st = json_field_bool(json, "special", false, &item->special, err);
    if (st == ST_OK)
        st = json_field_bool(json, "single_word", false, &item->single_word, err);
    if (st == ST_OK)
        st = json_field_bool(json, "lstrip", false, &item->lstrip, err);
    if (st == ST_OK)
        st = json_field_bool(json, "rstrip", false, &item->rstrip, err);
    if (st == ST_OK)
        st = json_field_bool(json, "normalized", !item->special, &item->normalized, err);
    if (st == ST_OK && content->len > MAX_TOKEN_BYTES)
        st = error_set(err, ST_INVALID, "an added token is longer than %d bytes",
                       (int)MAX_TOKEN_BYTES);
    return st;
}

/* The reference's rule for a token that the model lacks. */
static int64_t next_id(const struct added_tokens *added, const struct bpe *bpe)
{
    int64_t n_vocab = (int64_t)bpe->vocab.n_tokens, max = (int64_t)added->map.n_ids - 1;

    return max >= n_vocab ? max + 1 : n_vocab;
}

static enum status add_item(struct added_tokens *added, const json_t *json, const struct bpe *bpe,
                            struct error *err)
{
    struct added_token item;
    struct bytes_view content, taken;
    int64_t id, own;
    enum status st = read_item(&item, json, &content, &id, err);

    if (st != ST_OK || content.len == 0)
        return st;
    own = token_map_find(&bpe->vocab, content);
    if (own < 0) {
        own = next_id(added, bpe);
        if (token_map_spelling(&bpe->vocab, own, &taken))
            return error_set(err, ST_CORRUPT, "id %lld of added token \"%.*s\" is taken",
                             (long long)own, (int)MIN(content.len, 60), content.data);
    }
    if (own != id)
        return error_set(err, ST_CORRUPT, "added token \"%.*s\" has id %lld, expected %lld",
                         (int)MIN(content.len, 60), content.data, (long long)id, (long long)own);
    st = token_map_add(&added->map, content, id, err);
    if (st == ST_OK) {
        item.id = (int32_t)id;
        added->items[added->n_items++] = item;
    }
    return st;
}

static enum status index_items(struct added_tokens *added, struct error *err)
{
    added->item_of_id = malloc((added->map.n_ids + 1) * sizeof *added->item_of_id);
    if (added->item_of_id == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate %zu token ids", added->map.n_ids);
    memset(added->item_of_id, 0xFF, (added->map.n_ids + 1) * sizeof *added->item_of_id);
    for (size_t i = 0; i < added->n_items; i++)
        added->item_of_id[added->items[i].id] = (int32_t)i;
    return ST_OK;
}

/* Spellings to look for in normalized or in raw text, special tokens first. */
static enum status build_trie(struct added_tokens *added, const struct normalizer *normalizer,
                              bool normalized, struct trie **out, struct error *err)
{
    static const struct normalizer none = {0};
    struct byte_buf spellings, lengths;
    size_t n = 0, at = 0;
    enum status st = ST_OK;

    byte_buf_init(&spellings, PIECES_MAX_TEXT_BYTES);
    byte_buf_init(&lengths, SIZE_MAX);
    for (int special = 1; special >= 0 && st == ST_OK; special--)
        for (size_t i = 0; i < added->n_items && st == ST_OK; i++) {
            const struct added_token *item = &added->items[i];
            size_t before = spellings.len;
            struct bytes_view token;

            if (item->normalized != normalized || item->special != (special == 1))
                continue;
            if (!token_map_spelling(&added->map, item->id, &token))
                st = error_set(err, ST_INTERNAL, "an added token is lost");
            if (st == ST_OK)
                st = normalizer_run(normalized ? normalizer : &none, token, &spellings, err);
            if (st == ST_OK && spellings.len == before)
                st = error_set(err, ST_CORRUPT, "added token \"%.*s\" is empty when normalized",
                               (int)MIN(token.len, 60), token.data);
            if (st == ST_OK)
                st = byte_buf_append(&lengths, (size_t[2]){spellings.len - before, i},
                                     sizeof(size_t[2]), err);
        }
    n = lengths.len / sizeof(size_t[2]);
    if (st == ST_OK && n > 0)
        st = trie_create(spellings.len, out, err);
    for (size_t i = 0; st == ST_OK && *out != NULL && i < n; i++) {
        const size_t *entry = (const size_t *)(const void *)lengths.data + 2 * i;

        trie_add(*out, bytes_view_of(spellings.data + at, entry[0]), (int32_t)entry[1]);
        at += entry[0];
    }
    byte_buf_release(&spellings);
    byte_buf_release(&lengths);
    return st;
}

enum status added_tokens_init(struct added_tokens *added, const json_t *json, const struct bpe *bpe,
                              const struct normalizer *normalizer, struct error *err)
{
    size_t n = json_array_size(json);
    enum status st = ST_OK;

    memset(added, 0, sizeof *added);
    if (json != NULL && !json_is_null(json) && !json_is_array(json))
        st = error_set(err, ST_CORRUPT, "\"added_tokens\" is not an array");
    if (st == ST_OK)
        st = token_map_init(&added->map, n, err);
    if (st == ST_OK) {
        added->map.max_id = (int64_t)(bpe->vocab.n_ids + n);
        added->items = calloc(n + 1, sizeof *added->items);
        if (added->items == NULL)
            st = error_set(err, ST_NO_MEMORY, "could not allocate %zu added tokens", n);
    }
    for (size_t i = 0; i < n && st == ST_OK; i++)
        st = add_item(added, json_array_get(json, i), bpe, err);
    if (st == ST_OK)
        st = index_items(added, err);
    if (st == ST_OK)
        st = build_trie(added, normalizer, false, &added->raw, err);
    if (st == ST_OK)
        st = build_trie(added, normalizer, true, &added->normalized, err);
    if (st != ST_OK) {
        error_add_context(err, "added_tokens");
        added_tokens_release(added);
    }
    return st;
}

void added_tokens_release(struct added_tokens *added)
{
    free(added->items);
    free(added->item_of_id);
    token_map_release(&added->map);
    trie_destroy(&added->raw);
    trie_destroy(&added->normalized);
    memset(added, 0, sizeof *added);
}

/* ---- finding ---- */

static bool stands_alone(struct bytes_view text, size_t start, size_t end)
{
    size_t at;

    if (start > 0 && unicode_is_word(unicode_prev(text, start, &at)))
        return false;
    at = end;
    return end == text.len || !unicode_is_word(utf8_next(text, &at));
}

static size_t skip_space_left(struct bytes_view text, size_t start)
{
    size_t at;

    while (start > 0 && unicode_is_space(unicode_prev(text, start, &at)))
        start = at;
    return start;
}

static size_t skip_space_right(struct bytes_view text, size_t end)
{
    size_t at = end;

    while (at < text.len && unicode_is_space(utf8_next(text, &at)))
        end = at;
    return end;
}

/* Cuts `text`, which is pieces->text from `base` on or is about to be replaced, into `out`. */
static enum status find_tokens(const struct added_tokens *added, const struct trie *trie,
                               struct bytes_view text, size_t base, bool at_start, bool special,
                               struct byte_buf *out, struct error *err)
{
    size_t from = 0, done = 0, start = 0, end = 0;
    int32_t index = -1;
    enum status st = ST_OK;

    while (st == ST_OK && trie != NULL && trie_find(trie, text, from, &start, &end, &index)) {
        const struct added_token *item = &added->items[index];

        from = end;
        if ((item->special && !special) || (item->single_word && !stands_alone(text, start, end)))
            continue;
        if (item->lstrip)
            start = MIN(MAX(skip_space_left(text, start), done), end);
        if (item->rstrip)
            end = skip_space_right(text, end);
        if (done < start)
            st = byte_buf_append(
                out, &(struct piece){base + done, start - done, -1, at_start && done == 0},
                sizeof(struct piece), err);
        if (st == ST_OK)
            st = byte_buf_append(out, &(struct piece){0, 0, item->id, false}, sizeof(struct piece),
                                 err);
        done = end;
    }
    if (st == ST_OK && done < text.len)
        st = byte_buf_append(
            out, &(struct piece){base + done, text.len - done, -1, at_start && done == 0},
            sizeof(struct piece), err);
    return st;
}

enum status added_tokens_split(const struct added_tokens *added,
                               const struct normalizer *normalizer, struct bytes_view text,
                               bool special, struct pieces *pieces, struct error *err)
{
    struct byte_buf raw;
    enum status st;

    byte_buf_init(&raw, PIECES_MAX_TEXT_BYTES);
    st = find_tokens(added, added->raw, text, 0, true, special, &raw, err);
    for (size_t i = 0; i < raw.len / sizeof(struct piece) && st == ST_OK; i++) {
        const struct piece *piece = (const struct piece *)(const void *)raw.data + i;
        struct bytes_view chunk = bytes_view_of(text.data + piece->start, piece->len);
        size_t base = pieces->text.len;

        if (piece->id >= 0) {
            st = byte_buf_append(&pieces->items, piece, sizeof *piece, err);
            continue;
        }
        st = normalizer_run(normalizer, chunk, &pieces->text, err);
        if (st == ST_OK && pieces->text.len > base)
            st = find_tokens(added, added->normalized,
                             bytes_view_of(pieces->text.data + base, pieces->text.len - base), base,
                             piece->at_start, special, &pieces->items, err);
    }
    byte_buf_release(&raw);
    return st;
}

bool added_tokens_spelling(const struct added_tokens *added, int64_t id, struct bytes_view *token)
{
    return token_map_spelling(&added->map, id, token);
}

bool added_tokens_is_special(const struct added_tokens *added, int64_t id)
{
    return id >= 0 && (uint64_t)id < added->map.n_ids && added->item_of_id[id] >= 0 &&
           added->items[added->item_of_id[id]].special;
}
