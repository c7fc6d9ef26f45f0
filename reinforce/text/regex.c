#include "reinforce/text/regex.h"

#include "reinforce/base/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* Oniguruma's CR_Word; PCRE2's own \w has no marks before version 10.43. */
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}"

enum { MAX_PATTERN_BYTES = 1 << 16 };

struct regex {
    pcre2_code *code; /* NULL for a literal */
    struct byte_buf literal;
};

/* ---- Oniguruma's syntax to PCRE2's ---- */

struct translator {
    const char *in;
    size_t len, pos;
    struct byte_buf *out;
    bool in_class;
};

static bool is_one_of(const char *set, char c)
{
    return c != '\0' && strchr(set, c) != NULL;
}

static bool equal_loosely(const char *a, size_t a_len, const char *b)
{
    size_t i = 0;

    for (; *b != '\0'; b++, i++) {
        while (i < a_len && (a[i] == '_' || a[i] == ' ' || a[i] == '-'))
            i++;
        if (i >= a_len || (a[i] | 0x20) != (*b | 0x20))
            return false;
    }
    return i == a_len;
}

/* \p{...}: names that both engines know alike pass, long category names are shortened, and what is
 * left can only be a script, which PCRE2 would match by its extensions unless told otherwise. */
static enum status translate_property(struct translator *t, struct error *err)
{
    static const struct {
        const char *name, *category;
    } names[] = {
        {"letter", "L"},
        {"number", "N"},
        {"mark", "M"},
        {"punctuation", "P"},
        {"symbol", "S"},
        {"separator", "Z"},
        {"other", "C"},
        {"uppercaseletter", "Lu"},
        {"lowercaseletter", "Ll"},
        {"decimalnumber", "Nd"},
        {"spaceseparator", "Zs"},
        {"alphabetic", "Alphabetic"},
        {"alpha", "Alphabetic"},
        {"whitespace", "White_Space"},
        {"space", "White_Space"},
        {"uppercase", "Uppercase"},
        {"lowercase", "Lowercase"},
        {"emoji", "Emoji"},
        {"any", "Any"},
    };
    static const char *const categories =
        " C Cc Cf Cn Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No P Pc Pd Pe Pf Pi Po Ps "
        "S Sc Sk Sm So Z Zl Zp Zs ";
    char letter = t->in[t->pos], key[8];
    const char *name = t->in + t->pos + 2, *end, *negate = "", *found = NULL;
    size_t len;

    if (t->pos + 1 >= t->len || t->in[t->pos + 1] != '{' ||
        (end = memchr(name, '}', t->len - t->pos - 2)) == NULL)
        return error_set(err, ST_INVALID, "\\%c without {name}", letter);
    len = (size_t)(end - name);
    t->pos += len + 3;
    if (len > 0 && name[0] == '^') {
        negate = "^";
        name++;
        len--;
    }
    for (size_t i = 0; i < len; i++)
        if (!is_one_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_ -",
                       name[i]))
            return error_set(err, ST_INVALID, "unknown property in \\%c{...}", letter);
    if (len == 1 || len == 2) {
        (void)snprintf(key, sizeof key, " %.*s ", (int)len, name);
        if (strstr(categories, key) != NULL)
            return byte_buf_printf(t->out, err, "\\%c{%s%.*s}", letter, negate, (int)len, name);
    }
    for (size_t i = 0; i < ARRAY_LEN(names) && found == NULL; i++)
        if (equal_loosely(name, len, names[i].name))
            found = names[i].category;
    if (found != NULL)
        return byte_buf_printf(t->out, err, "\\%c{%s%s}", letter, negate, found);
    return byte_buf_printf(t->out, err, "\\%c{%ssc:%.*s}", letter, negate, (int)len, name);
}

static enum status translate_escape(struct translator *t, struct error *err)
{
    const char *open = t->in_class ? "" : "[", *close = t->in_class ? "" : "]";
    char c;

