/* SigLIP 2's rows of ids with the published Gemma tokenizer, which
 * tests/integration/fetch_gemma_tokenizers.sh puts into $REINFORCE_TEST_DATA/gemma. Numbers are
 * those of the specification's checklist. */
#include "reinforce/teach/siglip_text.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_data.h"

enum { CONTEXT = 64, VOCAB = 256000 };

/* A snapshot's folder with nothing but the tokenizer. */
static struct temp_folder make_folder(void)
{
    struct temp_folder folder;
    struct byte_buf json;
    struct error err = {0};
    char path[128];

    test_data_read("gemma/gemma2.json", &json); /* may skip the test */
    temp_folder_init(&folder);
    temp_folder_name(&folder, "tokenizer.json", path, sizeof path);
    assert_ok(file_write_atomic(path, byte_buf_view(&json), &err));
    byte_buf_release(&json);
    return folder;
}

static void open_text(const struct temp_folder *folder, enum teacher_clean clean,
                      struct siglip_text *text)
{
    struct snapshot snapshot = {.naming = NAMING_TRANSFORMERS,
                                .text = {.context_length = CONTEXT, .vocab_size = VOCAB}};
    struct error err = {0};

    (void)snprintf(snapshot.dir, sizeof snapshot.dir, "%s", folder->path);
    assert_ok(siglip_text_open(&snapshot, clean, false, text, &err));
}

static void check_row(const struct siglip_text *text, const char *from, const int32_t *ids,
                      size_t n)
{
    struct arena arena;
    struct error err = {0};
    int32_t *row;

    arena_init(&arena, 1 << 20);
    assert_ok(siglip_text_row(text, bytes_of_string(from), &arena, &row, &err));
    for (size_t i = 0; i < CONTEXT; i++) {
        int32_t want = i < n ? ids[i] : i == n ? 1 : 0;

        if (row[i] != want)
            fail_msg("\"%s\": id %zu is %d, want %d", from, i, (int)row[i], (int)want);
    }
    arena_release(&arena);
}

/* SIGLIP 11, 13, 14 */
static void texts_are_lower_case_with_an_end_and_pads(void **state)
{
    static const struct {
        enum teacher_clean clean;
        const char *text;
        size_t n;
        int32_t ids[5];
    } cases[] = {
        {TEACHER_CLEAN_AUTO, "", 0, {0}},
        {TEACHER_CLEAN_AUTO, "a photo of a cat", 5, {235250, 2686, 576, 476, 4401}},
        {TEACHER_CLEAN_AUTO, "A Photo Of A CAT", 5, {235250, 2686, 576, 476, 4401}},
        {TEACHER_CLEAN_AUTO,
         "\xc3\x89"
         "COLE",
         1,
         {127975}},
        {TEACHER_CLEAN_LOWER_UNICODE,
         "\xc3\x89"
         "COLE",
         1,
         {61331}},
        {TEACHER_CLEAN_AUTO, "<pad><bos>", 5, {235322, 8939, 2577, 14084, 235313}},
    };

    struct temp_folder folder = make_folder();

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct siglip_text text;

        open_text(&folder, cases[i].clean, &text);
        check_row(&text, cases[i].text, cases[i].ids, cases[i].n);
        siglip_text_close(&text);
    }
    temp_folder_release(&folder);
}

/* SIGLIP 12: "cat cat ..." is a token a word. */
static void a_text_is_cut_to_63_tokens_and_its_end(void **state)
{
    static const size_t lengths[] = {200, 64, 63, 62};
    struct temp_folder folder = make_folder();
    int32_t ids[CONTEXT];
    struct siglip_text text;

    (void)state;
    open_text(&folder, TEACHER_CLEAN_AUTO, &text);
    for (size_t i = 0; i < CONTEXT; i++)
        ids[i] = i == 0 ? 4991 : 4401;
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        char from[4 * 200 + 1] = "";

        for (size_t word = 0; word < lengths[i]; word++)
            memcpy(from + 4 * word, "cat ", 5);
        from[4 * lengths[i] - 1] = '\0';
        check_row(&text, from, ids, MIN(lengths[i], (size_t)CONTEXT - 1));
    }
    siglip_text_close(&text);
    temp_folder_release(&folder);
}

/* SIGLIP 15: <mask> is the one that the file does not call special. */
static void no_text_gives_a_control_id(void **state)
{
    static const char *const from[] = {"<pad>",
                                       "<bos>",
                                       "<unk>",
                                       "<mask>",
                                       "a <mask> b <eos><mask>",
                                       "\xf3\xa0\x81\x81\x01\xff\xf0\x9f\xab\xa8"};
    struct temp_folder folder = make_folder();
    struct siglip_text text;

    (void)state;
    open_text(&folder, TEACHER_CLEAN_AUTO, &text);
    for (size_t i = 0; i < ARRAY_LEN(from); i++) {
        struct arena arena;
        struct error err = {0};
        int32_t *row;
        size_t n = 0;

        arena_init(&arena, 1 << 20);
        assert_ok(siglip_text_row(&text, bytes_of_string(from[i]), &arena, &row, &err));
        while (row[n] > 4)
            n++;
        assert_true(n > 1);
        assert_int_equal(row[n], 1);
        assert_int_equal(row[n + 1], 0);
        arena_release(&arena);
    }
    siglip_text_close(&text);
    temp_folder_release(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_lower_case_with_an_end_and_pads),
        cmocka_unit_test(a_text_is_cut_to_63_tokens_and_its_end),
        cmocka_unit_test(no_text_gives_a_control_id),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
