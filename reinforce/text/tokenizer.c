#include "reinforce/text/tokenizer.h"

#include "reinforce/base/file.h"
#include "reinforce/text/added_tokens.h"
#include "reinforce/text/clip_vocab.h"
#include "reinforce/text/json_field.h"
#include "reinforce/text/post_processor.h"
#include "reinforce/text/pre_tokenizer.h"
#include "reinforce/text/token_decoder.h"
#include "reinforce/text/unicode.h"
#include "reinforce/text/unigram.h"

#define OPEN_CLIP_START "<start_of_text>"
#define OPEN_CLIP_END   "<end_of_text>"
#define OPEN_CLIP_WORDS "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"

enum { MAX_JSON_BYTES = 1 << 28 };

/* open_clip has its special tokens in the pattern itself, so they do not win over a word that has
 * begun before them: "!<start_of_text>" holds none. */
struct open_clip_rules {
    struct regex *words, *words_and_specials;
    int32_t start_id, end_id;
};

struct tokenizer {
    struct bpe bpe; /* of a unigram model only the vocabulary is filled */
    struct unigram unigram;
    bool is_unigram;
    struct normalizer normalizer;
    struct added_tokens added;
    struct pre_tokenizer pre;
    struct post_processor post;
    struct token_decoder decoder;
    enum tokenizer_rules rules;
    struct open_clip_rules open_clip;
    struct regex *word_end; /* what decode turns into a space, or NULL */
};

/* ---- creating ---- */

static enum status read_version(const json_t *root, struct error *err)
{
    struct bytes_view version;
    enum status st = json_field_string(root, "version", false, &version, err);

    if (st == ST_OK && version.data != NULL && !bytes_equal(version, bytes_of_string("1.0")))
        st = error_set(err, ST_INVALID, "tokenizer version \"%.*s\" is not supported, only 1.0 is",
                       (int)MIN(version.len, 40), version.data);
    return st;
}

static enum status check_ids(const struct tokenizer *tok, struct error *err)
{
    int32_t max = post_processor_max_id(&tok->post);

    if (max >= 0 && (size_t)max >= tokenizer_vocab_size(tok))
        return error_set(err, ST_CORRUPT, "post_processor adds id %d, outside the vocabulary",
                         (int)max);
    return ST_OK;
}

static enum status init_open_clip(struct tokenizer *tok, const json_t *root, struct error *err)
{
    const json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    enum status st =
        clip_vocab_specials(vocab, &tok->open_clip.start_id, &tok->open_clip.end_id, err);

    if (st == ST_OK)
        st =
            regex_create(bytes_of_string(OPEN_CLIP_WORDS), false, true, &tok->open_clip.words, err);
    if (st == ST_OK)
        st = regex_create(bytes_of_string(OPEN_CLIP_START "|" OPEN_CLIP_END "|" OPEN_CLIP_WORDS),
                          false, true, &tok->open_clip.words_and_specials, err);
    return st;
}

static enum status init_model(struct tokenizer *tok, const json_t *model, struct error *err)
{
    const char *type = json_string_value(json_object_get(model, "type"));

    tok->is_unigram = type != NULL && strcmp(type, "Unigram") == 0;
    return tok->is_unigram ? unigram_init(&tok->unigram, model, &tok->bpe.vocab, err)
                           : bpe_init(&tok->bpe, model, err);
}

static enum status init_parts(struct tokenizer *tok, const json_t *root, struct error *err)
{
    enum status st;

    if (!json_is_object(root))
        return error_set(err, ST_CORRUPT, "tokenizer.json is not an object");
    st = read_version(root, err);
    /* the small parts first: an unknown kind is told before the vocabulary is read */
    if (st == ST_OK)
        st = normalizer_init(&tok->normalizer, json_object_get(root, "normalizer"), err);
    if (st == ST_OK)
        st = pre_tokenizer_init(&tok->pre, json_object_get(root, "pre_tokenizer"), err);
    if (st == ST_OK)
        st = post_processor_init(&tok->post, json_object_get(root, "post_processor"), err);
    if (st == ST_OK)
        st = token_decoder_init(&tok->decoder, json_object_get(root, "decoder"), err);
    if (st == ST_OK && pre_tokenizer_needs_start(&tok->pre) &&
        normalizer_moves_start(&tok->normalizer))
        st = error_set(err, ST_INVALID,
                       "prepend_scheme \"first\" behind a Strip or Replace normalizer is not "
                       "supported");
    if (st == ST_OK)
        st = init_model(tok, json_object_get(root, "model"), err);
    if (st == ST_OK)
        st = added_tokens_init(&tok->added, json_object_get(root, "added_tokens"), &tok->bpe,
                               &tok->normalizer, err);
    if (st == ST_OK)
        st = check_ids(tok, err);
    if (st == ST_OK && tok->rules == TOKENIZER_RULES_OPEN_CLIP)
        st = init_open_clip(tok, root, err);
    if (st == ST_OK && tok->bpe.suffix.len > 0 && token_decoder_is_byte_level(&tok->decoder))
        st = regex_create(byte_buf_view(&tok->bpe.suffix), true, false, &tok->word_end, err);
    return st;
}

