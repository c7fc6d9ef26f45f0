#include "reinforce/base/file.h"
#include "reinforce/base/json.h"
#include "reinforce/base/utf8.h"
#include "reinforce/text/tokenizer.h"
#include "tests/support/oom.h"
#include "tests/support/random_text.h"
#include "tests/support/test.h"

#include <pthread.h>
#include <time.h>

enum { N_TEXTS = 20000, N_MUTATIONS = 1000 };

static const struct tokenizer_encoding all_special = {true, true};
static const struct tokenizer_encoding text_only = {false, false};

static void read_file(const char *path, struct byte_buf *buf)
{
    struct error err = {0};

    byte_buf_init(buf, 64u << 20);
    assert_ok(file_read(path, buf, &err));
}

static struct tokenizer *load(const char *path)
{
    struct tokenizer *tok;
    struct byte_buf buf;
    struct error err = {0};

    read_file(path, &buf);
    assert_ok(tokenizer_create(byte_buf_view(&buf), &tok, &err));
    byte_buf_release(&buf);
    return tok;
}

static json_t *load_json(const char *path)
{
    struct byte_buf buf;
    struct error err = {0};
    json_t *root;

    read_file(path, &buf);
    assert_ok(json_parse(byte_buf_view(&buf), &root, &err));
    byte_buf_release(&buf);
    return root;
}

static enum status create_from(const json_t *root, struct tokenizer **tok, struct error *err)
{
    struct byte_buf buf;
    enum status st;

    *tok = NULL;
    byte_buf_init(&buf, 16u << 20);
    st = json_write(root, &buf, err);
    if (st == ST_OK)
        st = tokenizer_create(byte_buf_view(&buf), tok, err);
    byte_buf_release(&buf);
    return st;
}

/* ---- equality with Hugging Face ---- */

/* tests/golden/make_text.py --show INDEX prints a text that differs. */
static void compare_sums(const char *json, const char *sums)
{
    struct tokenizer *tok = load(json);
    struct random_text source;
    struct byte_buf want, text;
    struct arena arena;
    struct error err = {0};

    read_file(sums, &want);
    assert_int_equal(want.len, N_TEXTS * 8);
    assert_ok(random_text_init(&source, &err));
    byte_buf_init(&text, 1 << 16);
    arena_init(&arena, 8u << 20);
    for (uint64_t i = 0; i < N_TEXTS; i++) {
        struct tokenizer_encoding how = {true, i % 2 == 0};
        uint32_t sum[2], expected[2];
        size_t n_ids, len;
        int32_t *ids;
        char *decoded;

        arena_reset(&arena);
        byte_buf_reset(&text);
        assert_ok(random_text_make(&source, i, &text, &err));
        assert_ok(tokenizer_encode(tok, byte_buf_view(&text), &how, &arena, &ids, &n_ids, &err));
        assert_ok(tokenizer_decode(tok, ids, n_ids, true, &arena, &decoded, &len, &err));
        sum[0] = random_text_sum(bytes_view_of(ids, n_ids * sizeof *ids));
        sum[1] = random_text_sum(bytes_view_of(decoded, len));
        memcpy(expected, want.data + i * 8, 8);
        if (sum[0] != expected[0])
            fail_msg("%s: ids of text %llu differ", json, (unsigned long long)i);
        if (sum[1] != expected[1])
            fail_msg("%s: text %llu decodes otherwise", json, (unsigned long long)i);
    }
    arena_release(&arena);
    byte_buf_release(&text);
    byte_buf_release(&want);
    random_text_release(&source);
    tokenizer_destroy(&tok);
}

static void a_clip_tokenizer_equals_hugging_face_on_20000_texts(void **state)
{
    (void)state;
    compare_sums("tests/golden/text_clip.json", "tests/golden/text_clip.sums");
}

static void a_gemma_tokenizer_equals_hugging_face_on_20000_texts(void **state)
{
    (void)state;
    compare_sums("tests/golden/text_gemma.json", "tests/golden/text_gemma.sums");
}

