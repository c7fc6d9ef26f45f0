/* DR 7: what real writers leave, numpy 1 and 2, torch 1 and 2: tests/golden/make_arrays.py. */
#include "reinforce/base/file.h"
#include "storage/format/npz.h"
#include "storage/format/numpy_pickle.h"
#include "storage/format/torch_pth.h"
#include "tests/support/test.h"

#include <math.h>

enum { ROWS = 3, DIM = 5 };

static const struct array_limits limits = {.max_arrays = 8, .max_bytes = 1 << 20};

/* One array of a golden: its element [r, c] is element r * row_step + c * column_step + first of
 * the script's [3, 5] array. */
struct want {
    const char *name;
    size_t rows, dim;
    size_t first, row_step, column_step;
    bool thirds; /* i / 3 - 1 instead of i / 4 - 1 */
};

#define WHOLE(name)                                                                                \
    {                                                                                              \
        name, ROWS, DIM, 0, DIM, 1, false                                                          \
    }
#define THIRDS(name)                                                                               \
    {                                                                                              \
        name, ROWS, DIM, 0, DIM, 1, true                                                           \
    }

static void read_golden(const char *name, struct byte_buf *buf)
{
    struct error err = {0};
    char path[128];

    byte_buf_init(buf, 1 << 20);
    (void)snprintf(path, sizeof path, "tests/golden/arrays/%s", name);
    assert_ok(file_read(path, buf, &err));
}

static void check_array(const char *file, const struct record_embedding *got,
                        const struct want *want)
{
    if (got->rows != want->rows || got->dim != want->dim)
        fail_msg("%s: %s is %zu x %zu", file, want->name, got->rows, got->dim);
    for (size_t r = 0; r < want->rows; r++)
        for (size_t c = 0; c < want->dim; c++) {
            size_t i = want->first + r * want->row_step + c * want->column_step;
            float value = want->thirds ? (float)((double)i / 3 - 1) : (float)i / 4 - 1, is;

            if (got->dtype == RECORD_F32)
                is = ((const float *)got->data)[r * want->dim + c];
            else
                record_f32_from_bf16((const uint16_t *)got->data + r * want->dim + c, 1, &is);
            if (is != value)
                fail_msg("%s: %s[%zu, %zu] is %g, want %g", file, want->name, r, c, (double)is,
                         (double)value);
        }
}

static enum status read_container(const char *file, struct bytes_view bytes, struct arena *arena,
                                  struct record_embedding **arrays, size_t *n, struct error *err)
{
    if (strstr(file, ".npz") != NULL)
        return npz_read(bytes, &limits, arena, arrays, n, err);
    if (strstr(file, ".pth") != NULL)
        return torch_pth_read(bytes, &limits, arena, arrays, n, err);
    *n = 1;
    if (arena_calloc(arena, 1, sizeof **arrays, arrays, err) != ST_OK)
        return err->code;
    return numpy_pickle_read(bytes, &limits, arena, *arrays, err);
}

static void check_good(const char *file, const struct want *wants, size_t n_wants)
{
    struct record_embedding *arrays;
    struct byte_buf buf;
    struct arena arena;
    struct error err = {0};
    size_t n;

    read_golden(file, &buf);
    arena_init(&arena, 8 << 20);
    if (read_container(file, byte_buf_view(&buf), &arena, &arrays, &n, &err) != ST_OK)
        fail_msg("%s: %s", file, err.message);
    assert_int_equal(n, n_wants);
    for (size_t i = 0; i < n; i++) {
        if (wants[i].name != NULL)
            assert_string_equal(arrays[i].name, wants[i].name);
        check_array(file, &arrays[i], &wants[i]);
    }
    arena_release(&arena);
    byte_buf_release(&buf);
}

static void containers_of_numpy_and_torch_are_read(void **state)
{
    static const struct {
        const char *file;
        struct want wants[5];
    } cases[] = {
        {"numpy%d_stored.npz", {WHOLE("image_emb"), WHOLE("text_emb")}},
        {"numpy%d_deflated.npz",
         {WHOLE("image_emb"), WHOLE("big"), WHOLE("columns"), THIRDS("wide")}},
        {"numpy%d_streamed.npz", {WHOLE("image_emb")}},
        {"torch%d_bfloat16.pth.gz", {WHOLE("image_emb"), WHOLE("text_emb")}},
        {"torch%d_ordered.pth", {WHOLE("image_emb")}},
        {"torch%d_kinds.pth", {WHOLE("float"), WHOLE("half"), THIRDS("double")}},
        {"torch%d_views.pth",
         {WHOLE("all"),
          {"turned", DIM, ROWS, 0, 1, DIM, false},
          {"every_other", ROWS, 3, 0, DIM, 2, false},
          {"last", 1, DIM, 10, DIM, 1, false}}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (int version = 1; version <= 2; version++) {
            char file[64];
            size_t n = 0;

            while (n < ARRAY_LEN(cases[i].wants) && cases[i].wants[n].name != NULL)
                n++;
            (void)snprintf(file, sizeof file, "%.5s%d%s", cases[i].file, version,
                           cases[i].file + 7);
            check_good(file, cases[i].wants, n);
        }
}

static void pickles_of_numpy_are_read(void **state)
{
    static const struct {
        const char *name;
        bool thirds;
    } cases[] = {{"c_3", false},     {"c_4", false},    {"c_5", false},
                 {"columns", false}, {"big", false},    {"half", false},
                 {"strided", false}, {"frozen", false}, {"wide", true}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (int version = 1; version <= 2; version++) {
            struct want want = {NULL, ROWS, DIM, 0, DIM, 1, cases[i].thirds};
            char file[64];

            (void)snprintf(file, sizeof file, "numpy%d_%s.pkl", version, cases[i].name);
            check_good(file, &want, 1);
        }
}

/* Each names what is wrong, and with containers which array. */
static void what_is_no_embedding_is_refused_by_name(void **state)
{
    static const struct {
        const char *file, *reason;
    } cases[] = {
        {"numpy%d_object.npz", "bad"},          {"numpy%d_integers.npz", "bad"},
        {"numpy%d_one_axis.npz", "bad"},        {"numpy%d_three_axes.npz", "bad"},
        {"torch%d_integers.pth", "I64"},        {"torch%d_with_numpy.pth", "numpy"},
        {"torch%d_one_axis.pth", "bad"},        {"torch%d_legacy.pth", ""},
        {"numpy%d_integers.pkl", "float type"}, {"numpy%d_one_axis.pkl", "2"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (int version = 1; version <= 2; version++) {
            struct record_embedding *arrays;
            struct byte_buf buf;
            struct arena arena;
            struct error err = {0};
            char file[64];
            size_t n;

            (void)snprintf(file, sizeof file, "%.5s%d%s", cases[i].file, version,
                           cases[i].file + 7);
            read_golden(file, &buf);
            arena_init(&arena, 8 << 20);
            if (read_container(file, byte_buf_view(&buf), &arena, &arrays, &n, &err) != ST_CORRUPT)
                fail_msg("%s was taken: %s", file, err.message);
            if (strstr(err.message, cases[i].reason) == NULL &&
                strstr(err.context, cases[i].reason) == NULL)
                fail_msg("%s: %s: %s", file, err.context, err.message);
            arena_release(&arena);
            byte_buf_release(&buf);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(containers_of_numpy_and_torch_are_read),
        cmocka_unit_test(pickles_of_numpy_are_read),
        cmocka_unit_test(what_is_no_embedding_is_refused_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
