#include "reinforce/record/record.h"
#include "reinforce/record/record_json.h"
#include "reinforce/record/record_key.h"
#include "tests/support/test.h"

#include <math.h>

enum { MAX_BYTES = 16 << 20 };

static void bf16_rounds_to_nearest_even(void **state) /* DR 6 */
{
    static const struct {
        uint32_t f32;
        uint16_t want;
    } cases[] = {
        {0x00000000, 0x0000}, {0x80000000, 0x8000}, {0x3f800000, 0x3f80},
        {0x3f808000, 0x3f80}, /* half, even below */
        {0x3f818000, 0x3f82}, /* half, odd below */
        {0x3f808001, 0x3f81}, {0x3f80ffff, 0x3f81}, {0x3f807fff, 0x3f80},
        {0x7f7fffff, 0x7f80}, /* the largest goes to infinity, as torch does */
        {0x7f800000, 0x7f80}, {0xff800000, 0xff80}, {0x00000001, 0x0000},
        {0x00008001, 0x0001}, {0x7fc00000, 0x7fc0}, {0x7f800001, 0x7fc0}, /* NaN stays NaN */
        {0xffffffff, 0xffff},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        float in, back;
        uint16_t out;

        memcpy(&in, &cases[i].f32, sizeof in);
        record_bf16_from_f32(&in, 1, &out);
        if (out != cases[i].want)
            fail_msg("%08x: got %04x, want %04x", (unsigned)cases[i].f32, out, cases[i].want);
        record_f32_from_bf16(&out, 1, &back);
        assert_int_equal(isnan(back) != 0, isnan(in) != 0);
    }
    for (uint32_t bits = 0; bits < 65536; bits++) { /* bfloat16 to float32 and back is exact */
        uint16_t in = (uint16_t)bits, out;
        float value;

        record_f32_from_bf16(&in, 1, &value);
        record_bf16_from_f32(&value, 1, &out);
        if (out != in && !isnan(value))
            fail_msg("%04x became %04x", in, out);
    }
}

static void keys_become_flat_and_stay_apart(void **state) /* DR 2, 39 */
{
    static const struct {
        enum record_key_source kind;
        const char *source, *want;
    } cases[] = {
        {RECORD_KEY_OF_SAMPLE, "0123abcd", "0123abcd"},
        {RECORD_KEY_OF_SAMPLE, "a b+c%2Fd", "a b+c%2Fd"}, /* flat: stays, also when read again */
        {RECORD_KEY_OF_SAMPLE, "a/b", "a%2Fb"},
        {RECORD_KEY_OF_SAMPLE, "a/b%2Fc", "a%2Fb%252Fc"},
        {RECORD_KEY_OF_SAMPLE, "./a", "a"},
        {RECORD_KEY_OF_SAMPLE, "././a/./b", "a%2F%2E%2Fb"},
        {RECORD_KEY_OF_SAMPLE, "caf\xc3\xa9/1", "caf\xc3\xa9%2F1"},
        {RECORD_KEY_OF_SAMPLE, "bad\xff\xc3", "bad%FF%C3"},
        {RECORD_KEY_OF_SAMPLE, "new\nline\x7f", "new%0Aline%7F"},
        {RECORD_KEY_OF_SAMPLE, "", ""},
        {RECORD_KEY_OF_SAMPLE, "./", ""},
        {RECORD_KEY_OF_FILE, "c++%/x", "c%2B%2B%25%2Fx"},
        {RECORD_KEY_OF_FILE, "IMG.2020.01", "IMG%2E2020%2E01"},
    };
    char key[RECORD_KEY_MAX + 1];
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t len = record_key_make(bytes_of_string(cases[i].source), cases[i].kind, key);

        if (len != strlen(cases[i].want) || strcmp(key, cases[i].want) != 0)
            fail_msg("\"%s\": got \"%s\"", cases[i].source, key);
        if (len > 0)
            assert_ok(record_key_check(bytes_of_string(key), &err));
    }
}