static void compare_case(const struct tokenizer *tok, const char *name, const json_t *one)
{
    const json_t *text = json_array_get(one, 0), *want = json_array_get(one, 1);
    const json_t *decoded = json_array_get(one, 2);
    struct arena arena;
    struct error err = {0};
    size_t n_ids, len;
    int32_t *ids;
    char *plain;
    bool same;

    arena_init(&arena, 1u << 20);
    assert_ok(tokenizer_encode(tok,
                               bytes_view_of(json_string_value(text), json_string_length(text)),
                               &all_special, &arena, &ids, &n_ids, &err));
    same = n_ids == json_array_size(want);
    for (size_t i = 0; same && i < n_ids; i++)
        same = ids[i] == json_integer_value(json_array_get(want, i));
    if (!same)
        fail_msg("%s: ids of \"%s\" differ", name, json_string_value(text));
    assert_ok(tokenizer_decode(tok, ids, n_ids, false, &arena, &plain, &len, &err));
    if (len != json_string_length(decoded) || memcmp(plain, json_string_value(decoded), len) != 0)
        fail_msg("%s: \"%s\" decodes to \"%s\", want \"%s\"", name, json_string_value(text), plain,
                 json_string_value(decoded));
    arena_release(&arena);
}

static void every_kind_of_part_equals_hugging_face(void **state)
{
    struct byte_buf lines;
    size_t n = 0;

    (void)state;
    read_file("tests/golden/text_kinds.jsonl", &lines);
    for (size_t at = 0; at < lines.len; n++) {
        const uint8_t *stop = memchr(lines.data + at, '\n', lines.len - at);
        struct bytes_view line = bytes_view_of(lines.data + at, (size_t)(stop - lines.data) - at);
        struct error err = {0};
        struct tokenizer *tok;
        const json_t *cases;
        const char *name;
        json_t *kind;

        at += line.len + 1;
        assert_ok(json_parse(line, &kind, &err));
        name = json_string_value(json_object_get(kind, "name"));
        if (create_from(json_object_get(kind, "tokenizer"), &tok, &err) != ST_OK)
            fail_msg("%s: %s: %s", name, err.context, err.message);
        cases = json_object_get(kind, "cases");
        for (size_t i = 0; i < json_array_size(cases); i++)
            compare_case(tok, name, json_array_get(cases, i));
        tokenizer_destroy(&tok);
        json_decref(kind);
    }
    assert_true(n > 100);
    byte_buf_release(&lines);
}

/* ---- the same tokenizer from other files ---- */

static void assert_same_ids(const struct tokenizer *a, const struct tokenizer *b, uint64_t n_texts)
{
    struct random_text source;
    struct byte_buf text;
    struct arena arena;
    struct error err = {0};

    assert_ok(random_text_init(&source, &err));
    byte_buf_init(&text, 1 << 16);
    arena_init(&arena, 8u << 20);
    for (uint64_t i = 0; i < n_texts; i++) {
        size_t n_a, n_b;
        int32_t *ids_a, *ids_b;

        arena_reset(&arena);
        byte_buf_reset(&text);
        assert_ok(random_text_make(&source, i, &text, &err));
        assert_ok(
            tokenizer_encode(a, byte_buf_view(&text), &all_special, &arena, &ids_a, &n_a, &err));
        assert_ok(
            tokenizer_encode(b, byte_buf_view(&text), &all_special, &arena, &ids_b, &n_b, &err));
        if (n_a != n_b || memcmp(ids_a, ids_b, n_a * sizeof *ids_a) != 0)
            fail_msg("ids of text %llu differ", (unsigned long long)i);
    }
    arena_release(&arena);
    byte_buf_release(&text);
    random_text_release(&source);
}

/* "a b" for ["a", "b"] */
static json_t *merges_as_strings(const json_t *pairs)
{
    json_t *strings = json_array();

    for (size_t i = 0; i < json_array_size(pairs); i++) {
        const json_t *pair = json_array_get(pairs, i);

        assert_int_equal(
            json_array_append_new(strings,
                                  json_sprintf("%s %s", json_string_value(json_array_get(pair, 0)),
                                               json_string_value(json_array_get(pair, 1)))),
            0);
    }
    return strings;
}

