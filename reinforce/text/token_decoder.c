#include "reinforce/text/token_decoder.h"

#include "reinforce/base/utf8.h"
#include "reinforce/text/byte_level.h"
#include "reinforce/text/json_field.h"
#include "reinforce/text/pieces.h"
#include "reinforce/text/regex.h"
#include "reinforce/text/unicode.h"

enum { MAX_STEPS = 64, MAX_DEPTH = 16, MAX_CONTENT_BYTES = 4096 };

enum kind {
    KIND_BYTE_LEVEL,
    KIND_BPE,
    KIND_REPLACE,
    KIND_BYTE_FALLBACK,
    KIND_FUSE,
    KIND_STRIP,
    KIND_METASPACE,
};

struct token_decoder_step {
    enum kind kind;
    struct regex *regex;     /* REPLACE, BPE: the suffix; METASPACE: the mark */
    struct byte_buf content; /* REPLACE */
    uint32_t character;      /* STRIP */
    int64_t start, stop;     /* STRIP: how many at most */
    bool drops_first;        /* METASPACE: marks of the first token vanish */
};

/* ---- reading ---- */

static enum status read_replace(struct token_decoder_step *step, const json_t *json,
                                struct error *err)
{
    struct bytes_view pattern, content;
    bool literal;
    enum status st = json_field_pattern(json, &pattern, &literal, err);

    byte_buf_init(&step->content, MAX_CONTENT_BYTES);
    if (st == ST_OK)
        st = json_field_string(json, "content", true, &content, err);
    if (st == ST_OK)
        st = byte_buf_append(&step->content, content.data, content.len, err);
    return st == ST_OK ? regex_create(pattern, literal, false, &step->regex, err) : st;
}

static enum status read_strip(struct token_decoder_step *step, const json_t *json,
                              struct error *err)
{
    struct bytes_view content;
    size_t one = 0;
    enum status st = json_field_string(json, "content", true, &content, err);

    if (st == ST_OK && content.len > 0)
        step->character = utf8_next(content, &one);
    if (st == ST_OK && (one == 0 || one != content.len))
        st = error_set(err, ST_CORRUPT, "\"content\" is not one character");
    if (st == ST_OK)
        st = json_field_int(json, "start", 0, INT32_MAX, 0, &step->start, err);
    return st == ST_OK ? json_field_int(json, "stop", 0, INT32_MAX, 0, &step->stop, err) : st;
}

static enum status read_metaspace(struct token_decoder_step *step, const json_t *json,
                                  struct error *err)
{
    struct bytes_view mark, scheme;
    bool add;
    enum status st = json_field_string(json, "replacement", true, &mark, err);

    if (st == ST_OK)
        st = json_field_string(json, "prepend_scheme", false, &scheme, err);
    if (st == ST_OK)
        st = json_field_bool(json, "add_prefix_space", true, &add, err);
    if (st != ST_OK)
        return st;
    step->drops_first = add && !bytes_equal(scheme, bytes_of_string("never"));
    return regex_create(mark, true, false, &step->regex, err);
}

static enum status read_step(struct token_decoder_step *step, const json_t *json, const char *type,
                             struct error *err)
{
    static const struct {
        const char *name;
        enum kind kind;
    } kinds[] = {
        {"ByteLevel", KIND_BYTE_LEVEL},       {"BPEDecoder", KIND_BPE}, {"Replace", KIND_REPLACE},
        {"ByteFallback", KIND_BYTE_FALLBACK}, {"Fuse", KIND_FUSE},      {"Strip", KIND_STRIP},
        {"Metaspace", KIND_METASPACE},
    };
    struct bytes_view suffix;
    enum status st;

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(type, kinds[i].name) != 0)
            continue;
        step->kind = kinds[i].kind;
        if (step->kind == KIND_REPLACE)
            return read_replace(step, json, err);
        if (step->kind == KIND_STRIP)
            return read_strip(step, json, err);
        if (step->kind == KIND_METASPACE)
            return read_metaspace(step, json, err);
        if (step->kind == KIND_BPE) {
            st = json_field_string(json, "suffix", true, &suffix, err);
            return st == ST_OK ? regex_create(suffix, true, false, &step->regex, err) : st;
        }
        return ST_OK;
    }
    return error_set(err, ST_INVALID, "decoder kind \"%.60s\" is not supported", type);
}

static enum status read_steps(struct token_decoder *decoder, const json_t *json, int depth,
                              struct error *err)
{
    const char *type;
    const json_t *list;
    enum status st = json_field_type(json, &type, err);