static void long_keys_keep_a_beginning_and_a_hash(void **state)
{
    char source[600], a[RECORD_KEY_MAX + 1], b[RECORD_KEY_MAX + 1];
    struct error err = {0};

    (void)state;
    for (size_t len = 1; len < sizeof source; len++) {
        size_t n;

        for (size_t i = 0; i < len; i++)
            source[i] = i % 7 == 3 ? '/' : i % 11 == 5 ? '\xc3' : 'x';
        n = record_key_make(bytes_view_of(source, len), RECORD_KEY_OF_FILE, a);
        assert_ok(record_key_check(bytes_of_string(a), &err));
        assert_int_equal(n, strlen(a));
        source[len - 1] = 'y';
        (void)record_key_make(bytes_view_of(source, len), RECORD_KEY_OF_FILE, b);
        assert_string_not_equal(a, b);
    }
    assert_int_equal(a[RECORD_KEY_MAX - 20] != '\0', 1);
}

static void keys_that_cannot_name_members_are_refused(void **state)
{
    static const char *const bad[] = {"", "a.b", "a/b", "a\tb", "\xff"};
    char longest[RECORD_KEY_MAX + 2];
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_status(record_key_check(bytes_of_string(bad[i]), &err), ST_INVALID);
    memset(longest, 'k', sizeof longest);
    assert_ok(record_key_check(bytes_view_of(longest, RECORD_KEY_MAX), &err));
    assert_status(record_key_check(bytes_view_of(longest, RECORD_KEY_MAX + 1), &err), ST_INVALID);
}

/* A record that the trainers can use; each case below breaks one thing. */
struct sample {
    struct record record;
    struct augment_params views[2];
    struct bytes_view caption, texts[2];
    struct record_column column;
    struct record_embedding embeddings[3];
    float data[8];
};

static void sample_init(struct sample *sample)
{
    memset(sample, 0, sizeof *sample);
    sample->caption = bytes_of_string("a caption");
    sample->texts[0] = sample->texts[1] = bytes_of_string("said");
    sample->column =
        (struct record_column){.name = "syn_text", .n_texts = 2, .texts = sample->texts};
    sample->embeddings[0] = (struct record_embedding){"image_emb", RECORD_F32, 2, 4, sample->data};
    sample->embeddings[1] = (struct record_embedding){"text_emb", RECORD_F32, 1, 4, sample->data};
    sample->embeddings[2] =
        (struct record_embedding){"syn_text_emb", RECORD_F32, 2, 4, sample->data};
    sample->record = (struct record){.uid = bytes_of_string("k"),
                                     .image = bytes_of_string("pixels"),
                                     .image_ext = "jpg",
                                     .n_captions = 1,
                                     .captions = &sample->caption,
                                     .n_columns = 1,
                                     .columns = &sample->column,
                                     .n_views = 2,
                                     .views = sample->views,
                                     .n_embeddings = 3,
                                     .embeddings = sample->embeddings};
}