static void string_merges_and_pair_merges_make_the_same_tokenizer(void **state) /* CLIP 20 */
{
    struct tokenizer *pairs = load("tests/golden/text_clip.json"), *strings;
    json_t *root = load_json("tests/golden/text_clip.json"),
           *model = json_object_get(root, "model");
    struct error err = {0};

    (void)state;
    assert_true(json_is_array(json_array_get(json_object_get(model, "merges"), 0)));
    assert_int_equal(
        json_object_set_new(model, "merges", merges_as_strings(json_object_get(model, "merges"))),
        0);
    assert_ok(create_from(root, &strings, &err));
    assert_same_ids(pairs, strings, 10000);
    tokenizer_destroy(&pairs);
    tokenizer_destroy(&strings);
    json_decref(root);
}

static void vocab_json_with_merges_txt_makes_the_same_tokenizer(void **state)
{
    struct tokenizer *whole = load("tests/golden/text_clip.json"), *parts;
    json_t *root = load_json("tests/golden/text_clip.json"),
           *model = json_object_get(root, "model");
    json_t *merges = merges_as_strings(json_object_get(model, "merges"));
    struct byte_buf vocab, lines;
    struct error err = {0};

    (void)state;
    byte_buf_init(&vocab, 1 << 20);
    byte_buf_init(&lines, 1 << 20);
    assert_ok(json_write(json_object_get(model, "vocab"), &vocab, &err));
    assert_ok(byte_buf_append_string(&lines, "#version: 0.2\n", &err));
    for (size_t i = 0; i < json_array_size(merges); i++)
        assert_ok(
            byte_buf_printf(&lines, &err, "%s\n", json_string_value(json_array_get(merges, i))));
    assert_ok(tokenizer_create_from_vocab_merges(byte_buf_view(&vocab), byte_buf_view(&lines),
                                                 TOKENIZER_RULES_OF_FILE, &parts, &err));
    assert_int_equal(tokenizer_vocab_size(parts), tokenizer_vocab_size(whole));
    assert_same_ids(whole, parts, 2000);
    tokenizer_destroy(&whole);
    tokenizer_destroy(&parts);
    byte_buf_release(&vocab);
    byte_buf_release(&lines);
    json_decref(merges);
    json_decref(root);
}

/* ---- refusals ---- */

#define MINI(parts)                                                                                \
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a "           \
    "b\"]}" parts "}"

