/* The tokenizers of Gemma 2 (SigLIP 2, PaliGemma) and Gemma 3:
 * tests/integration/fetch_gemma_tokenizers.sh puts them into $REINFORCE_TEST_DATA/gemma. */
#include "reinforce/base/json.h"
#include "reinforce/base/utf8.h"
#include "reinforce/text/tokenizer.h"
#include "tests/support/random_text.h"
#include "tests/support/test_data.h"

#include <time.h>

static const struct tokenizer_encoding bare = {false, false};

static struct tokenizer *load(const char *name)
{
    struct timespec before, after;
    struct tokenizer *tok;
    struct byte_buf json;
    struct error err = {0};

    test_data_read(name, &json);
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &before), 0);
    assert_ok(tokenizer_create(byte_buf_view(&json), &tok, &err));
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &after), 0);
    print_message("%s: loaded in %.2f s\n", name,
                  (double)(after.tv_sec - before.tv_sec) +
                      (double)(after.tv_nsec - before.tv_nsec) / 1e9);
    byte_buf_release(&json);
    return tok;
}

static void the_published_vectors_hold(void **state)
{
    static const struct {
        const char *text;
        size_t n;
        int32_t ids[6];
    } cases[] = {
        {"This is a test", 4, {1596, 603, 476, 2121}},
        {"Where is the cow standing?", 6, {6006, 603, 573, 13910, 9980, 235336}},
        {"on the beach", 3, {477, 573, 8318}},
        {"A sample test", 3, {235280, 6453, 2121}},
        {"Hi  Hello", 3, {2151, 139, 4521}},
        {"Hi   Hello", 3, {2151, 140, 4521}},
        {" Hello", 1, {25957}},
        {" ", 1, {235248}},
        {"  ", 1, {139}},
        {"\n", 1, {108}},
        {"\xe7\x94\x9f\xe6\xb4\xbb\xe7\x9a\x84\xe7\x9c\x9f\xe8\xb0\x9b\xe6\x98\xaf",
         4,
         {122182, 235710, 245467, 235427}},
        {"a photo of a cat", 5, {235250, 2686, 576, 476, 4401}},
    };
    struct tokenizer *tok = load("gemma/gemma2.json");
    struct arena arena;

    (void)state;
    arena_init(&arena, 1u << 20);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct error err = {0};
        size_t n_ids, len;
        int32_t *ids;
        char *text;

        arena_reset(&arena);
        assert_ok(tokenizer_encode(tok, bytes_of_string(cases[i].text), &bare, &arena, &ids, &n_ids,
                                   &err));
        if (n_ids != cases[i].n || memcmp(ids, cases[i].ids, n_ids * sizeof *ids) != 0)
            fail_msg("\"%s\": %zu ids, the first is %d", cases[i].text, n_ids, (int)ids[0]);
        assert_ok(tokenizer_decode(tok, ids, n_ids, false, &arena, &text, &len, &err));
        assert_string_equal(text, cases[i].text);
    }
    assert_int_equal(tokenizer_vocab_size(tok), 256000);
    assert_int_equal(tokenizer_token_id(tok, "<pad>"), 0);
    assert_int_equal(tokenizer_token_id(tok, "<eos>"), 1);
    assert_int_equal(tokenizer_token_id(tok, "<bos>"), 2);
    assert_int_equal(tokenizer_token_id(tok, "<0x00>"), 217);
    assert_int_equal(tokenizer_token_id(tok, "<0xFF>"), 472);
    arena_release(&arena);
    tokenizer_destroy(&tok);
}

static void compare_line(const struct tokenizer *tok, const char *name, const json_t *line)
{
    const json_t *text = json_object_get(line, "text"), *want = json_object_get(line, name);
    const json_t *decoded;
    struct arena arena;
    struct error err = {0};
    size_t n_ids, len;
    int32_t *ids;
    char key[32], *plain;

    (void)snprintf(key, sizeof key, "%s_text", name);
    decoded = json_object_get(line, key);
    arena_init(&arena, 1u << 20);
    assert_ok(
        tokenizer_encode(tok, bytes_view_of(json_string_value(text), json_string_length(text)),
                         &(struct tokenizer_encoding){true, true}, &arena, &ids, &n_ids, &err));
    if (n_ids != json_array_size(want))
        fail_msg("%s: \"%s\": %zu ids, want %zu", name, json_string_value(text), n_ids,
                 json_array_size(want));
    for (size_t i = 0; i < n_ids; i++)
        if (ids[i] != json_integer_value(json_array_get(want, i)))
            fail_msg("%s: \"%s\": id %zu is %d", name, json_string_value(text), i, (int)ids[i]);
    assert_ok(tokenizer_decode(tok, ids, n_ids, true, &arena, &plain, &len, &err));
    if (len != json_string_length(decoded) || memcmp(plain, json_string_value(decoded), len) != 0)
        fail_msg("%s: \"%s\" decodes to \"%s\"", name, json_string_value(text), plain);
    arena_release(&arena);
}

