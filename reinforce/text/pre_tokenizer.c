#include "reinforce/text/pre_tokenizer.h"

#include "reinforce/base/utf8.h"
#include "reinforce/text/byte_level.h"
#include "reinforce/text/json_field.h"
#include "reinforce/text/unicode.h"

enum { MAX_STEPS = 64, MAX_DEPTH = 16 };

/* Radford et al. 2019, as every byte-level tokenizer.json means it by use_regex */
#define GPT2_WORDS                                                                                 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

enum kind { KIND_SPLIT, KIND_BYTE_LEVEL, KIND_METASPACE };

enum prepend { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS };

struct pre_tokenizer_step {
    enum kind kind;
    struct regex *regex; /* SPLIT; BYTE_LEVEL: NULL without use_regex; METASPACE: without split */
    enum split_behavior behavior;
    bool invert;
    bool add_prefix_space; /* BYTE_LEVEL */
    enum prepend prepend;  /* METASPACE */
    char replacement[5];   /* METASPACE: one character */
};

/* ---- reading ---- */

static enum status read_split(struct pre_tokenizer_step *step, const json_t *json,
                              struct error *err)
{
    static const struct {
        const char *name;
        enum split_behavior behavior;
    } behaviors[] = {
        {"Removed", SPLIT_REMOVED},
        {"Isolated", SPLIT_ISOLATED},
        {"MergedWithPrevious", SPLIT_WITH_PREVIOUS},
        {"MergedWithNext", SPLIT_WITH_NEXT},
        {"Contiguous", SPLIT_CONTIGUOUS},
    };
    struct bytes_view pattern, name;
    bool literal = false;
    enum status st = json_field_pattern(json, &pattern, &literal, err);

    if (st == ST_OK)
        st = json_field_bool(json, "invert", false, &step->invert, err);
    if (st == ST_OK)
        st = json_field_string(json, "behavior", true, &name, err);
    if (st == ST_OK)
        st = regex_create(pattern, literal, false, &step->regex, err);
    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < ARRAY_LEN(behaviors); i++)
        if (bytes_equal(name, bytes_of_string(behaviors[i].name))) {
            step->behavior = behaviors[i].behavior;
            return ST_OK;
        }
    return error_set(err, ST_INVALID, "split behavior \"%.*s\" is not supported",
                     (int)MIN(name.len, 60), name.data);
}

static enum status read_byte_level(struct pre_tokenizer_step *step, const json_t *json,
                                   struct error *err)
{
    bool use_regex;
    enum status st = json_field_bool(json, "add_prefix_space", true, &step->add_prefix_space, err);

    step->behavior = SPLIT_ISOLATED;
    if (st == ST_OK)
        st = json_field_bool(json, "use_regex", true, &use_regex, err);
    if (st == ST_OK && use_regex)
        st = regex_create(bytes_of_string(GPT2_WORDS), false, false, &step->regex, err);
    return st;
}

static enum status read_prepend(struct pre_tokenizer_step *step, const json_t *json,
                                struct error *err)
{
    struct bytes_view scheme;
    bool add;
    enum status st = json_field_string(json, "prepend_scheme", false, &scheme, err);

    step->prepend = PREPEND_ALWAYS;
    if (st == ST_OK)
        st = json_field_bool(json, "add_prefix_space", true, &add, err);
    if (st != ST_OK)
        return st;
    if (scheme.data == NULL) { /* files before 2023 have only add_prefix_space */
        step->prepend = add ? PREPEND_ALWAYS : PREPEND_NEVER;
        return ST_OK;
    }
    if (bytes_equal(scheme, bytes_of_string("never")))
        step->prepend = PREPEND_NEVER;
    else if (bytes_equal(scheme, bytes_of_string("first")))
        step->prepend = PREPEND_FIRST;
    else if (!bytes_equal(scheme, bytes_of_string("always")))
        return error_set(err, ST_INVALID, "prepend_scheme \"%.*s\" is not supported",
                         (int)MIN(scheme.len, 60), scheme.data);
    if (!add && step->prepend != PREPEND_NEVER)
        return error_set(err, ST_CORRUPT, "add_prefix_space does not match prepend_scheme");
    return ST_OK;
}