static void what_is_not_supported_or_broken_is_refused_with_the_reason(void **state)
{
    static const struct {
        const char *json;
        enum status want;
        const char *says;
    } cases[] = {
        {"", ST_CORRUPT, "JSON"},
        {"[]", ST_CORRUPT, "not an object"},
        {"{}", ST_CORRUPT, "no \"model\""},
        {MINI(",\"version\":\"2.0\""), ST_INVALID, "2.0"},
        {MINI(",\"normalizer\":{\"type\":\"BertNormalizer\"}"), ST_INVALID, "BertNormalizer"},
        {MINI(",\"normalizer\":{\"type\":\"BertNormalizer\"}"), ST_INVALID, "BertNormalizer"},
        {MINI(",\"normalizer\":{}"), ST_CORRUPT, "type"},
        {MINI(",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[a\"},\"content\":"
              "\"\"}"),
         ST_INVALID, "missing terminating ]"},
        {MINI(",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[a&&b]\"},"
              "\"content\":\"\"}"),
         ST_INVALID, "&&"},
        {MINI(",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[[:alpha:]]\"},"
              "\"content\":\"\"}"),
         ST_INVALID, "class inside a class"},
        {MINI(",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":"
              "\"\"}"),
         ST_INVALID, "empty"},
        {MINI(",\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}"), ST_INVALID, "UnicodeScripts"},
        {MINI(",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},"
              "\"behavior\":\"Odd\"}"),
         ST_INVALID, "Odd"},
        {MINI(",\"post_processor\":{\"type\":\"BertProcessing\"}"), ST_INVALID, "BertProcessing"},
        {MINI(",\"post_processor\":{\"type\":\"RobertaProcessing\",\"cls\":[\"x\",9],"
              "\"sep\":[\"a\",0]}"),
         ST_CORRUPT, "id 9"},
        {MINI(",\"decoder\":{\"type\":\"WordPiece\"}"), ST_INVALID, "WordPiece"},
        {MINI(",\"decoder\":{\"type\":\"CTC\"}"), ST_INVALID, "CTC"},
        {MINI(",\"added_tokens\":[{\"id\":7,\"content\":\"x\"}]"), ST_CORRUPT, "expected 3"},
        {MINI(",\"added_tokens\":[{\"id\":1,\"content\":\"a\"}]"), ST_CORRUPT, "expected 0"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", ST_INVALID, "WordPiece"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0],[\"a\",1]]}}", ST_CORRUPT, "a"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}}", ST_CORRUPT, "piece 0"},
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]],\"unk_id\":1}}", ST_CORRUPT,
         "unk_id"},
        {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"A*==\"}}",
         ST_CORRUPT, "base64"},
        {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"CAAAAAAA\"}}",
         ST_CORRUPT, "cut short"},
        {"{\"model\":{\"type\":\"BPE\",\"dropout\":0.1,\"vocab\":{},\"merges\":[]}}", ST_INVALID,
         "dropout"},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", ST_CORRUPT, "\"b\""},
        {"{\"model\":{\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]}}", ST_CORRUPT, "\"ab\""},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a  a\"]}}", ST_CORRUPT, "space"},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", ST_CORRUPT, "pair"},
        {"{\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", ST_CORRUPT, "taken"},
        {"{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", ST_CORRUPT, "-1"},
        {"{\"model\":{\"vocab\":{\"a\":4000000},\"merges\":[]}}", ST_CORRUPT, "4000000"},
        {"{\"model\":{\"vocab\":{\"a\":\"0\"},\"merges\":[]}}", ST_CORRUPT, "not an integer"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        struct tokenizer *tok;

        if (tokenizer_create(bytes_of_string(cases[i].json), &tok, &err) != cases[i].want)
            fail_msg("case %zu: %s: %s", i, cases[i].json, err.message);
        assert_null(tok);
        if (strstr(err.message, cases[i].says) == NULL)
            fail_msg("case %zu: \"%s\" does not say %s", i, err.message, cases[i].says);
    }
}

static void a_folder_without_a_tokenizer_says_which_file_to_add(void **state)
{
    struct error err = {0};
    struct tokenizer *tok;

    (void)state;
    assert_status(tokenizer_open("tests/golden", TOKENIZER_RULES_OF_FILE, &tok, &err),
                  ST_NOT_FOUND);
    assert_null(tok);
    assert_non_null(strstr(err.message, "add tokenizer.json"));
    assert_non_null(strstr(err.context, "tests/golden"));
}

/* Changes `text` a little: bytes, lengths, repeated or missing stretches. */
static void mutate(struct byte_buf *text, uint64_t *rng)
{
    static const char *const bits[] = {"null", "-1",      "[]",       "{}", "\"\"", "1e9",
                                       "true", "\\u0000", "\"type\"", "(?", "[",    "<0xZZ>"};
    uint64_t n = 1 + random_text_below(rng, 4);
    struct error err = {0};

    for (uint64_t i = 0; i < n && text->len > 8; i++) {
        size_t at = random_text_below(rng, text->len), len = 1 + random_text_below(rng, 64);
        const char *bit = bits[random_text_below(rng, ARRAY_LEN(bits))];

        switch (random_text_below(rng, 5)) {
        case 0:
            text->data[at] = (uint8_t)random_text_below(rng, 256);
            break;
        case 1:
            text->len = at;
            break;
        case 2: /* drop a stretch */
            len = MIN(text->len - at, len);
            memmove(text->data + at, text->data + at + len, text->len - at - len);
            text->len -= len;
            break;
        case 3: /* repeat a stretch at the end */
            len = MIN(text->len - at, len);
            assert_ok(byte_buf_extend(text, len, &(uint8_t *){NULL}, &err));
            memcpy(text->data + text->len - len, text->data + at, len);
            break;
        default: /* another value in place of the one behind a colon */
            while (at < text->len && text->data[at] != ':')
                at++;
            len = strlen(bit);
            if (at + 1 + len < text->len)
                memcpy(text->data + at + 1, bit, len);
        }
    }
}

