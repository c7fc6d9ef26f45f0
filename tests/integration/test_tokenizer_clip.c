/* The published CLIP vocabulary: tests/integration/fetch_clip_vocab.sh puts it into
 * $REINFORCE_TEST_DATA/clip. */
#include "reinforce/base/json.h"
#include "reinforce/text/clean.h"
#include "reinforce/text/tokenizer.h"
#include "reinforce/text/unicode.h"
#include "tests/support/random_text.h"
#include "tests/support/test_data.h"

enum { START = 49406, END = 49407, CONTEXT = 77, N_CAPTIONS = 10000 };

static struct tokenizer *load(const char *name, enum tokenizer_rules rules)
{
    struct tokenizer *tok;
    struct byte_buf json;
    struct error err = {0};

    test_data_read(name, &json);
    assert_ok(tokenizer_create_with_rules(byte_buf_view(&json), rules, &tok, &err));
    byte_buf_release(&json);
    return tok;
}

static struct tokenizer *load_parts(enum tokenizer_rules rules)
{
    struct byte_buf vocab, merges;
    struct tokenizer *tok;
    struct error err = {0};

    test_data_read("clip/vocab.json", &vocab);
    test_data_read("clip/merges.txt", &merges);
    assert_ok(tokenizer_create_from_vocab_merges(byte_buf_view(&vocab), byte_buf_view(&merges),
                                                 rules, &tok, &err));
    byte_buf_release(&vocab);
    byte_buf_release(&merges);
    return tok;
}

static void assert_ids(const char *what, const int32_t *got, size_t n, const int32_t *want,
                       size_t n_want)
{
    if (n != n_want || memcmp(got, want, n * sizeof *got) != 0)
        fail_msg("%s: %zu ids, the first is %d; want %zu from %d", what, n,
                 n > 0 ? (int)got[0] : -1, n_want, n_want > 0 ? (int)want[0] : -1);
}

static void the_vectors_of_annex_a3_hold(void **state) /* CLIP 19 */
{
    static const struct {
        const char *text;
        size_t n;
        int32_t ids[8];
    } cases[] = {
        {"a photo of a cat", 5, {320, 1125, 539, 320, 2368}},
        {"", 0, {0}},
        {"!", 1, {256}},
        {"!!", 1, {748}},
        {"!!!", 1, {995}},
        {"!?", 1, {6004}},
        {"!!! wow !?", 3, {995, 2781, 6004}},
        {"a!b", 3, {320, 256, 321}},
        {"3.14", 4, {274, 269, 272, 275}},
        {"10", 2, {272, 271}},
        {"don't", 2, {847, 713}},
        {"DON'T", 2, {847, 713}},
        {"it''s", 3, {585, 8445, 338}},
        {"<start_of_text>hi", 2, {49406, 1883}},
        {"<|startoftext|>", 7, {27, 347, 993, 6659, 4160, 91, 285}},
        {"\xc4\xb0stanbul", 3, {328, 16384, 11231}},
        {"\xe2\x80\x8b", 1, {9844}},
        {"the\xc2\xa0"
         "cat",
         2,
         {518, 2368}},
        {"K\xe2\x84\xaa", 1, {10849}},
        {"e\xcc\x81", 3, {324, 136, 479}},
        {"hi!~", 3, {1883, 0, 349}},
        {"!;", 2, {0, 282}},
        {"!\xe2\x86\x92", 2, {0, 7481}},
        {"(!)", 1, {30253}},
        {"!#", 1, {9670}},
        {"\"!\"", 2, {1, 2947}},
    };
    struct tokenizer *tok = load("clip/tokenizer.json", TOKENIZER_RULES_OPEN_CLIP);
    struct arena arena;

    (void)state;
    arena_init(&arena, 1u << 20);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct byte_buf lower; /* the annex leaves ftfy out, and with it NFC */
        struct error err = {0};
        size_t n_ids;
        int32_t *ids;

        arena_reset(&arena);
        byte_buf_init(&lower, 1 << 10);
        assert_ok(unicode_lower(bytes_of_string(cases[i].text), &lower, &err));
        assert_ok(tokenizer_encode(tok, byte_buf_view(&lower),
                                   &(struct tokenizer_encoding){false, true}, &arena, &ids, &n_ids,
                                   &err));
        assert_ids(cases[i].text, ids, n_ids, cases[i].ids, cases[i].n);
        byte_buf_release(&lower);
    }
    assert_int_equal(tokenizer_vocab_size(tok), 49408);
    arena_release(&arena);
    tokenizer_destroy(&tok);
}