    if (++t->pos >= t->len)
        return error_set(err, ST_INVALID, "pattern ends in a backslash");
    c = t->in[t->pos];
    if (c == 'p' || c == 'P')
        return translate_property(t, err);
    t->pos++;
    if ((uint8_t)c >= 0x80 ||
        !is_one_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", c))
        return byte_buf_printf(t->out, err, (uint8_t)c >= 0x80 ? "%c" : "\\%c", c);
    if (is_one_of("dDtnrfae", c))
        return byte_buf_printf(t->out, err, "\\%c", c);
    if (c == 's' || c == 'S')
        return byte_buf_printf(t->out, err, "\\%c{White_Space}", c == 's' ? 'p' : 'P');
    if (c == 'w')
        return byte_buf_printf(t->out, err, "%s" WORD "%s", open, close);
    if (c == 'h')
        return byte_buf_printf(t->out, err, "%s0-9a-fA-F%s", open, close);
    if (c == 'v')
        return byte_buf_append_string(t->out, "\\x0b", err);
    if (c == 'x') {
        const char *digits = "0123456789abcdefABCDEF";

        if (t->pos < t->len && t->in[t->pos] == '{')
            return byte_buf_append_string(t->out, "\\x", err);
        /* two digits below 0x80: more would be raw bytes of UTF-8 in Oniguruma */
        if (t->pos + 1 < t->len && is_one_of("01234567", t->in[t->pos]) &&
            is_one_of(digits, t->in[t->pos + 1]))
            return byte_buf_append_string(t->out, "\\x", err);
    } else if (c == 'u' && t->len - t->pos >= 4) {
        t->pos += 4;
        return byte_buf_printf(t->out, err, "\\x{%.4s}", t->in + t->pos - 4);
    } else if (!t->in_class) {
        if (is_one_of("AzZRXKGN123456789", c))
            return byte_buf_printf(t->out, err, "\\%c", c);
        if (c == 'W')
            return byte_buf_append_string(t->out, "[^" WORD "]", err);
        if (c == 'H')
            return byte_buf_append_string(t->out, "[^0-9a-fA-F]", err);
        if (c == 'b')
            return byte_buf_append_string(
                t->out, "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))", err);
        if (c == 'B')
            return byte_buf_append_string(
                t->out, "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))", err);
    }
    return error_set(err, ST_INVALID, "escape \\%c%s is not supported", c,
                     t->in_class ? " in a character class" : "");
}

/* Behind "(?": options, where m means what PCRE2 calls s. Groups and look-arounds pass. */
static enum status translate_group(struct translator *t, struct error *err)
{
    size_t at = t->pos + 2;
    bool first = t->pos == 0;
    enum status st = byte_buf_append_string(t->out, "(?", err);

    t->pos = at;
    if (at < t->len && is_one_of(":=!>#", t->in[at]))
        return st;
    if (at < t->len && t->in[at] == '<')
        return st;
    while (st == ST_OK && t->pos < t->len && !is_one_of(":)", t->in[t->pos])) {
        char c = t->in[t->pos++];

        if (!is_one_of("imx-", c))
            return error_set(err, ST_INVALID, "group (?%c is not supported", c);
        st = byte_buf_append(t->out, &(char){c == 'm' ? 's' : c}, 1, err);
    }
    /* a(?i)b|c is a(?i:b|c) for Oniguruma and a(?i)b|(?i)c for PCRE2 */
    if (st == ST_OK && !first && t->pos < t->len && t->in[t->pos] == ')')
        return error_set(err, ST_INVALID, "options (?i) behind the start are not supported");
    return st;
}

static enum status translate_one(struct translator *t, struct error *err)
{
    const char *here = t->in + t->pos;
    size_t left = t->len - t->pos;