static void a_thousand_mutated_files_are_read_or_refused_with_a_reason(void **state)
{
    struct byte_buf lines, text;
    struct arena arena;
    uint64_t rng = 7;
    size_t at = 0, n_read = 0;

    (void)state;
    read_file("tests/golden/text_kinds.jsonl", &lines);
    byte_buf_init(&text, 1 << 20);
    arena_init(&arena, 64u << 20);
    for (int i = 0; i < N_MUTATIONS; i++) {
        const uint8_t *stop = memchr(lines.data + at, '\n', lines.len - at);
        struct bytes_view line = bytes_view_of(lines.data + at, (size_t)(stop - lines.data) - at);
        struct error err = {0};
        struct tokenizer *tok;
        json_t *kind;

        at = (at + line.len + 1) % lines.len;
        byte_buf_reset(&text);
        arena_reset(&arena);
        assert_ok(json_parse(line, &kind, &err));
        assert_ok(json_write(json_object_get(kind, "tokenizer"), &text, &err));
        json_decref(kind);
        mutate(&text, &rng);
        if (tokenizer_create(byte_buf_view(&text), &tok, &err) == ST_OK) {
            int32_t *ids;
            size_t n_ids, len;
            char *decoded;

            n_read++;
            if (tokenizer_encode(tok, bytes_of_string(" abc-cab \xc3\xa9 <0x41>  ab"), &all_special,
                                 &arena, &ids, &n_ids, &err) == ST_OK)
                assert_ok(tokenizer_decode(tok, ids, n_ids, true, &arena, &decoded, &len, &err));
            else
                assert_true(err.message[0] != '\0');
            tokenizer_destroy(&tok);
        } else {
            assert_null(tok);
            assert_true(err.code == ST_CORRUPT || err.code == ST_INVALID);
            assert_true(strlen(err.message) > 8);
        }
    }
    assert_true(n_read > 10 && n_read < N_MUTATIONS - 100);
    arena_release(&arena);
    byte_buf_release(&text);
    byte_buf_release(&lines);
}

/* ---- behaviour ---- */

static void special_tokens_in_the_text_are_text_unless_allowed(void **state) /* CLIP 22 */
{
    struct tokenizer *tok = load("tests/golden/text_clip.json");
    struct bytes_view text = bytes_of_string("a <|endoftext|> b <end_of_text> <|startoftext|>");
    int32_t end = tokenizer_token_id(tok, "<|endoftext|>");
    int32_t start = tokenizer_token_id(tok, "<|startoftext|>");
    struct arena arena;
    struct error err = {0};
    size_t n_ids, n_special = 0;
    int32_t *ids;

    (void)state;
    arena_init(&arena, 1 << 20);
    assert_ok(tokenizer_encode(tok, text, &text_only, &arena, &ids, &n_ids, &err));
    for (size_t i = 0; i < n_ids; i++)
        assert_true(ids[i] < start);
    assert_ok(tokenizer_encode(tok, text, &(struct tokenizer_encoding){false, true}, &arena, &ids,
                               &n_ids, &err));
    for (size_t i = 0; i < n_ids; i++)
        n_special += ids[i] == start || ids[i] == end;
    assert_int_equal(n_special, 2);
    assert_true(tokenizer_is_special(tok, end));
    assert_false(tokenizer_is_special(tok, 0));
    assert_int_equal(tokenizer_token_id(tok, "no such token"), -1);
    arena_release(&arena);
    tokenizer_destroy(&tok);
}

