/* npz, pth.gz and pickled arrays: round trips, mutations, refusals. DR items 5-8; real numpy and
 * torch read them in e2e.trainer. */
#include "reinforce/base/philox.h"
#include "storage/format/npz.h"
#include "storage/format/numpy_pickle.h"
#include "storage/format/torch_pth.h"
#include "tests/support/test.h"

enum { ROWS = 3, DIM = 5, N_MUTANTS = 1000 };

static float values[ROWS * DIM];
static uint16_t bits[ROWS * DIM];

static int fill_values(void **state)
{
    struct philox rng;

    (void)state;
    philox_init(&rng, 1, bytes_of_string("arrays"), PHILOX_STAGE_SELECT, 0);
    for (size_t i = 0; i < ROWS * DIM; i++)
        values[i] = philox_f32(&rng) * 4 - 2;
    record_bf16_from_f32(values, ROWS * DIM, bits);
    return 0;
}

static const struct record_embedding arrays[] = {
    {.name = "image_emb", .dtype = RECORD_F32, .rows = ROWS, .dim = DIM, .data = values},
    {.name = "text_emb", .dtype = RECORD_F32, .rows = 1, .dim = DIM, .data = values},
};
static const struct record_embedding halves[] = {
    {.name = "image_emb", .dtype = RECORD_BF16, .rows = ROWS, .dim = DIM, .data = bits},
};

typedef enum status write_fn(const struct record_embedding *list, size_t n, struct byte_buf *out,
                             struct error *err);
typedef enum status read_fn(struct bytes_view bytes, const struct array_limits *limits,
                            struct arena *arena, struct record_embedding **list, size_t *n,
                            struct error *err);

static const struct array_limits limits = {.max_arrays = 8, .max_bytes = 1 << 20};

static void check_round_trip(write_fn *write, read_fn *read, const struct record_embedding *in,
                             size_t n)
{
    struct byte_buf first, second;
    struct record_embedding *out;
    struct arena arena;
    struct error err = {0};
    size_t n_out;

    arena_init(&arena, 8 << 20);
    byte_buf_init(&first, 1 << 20);
    byte_buf_init(&second, 1 << 20);
    assert_ok(write(in, n, &first, &err));
    assert_ok(write(in, n, &second, &err));
    assert_true(bytes_equal(byte_buf_view(&first), byte_buf_view(&second)));
    assert_ok(read(byte_buf_view(&first), &limits, &arena, &out, &n_out, &err));
    assert_int_equal(n_out, n);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(out[i].name, in[i].name);
        assert_int_equal(out[i].rows, in[i].rows);
        assert_int_equal(out[i].dim, in[i].dim);
        assert_int_equal(out[i].dtype, in[i].dtype);
        assert_memory_equal(out[i].data, in[i].data,
                            in[i].rows * in[i].dim * (in[i].dtype == RECORD_F32 ? 4 : 2));
    }
    byte_buf_release(&second);
    byte_buf_release(&first);
    arena_release(&arena);
}

static void npz_survives_writing_and_reading(void **state)
{
    (void)state;
    check_round_trip(npz_write, npz_read, arrays, 2);
}

static void pth_survives_writing_and_reading(void **state)
{
    (void)state;
    check_round_trip(torch_pth_write, torch_pth_read, arrays, 2);
    check_round_trip(torch_pth_write, torch_pth_read, halves, 1);
}

static void a_pickled_array_survives_writing_and_reading(void **state)
{
    struct record_embedding out;
    struct byte_buf text;
    struct arena arena;
    struct error err = {0};

    (void)state;
    arena_init(&arena, 8 << 20);
    byte_buf_init(&text, 1 << 20);
    assert_ok(numpy_pickle_write_text(&arrays[0], &text, &err));
    assert_true(numpy_pickle_text_matches(byte_buf_view(&text)));
    assert_ok(numpy_pickle_read_text(byte_buf_view(&text), &limits, &arena, &out, &err));
    assert_int_equal(out.rows, ROWS);
    assert_int_equal(out.dim, DIM);
    assert_memory_equal(out.data, values, sizeof values);
    byte_buf_release(&text);
    arena_release(&arena);
}

/* DR 8: nothing outside the list is taken for anything, by name. */
static void opcodes_and_globals_outside_the_list_are_refused_by_name(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *said;
    } cases[] = {
        {"\x80\x02"
         "cos\nsystem\n(X\x02\0\0\0lstR.",
         25, "os.system"},
        {"\x80\x02(i", 4, "0x69"},
        {"\x80\x02\x81.", 4, "0x81"},
        {"\x80\x02h\x05.", 5, "memo"},
        {"\x80\x07N.", 4, "protocol 7"},
        {"\x80\x02X\xff\xff\xff\xff.", 8, "too long"},
    };
    struct record_embedding out;
    struct arena arena;
    struct error err = {0};

    (void)state;
    arena_init(&arena, 8 << 20);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        arena_reset(&arena);
        assert_status(numpy_pickle_read(bytes_view_of(cases[i].bytes, cases[i].len), &limits,
                                        &arena, &out, &err),
                      ST_CORRUPT);
        if (strstr(err.message, cases[i].said) == NULL)
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, err.message, cases[i].said);
    }
    arena_release(&arena);
}

/* Flips, cuts and doubles bytes; whatever comes of it, there is no crash, and a failure says why.
 */