static void ids_equal_hugging_face(void **state)
{
    static const char *const names[] = {"gemma2", "gemma3"};

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(names); k++) {
        struct byte_buf lines;
        struct tokenizer *tok;
        struct error err = {0};
        char path[64];
        size_t n = 0;

        (void)snprintf(path, sizeof path, "gemma/%s.json", names[k]);
        tok = load(path);
        byte_buf_init(&lines, 16u << 20);
        assert_ok(file_read("tests/golden/text_real.jsonl", &lines, &err));
        for (size_t at = 0; at < lines.len; n++) {
            const uint8_t *stop = memchr(lines.data + at, '\n', lines.len - at);
            size_t len = (size_t)(stop - lines.data) - at;
            json_t *line;

            assert_ok(json_parse(bytes_view_of(lines.data + at, len), &line, &err));
            at += len + 1;
            compare_line(tok, names[k], line);
            json_decref(line);
        }
        assert_true(n > 200);
        byte_buf_release(&lines);
        tokenizer_destroy(&tok);
    }
}

static void what_is_encoded_decodes_to_itself(void **state) /* PALI 16: byte fallback */
{
    struct tokenizer *tok = load("gemma/gemma2.json");
    struct byte_buf text;
    struct arena arena;
    struct error err = {0};
    uint64_t rng = 1;

    (void)state;
    byte_buf_init(&text, 1 << 16);
    arena_init(&arena, 1u << 20);
    for (int i = 0; i < 100000; i++) {
        uint64_t n = random_text_below(&rng, 12);
        size_t n_ids, len;
        int32_t *ids;
        char *plain;

        arena_reset(&arena);
        byte_buf_reset(&text);
        while (n-- > 0) {
            static const uint32_t ends[] = {0x80, 0x800, 0x10000, 0x110000};
            uint32_t cp = (uint32_t)random_text_below(&rng, ends[random_text_below(&rng, 4)]);
            uint8_t bytes[4];

            if (cp == 0x2581) /* stands for a space */
                cp = ' ';
            assert_ok(byte_buf_append(&text, bytes, utf8_put(cp, bytes), &err));
        }
        assert_ok(tokenizer_encode(tok, byte_buf_view(&text), &bare, &arena, &ids, &n_ids, &err));
        assert_ok(tokenizer_decode(tok, ids, n_ids, false, &arena, &plain, &len, &err));
        if (!bytes_equal(bytes_view_of(plain, len), byte_buf_view(&text)))
            fail_msg("text %d: \"%s\"", i, plain);
    }
    arena_release(&arena);
    byte_buf_release(&text);
    tokenizer_destroy(&tok);
}

static void add_tokens(json_t *list, const char *name, int digits, int n, int first)
{
    for (int i = 0; i < n; i++) {
        char content[16];

        (void)snprintf(content, sizeof content, "<%s%0*d>", name, digits, i);
        assert_int_equal(json_array_append_new(
                             list, json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", first + i,
                                             "content", content, "single_word", 0, "lstrip", 0,
                                             "rstrip", 0, "normalized", 0, "special", 0)),
                         0);
    }
}

/* PALI 16: Gemma's vocabulary with PaliGemma's places behind it. */
static void places_are_tokens_of_their_own(void **state)
{
    static const int32_t want[] = {256042, 257023, 257151};
    struct byte_buf text;
    struct tokenizer *tok;
    struct arena arena;
    struct error err = {0};
    json_t *json;
    size_t n_ids;
    int32_t *ids;
    char *dumped;

    (void)state;
    test_data_read("gemma/gemma2.json", &text);
    assert_ok(json_parse(byte_buf_view(&text), &json, &err));
    byte_buf_release(&text);
    add_tokens(json_object_get(json, "added_tokens"), "loc", 4, 1024, 256000);
    add_tokens(json_object_get(json, "added_tokens"), "seg", 3, 128, 257024);
    dumped = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    assert_non_null(dumped);
    assert_ok(tokenizer_create(bytes_of_string(dumped), &tok, &err));
    free(dumped);
    assert_int_equal(tokenizer_vocab_size(tok), 257152);
    assert_int_equal(tokenizer_token_id(tok, "<loc0000>"), 256000);
    assert_int_equal(tokenizer_token_id(tok, "<loc1023>"), 257023);
    assert_int_equal(tokenizer_token_id(tok, "<seg000>"), 257024);
    assert_int_equal(tokenizer_token_id(tok, "<seg127>"), 257151);
    arena_init(&arena, 1u << 20);
    assert_ok(tokenizer_encode(tok, bytes_of_string("<loc0042><loc1023><seg127>"), &bare, &arena,
                               &ids, &n_ids, &err));
    assert_int_equal(n_ids, ARRAY_LEN(want));
    assert_memory_equal(ids, want, sizeof want);
    arena_release(&arena);
    tokenizer_destroy(&tok);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_vectors_hold),
        cmocka_unit_test(ids_equal_hugging_face),
        cmocka_unit_test(what_is_encoded_decodes_to_itself),
        cmocka_unit_test(places_are_tokens_of_their_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