static void a_clip_row_is_cut_with_the_end_in_place_and_padded(void **state) /* CLIP 19 */
{
    static const struct {
        size_t n_ids, context, want;
        int32_t row[6];
    } cases[] = {
        {0, 6, 2, {8, 9, 0, 0, 0, 0}},
        {3, 6, 5, {8, 1, 2, 3, 9, 0}},
        {4, 6, 6, {8, 1, 2, 3, 4, 9}},
        {5, 6, 6, {8, 1, 2, 3, 4, 9}},
        {5, 2, 2, {8, 9}},
        {5, 1, 1, {9}},
    };
    static const int32_t ids[5] = {1, 2, 3, 4, 5};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int32_t row[6];

        assert_int_equal(tokenizer_clip_row(ids, cases[i].n_ids, 8, 9, 0, cases[i].context, row),
                         cases[i].want);
        assert_memory_equal(row, cases[i].row, cases[i].context * sizeof row[0]);
    }
}

static void an_id_nobody_has_is_refused(void **state)
{
    struct tokenizer *tok = load("tests/golden/text_clip.json");
    int32_t bad[2] = {0, (int32_t)tokenizer_vocab_size(tok)};
    struct arena arena;
    struct error err = {0};
    size_t len;
    char *text;

    (void)state;
    arena_init(&arena, 1 << 20);
    assert_status(tokenizer_decode(tok, bad, 2, false, &arena, &text, &len, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "position 1"));
    bad[1] = -1;
    assert_status(tokenizer_decode(tok, bad, 2, false, &arena, &text, &len, &err), ST_INVALID);
    assert_null(text);
    arena_release(&arena);
    tokenizer_destroy(&tok);
}

static void invalid_bytes_decode_to_replacement_characters(void **state) /* CLIP 23 */
{
    struct tokenizer *tok = load("tests/golden/text_clip.json");
    int32_t half[1] = {tokenizer_token_id(tok, "\xc3\x83")}; /* the byte C3 alone */
    struct arena arena;
    struct error err = {0};
    size_t len, n_ids;
    int32_t *ids;
    char *text;

    (void)state;
    arena_init(&arena, 1 << 20);
    assert_true(half[0] >= 0);
    assert_ok(tokenizer_decode(tok, half, 1, false, &arena, &text, &len, &err));
    assert_string_equal(text, "\xef\xbf\xbd");
    assert_ok(tokenizer_encode(tok, bytes_of_string("It''s  a\tDOG, \xff!"), &text_only, &arena,
                               &ids, &n_ids, &err));
    assert_ok(tokenizer_decode(tok, ids, n_ids, false, &arena, &text, &len, &err));
    assert_string_equal(text, "it '' s a dog , \xef\xbf\xbd! ");
    arena_release(&arena);
    tokenizer_destroy(&tok);
}

static void a_long_text_without_spaces_takes_no_quadratic_time(void **state)
{
    struct tokenizer *tok = load("tests/golden/text_gemma.json");
    size_t len = 1000000, n_ids, n_text;
    char *letters = malloc(len), *text;
    struct timespec before, after;
    struct arena arena;
    struct error err = {0};
    int32_t *ids;

    (void)state;
    assert_non_null(letters);
    for (size_t i = 0; i < len; i++)
        letters[i] = "aternwo"[i * i % 7];
    arena_init(&arena, 64u << 20);
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &before), 0);
    assert_ok(
        tokenizer_encode(tok, bytes_view_of(letters, len), &text_only, &arena, &ids, &n_ids, &err));
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &after), 0);
    assert_true(after.tv_sec - before.tv_sec < 20); /* quadratic: hours */
    assert_true(n_ids < len);
    assert_ok(tokenizer_decode(tok, ids, n_ids, false, &arena, &text, &n_text, &err));
    assert_int_equal(n_text, len);
    assert_memory_equal(text, letters, len);
    arena_release(&arena);
    free(letters);
    tokenizer_destroy(&tok);
}