    if (st == ST_OK && strcmp(type, "Sequence") == 0) {
        st = depth < MAX_DEPTH ? json_field_array(json, "decoders", &list, err)
                               : error_set(err, ST_INVALID, "sequences nest too deep");
        for (size_t i = 0; st == ST_OK && i < json_array_size(list); i++)
            st = read_steps(decoder, json_array_get(list, i), depth + 1, err);
        return st;
    }
    if (st == ST_OK && decoder->n_steps == MAX_STEPS)
        st = error_set(err, ST_INVALID, "more than %d steps", (int)MAX_STEPS);
    if (st == ST_OK)
        st = read_step(&decoder->steps[decoder->n_steps++], json, type, err);
    return st;
}

enum status token_decoder_init(struct token_decoder *decoder, const json_t *json, struct error *err)
{
    enum status st;

    memset(decoder, 0, sizeof *decoder);
    if (json == NULL || json_is_null(json))
        return ST_OK;
    decoder->steps = calloc(MAX_STEPS, sizeof *decoder->steps);
    if (decoder->steps == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a decoder");
    st = read_steps(decoder, json, 0, err);
    if (st != ST_OK) {
        error_add_context(err, "decoder");
        token_decoder_release(decoder);
    }
    return st;
}

void token_decoder_release(struct token_decoder *decoder)
{
    for (size_t i = 0; i < decoder->n_steps; i++) {
        regex_destroy(&decoder->steps[i].regex);
        byte_buf_release(&decoder->steps[i].content);
    }
    free(decoder->steps);
    memset(decoder, 0, sizeof *decoder);
}

bool token_decoder_is_byte_level(const struct token_decoder *decoder)
{
    for (size_t i = 0; i < decoder->n_steps; i++)
        if (decoder->steps[i].kind == KIND_BYTE_LEVEL)
            return true;
    return false;
}

/* ---- the list ---- */

void spellings_init(struct spellings *list)
{
    byte_buf_init(&list->text, PIECES_MAX_TEXT_BYTES);
    byte_buf_init(&list->ends, (size_t)PIECES_MAX_TEXT_BYTES * sizeof(size_t));
}

void spellings_release(struct spellings *list)
{
    byte_buf_release(&list->text);
    byte_buf_release(&list->ends);
}

/* Closes the spelling whose bytes have been appended to list->text. */
static enum status close_spelling(struct spellings *list, struct error *err)
{
    return byte_buf_append(&list->ends, &list->text.len, sizeof list->text.len, err);
}

enum status spellings_push(struct spellings *list, struct bytes_view spelling, struct error *err)
{
    enum status st = byte_buf_append(&list->text, spelling.data, spelling.len, err);

    return st == ST_OK ? close_spelling(list, err) : st;
}

static size_t count(const struct spellings *list)
{
    return list->ends.len / sizeof(size_t);
}

static struct bytes_view spelling_at(const struct spellings *list, size_t i)
{
    const size_t *ends = (const size_t *)(const void *)list->ends.data;
    size_t start = i > 0 ? ends[i - 1] : 0;

    return bytes_view_of(list->text.data + start, ends[i] - start);
}

/* ---- steps ---- */

static enum status run_byte_level(const struct spellings *in, struct spellings *out,
                                  struct error *err)
{
    struct byte_buf bytes;
    enum status st = ST_OK;

    byte_buf_init(&bytes, PIECES_MAX_TEXT_BYTES);
    for (size_t i = 0; i < count(in) && st == ST_OK; i++)
        st = byte_level_decode(spelling_at(in, i), &bytes, err);
    for (size_t i = 0; i < bytes.len && st == ST_OK;)
        st = unicode_put(utf8_next(byte_buf_view(&bytes), &i), &out->text, err);
    byte_buf_release(&bytes);
    return st == ST_OK ? close_spelling(out, err) : st;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
        return (c | 0x20) - 'a' + 10;
    return -1;
}

/* The byte that <0xXX> stands for, or -1. */
static int byte_token(struct bytes_view token)
{
    int high, low;

    if (token.len != 6 || memcmp(token.data, "<0x", 3) != 0 || token.data[5] != '>')
        return -1;
    high = hex_digit(token.data[3]);
    low = hex_digit(token.data[4]);
    return high >= 0 && low >= 0 ? high * 16 + low : -1;
}

/* A run of byte tokens is its text, or one U+FFFD for each byte when it is not UTF-8 as a whole. */
static enum status close_bytes(struct byte_buf *bytes, struct spellings *out, struct error *err)
{
    enum status st = ST_OK;

