#include "reinforce/text/normalizer.h"

#include "reinforce/base/utf8.h"
#include "reinforce/text/charsmap.h"
#include "reinforce/text/json_field.h"
#include "reinforce/text/pieces.h"
#include "reinforce/text/regex.h"
#include "reinforce/text/unicode.h"

enum { MAX_STEPS = 64, MAX_DEPTH = 16, MAX_CONTENT_BYTES = 4096 };

enum kind { KIND_FORM, KIND_LOWERCASE, KIND_REPLACE, KIND_STRIP, KIND_PREPEND, KIND_CHARSMAP };

struct normalizer_step {
    enum kind kind;
    enum unicode_form form;       /* FORM */
    struct regex *regex;          /* REPLACE */
    bool one_character;           /* REPLACE: the pattern is one literal character */
    struct byte_buf content;      /* REPLACE, PREPEND */
    bool strip_left, strip_right; /* STRIP */
    struct charsmap charsmap;     /* CHARSMAP */
};

static enum status copy_content(struct normalizer_step *step, const json_t *json, const char *key,
                                struct error *err)
{
    struct bytes_view text;
    enum status st = json_field_string(json, key, true, &text, err);

    byte_buf_init(&step->content, MAX_CONTENT_BYTES);
    return st == ST_OK ? byte_buf_append(&step->content, text.data, text.len, err) : st;
}

static enum status read_replace(struct normalizer_step *step, const json_t *json, struct error *err)
{
    struct bytes_view pattern;
    bool literal;
    size_t first = 0;
    enum status st = json_field_pattern(json, &pattern, &literal, err);

    step->kind = KIND_REPLACE;
    if (st == ST_OK)
        st = copy_content(step, json, "content", err);
    if (st == ST_OK)
        st = regex_create(pattern, literal, false, &step->regex, err);
    if (st == ST_OK && literal) {
        (void)utf8_next(pattern, &first);
        step->one_character = first == pattern.len;
    }
    return st;
}

static enum status read_charsmap(struct normalizer_step *step, const json_t *json,
                                 struct error *err)
{
    struct bytes_view base64;
    enum status st = json_field_string(json, "precompiled_charsmap", true, &base64, err);

    step->kind = KIND_CHARSMAP;
    return st == ST_OK ? charsmap_init(&step->charsmap, base64, err) : st;
}

static enum status read_step(struct normalizer_step *step, const json_t *json, const char *type,
                             struct error *err)
{
    static const struct {
        const char *name;
        enum unicode_form form;
    } forms[] = {
        {"NFC", UNICODE_NFC}, {"NFD", UNICODE_NFD}, {"NFKC", UNICODE_NFKC}, {"NFKD", UNICODE_NFKD}};
    enum status st;

    memset(step, 0, sizeof *step);
    for (size_t i = 0; i < ARRAY_LEN(forms); i++)
        if (strcmp(type, forms[i].name) == 0) {
            step->kind = KIND_FORM;
            step->form = forms[i].form;
            return ST_OK;
        }
    if (strcmp(type, "Lowercase") == 0) {
        step->kind = KIND_LOWERCASE;
        return ST_OK;
    }
    if (strcmp(type, "Replace") == 0)
        return read_replace(step, json, err);
    if (strcmp(type, "Prepend") == 0) {
        step->kind = KIND_PREPEND;
        return copy_content(step, json, "prepend", err);
    }
    if (strcmp(type, "Precompiled") == 0)
        return read_charsmap(step, json, err);
    if (strcmp(type, "Strip") == 0) {
        step->kind = KIND_STRIP;
        st = json_field_bool(json, "strip_left", false, &step->strip_left, err);
        return st == ST_OK ? json_field_bool(json, "strip_right", false, &step->strip_right, err)
                           : st;
    }
    return error_set(err, ST_INVALID, "normalizer kind \"%.60s\" is not supported", type);
}

static enum status read_steps(struct normalizer *normalizer, const json_t *json, int depth,
                              struct error *err)
{
    const char *type;
    const json_t *list;
    enum status st = json_field_type(json, &type, err);

    if (st == ST_OK && strcmp(type, "Sequence") == 0) {
        st = depth < MAX_DEPTH ? json_field_array(json, "normalizers", &list, err)
                               : error_set(err, ST_INVALID, "sequences nest too deep");
        for (size_t i = 0; st == ST_OK && i < json_array_size(list); i++)
            st = read_steps(normalizer, json_array_get(list, i), depth + 1, err);
        return st;
    }
    if (st == ST_OK && normalizer->n_steps == MAX_STEPS)
        st = error_set(err, ST_INVALID, "more than %d steps", (int)MAX_STEPS);
    if (st == ST_OK)
        st = read_step(&normalizer->steps[normalizer->n_steps++], json, type, err);
    return st;
}