static void every_failed_allocation_is_an_error_and_nothing_leaks(void **state)
{
    struct byte_buf json;
    unsigned n = 0;
    bool fired = true;

    (void)state;
    read_file("tests/golden/text_clip.json", &json);
    while (fired && n < 20000) {
        struct tokenizer *tok = NULL;
        struct arena arena;
        struct error err = {0};
        int32_t *ids;
        size_t n_ids, len;
        char *text;
        enum status st;

        arena_init(&arena, 1 << 20);
        oom_fail_at(++n);
        st = tokenizer_create(byte_buf_view(&json), &tok, &err);
        if (st == ST_OK)
            st = tokenizer_encode(tok, bytes_of_string("A \xc3\xa9t\xc3\xa9 <|endoftext|> \xff 12"),
                                  &all_special, &arena, &ids, &n_ids, &err);
        if (st == ST_OK)
            st = tokenizer_decode(tok, ids, n_ids, false, &arena, &text, &len, &err);
        fired = oom_fired();
        oom_fail_at(0);
        assert_status(st, fired ? ST_NO_MEMORY : ST_OK);
        tokenizer_destroy(&tok);
        arena_release(&arena);
    }
    assert_false(fired);
    assert_true(n > 40); /* the wrapped functions are the ones that run */
    byte_buf_release(&json);
}

static void *encode_many(void *arg)
{
    const struct tokenizer *tok = arg;
    struct random_text source;
    struct byte_buf text;
    struct arena arena;
    struct error err = {0};
    uintptr_t sum = 0;

    if (random_text_init(&source, &err) != ST_OK)
        return NULL;
    byte_buf_init(&text, 1 << 16);
    arena_init(&arena, 1u << 20);
    for (uint64_t i = 0; i < 500; i++) {
        int32_t *ids;
        size_t n_ids;

        arena_reset(&arena);
        byte_buf_reset(&text);
        if (random_text_make(&source, i, &text, &err) != ST_OK ||
            tokenizer_encode(tok, byte_buf_view(&text), &all_special, &arena, &ids, &n_ids, &err) !=
                ST_OK)
            return NULL;
        sum = sum * 31 + random_text_sum(bytes_view_of(ids, n_ids * sizeof *ids));
    }
    arena_release(&arena);
    byte_buf_release(&text);
    random_text_release(&source);
    return (void *)(sum | 1);
}

static void threads_may_share_a_tokenizer(void **state)
{
    struct tokenizer *tok = load("tests/golden/text_clip.json");
    pthread_t threads[4];
    void *sums[4];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_many, tok), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_join(threads[i], &sums[i]), 0);
    assert_non_null(sums[0]);
    for (size_t i = 1; i < ARRAY_LEN(threads); i++)
        assert_ptr_equal(sums[0], sums[i]);
    tokenizer_destroy(&tok);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_clip_tokenizer_equals_hugging_face_on_20000_texts),
        cmocka_unit_test(a_gemma_tokenizer_equals_hugging_face_on_20000_texts),
        cmocka_unit_test(every_kind_of_part_equals_hugging_face),
        cmocka_unit_test(string_merges_and_pair_merges_make_the_same_tokenizer),
        cmocka_unit_test(vocab_json_with_merges_txt_makes_the_same_tokenizer),
        cmocka_unit_test(what_is_not_supported_or_broken_is_refused_with_the_reason),
        cmocka_unit_test(a_folder_without_a_tokenizer_says_which_file_to_add),
        cmocka_unit_test(a_thousand_mutated_files_are_read_or_refused_with_a_reason),
        cmocka_unit_test(special_tokens_in_the_text_are_text_unless_allowed),
        cmocka_unit_test(a_clip_row_is_cut_with_the_end_in_place_and_padded),
        cmocka_unit_test(an_id_nobody_has_is_refused),
        cmocka_unit_test(invalid_bytes_decode_to_replacement_characters),
        cmocka_unit_test(a_long_text_without_spaces_takes_no_quadratic_time),
        cmocka_unit_test(every_failed_allocation_is_an_error_and_nothing_leaks),
        cmocka_unit_test(threads_may_share_a_tokenizer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