static enum status read_metaspace(struct pre_tokenizer_step *step, const json_t *json,
                                  struct error *err)
{
    struct bytes_view replacement;
    size_t one = 0;
    bool split;
    enum status st = json_field_string(json, "replacement", true, &replacement, err);

    step->behavior = SPLIT_WITH_NEXT;
    if (st == ST_OK)
        st = json_field_bool(json, "split", true, &split, err);
    if (st == ST_OK)
        st = read_prepend(step, json, err);
    if (st == ST_OK && replacement.len > 0)
        (void)utf8_next(replacement, &one);
    if (st == ST_OK && (one == 0 || one != replacement.len || one >= sizeof step->replacement))
        st = error_set(err, ST_CORRUPT, "\"replacement\" is not one character");
    if (st != ST_OK)
        return st;
    memcpy(step->replacement, replacement.data, replacement.len);
    return split ? regex_create(replacement, true, false, &step->regex, err) : ST_OK;
}

static enum status read_step(struct pre_tokenizer_step *step, const json_t *json, const char *type,
                             struct error *err)
{
    if (strcmp(type, "Split") == 0) {
        step->kind = KIND_SPLIT;
        return read_split(step, json, err);
    }
    if (strcmp(type, "ByteLevel") == 0) {
        step->kind = KIND_BYTE_LEVEL;
        return read_byte_level(step, json, err);
    }
    if (strcmp(type, "Metaspace") == 0) {
        step->kind = KIND_METASPACE;
        return read_metaspace(step, json, err);
    }
    if (strcmp(type, "WhitespaceSplit") == 0) {
        step->kind = KIND_SPLIT;
        step->behavior = SPLIT_REMOVED;
        return regex_create(bytes_of_string("\\s"), false, false, &step->regex, err);
    }
    if (strcmp(type, "Whitespace") == 0) {
        step->kind = KIND_SPLIT;
        step->invert = true;
        step->behavior = SPLIT_REMOVED;
        return regex_create(bytes_of_string("\\w+|[^\\w\\s]+"), false, false, &step->regex, err);
    }
    return error_set(err, ST_INVALID, "pre-tokenizer kind \"%.60s\" is not supported", type);
}

static enum status read_steps(struct pre_tokenizer *pre, const json_t *json, int depth,
                              struct error *err)
{
    const char *type;
    const json_t *list;
    enum status st = json_field_type(json, &type, err);

    if (st == ST_OK && strcmp(type, "Sequence") == 0) {
        st = depth < MAX_DEPTH ? json_field_array(json, "pretokenizers", &list, err)
                               : error_set(err, ST_INVALID, "sequences nest too deep");
        for (size_t i = 0; st == ST_OK && i < json_array_size(list); i++)
            st = read_steps(pre, json_array_get(list, i), depth + 1, err);
        return st;
    }
    if (st == ST_OK && pre->n_steps == MAX_STEPS)
        st = error_set(err, ST_INVALID, "more than %d steps", (int)MAX_STEPS);
    if (st == ST_OK)
        st = read_step(&pre->steps[pre->n_steps++], json, type, err);
    return st;
}

enum status pre_tokenizer_init(struct pre_tokenizer *pre, const json_t *json, struct error *err)
{
    enum status st;

    memset(pre, 0, sizeof *pre);
    if (json == NULL || json_is_null(json))
        return ST_OK;
    pre->steps = calloc(MAX_STEPS, sizeof *pre->steps);
    if (pre->steps == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a pre-tokenizer");
    st = read_steps(pre, json, 0, err);
    if (st != ST_OK) {
        error_add_context(err, "pre_tokenizer");
        pre_tokenizer_release(pre);
    }
    return st;
}

void pre_tokenizer_release(struct pre_tokenizer *pre)
{
    for (size_t i = 0; i < pre->n_steps; i++)
        regex_destroy(&pre->steps[i].regex);
    free(pre->steps);
    memset(pre, 0, sizeof *pre);
}

bool pre_tokenizer_needs_start(const struct pre_tokenizer *pre)
{
    for (size_t i = 0; i < pre->n_steps; i++)
        if (pre->steps[i].kind == KIND_METASPACE && pre->steps[i].prepend == PREPEND_FIRST)
            return true;
    return false;
}

/* ---- splitting ---- */

/* Receives matches and the text between them in order, and joins them as `behavior` says. One piece
 * waits, since the next may join it. */
struct splitter {
    enum split_behavior behavior;
    struct pieces *out;
    struct piece waiting;
    bool has_waiting, waiting_is_match;
};

static enum status flush(struct splitter *s, struct error *err)
{
    enum status st = s->has_waiting ? pieces_push(s->out, s->waiting, err) : ST_OK;