static void record_check_says_what_trainers_would_stop_at(void **state) /* DR 29, 30 */
{
    static const char *const want[] = {
        "holds \".\"",
        "no image",
        "empty",
        "2 rows for 1 augmentation parameter sets",
        "no augmentation parameters",
        "text_emb has 2 rows for 1 real captions",
        "syn_text_emb has width 3, image_emb has 4",
        "has syn_text but no syn_text_emb",
        "not finite in row 1, column 3",
        "not UTF-8",
        "holds a NUL",
        "text_emb but no image_emb",
    };
    struct sample s;
    struct error err = {0};

    (void)state;
    sample_init(&s);
    assert_ok(record_check(&s.record, &err));
    s.record.n_captions = 0; /* a captionless corpus is fine; its text_emb is then nobody's */
    s.record.n_embeddings = 0;
    assert_ok(record_check(&s.record, &err));
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        sample_init(&s);
        switch (i) {
        case 0:
            s.record.uid = bytes_of_string("a.b");
            break;
        case 1:
            s.record.image.len = 0;
            break;
        case 2:
            s.column.n_texts = 0;
            break;
        case 3:
            s.record.n_views = 1;
            break;
        case 4:
            s.record.n_views = 0;
            break;
        case 5:
            s.embeddings[1].rows = 2;
            break;
        case 6:
            s.embeddings[2].dim = 3;
            break;
        case 7:
            s.record.n_embeddings = 2;
            break;
        case 8:
            s.data[7] = INFINITY;
            break;
        case 9:
            s.texts[1] = bytes_of_string("\xc3");
            break;
        case 10:
            s.texts[1] = bytes_view_of("a\0b", 3);
            break;
        default:
            s.embeddings[0].name = "other";
            break;
        }
        if (record_check(&s.record, &err) != ST_INVALID || strstr(err.message, want[i]) == NULL)
            fail_msg("case %zu: %s", i, err.message);
    }
    sample_init(&s);
    memset(s.data, 0xff, 16); /* bfloat16 NaNs are found too */
    for (size_t i = 0; i < 3; i++)
        s.embeddings[i].dtype = RECORD_BF16;
    assert_status(record_check(&s.record, &err), ST_INVALID);
}

static void columns_and_embeddings_are_added_or_replaced(void **state)
{
    struct arena arena;
    struct record record = {0};
    struct bytes_view one = bytes_of_string("one");
    struct record_column column = {.name = "syn_text", .n_texts = 1, .texts = &one};
    struct record_embedding embedding = {.name = "image_emb", .dtype = RECORD_F32};
    struct error err = {0};

    (void)state;
    arena_init(&arena, MAX_BYTES);
    assert_ok(record_set_column(&record, &column, &arena, &err));
    column.name = "syn_text_b";
    assert_ok(record_set_column(&record, &column, &arena, &err));
    column.n_texts = 0;
    assert_ok(record_set_column(&record, &column, &arena, &err));
    assert_int_equal(record.n_columns, 2);
    assert_int_equal(record_find_column(&record, "syn_text")->n_texts, 1);
    assert_int_equal(record_find_column(&record, "syn_text_b")->n_texts, 0);
    assert_null(record_find_column(&record, "syn"));
    assert_ok(record_set_embedding(&record, &embedding, &arena, &err));
    embedding.rows = 3;
    assert_ok(record_set_embedding(&record, &embedding, &arena, &err));
    assert_int_equal(record.n_embeddings, 1);
    assert_int_equal(record_find_embedding(&record, "image_emb")->rows, 3);
    record_release(&record);
    record_release(&record);
    arena_release(&arena);
}

static void param_aug_is_read_as_array_or_text_and_written_as_array(void **state) /* DR 9 */
{
    static const char *const spellings[] = {
        "{\"param_aug\": [[[32, 291, 657, 709], [[2, -0.09000000357627869], [4, "
        "-30.45317268371582]]], [[7, 28, 34, 27], [[0, 0.0], [11, 178.5]]]]}",
        "{\"param_aug\": \"[[[32, 291, 657, 709], [[2, -0.09000000357627869], [4, "
        "-30.45317268371582]]], [[7, 28, 34, 27], [[0, 0.0], [11, 178.5]]]]\"}",
        "{\"param_aug\": [[[32.0, 291, 657, 709], [[2.0, -0.09000000357627869], [4.0, "
        "-30.45317268371582]]], [[7, 28, 34, 27], [[0, 0], [11, 178.5]]]]}",
    };
    struct arena arena;
    struct error err = {0};

    (void)state;
    arena_init(&arena, MAX_BYTES);
    for (size_t i = 0; i < ARRAY_LEN(spellings); i++) {
        struct record record = {0};
        struct byte_buf out;
        json_t *object;

        byte_buf_init(&out, MAX_BYTES);
        assert_ok(record_json_parse(bytes_of_string(spellings[i]), &object, &err));
        assert_ok(record_json_take_views(&record, object, &arena, &err));
        assert_int_equal(json_object_size(object), 0);
        assert_ok(record_json_write_views(&record, &out, &err));
        assert_int_equal(out.len, strlen(spellings[0]) - 15);
        assert_memory_equal(out.data, spellings[0] + 14, out.len);
        json_decref(object);
        byte_buf_release(&out);
    }
    arena_release(&arena);
}

