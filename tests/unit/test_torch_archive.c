/* CLIP 9: checkpoints of torch 1 and 2, read or refused: tests/golden/make_checkpoints.py. */
#include "reinforce/base/file.h"
#include "reinforce/base/philox.h"
#include "reinforce/nn/convert.h"
#include "reinforce/nn/torch_archive.h"
#include "reinforce/nn/weights.h"
#include "tests/support/test.h"

enum { MAX_TENSORS = 64, ARENA_BYTES = 8 << 20, N_MUTANTS = 1000 };

static void golden_path(int major, const char *name, char path[128])
{
    (void)snprintf(path, 128, "tests/golden/checkpoints/torch%d_%s.pt", major, name);
}

static void read_golden(int major, const char *name, struct byte_buf *buf)
{
    struct error err = {0};
    char path[128];

    golden_path(major, name, path);
    byte_buf_init(buf, 1 << 20);
    assert_ok(file_read(path, buf, &err));
}

static double element(const struct tensor *t, size_t i)
{
    const uint8_t *at = t->data.data + i * tensor_dtype_size(t->dtype);
    size_t unused = 64 - 8 * tensor_dtype_size(t->dtype);
    uint64_t bits = 0;
    float f;
    double d;

    memcpy(&bits, at, tensor_dtype_size(t->dtype));
    if (t->dtype == TENSOR_F64) {
        memcpy(&d, at, sizeof d);
        return d;
    }
    if (t->dtype == TENSOR_F32)
        memcpy(&f, at, sizeof f);
    else if (t->dtype == TENSOR_BF16)
        convert_bf16(at, 1, &f);
    else if (t->dtype == TENSOR_F16)
        convert_f16(at, 1, &f);
    else if (t->dtype == TENSOR_U8 || t->dtype == TENSOR_BOOL)
        return (double)bits;
    else /* sign-extended */
        return (double)((int64_t)(bits << unused) >> unused);
    return (double)f;
}

/* A tensor of a golden: element i of its rows is `values`[i]. */
struct want {
    const char *name;
    size_t rank, shape[4];
    size_t n;
    double values[24];
};

static void check(int major, const char *file, const struct want *wants, size_t n_wants)
{
    struct byte_buf buf;
    struct arena arena;
    struct tensor *tensors;
    struct error err = {0};
    size_t n;

    read_golden(major, file, &buf);
    arena_init(&arena, ARENA_BYTES);
    assert_ok(torch_archive_read(byte_buf_view(&buf), MAX_TENSORS, &arena, &tensors, &n, &err));
    assert_int_equal(n, n_wants);
    for (size_t t = 0; t < n; t++) {
        assert_string_equal(tensors[t].name, wants[t].name);
        assert_int_equal(tensors[t].rank, wants[t].rank);
        for (size_t i = 0; i < wants[t].rank; i++)
            assert_int_equal(tensors[t].shape[i], wants[t].shape[i]);
        assert_int_equal(tensor_count(&tensors[t]), wants[t].n);
        for (size_t i = 0; i < wants[t].n; i++)
            if (element(&tensors[t], i) != wants[t].values[i])
                fail_msg("%s %d: %s[%zu] is %g, want %g", file, major, wants[t].name, i,
                         element(&tensors[t], i), wants[t].values[i]);
    }
    arena_release(&arena);
    byte_buf_release(&buf);
}

static void views_come_out_row_major(void **state)
{
    static const struct want wants[] = {
        {"whole", 2, {4, 6}, 24, {-12, -11, -10, -9, -8, -7, -6, -5, -4, -3, -2, -1,
                                  0,   1,   2,   3,  4,  5,  6,  7,  8,  9,  10, 11}},
        {"turned", 2, {6, 4}, 24, {-12, -6, 0, 6, -11, -5, 1, 7,  -10, -4, 2, 8,
                                   -9,  -3, 3, 9, -8,  -2, 4, 10, -7,  -1, 5, 11}},
        {"slice", 2, {2, 3}, 6, {-6, -4, -2, 0, 2, 4}},
        {"row", 1, {6}, 6, {0, 1, 2, 3, 4, 5}},
        {"scalar", 0, {0}, 1, {11}},
        {"empty", 2, {0, 6}, 0, {0}},
        {"conv", 4, {3, 2, 2, 2}, 24, {-12, -11, -10, -9, 0,  1,  2,  3,  -8, -7, -6, -5,
                                       4,   5,   6,   7,  -4, -3, -2, -1, 8,  9,  10, 11}},
    };

    (void)state;
    for (int major = 1; major <= 2; major++)
        check(major, "views", wants, ARRAY_LEN(wants));
}