    s->has_waiting = false;
    return st;
}

static bool joins(const struct splitter *s, bool is_match)
{
    switch (s->behavior) {
    case SPLIT_REMOVED:
    case SPLIT_ISOLATED:
        return false;
    case SPLIT_WITH_PREVIOUS:
        return is_match && !s->waiting_is_match;
    case SPLIT_WITH_NEXT:
        return s->waiting_is_match && !is_match;
    case SPLIT_CONTIGUOUS:
        return is_match == s->waiting_is_match;
    }
    return false;
}

static enum status split_add(struct splitter *s, struct piece piece, bool is_match,
                             struct error *err)
{
    enum status st = ST_OK;

    if (s->behavior == SPLIT_REMOVED && is_match)
        return ST_OK;
    if (s->has_waiting && joins(s, is_match)) {
        s->waiting.len += piece.len;
    } else {
        st = flush(s, err);
        s->waiting = piece;
        s->has_waiting = true;
    }
    s->waiting_is_match = is_match;
    return st;
}

static enum status split_piece(const struct regex *regex, bool invert, enum split_behavior behavior,
                               struct bytes_view text, const struct piece *piece,
                               struct pieces *out, struct error *err)
{
    struct splitter s = {.behavior = behavior, .out = out};
    struct regex_iter iter = {0};
    size_t done = 0, start, end;
    enum status st = regex_iter_init(&iter, regex, text, err);

    while (st == ST_OK && (st = regex_iter_next(&iter, &start, &end, err)) == ST_OK) {
        if (done < start)
            st = split_add(
                &s,
                (struct piece){piece->start + done, start - done, -1, piece->at_start && done == 0},
                invert, err);
        if (st == ST_OK)
            st = split_add(&s,
                           (struct piece){piece->start + start, end - start, -1,
                                          piece->at_start && start == 0},
                           !invert, err);
        done = end;
    }
    if (st == ST_END) {
        st = ST_OK;
        if (done < text.len)
            st = split_add(&s,
                           (struct piece){piece->start + done, text.len - done, -1,
                                          piece->at_start && done == 0},
                           invert, err);
        if (st == ST_OK)
            st = flush(&s, err);
    }
    regex_iter_release(&iter);
    return st;
}

static void swap_bufs(struct byte_buf *a, struct byte_buf *b)
{
    struct byte_buf c = *a;

    *a = *b;
    *b = c;
}

enum status pre_tokenizer_split(const struct regex *regex, bool invert,
                                enum split_behavior behavior, struct pieces *pieces,
                                struct pieces *spare, struct error *err)
{
    enum status st = ST_OK;

    byte_buf_reset(&spare->items);
    for (size_t i = 0; i < pieces_count(pieces) && st == ST_OK; i++) {
        const struct piece *piece = pieces_at(pieces, i);

        if (piece->id >= 0)
            st = pieces_push(spare, *piece, err);
        else
            st = split_piece(regex, invert, behavior, pieces_text(pieces, i), piece, spare, err);
    }
    swap_bufs(&pieces->items, &spare->items);
    return st;
}

/* ---- steps that write the text anew ---- */

enum status pre_tokenizer_byte_level(struct pieces *pieces, struct pieces *spare, struct error *err)
{
    enum status st = ST_OK;