static void column_names_are_those_of_published_sets(void **state)
{
    static const struct {
        const char *name;
        bool want;
    } cases[] = {
        {"syn_text", true},     {"syn_text_dfn_mscoco38k", true},
        {"x_captions", true},   {"syn_text_emb", false},
        {"captions", false},    {"syn_text_embedding", false},
        {"text", false},        {"my_captions_embedding", false},
        {"my_syn_text", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (record_json_is_column(cases[i].name) != cases[i].want)
            fail_msg("%s", cases[i].name);
}

static void documents_of_too_many_values_are_refused_before_parsing(void **state)
{
    struct byte_buf text;
    struct error err = {0};
    json_t *object;

    (void)state;
    byte_buf_init(&text, MAX_BYTES);
    assert_ok(byte_buf_append_string(&text, "{\"a\": [0", &err));
    for (int i = 0; i < RECORD_MAX_JSON_VALUES; i++)
        assert_ok(byte_buf_append_string(&text, ",0", &err));
    assert_ok(byte_buf_append_string(&text, "]}", &err));
    assert_status(record_json_parse(byte_buf_view(&text), &object, &err), ST_CORRUPT);
    assert_non_null(strstr(err.message, "values"));
    byte_buf_reset(&text); /* what stands in a string is no value */
    assert_ok(byte_buf_append_string(&text, "{\"a\": \"\\\"", &err));
    for (int i = 0; i < RECORD_MAX_JSON_VALUES; i++)
        assert_ok(byte_buf_append_string(&text, ",[", &err));
    assert_ok(byte_buf_append_string(&text, "\"}", &err));
    assert_ok(record_json_parse(byte_buf_view(&text), &object, &err));
    json_decref(object);
    byte_buf_release(&text);
}

static void what_is_left_of_an_object_joins_meta_unless_it_contradicts(void **state)
{
    struct record record = {0};
    struct error err = {0};
    json_t *first, *same, *other;

    (void)state;
    assert_ok(record_json_parse(bytes_of_string("{\"z\": 1, \"a\": [2]}"), &first, &err));
    assert_ok(record_json_parse(bytes_of_string("{\"a\": [2], \"b\": 3}"), &same, &err));
    assert_ok(record_json_parse(bytes_of_string("{\"z\": 2}"), &other, &err));
    assert_ok(record_json_take_rest(&record, first, &err));
    assert_ok(record_json_take_rest(&record, same, &err));
    assert_status(record_json_take_rest(&record, other, &err), ST_CORRUPT);
    assert_int_equal(json_object_size(record.meta), 3);
    assert_string_equal(json_object_iter_key(json_object_iter(record.meta)), "z"); /* in order */
    json_decref(first);
    json_decref(same);
    json_decref(other);
    record_release(&record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bf16_rounds_to_nearest_even),
        cmocka_unit_test(keys_become_flat_and_stay_apart),
        cmocka_unit_test(long_keys_keep_a_beginning_and_a_hash),
        cmocka_unit_test(keys_that_cannot_name_members_are_refused),
        cmocka_unit_test(record_check_says_what_trainers_would_stop_at),
        cmocka_unit_test(columns_and_embeddings_are_added_or_replaced),
        cmocka_unit_test(param_aug_is_read_as_array_or_text_and_written_as_array),
        cmocka_unit_test(column_names_are_those_of_published_sets),
        cmocka_unit_test(documents_of_too_many_values_are_refused_before_parsing),
        cmocka_unit_test(what_is_left_of_an_object_joins_meta_unless_it_contradicts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
