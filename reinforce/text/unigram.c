#include "reinforce/text/unigram.h"

#include "reinforce/base/utf8.h"
#include "reinforce/text/json_field.h"
#include "reinforce/text/pieces.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PIECE_BYTES = 1024 };

/* What an unknown character costs beyond the worst piece. */
static const double unk_penalty = 10;

/* The best way to reach a place in the word. */
struct node {
    double score;
    size_t start; /* of the last piece; SIZE_MAX: not reached */
    int32_t id;
};

/* ---- reading ---- */

static enum status read_pieces(struct unigram *unigram, const json_t *list, struct token_map *vocab,
                               struct error *err)
{
    double worst = INFINITY;
    enum status st = token_map_init(vocab, json_array_size(list), err);

    unigram->n = json_array_size(list);
    unigram->scores = calloc(unigram->n + 1, sizeof *unigram->scores);
    if (st == ST_OK && unigram->scores == NULL)
        st = error_set(err, ST_NO_MEMORY, "could not allocate %zu scores", unigram->n);
    for (size_t i = 0; i < unigram->n && st == ST_OK; i++) {
        const json_t *item = json_array_get(list, i), *piece = json_array_get(item, 0),
                     *score = json_array_get(item, 1);
        double value = json_number_value(score);

        if (json_array_size(item) != 2 || !json_is_string(piece) || !json_is_number(score) ||
            !isfinite(value))
            return error_set(err, ST_CORRUPT, "piece %zu is not a string and a number", i);
        if (json_string_length(piece) > MAX_PIECE_BYTES)
            return error_set(err, ST_INVALID, "piece %zu is longer than %d bytes", i,
                             (int)MAX_PIECE_BYTES);
        st = token_map_add(vocab, json_view(piece), (int64_t)i, err);
        unigram->scores[i] = value;
        unigram->longest = MAX(unigram->longest, json_string_length(piece));
        worst = fmin(worst, value);
    }
    unigram->unk_score = worst - unk_penalty;
    return st;
}

enum status unigram_init(struct unigram *unigram, const json_t *model, struct token_map *vocab,
                         struct error *err)
{
    const json_t *list = NULL;
    int64_t unk = -1;
    enum status st = json_field_array(model, "vocab", &list, err);

    memset(unigram, 0, sizeof *unigram);
    if (st == ST_OK)
        st = json_field_bool(model, "byte_fallback", false, &unigram->byte_fallback, err);
    if (st == ST_OK)
        st = read_pieces(unigram, list, vocab, err);
    if (st == ST_OK)
        st = json_field_int(model, "unk_id", 0, (int64_t)unigram->n - 1, -1, &unk, err);
    unigram->unk_id = (int32_t)unk;
    for (int i = 0; i < 256 && st == ST_OK; i++) {
        char code[8];

        (void)snprintf(code, sizeof code, "<0x%02X>", i);
        unigram->byte_ids[i] = token_map_find(vocab, bytes_of_string(code));
    }
    if (st != ST_OK) {
        error_add_context(err, "model");
        unigram_release(unigram);
    }
    return st;
}

void unigram_release(struct unigram *unigram)
{
    free(unigram->scores);
    memset(unigram, 0, sizeof *unigram);
}

/* ---- encoding ---- */

static void reach(struct node *node, double score, size_t start, int32_t id)
{
    if (node->start == SIZE_MAX || score > node->score)
        *node = (struct node){score, start, id};
}

/* Shorter pieces first; a character that is no piece of its own is an unknown. */
static void reach_from(const struct unigram *unigram, const struct token_map *vocab,
                       struct bytes_view word, size_t start, size_t one, struct node *best)
{
    size_t most = MIN(word.len - start, unigram->longest), n = 0;
    bool alone = false;

    while (n < most) {
        size_t end = start + n;
        int32_t id;

        (void)utf8_next(word, &end);
        n = end - start;
        if (n > most)
            break;
        id = token_map_find(vocab, bytes_view_of(word.data + start, n));
        if (id < 0)
            continue;
        reach(&best[end], best[start].score + unigram->scores[id], start, id);
        alone = alone || n == one;
    }
    if (!alone)
        reach(&best[start + one], best[start].score + unigram->unk_score, start, -1);
}

static enum status put(struct byte_buf *ids, int32_t id, struct error *err)
{
    return byte_buf_append(ids, &id, sizeof id, err);
}

/* Text that is no piece but the unknown itself: its bytes, when all have one, else the unknown. */
static enum status put_unknown(const struct unigram *unigram, const struct token_map *vocab,
                               struct bytes_view text, struct byte_buf *ids, struct error *err)
{
    int32_t spelled = token_map_find(vocab, text);
    bool bytes = unigram->byte_fallback && spelled < 0;
    enum status st = ST_OK;

    if (spelled >= 0)
        return put(ids, spelled, err);
    for (size_t i = 0; i < text.len && bytes; i++)
        bytes = unigram->byte_ids[text.data[i]] >= 0;
    for (size_t i = 0; i < text.len && bytes && st == ST_OK; i++)
        st = put(ids, unigram->byte_ids[text.data[i]], err);
    if (st == ST_OK && !bytes && unigram->unk_id < 0)
        return error_set(err, ST_INVALID,
                         "text has a character without a piece, and the tokenizer has no unk_id");
    return st == ST_OK && !bytes ? put(ids, unigram->unk_id, err) : st;
}

/* Turns the links around, so that best[start].start is where the piece at start ends. */
static void turn_links(struct node *best, size_t end)
{
    size_t next = end;
    int32_t next_id = -1;

    while (end > 0) {
        size_t start = best[end].start;
        int32_t id = best[end].id;

        best[end].start = next;
        best[end].id = next_id;
        next = end;
        next_id = id;
        end = start;
    }
    best[0].start = next;
    best[0].id = next_id;
}

enum status unigram_encode(const struct unigram *unigram, const struct token_map *vocab,
                           struct bytes_view word, struct byte_buf *ids, struct error *err)
{
    struct node *best = malloc((word.len + 1) * sizeof *best);
    enum status st = ST_OK;

    if (best == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate the paths of %zu bytes", word.len);
    for (size_t i = 0; i <= word.len; i++)
        best[i] = (struct node){0, SIZE_MAX, -1};
    for (size_t i = 0, next = 0; i < word.len; i = next) {
        (void)utf8_next(word, &next);
        reach_from(unigram, vocab, word, i, next - i, best);
    }
    if (word.len > 0)
        turn_links(best, word.len);
    for (size_t i = 0; i < word.len && st == ST_OK;) {
        size_t end = best[i].start;

        if (best[i].id >= 0 && best[i].id != unigram->unk_id) {
            st = put(ids, best[i].id, err);
        } else {
            while (end < word.len && (best[end].id < 0 || best[end].id == unigram->unk_id))
                end = best[end].start;
            st = put_unknown(unigram, vocab, bytes_view_of(word.data + i, end - i), ids, err);
        }
        i = end;
    }
    free(best);
    return st;
}