    pieces_reset(spare);
    for (size_t i = 0; i < pieces_count(pieces) && st == ST_OK; i++) {
        struct piece piece = *pieces_at(pieces, i);

        if (piece.id < 0) {
            size_t start = spare->text.len;

            st = byte_level_encode(pieces_text(pieces, i), &spare->text, err);
            piece.start = start;
            piece.len = spare->text.len - start;
        }
        if (st == ST_OK)
            st = pieces_push(spare, piece, err);
    }
    swap_bufs(&pieces->text, &spare->text);
    swap_bufs(&pieces->items, &spare->items);
    return st;
}

/* Puts `prefix` before a piece that does not begin with it. */
static enum status add_prefix(struct pieces *out, struct bytes_view text, struct bytes_view prefix,
                              struct error *err)
{
    if (text.len >= prefix.len && memcmp(text.data, prefix.data, prefix.len) == 0)
        return ST_OK;
    return byte_buf_append(&out->text, prefix.data, prefix.len, err);
}

static enum status prefix_space(struct pieces *pieces, struct pieces *spare, struct error *err)
{
    enum status st = ST_OK;

    pieces_reset(spare);
    for (size_t i = 0; i < pieces_count(pieces) && st == ST_OK; i++) {
        struct piece piece = *pieces_at(pieces, i);

        if (piece.id < 0) {
            struct bytes_view text = pieces_text(pieces, i);

            piece.start = spare->text.len;
            st = add_prefix(spare, text, bytes_of_string(" "), err);
            if (st == ST_OK)
                st = byte_buf_append(&spare->text, text.data, text.len, err);
            piece.len = spare->text.len - piece.start;
        }
        if (st == ST_OK)
            st = pieces_push(spare, piece, err);
    }
    swap_bufs(&pieces->text, &spare->text);
    swap_bufs(&pieces->items, &spare->items);
    return st;
}

static enum status metaspace(const struct pre_tokenizer_step *step, struct pieces *pieces,
                             struct pieces *spare, struct error *err)
{
    struct bytes_view mark = bytes_of_string(step->replacement);
    enum status st = ST_OK;

    pieces_reset(spare);
    for (size_t i = 0; i < pieces_count(pieces) && st == ST_OK; i++) {
        struct piece piece = *pieces_at(pieces, i);
        struct bytes_view text = pieces_text(pieces, i);

        if (piece.id >= 0) {
            st = pieces_push(spare, piece, err);
            continue;
        }
        piece.start = spare->text.len;
        if (text.data[0] != ' ' &&
            (step->prepend == PREPEND_ALWAYS || (step->prepend == PREPEND_FIRST && piece.at_start)))
            st = add_prefix(spare, text, mark, err);
        for (size_t k = 0; k < text.len && st == ST_OK; k++)
            st = text.data[k] == ' ' ? byte_buf_append(&spare->text, mark.data, mark.len, err)
                                     : byte_buf_append(&spare->text, text.data + k, 1, err);
        piece.len = spare->text.len - piece.start;
        if (st == ST_OK)
            st = pieces_push(spare, piece, err);
    }
    swap_bufs(&pieces->text, &spare->text);
    swap_bufs(&pieces->items, &spare->items);
    return st;
}

static enum status run_step(const struct pre_tokenizer_step *step, struct pieces *pieces,
                            struct pieces *spare, struct error *err)
{
    enum status st = ST_OK;

    if (step->kind == KIND_METASPACE)
        st = metaspace(step, pieces, spare, err);
    else if (step->kind == KIND_BYTE_LEVEL && step->add_prefix_space)
        st = prefix_space(pieces, spare, err);
    if (st == ST_OK && step->regex != NULL)
        st = pre_tokenizer_split(step->regex, step->invert, step->behavior, pieces, spare, err);
    if (st == ST_OK && step->kind == KIND_BYTE_LEVEL)
        st = pre_tokenizer_byte_level(pieces, spare, err);
    return st;
}

enum status pre_tokenizer_run(const struct pre_tokenizer *pre, struct pieces *pieces,
                              struct pieces *spare, struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < pre->n_steps && st == ST_OK; i++)
        st = run_step(&pre->steps[i], pieces, spare, err);
    return st;
}