    if (bytes->len > 0 && utf8_is_valid(byte_buf_view(bytes)))
        st = spellings_push(out, byte_buf_view(bytes), err);
    else
        for (size_t i = 0; i < bytes->len && st == ST_OK; i++)
            st = spellings_push(out, bytes_of_string("\xEF\xBF\xBD"), err);
    byte_buf_reset(bytes);
    return st;
}

static enum status run_byte_fallback(const struct spellings *in, struct spellings *out,
                                     struct error *err)
{
    struct byte_buf bytes;
    enum status st = ST_OK;

    byte_buf_init(&bytes, PIECES_MAX_TEXT_BYTES);
    for (size_t i = 0; i < count(in) && st == ST_OK; i++) {
        int byte = byte_token(spelling_at(in, i));

        if (byte >= 0) {
            st = byte_buf_append(&bytes, &(uint8_t){(uint8_t)byte}, 1, err);
            continue;
        }
        st = close_bytes(&bytes, out, err);
        if (st == ST_OK)
            st = spellings_push(out, spelling_at(in, i), err);
    }
    if (st == ST_OK)
        st = close_bytes(&bytes, out, err);
    byte_buf_release(&bytes);
    return st;
}

static struct bytes_view strip(const struct token_decoder_step *step, struct bytes_view text)
{
    size_t start = 0, end = text.len;

    for (int64_t i = 0; i < step->start && start < text.len; i++) {
        size_t next = start;

        if (utf8_next(text, &next) != step->character)
            break;
        start = next;
    }
    for (int64_t i = 0; i < step->stop && end > start; i++) {
        size_t last;

        if (unicode_prev(text, end, &last) != step->character)
            break;
        end = last;
    }
    return bytes_view_of(text.data + start, end - start);
}

static enum status run_each(const struct token_decoder_step *step, const struct spellings *in,
                            struct spellings *out, struct error *err)
{
    struct bytes_view space = bytes_of_string(" "), nothing = bytes_of_string("");
    size_t n = count(in);
    enum status st = ST_OK;

    for (size_t i = 0; i < n && st == ST_OK; i++) {
        struct bytes_view text = spelling_at(in, i), content = byte_buf_view(&step->content);

        if (step->kind == KIND_STRIP) {
            st = spellings_push(out, text.len > 0 ? strip(step, text) : text, err);
            continue;
        }
        if (step->kind == KIND_BPE)
            content = i + 1 == n ? nothing : space;
        else if (step->kind == KIND_METASPACE)
            content = i == 0 && step->drops_first ? nothing : space;
        st = regex_replace(step->regex, text, content, &out->text, err);
        if (st == ST_OK)
            st = close_spelling(out, err);
    }
    return st;
}

static enum status run_step(const struct token_decoder_step *step, const struct spellings *in,
                            struct spellings *out, struct error *err)
{
    switch (step->kind) {
    case KIND_BYTE_LEVEL:
        return run_byte_level(in, out, err);
    case KIND_BYTE_FALLBACK:
        return run_byte_fallback(in, out, err);
    case KIND_FUSE:
        return spellings_push(out, byte_buf_view(&in->text), err);
    case KIND_BPE:
    case KIND_REPLACE:
    case KIND_STRIP:
    case KIND_METASPACE:
        return run_each(step, in, out, err);
    }
    return error_set(err, ST_INTERNAL, "unknown decoder step");
}

enum status token_decoder_run(const struct token_decoder *decoder, struct spellings *list,
                              struct byte_buf *out, struct error *err)
{
    struct spellings next;
    enum status st = ST_OK;

    for (size_t i = 0; decoder->n_steps == 0 && i < count(list) && st == ST_OK; i++) {
        if (i > 0)
            st = byte_buf_append(out, " ", 1, err);
        if (st == ST_OK)
            st = byte_buf_append(out, spelling_at(list, i).data, spelling_at(list, i).len, err);
    }
    if (decoder->n_steps == 0)
        return st;
    spellings_init(&next);
    for (size_t i = 0; i < decoder->n_steps && st == ST_OK; i++) {
        struct spellings swap = *list;

        byte_buf_reset(&next.text);
        byte_buf_reset(&next.ends);
        st = run_step(&decoder->steps[i], list, &next, err);
        *list = next;
        next = swap;
    }
    if (st == ST_OK)
        st = byte_buf_append(out, list->text.data, list->text.len, err);
    spellings_release(&next);
    return st;
}