static void rows_have_77_ids_and_an_end(void **state) /* CLIP 19 */
{
    struct tokenizer *tok = load("clip/tokenizer.json", TOKENIZER_RULES_OPEN_CLIP);
    struct byte_buf words;
    struct arena arena;
    struct error err = {0};
    int32_t row[CONTEXT], *ids;
    size_t n_ids;

    (void)state;
    arena_init(&arena, 1u << 20);
    byte_buf_init(&words, 1 << 16);
    for (int i = 0; i < 200; i++)
        assert_ok(byte_buf_append_string(&words, "word ", &err));
    assert_ok(tokenizer_encode(tok, byte_buf_view(&words),
                               &(struct tokenizer_encoding){false, false}, &arena, &ids, &n_ids,
                               &err));
    assert_int_equal(n_ids, 200);
    assert_int_equal(tokenizer_clip_row(ids, n_ids, START, END, 0, CONTEXT, row), CONTEXT);
    assert_int_equal(row[0], START);
    assert_int_equal(row[75], ids[74]);
    assert_int_equal(row[76], END);
    assert_int_equal(tokenizer_clip_row(NULL, 0, START, END, 0, CONTEXT, row), 2);
    assert_int_equal(row[0], START);
    assert_int_equal(row[1], END);
    for (int i = 2; i < CONTEXT; i++)
        assert_int_equal(row[i], 0);
    byte_buf_release(&words);
    arena_release(&arena);
    tokenizer_destroy(&tok);
}

static void every_form_of_the_vocabulary_makes_the_same_tokenizer(void **state) /* CLIP 20 */
{
    struct tokenizer *toks[3] = {load("clip/tokenizer.json", TOKENIZER_RULES_OF_FILE),
                                 load("clip/tokenizer_pairs.json", TOKENIZER_RULES_OF_FILE),
                                 load_parts(TOKENIZER_RULES_OF_FILE)};
    struct random_text source;
    struct byte_buf text;
    struct arena arena;
    struct error err = {0};

    (void)state;
    assert_ok(random_text_init(&source, &err));
    byte_buf_init(&text, 1 << 16);
    arena_init(&arena, 1u << 20);
    for (uint64_t i = 0; i < N_CAPTIONS; i++) {
        size_t n_ids[3];
        int32_t *ids[3];

        arena_reset(&arena);
        byte_buf_reset(&text);
        assert_ok(random_text_make(&source, i, &text, &err));
        for (int k = 0; k < 3; k++)
            assert_ok(tokenizer_encode(toks[k], byte_buf_view(&text),
                                       &(struct tokenizer_encoding){true, true}, &arena, &ids[k],
                                       &n_ids[k], &err));
        assert_ids("pairs", ids[1], n_ids[1], ids[0], n_ids[0]);
        assert_ids("vocab.json and merges.txt", ids[2], n_ids[2], ids[0], n_ids[0]);
    }
    for (int k = 0; k < 3; k++)
        tokenizer_destroy(&toks[k]);
    arena_release(&arena);
    byte_buf_release(&text);
    random_text_release(&source);
}