static enum status create(const json_t *root, enum tokenizer_rules rules, struct tokenizer **out,
                          struct error *err)
{
    struct tokenizer *tok = calloc(1, sizeof *tok);
    enum status st;

    *out = NULL;
    if (tok == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a tokenizer");
    tok->rules = rules;
    st = init_parts(tok, root, err);
    if (st != ST_OK)
        tokenizer_destroy(&tok);
    *out = tok;
    return st;
}

enum status tokenizer_create_with_rules(struct bytes_view json, enum tokenizer_rules rules,
                                        struct tokenizer **out, struct error *err)
{
    json_t *root = NULL;
    enum status st;

    *out = NULL;
    if (json.len > MAX_JSON_BYTES)
        return error_set(err, ST_INVALID, "tokenizer.json has %zu bytes, at most %d are allowed",
                         json.len, (int)MAX_JSON_BYTES);
    st = json_parse(json, &root, err);
    if (st == ST_OK)
        st = create(root, rules, out, err);
    json_decref(root);
    return st;
}

enum status tokenizer_create(struct bytes_view json, struct tokenizer **out, struct error *err)
{
    return tokenizer_create_with_rules(json, TOKENIZER_RULES_OF_FILE, out, err);
}

enum status tokenizer_create_from_vocab_merges(struct bytes_view vocab, struct bytes_view merges,
                                               enum tokenizer_rules rules, struct tokenizer **out,
                                               struct error *err)
{
    json_t *root;
    enum status st = clip_vocab_to_json(vocab, merges, &root, err);

    *out = NULL;
    if (st == ST_OK)
        st = create(root, rules, out, err);
    json_decref(root);
    return st;
}

static enum status read_member(const char *dir, const char *name, struct byte_buf *buf,
                               struct error *err)
{
    struct byte_buf path;
    const char *text;
    enum status st;

    byte_buf_init(&path, 4096);
    st = byte_buf_printf(&path, err, "%s/%s", dir, name);
    if (st == ST_OK)
        st = byte_buf_c_str(&path, &text, err);
    if (st == ST_OK)
        st = file_read(text, buf, err);
    byte_buf_release(&path);
    return st;
}

enum status tokenizer_open(const char *model_dir, enum tokenizer_rules rules,
                           struct tokenizer **out, struct error *err)
{
    struct byte_buf first, second;
    enum status st;