    if (*here == '\\')
        return translate_escape(t, err);
    if (t->in_class) {
        if (*here == '[')
            return error_set(err, ST_INVALID, "a class inside a class is not supported");
        if (left >= 2 && memcmp(here, "&&", 2) == 0)
            return error_set(err, ST_INVALID, "class intersection && is not supported");
        if (*here == ']')
            t->in_class = false;
    } else if (*here == '[') {
        size_t n = left >= 2 && here[1] == '^' ? 2 : 1;

        if (left > n && here[n] == ']') /* the first in a class stands for itself */
            n++;
        t->in_class = true;
        t->pos += n;
        return byte_buf_append(t->out, here, n, err);
    } else if (left >= 2 && memcmp(here, "(?", 2) == 0) {
        return translate_group(t, err);
    } else if (left >= 2 && memcmp(here, "(*", 2) == 0) {
        return error_set(err, ST_INVALID, "(* is not supported");
    } else if (left >= 2 && memcmp(here, "{,", 2) == 0) {
        t->pos += 1;
        return byte_buf_append_string(t->out, "{0", err);
    } else if (left >= 2 && memcmp(here, "}+", 2) == 0) {
        return error_set(err, ST_INVALID, "{n,m}+ is not supported");
    }
    t->pos++;
    return byte_buf_append(t->out, here, 1, err);
}

static enum status translate(struct bytes_view pattern, struct byte_buf *out, struct error *err)
{
    struct translator t = {.in = (const char *)pattern.data, .len = pattern.len, .out = out};
    enum status st = ST_OK;

    if (memchr(pattern.data, '\0', pattern.len) != NULL)
        return error_set(err, ST_INVALID, "pattern holds a NUL");
    while (t.pos < t.len && st == ST_OK)
        st = translate_one(&t, err);
    return st;
}

/* ---- compiling and matching ---- */

static enum status compile(struct regex *regex, struct bytes_view pattern, bool ignore_case,
                           struct error *err)
{
    uint32_t flags = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | (ignore_case ? PCRE2_CASELESS : 0);
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    struct byte_buf text;
    PCRE2_SIZE at = 0;
    int code = 0;
    enum status st = ST_OK;

    byte_buf_init(&text, MAX_PATTERN_BYTES * 128); /* \b alone grows 100-fold */
    if (context == NULL)
        st = error_set(err, ST_NO_MEMORY, "could not allocate a regex context");
    if (st == ST_OK)
        st = translate(pattern, &text, err);
    if (st == ST_OK) {
        (void)pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        regex->code = pcre2_compile(text.data, text.len, flags, &code, &at, context);
        if (regex->code == NULL) {
            char why[120] = "";

            (void)pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
            st = code == PCRE2_ERROR_HEAP_FAILED
                     ? error_set(err, ST_NO_MEMORY, "could not allocate a regex")
                     : error_set(err, ST_INVALID, "%s", why);
        } else {
            (void)pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE); /* else it is interpreted */
        }
    }
    byte_buf_release(&text);
    pcre2_compile_context_free(context);
    return st;
}

enum status regex_create(struct bytes_view pattern, bool literal, bool ignore_case,
                         struct regex **out, struct error *err)
{
    struct regex *regex;
    enum status st;

    *out = NULL;
    if (pattern.len == 0)
        return error_set(err, ST_INVALID, "a pattern is empty");
    if (pattern.len > MAX_PATTERN_BYTES)
        return error_set(err, ST_INVALID, "a pattern has %zu bytes, at most %d are allowed",
                         pattern.len, (int)MAX_PATTERN_BYTES);
    regex = calloc(1, sizeof *regex);
    if (regex == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate a regex");
    byte_buf_init(&regex->literal, MAX_PATTERN_BYTES);
    if (literal)
        st = byte_buf_append(&regex->literal, pattern.data, pattern.len, err);
    else
        st = compile(regex, pattern, ignore_case, err);
    if (st != ST_OK) {
        error_add_context(err, "pattern \"%.*s\"", (int)MIN(pattern.len, 80), pattern.data);
        regex_destroy(&regex);
    }
    *out = regex;
    return st;
}

void regex_destroy(struct regex **regex)
{
    if (*regex == NULL)
        return;
    pcre2_code_free((*regex)->code);
    byte_buf_release(&(*regex)->literal);
    free(*regex);
    *regex = NULL;
}

enum status regex_iter_init(struct regex_iter *iter, const struct regex *regex,
                            struct bytes_view text, struct error *err)
{
    *iter = (struct regex_iter){.regex = regex, .text = text, .last_end = SIZE_MAX};
    if (regex->code == NULL)
        return ST_OK;
    iter->match_data = pcre2_match_data_create(1, NULL);
    return iter->match_data != NULL
               ? ST_OK
               : error_set(err, ST_NO_MEMORY, "could not allocate regex match data");
}

void regex_iter_release(struct regex_iter *iter)
{
    pcre2_match_data_free(iter->match_data);
    iter->match_data = NULL;
}

static enum status next_literal(struct regex_iter *iter, size_t *start, size_t *end)
{
    const struct byte_buf *want = &iter->regex->literal;
    const uint8_t *at = iter->text.data + iter->from, *stop = iter->text.data + iter->text.len;