static void assert_json_ids(const struct tokenizer *tok, struct bytes_view text, bool add_special,
                            bool special_in_text, const json_t *want, const char *what)
{
    struct arena arena;
    struct error err = {0};
    size_t n_ids;
    int32_t *ids;

    arena_init(&arena, 1u << 20);
    assert_ok(tokenizer_encode(tok, text,
                               &(struct tokenizer_encoding){add_special, special_in_text}, &arena,
                               &ids, &n_ids, &err));
    if (n_ids != json_array_size(want))
        fail_msg("%s: \"%.*s\": %zu ids, want %zu", what, (int)text.len, text.data, n_ids,
                 json_array_size(want));
    for (size_t i = 0; i < n_ids; i++)
        if (ids[i] != json_integer_value(json_array_get(want, i)))
            fail_msg("%s: \"%.*s\": id %zu is %d", what, (int)text.len, text.data, i, (int)ids[i]);
    arena_release(&arena);
}

static void compare_line(const struct tokenizer *own, const struct tokenizer *open_clip,
                         const json_t *line)
{
    const json_t *text = json_object_get(line, "text"), *want = json_object_get(line, "open_clip");
    const json_t *decoded = json_object_get(line, "clip_text");
    struct bytes_view raw = bytes_view_of(json_string_value(text), json_string_length(text)), clean;
    struct arena arena;
    struct error err = {0};
    bool suspect;
    size_t n_ids, len;
    int32_t *ids;
    char *plain;

    arena_init(&arena, 1u << 20);
    assert_json_ids(own, raw, true, true, json_object_get(line, "clip"), "tokenizer.json");
    assert_ok(clean_open_clip(raw, &arena, &clean, &suspect, &err));
    if (json_is_array(want))
        assert_json_ids(open_clip, clean, false, true, want, "open_clip");

    /* CLIP 23; the special tokens that open_clip found print as the vocabulary spells them */
    assert_ok(tokenizer_encode(open_clip, clean, &(struct tokenizer_encoding){false, true}, &arena,
                               &ids, &n_ids, &err));
    assert_ok(tokenizer_decode(open_clip, ids, n_ids, false, &arena, &plain, &len, &err));
    if (strstr(json_string_value(decoded), "_of_text>") == NULL)
        assert_string_equal(plain, json_string_value(decoded));

    /* CLIP 22 */
    for (int k = 0; k < 2; k++) {
        assert_ok(tokenizer_encode(k == 0 ? own : open_clip, k == 0 ? raw : clean,
                                   &(struct tokenizer_encoding){false, false}, &arena, &ids, &n_ids,
                                   &err));
        for (size_t i = 0; i < n_ids; i++)
            assert_true(ids[i] < START);
    }
    arena_release(&arena);
}

static void
ids_equal_open_clip_and_transformers_by_their_own_cleaning(void **state) /* CLIP 21-23 */
{
    struct tokenizer *own = load("clip/tokenizer.json", TOKENIZER_RULES_OF_FILE);
    struct tokenizer *open_clip = load_parts(TOKENIZER_RULES_OPEN_CLIP);
    struct byte_buf lines;
    struct error err = {0};
    size_t n = 0;

    (void)state;
    byte_buf_init(&lines, 16u << 20);
    assert_ok(file_read("tests/golden/text_real.jsonl", &lines, &err));
    for (size_t at = 0; at < lines.len; n++) {
        const uint8_t *stop = memchr(lines.data + at, '\n', lines.len - at);
        size_t len = (size_t)(stop - lines.data) - at;
        json_t *line;

        assert_ok(json_parse(bytes_view_of(lines.data + at, len), &line, &err));
        at += len + 1;
        compare_line(own, open_clip, line);
        json_decref(line);
    }
    assert_true(n > 200);
    byte_buf_release(&lines);
    tokenizer_destroy(&own);
    tokenizer_destroy(&open_clip);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vectors_of_annex_a3_hold),
        cmocka_unit_test(rows_have_77_ids_and_an_end),
        cmocka_unit_test(every_form_of_the_vocabulary_makes_the_same_tokenizer),
        cmocka_unit_test(ids_equal_open_clip_and_transformers_by_their_own_cleaning),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