enum status normalizer_init(struct normalizer *normalizer, const json_t *json, struct error *err)
{
    enum status st;

    memset(normalizer, 0, sizeof *normalizer);
    if (json == NULL || json_is_null(json))
        return ST_OK;
    normalizer->steps = calloc(MAX_STEPS, sizeof *normalizer->steps);
    if (normalizer->steps == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a normalizer");
    st = read_steps(normalizer, json, 0, err);
    if (st != ST_OK) {
        error_add_context(err, "normalizer");
        normalizer_release(normalizer);
    }
    return st;
}

void normalizer_release(struct normalizer *normalizer)
{
    for (size_t i = 0; i < normalizer->n_steps; i++) {
        regex_destroy(&normalizer->steps[i].regex);
        byte_buf_release(&normalizer->steps[i].content);
        charsmap_release(&normalizer->steps[i].charsmap);
    }
    free(normalizer->steps);
    memset(normalizer, 0, sizeof *normalizer);
}

static enum status lowercase(struct bytes_view text, struct byte_buf *out, struct error *err)
{
    enum status st = ST_OK;

    for (size_t i = 0; i < text.len && st == ST_OK;) {
        uint32_t lower[2];
        size_t n = unicode_lower_char(utf8_next(text, &i), lower);

        for (size_t k = 0; k < n && st == ST_OK; k++)
            st = unicode_put(lower[k], out, err);
    }
    return st;
}

static struct bytes_view strip(const struct normalizer_step *step, struct bytes_view text)
{
    size_t start = 0, end = text.len;

    while (step->strip_left && start < end) {
        size_t next = start;

        if (!unicode_is_space(utf8_next(text, &next)))
            break;
        start = next;
    }
    while (step->strip_right && end > start) {
        size_t last;

        if (!unicode_is_space(unicode_prev(text, end, &last)))
            break;
        end = last;
    }
    return bytes_view_of(text.data + start, end - start);
}

static enum status run_step(const struct normalizer_step *step, struct bytes_view text,
                            struct byte_buf *out, struct error *err)
{
    enum status st = ST_OK;

    switch (step->kind) {
    case KIND_FORM:
        return unicode_normalize(step->form, text, out, err);
    case KIND_LOWERCASE:
        return lowercase(text, out, err);
    case KIND_REPLACE:
        return regex_replace(step->regex, text, byte_buf_view(&step->content), out, err);
    case KIND_STRIP:
        text = text.len > 0 ? strip(step, text) : text;
        return byte_buf_append(out, text.data, text.len, err);
    case KIND_CHARSMAP:
        return charsmap_run(&step->charsmap, text, out, err);
    case KIND_PREPEND:
        if (text.len > 0)
            st = byte_buf_append(out, step->content.data, step->content.len, err);
        return st == ST_OK ? byte_buf_append(out, text.data, text.len, err) : st;
    }
    return error_set(err, ST_INTERNAL, "unknown normalizer step");
}

enum status normalizer_run(const struct normalizer *normalizer, struct bytes_view text,
                           struct byte_buf *out, struct error *err)
{
    struct byte_buf between[2];
    enum status st = ST_OK;

    if (normalizer->n_steps == 0)
        return byte_buf_append(out, text.data, text.len, err);
    byte_buf_init(&between[0], PIECES_MAX_TEXT_BYTES);
    byte_buf_init(&between[1], PIECES_MAX_TEXT_BYTES);
    for (size_t i = 0; i < normalizer->n_steps && st == ST_OK; i++) {
        bool last = i + 1 == normalizer->n_steps;
        struct byte_buf *to = last ? out : &between[i % 2];

        if (!last)
            byte_buf_reset(to);
        st = run_step(&normalizer->steps[i], text, to, err);
        if (!last)
            text = byte_buf_view(to);
    }
    byte_buf_release(&between[0]);
    byte_buf_release(&between[1]);
    return st;
}

bool normalizer_moves_start(const struct normalizer *normalizer)
{
    for (size_t i = 0; i < normalizer->n_steps; i++) {
        const struct normalizer_step *step = &normalizer->steps[i];

        if (step->kind == KIND_STRIP || step->kind == KIND_CHARSMAP ||
            (step->kind == KIND_REPLACE && !step->one_character))
            return true;
    }
    return false;
}