    *out = NULL;
    byte_buf_init(&first, MAX_JSON_BYTES);
    byte_buf_init(&second, MAX_JSON_BYTES);
    st = read_member(model_dir, "tokenizer.json", &first, err);
    if (st == ST_OK) {
        st = tokenizer_create_with_rules(byte_buf_view(&first), rules, out, err);
        if (st != ST_OK)
            error_add_context(err, "tokenizer.json");
    } else if (st == ST_NOT_FOUND) {
        st = read_member(model_dir, "vocab.json", &first, err);
        if (st == ST_OK)
            st = read_member(model_dir, "merges.txt", &second, err);
        if (st == ST_OK) {
            st = tokenizer_create_from_vocab_merges(byte_buf_view(&first), byte_buf_view(&second),
                                                    rules, out, err);
            if (st != ST_OK)
                error_add_context(err, "vocab.json and merges.txt");
        } else if (st == ST_NOT_FOUND) {
            st = error_set(err, ST_NOT_FOUND,
                           "the folder has no tokenizer: add tokenizer.json (that of "
                           "openai/clip-vit-base-patch32 serves every CLIP, MobileCLIP and CoCa), "
                           "or vocab.json and merges.txt");
        }
    }
    if (st != ST_OK)
        error_add_context(err, "model %s", model_dir);
    byte_buf_release(&first);
    byte_buf_release(&second);
    return st;
}

void tokenizer_destroy(struct tokenizer **tok)
{
    struct tokenizer *t = *tok;

    if (t == NULL)
        return;
    bpe_release(&t->bpe);
    unigram_release(&t->unigram);
    normalizer_release(&t->normalizer);
    added_tokens_release(&t->added);
    pre_tokenizer_release(&t->pre);
    post_processor_release(&t->post);
    token_decoder_release(&t->decoder);
    regex_destroy(&t->open_clip.words);
    regex_destroy(&t->open_clip.words_and_specials);
    regex_destroy(&t->word_end);
    free(t);
    *tok = NULL;
}

/* ---- encoding ---- */

struct encoder {
    struct byte_buf repaired; /* the text without invalid UTF-8 */
    struct pieces pieces, spare;
    struct bpe_scratch scratch;
    struct byte_buf ids, all; /* int32: of the text, with what the post-processor adds */
};

static void encoder_init(struct encoder *e)
{
    byte_buf_init(&e->repaired, PIECES_MAX_TEXT_BYTES);
    pieces_init(&e->pieces);
    pieces_init(&e->spare);
    bpe_scratch_init(&e->scratch);
    byte_buf_init(&e->ids, (size_t)PIECES_MAX_TEXT_BYTES * sizeof(int32_t));
    byte_buf_init(&e->all, (size_t)PIECES_MAX_TEXT_BYTES * sizeof(int32_t));
}

static void encoder_release(struct encoder *e)
{
    byte_buf_release(&e->repaired);
    pieces_release(&e->pieces);
    pieces_release(&e->spare);
    bpe_scratch_release(&e->scratch);
    byte_buf_release(&e->ids);
    byte_buf_release(&e->all);
}

/* Gives the pieces that spell a special token its id. */
static void mark_specials(const struct open_clip_rules *rules, struct pieces *pieces)
{
    struct piece *items = (struct piece *)(void *)pieces->items.data;

    for (size_t i = 0; i < pieces_count(pieces); i++) {
        if (bytes_equal(pieces_text(pieces, i), bytes_of_string(OPEN_CLIP_START)))
            items[i].id = rules->start_id;
        else if (bytes_equal(pieces_text(pieces, i), bytes_of_string(OPEN_CLIP_END)))
            items[i].id = rules->end_id;
    }
}

static enum status split_open_clip(const struct open_clip_rules *rules, struct bytes_view text,
                                   bool special, struct encoder *e, struct error *err)
{
    enum status st = byte_buf_append(&e->pieces.text, text.data, text.len, err);

    if (st == ST_OK)
        st = pieces_push(&e->pieces, (struct piece){0, text.len, -1, true}, err);
    if (st == ST_OK)
        st = pre_tokenizer_split(special ? rules->words_and_specials : rules->words, true,
                                 SPLIT_REMOVED, &e->pieces, &e->spare, err);
    if (st == ST_OK && special)
        mark_specials(rules, &e->pieces);
    return st == ST_OK ? pre_tokenizer_byte_level(&e->pieces, &e->spare, err) : st;
}

static enum status encode(const struct tokenizer *tok, struct bytes_view text,
                          const struct tokenizer_encoding *how, struct encoder *e,
                          struct error *err)
{
    enum status st;