static void every_type_is_known(void **state)
{
    static const char *const names[] = {"float32", "bfloat16", "float16", "float64", "int64",
                                        "int32",   "int16",    "int8",    "uint8",   "bool"};
    struct want wants[ARRAY_LEN(names)];

    (void)state;
    for (size_t t = 0; t < ARRAY_LEN(names); t++) {
        wants[t] = (struct want){names[t], 2, {3, 4}, 12, {0}};
        for (int i = 0; i < 12; i++)
            wants[t].values[i] = t < 8 ? i - 6 : t == 8 ? i : i % 2;
    }
    for (int major = 1; major <= 2; major++)
        check(major, "dtypes", wants, ARRAY_LEN(wants));
}

/* CLIP 7: a training script's checkpoint loads as the bare tensors do. */
static void wrappers_and_module_prefixes_are_taken_off(void **state)
{
    static const struct want wants[] = {{"module.a", 2, {2, 2}, 4, {-2, -1, 0, 1}},
                                        {"module.b", 1, {3}, 3, {-1, 0, 1}}};

    (void)state;
    for (int major = 1; major <= 2; major++) {
        struct weights *weights;
        struct error err = {0};
        const float *a;
        char path[128];

        check(major, "wrapped", wants, ARRAY_LEN(wants));
        check(major, "plain", wants, ARRAY_LEN(wants));
        golden_path(major, "wrapped", path);
        assert_ok(weights_open(path, &weights, &err));
        assert_int_equal(weights_n_files(weights), 1);
        assert_string_equal(weights_file_path(weights, 0), path);
        assert_ok(weights_get(weights, "", "a", WEIGHTS_SHAPE(2, 2), &a, &err));
        assert_true(a[0] == -2 && a[3] == 1);
        weights_destroy(&weights);
    }
}

static void what_is_no_plain_checkpoint_is_refused_with_the_reason(void **state)
{
    static const struct {
        int major; /* 0: both */
        const char *name, *reason;
    } cases[] = {
        {0, "bad_global", "argparse.Namespace"},
        {0, "bad_value", "epoch"},
        {0, "bad_list", "not a dict of tensors"},
        {0, "bad_legacy", "before 1.6"},
        {0, "bad_script", "TorchScript"},
        {0, "bad_compressed", "compressed"},
        {0, "bad_missing", "missing"},
        {0, "bad_short", "another length"},
        {2, "bad_order", "little endian"},
        {0, "bad_stride", "strides reach behind"},
        {0, "bad_opcode", "opcode 0x30"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (int major = 1; major <= 2; major++) {
            struct weights *weights;
            struct error err = {0};
            char path[128];

            if (cases[i].major != 0 && cases[i].major != major)
                continue;
            golden_path(major, cases[i].name, path);
            if (weights_open(path, &weights, &err) != ST_CORRUPT)
                fail_msg("%s was taken: %s", path, err.message);
            if (strstr(err.message, cases[i].reason) == NULL &&
                strstr(err.context, cases[i].reason) == NULL)
                fail_msg("%s: %s: %s", path, err.context, err.message);
            assert_non_null(strstr(err.context, path));
        }
}

static void a_thousand_mutants_are_read_or_refused(void **state)
{
    static const char *const names[] = {"views", "wrapped"};
    struct philox rng;

    (void)state;
    philox_init(&rng, 4, bytes_of_string("torch"), PHILOX_STAGE_SELECT, 0);
    for (size_t i = 0; i < N_MUTANTS; i++) {
        struct byte_buf buf;
        struct arena arena;
        struct tensor *tensors;
        struct error err = {0};
        size_t n;
        enum status st;

        read_golden(i % 2 + 1, names[i / 2 % 2], &buf);
        for (uint32_t k = 0; k <= philox_u32(&rng) % 4; k++)
            buf.data[philox_u32(&rng) % buf.len] = (uint8_t)philox_u32(&rng);
        if (philox_u32(&rng) % 8 == 0)
            buf.len = philox_u32(&rng) % buf.len;
        arena_init(&arena, ARENA_BYTES);
        st = torch_archive_read(byte_buf_view(&buf), MAX_TENSORS, &arena, &tensors, &n, &err);
        if (st != ST_OK) {
            assert_true(st == ST_CORRUPT || st == ST_NO_MEMORY);
            assert_true(err.message[0] != '\0');
        }
        for (size_t t = 0; st == ST_OK && t < n; t++)
            for (size_t e = 0; e < tensor_count(&tensors[t]); e++)
                (void)element(&tensors[t], e);
        arena_release(&arena);
        byte_buf_release(&buf);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(views_come_out_row_major),
        cmocka_unit_test(every_type_is_known),
        cmocka_unit_test(wrappers_and_module_prefixes_are_taken_off),
        cmocka_unit_test(what_is_no_plain_checkpoint_is_refused_with_the_reason),
        cmocka_unit_test(a_thousand_mutants_are_read_or_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