static void mutate(struct byte_buf *buf, struct philox *rng)
{
    for (uint32_t i = 0, n = 1 + philox_below(rng, 4); i < n && buf->len > 0; i++) {
        size_t at = philox_below(rng, (uint32_t)buf->len);

        if (philox_below(rng, 5) == 0)
            buf->len = at;
        else
            buf->data[at] = (uint8_t)philox_u32(rng);
    }
}

static void check_mutants(write_fn *write, read_fn *read)
{
    struct byte_buf whole, mutant;
    struct arena arena;
    struct philox rng;
    struct error err = {0};

    arena_init(&arena, 8 << 20);
    byte_buf_init(&whole, 1 << 20);
    byte_buf_init(&mutant, 1 << 20);
    philox_init(&rng, 2, bytes_of_string("mutants"), PHILOX_STAGE_SELECT, 0);
    assert_ok(write(arrays, 2, &whole, &err));
    for (int i = 0; i < N_MUTANTS; i++) {
        struct record_embedding *out;
        size_t n;

        byte_buf_reset(&mutant);
        arena_reset(&arena);
        assert_ok(byte_buf_append(&mutant, whole.data, whole.len, &err));
        mutate(&mutant, &rng);
        err.message[0] = '\0';
        if (read(byte_buf_view(&mutant), &limits, &arena, &out, &n, &err) != ST_OK)
            assert_true(err.message[0] != '\0');
    }
    byte_buf_release(&mutant);
    byte_buf_release(&whole);
    arena_release(&arena);
}

static enum status write_pickle(const struct record_embedding *list, size_t n, struct byte_buf *out,
                                struct error *err)
{
    (void)n;
    return numpy_pickle_write(list, out, err);
}

static enum status read_pickle(struct bytes_view bytes, const struct array_limits *l,
                               struct arena *arena, struct record_embedding **list, size_t *n,
                               struct error *err)
{
    static struct record_embedding one;

    *list = &one;
    *n = 1;
    return numpy_pickle_read(bytes, l, arena, &one, err);
}

static void a_thousand_mutants_of_each_are_read_or_refused(void **state)
{
    (void)state;
    check_mutants(npz_write, npz_read);
    check_mutants(torch_pth_write, torch_pth_read);
    check_mutants(write_pickle, read_pickle);
}

static void bad_names_are_refused(void **state)
{
    static const char *const names[] = {"", "a/b", "a\\b", "a\nb"};
    struct byte_buf out;
    struct error err = {0};

    (void)state;
    byte_buf_init(&out, 1 << 20);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct record_embedding array = arrays[0];

        array.name = names[i];
        assert_status(npz_write(&array, 1, &out, &err), ST_INVALID);
        assert_status(torch_pth_write(&array, 1, &out, &err), ST_INVALID);
        assert_int_equal(out.len, 0);
    }
    byte_buf_release(&out);
}

/* Zip readers take a name for code page 437 unless it is marked as UTF-8. */
static void names_beyond_ascii_survive_and_are_marked(void **state)
{
    struct record_embedding array = arrays[0];
    struct byte_buf out;
    struct error err = {0};

    (void)state;
    array.name = "b\xC3\xA9";
    check_round_trip(npz_write, npz_read, &array, 1);
    check_round_trip(torch_pth_write, torch_pth_read, &array, 1);
    byte_buf_init(&out, 1 << 20);
    assert_ok(npz_write(&array, 1, &out, &err));
    assert_int_equal(out.data[7], 0x08); /* bit 11 of the local header's flags */
    byte_buf_reset(&out);
    assert_ok(npz_write(arrays, 1, &out, &err));
    assert_int_equal(out.data[7], 0);
    byte_buf_release(&out);
}

static void the_limit_is_for_all_arrays_of_a_container_together(void **state)
{
    const struct array_limits one = {.max_arrays = 8, .max_bytes = 400};
    struct record_embedding *out, pair[] = {arrays[0], arrays[0]};
    static float zeros[80];
    struct byte_buf npz;
    struct arena arena;
    struct error err = {0};
    size_t n;

    (void)state;
    arena_init(&arena, 8 << 20);
    byte_buf_init(&npz, 1 << 20);
    for (int i = 0; i < 2; i++)
        pair[i] = (struct record_embedding){
            .name = i == 0 ? "a" : "b", .dtype = RECORD_F32, .rows = 1, .dim = 60, .data = zeros};
    assert_ok(npz_write(pair, 1, &npz, &err));
    assert_ok(npz_read(byte_buf_view(&npz), &one, &arena, &out, &n, &err));
    byte_buf_reset(&npz);
    assert_ok(npz_write(pair, 2, &npz, &err));
    assert_status(npz_read(byte_buf_view(&npz), &one, &arena, &out, &n, &err), ST_CORRUPT);
    byte_buf_release(&npz);
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(npz_survives_writing_and_reading),
        cmocka_unit_test(pth_survives_writing_and_reading),
        cmocka_unit_test(a_pickled_array_survives_writing_and_reading),
        cmocka_unit_test(opcodes_and_globals_outside_the_list_are_refused_by_name),
        cmocka_unit_test(a_thousand_mutants_of_each_are_read_or_refused),
        cmocka_unit_test(bad_names_are_refused),
        cmocka_unit_test(names_beyond_ascii_survive_and_are_marked),
        cmocka_unit_test(the_limit_is_for_all_arrays_of_a_container_together),
    };

    return cmocka_run_group_tests(tests, fill_values, NULL);
}
