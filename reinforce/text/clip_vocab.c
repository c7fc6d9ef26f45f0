#include "reinforce/text/clip_vocab.h"

#include "reinforce/base/utf8.h"

static const char *const start_names[] = {"<|startoftext|>", "<start_of_text>"};
static const char *const end_names[] = {"<|endoftext|>", "<end_of_text>"};

static const char rules[] =
    "{\"version\": \"1.0\", \"added_tokens\": [], \"normalizer\": {\"type\": \"Sequence\","
    " \"normalizers\": [{\"type\": \"NFC\"}, {\"type\": \"Replace\", \"pattern\": {\"Regex\":"
    " \"\\\\s+\"}, \"content\": \" \"}, {\"type\": \"Lowercase\"}]}, \"pre_tokenizer\": {\"type\":"
    " \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\":"
    " \"'s|'t|'re|'ve|'m|'ll|'d|[\\\\p{L}]+|[\\\\p{N}]|[^\\\\s\\\\p{L}\\\\p{N}]+\"},"
    " \"behavior\": \"Removed\", \"invert\": true}, {\"type\": \"ByteLevel\","
    " \"add_prefix_space\": false}]}, \"decoder\": {\"type\": \"ByteLevel\"}}";

static const char *name_in(const json_t *vocab, const char *const names[], size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (json_is_integer(json_object_get(vocab, names[i])))
            return names[i];
    return NULL;
}

enum status clip_vocab_specials(const json_t *vocab, int32_t *start, int32_t *end,
                                struct error *err)
{
    const char *name[2] = {name_in(vocab, start_names, ARRAY_LEN(start_names)),
                           name_in(vocab, end_names, ARRAY_LEN(end_names))};
    int64_t id[2] = {0, 0};

    for (int i = 0; i < 2; i++) {
        if (name[i] == NULL)
            return error_set(err, ST_INVALID, "not a CLIP vocabulary: it has no \"%s\"",
                             i == 0 ? start_names[0] : end_names[0]);
        id[i] = json_integer_value(json_object_get(vocab, name[i]));
        if (id[i] < 0 || id[i] > INT32_MAX)
            return error_set(err, ST_CORRUPT, "\"%s\" has id %lld", name[i], (long long)id[i]);
    }
    *start = (int32_t)id[0];
    *end = (int32_t)id[1];
    return ST_OK;
}

/* "#version: 0.2", which OpenAI's file begins with its own name. */
static bool is_header(const char *line, size_t len)
{
    static const char mark[] = "#version";

    for (size_t i = 0; i + sizeof mark - 1 <= len; i++)
        if (memcmp(line + i, mark, sizeof mark - 1) == 0)
            return true;
    return false;
}

static enum status read_merges(struct bytes_view text, json_t *list, struct error *err)
{
    size_t line_number = 0;

    for (size_t at = 0; at < text.len;) {
        const char *line = (const char *)text.data + at;
        const char *stop = memchr(line, '\n', text.len - at);
        size_t len = stop != NULL ? (size_t)(stop - line) : text.len - at;

        at += len + 1;
        line_number++;
        if (len > 0 && line[len - 1] == '\r')
            len--;
        if (len == 0 || (line_number == 1 && is_header(line, len)))
            continue;
        if (!utf8_is_valid(bytes_view_of(line, len)))
            return error_set(err, ST_CORRUPT, "line %zu of the merges is not UTF-8", line_number);
        if (json_array_append_new(list, json_stringn_nocheck(line, len)) != 0)
            return error_set(err, ST_NO_MEMORY, "could not store %zu merges", line_number);
    }
    return ST_OK;
}

static enum status complete(json_t *root, json_t *vocab, json_t *merges, int32_t start, int32_t end,
                            struct error *err)
{
    const char *first = name_in(vocab, start_names, ARRAY_LEN(start_names));
    const char *last = name_in(vocab, end_names, ARRAY_LEN(end_names));
    json_t *added = json_object_get(root, "added_tokens");
    int failed = json_object_set_new(root, "model",
                                     json_pack("{s:s, s:s, s:s, s:O, s:O}", "type", "BPE",
                                               "unk_token", last, "end_of_word_suffix", "</w>",
                                               "vocab", vocab, "merges", merges));

    failed |=
        json_object_set_new(root, "post_processor",
                            json_pack("{s:s, s:[s, i], s:[s, i]}", "type", "RobertaProcessing",
                                      "sep", last, (int)end, "cls", first, (int)start));
    for (int i = 0; i < 2; i++)
        failed |= json_array_append_new(
            added, json_pack("{s:i, s:s, s:b, s:b}", "id", (int)(i == 0 ? start : end), "content",
                             i == 0 ? first : last, "special", 1, "normalized", 0));
    return failed == 0 ? ST_OK : error_set(err, ST_NO_MEMORY, "could not build the CLIP tokenizer");
}

enum status clip_vocab_to_json(struct bytes_view vocab, struct bytes_view merges, json_t **out,
                               struct error *err)
{
    json_t *root = NULL, *words = NULL, *list = json_array();
    int32_t start = 0, end = 0;
    enum status st = list != NULL ? ST_OK : error_set(err, ST_NO_MEMORY, "could not store merges");

    *out = NULL;
    if (st == ST_OK)
        st = json_parse(vocab, &words, err);
    if (st == ST_OK)
        st = clip_vocab_specials(words, &start, &end, err);
    if (st == ST_OK)
        st = read_merges(merges, list, err);
    if (st == ST_OK)
        st = json_parse(bytes_of_string(rules), &root, err);
    if (st == ST_OK)
        st = complete(root, words, list, start, end, err);
    json_decref(words);
    json_decref(list);
    if (st == ST_OK)
        *out = root;
    else
        json_decref(root);
    return st;
}