    while ((size_t)(stop - at) >= want->len &&
           (at = memchr(at, want->data[0], (size_t)(stop - at) - want->len + 1)) != NULL) {
        if (memcmp(at, want->data, want->len) == 0) {
            *start = (size_t)(at - iter->text.data);
            iter->from = *end = *start + want->len;
            return ST_OK;
        }
        at++;
    }
    return ST_END;
}

static enum status match_at(struct regex_iter *iter, size_t *start, size_t *end, struct error *err)
{
    const pcre2_code *code = iter->regex->code;
    pcre2_match_data *data = iter->match_data;
    const PCRE2_SIZE *found;
    int n = pcre2_match(code, iter->text.data, iter->text.len, iter->from, PCRE2_NO_UTF_CHECK, data,
                        NULL);

    *start = *end = iter->from;
    if (n == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its frames on the heap */
        n = pcre2_match(code, iter->text.data, iter->text.len, iter->from,
                        PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data, NULL);
    if (n == PCRE2_ERROR_NOMATCH)
        return ST_END;
    if (n < 0) {
        char why[120] = "";

        (void)pcre2_get_error_message(n, (PCRE2_UCHAR *)why, sizeof why);
        return error_set(err, n == PCRE2_ERROR_NOMEMORY ? ST_NO_MEMORY : ST_INVALID,
                         "a pattern of the tokenizer cannot be matched in this text: %s", why);
    }
    found = pcre2_get_ovector_pointer(data);
    if (found[0] < iter->from || found[1] < found[0]) /* \K in a look-around can do that */
        return error_set(err, ST_INVALID, "a pattern of the tokenizer matches backwards");
    *start = found[0];
    *end = found[1];
    return ST_OK;
}

enum status regex_iter_next(struct regex_iter *iter, size_t *start, size_t *end, struct error *err)
{
    enum status st = ST_END;

    if (iter->regex->code == NULL)
        return next_literal(iter, start, end);
    while (iter->from <= iter->text.len) {
        st = match_at(iter, start, end, err);
        if (st != ST_OK)
            return st;
        if (*start != *end || *end != iter->last_end) {
            iter->from = iter->last_end = *end;
            return ST_OK;
        }
        if (iter->from < iter->text.len)
            (void)utf8_next(iter->text, &iter->from);
        else
            iter->from++;
    }
    return ST_END;
}

enum status regex_replace(const struct regex *regex, struct bytes_view text,
                          struct bytes_view content, struct byte_buf *out, struct error *err)
{
    struct regex_iter iter = {0};
    size_t start, end, last = 0;
    enum status st;

    if (text.len == 0)
        return ST_OK;
    st = regex_iter_init(&iter, regex, text, err);
    while (st == ST_OK && (st = regex_iter_next(&iter, &start, &end, err)) == ST_OK) {
        st = byte_buf_append(out, text.data + last, start - last, err);
        if (st == ST_OK)
            st = byte_buf_append(out, content.data, content.len, err);
        last = end;
    }
    regex_iter_release(&iter);
    return st == ST_END ? byte_buf_append(out, text.data + last, text.len - last, err) : st;
}