    if (text.len > PIECES_MAX_TEXT_BYTES / 4)
        return error_set(err, ST_INVALID, "text of %zu bytes is too long", text.len);
    st = unicode_repair(text, &e->repaired, &text, err);
    if (st == ST_OK && tok->rules == TOKENIZER_RULES_OPEN_CLIP) {
        st = split_open_clip(&tok->open_clip, text, how->special_tokens_in_text, e, err);
    } else if (st == ST_OK) {
        st = added_tokens_split(&tok->added, &tok->normalizer, text, how->special_tokens_in_text,
                                &e->pieces, err);
        if (st == ST_OK)
            st = pre_tokenizer_run(&tok->pre, &e->pieces, &e->spare, err);
    }
    for (size_t i = 0; st == ST_OK && i < pieces_count(&e->pieces); i++) {
        const struct piece *piece = pieces_at(&e->pieces, i);
        struct bytes_view word = pieces_text(&e->pieces, i);

        if (piece->id >= 0)
            st = byte_buf_append(&e->ids, &piece->id, sizeof piece->id, err);
        else if (tok->is_unigram)
            st = unigram_encode(&tok->unigram, &tok->bpe.vocab, word, &e->ids, err);
        else
            st = bpe_encode(&tok->bpe, word, &e->scratch, &e->ids, err);
    }
    if (st == ST_OK)
        st = post_processor_run(&tok->post, byte_buf_view(&e->ids), how->add_special_tokens,
                                &e->all, err);
    return st;
}

enum status tokenizer_encode(const struct tokenizer *tok, struct bytes_view text,
                             const struct tokenizer_encoding *how, struct arena *arena,
                             int32_t **ids, size_t *n_ids, struct error *err)
{
    struct encoder e;
    enum status st;

    *ids = NULL;
    *n_ids = 0;
    encoder_init(&e);
    st = encode(tok, text, how, &e, err);
    if (st == ST_OK)
        st = arena_alloc(arena, e.all.len, ids, err);
    if (st == ST_OK && e.all.len > 0)
        memcpy(*ids, e.all.data, e.all.len);
    if (st == ST_OK)
        *n_ids = e.all.len / sizeof **ids;
    encoder_release(&e);
    return st;
}

/* ---- decoding ---- */

static enum status spell(const struct tokenizer *tok, const int32_t *ids, size_t n_ids,
                         bool skip_special_tokens, struct spellings *list, struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < n_ids && st == ST_OK; i++) {
        struct bytes_view token;

        if (!added_tokens_spelling(&tok->added, ids[i], &token) &&
            !token_map_spelling(&tok->bpe.vocab, ids[i], &token))
            return error_set(err, ST_INVALID, "id %d at position %zu is not in the vocabulary",
                             (int)ids[i], i);
        if (!skip_special_tokens || !added_tokens_is_special(&tok->added, ids[i]))
            st = spellings_push(list, token, err);
    }
    return st;
}

enum status tokenizer_decode(const struct tokenizer *tok, const int32_t *ids, size_t n_ids,
                             bool skip_special_tokens, struct arena *arena, char **text,
                             size_t *text_len, struct error *err)
{
    struct byte_buf plain, spaced, *result = &plain;
    struct spellings list;
    const char *plain_text;
    enum status st;

    *text = NULL;
    *text_len = 0;
    spellings_init(&list);
    byte_buf_init(&plain, PIECES_MAX_TEXT_BYTES);
    byte_buf_init(&spaced, PIECES_MAX_TEXT_BYTES);
    st = spell(tok, ids, n_ids, skip_special_tokens, &list, err);
    if (st == ST_OK)
        st = token_decoder_run(&tok->decoder, &list, &plain, err);
    if (st == ST_OK && tok->word_end != NULL) {
        st =
            regex_replace(tok->word_end, byte_buf_view(&plain), bytes_of_string(" "), &spaced, err);
        result = &spaced;
    }
    if (st == ST_OK)
        st = byte_buf_c_str(result, &plain_text, err);
    if (st == ST_OK)
        st = arena_strndup(arena, plain_text, result->len, text, err);
    if (st == ST_OK)
        *text_len = result->len;
    spellings_release(&list);
    byte_buf_release(&plain);
    byte_buf_release(&spaced);
    return st;
}

/* ---- asking ---- */

size_t tokenizer_vocab_size(const struct tokenizer *tok)
{
    return MAX(tok->bpe.vocab.n_ids, tok->added.map.n_ids);
}

int32_t tokenizer_token_id(const struct tokenizer *tok, const char *token)
{
    int32_t id = token_map_find(&tok->added.map, bytes_of_string(token));

    return id >= 0 ? id : token_map_find(&tok->bpe.vocab, bytes_of_string(token));
}

bool tokenizer_is_special(const struct tokenizer *tok, int32_t id)
{
    return added_tokens_is_special(&tok->added, id);
}

size_t tokenizer_clip_row(const int32_t *ids, size_t n_ids, int32_t start, int32_t end, int32_t pad,
                          size_t context, int32_t *row)
{
    size_t kept = MIN(n_ids, context >= 2 ? context - 2 : 0), n = MIN(kept + 2, context);

    row[0] = start;
    if (kept > 0)
        memcpy(row + 1, ids, kept * sizeof *row);
    row[n - 1] = end;
    for (size_t i = n; i < context; i++)
        row[i] = pad;
    return n;
}
