#include "reinforce/base/file.h"
#include "reinforce/base/philox.h"
#include "reinforce/nn/convert.h"
#include "reinforce/nn/safetensors.h"
#include "reinforce/nn/weights.h"
#include "tests/support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A file from header text and `data_bytes` counting bytes of data. */
static struct byte_buf make_file(const char *header, size_t data_bytes)
{
    struct byte_buf buf;
    struct error err = {0};
    uint64_t len = strlen(header);
    uint8_t *data;

    byte_buf_init(&buf, 1 << 20);
    for (int i = 0; i < 8; i++)
        assert_ok(byte_buf_append(&buf, &(uint8_t){(uint8_t)(len >> 8 * i)}, 1, &err));
    assert_ok(byte_buf_append_string(&buf, header, &err));
    assert_ok(byte_buf_extend(&buf, data_bytes, &data, &err));
    for (size_t i = 0; i < data_bytes; i++)
        data[i] = (uint8_t)i;
    return buf;
}

static void tensors_are_found_by_name_with_shape_and_bytes(void **state)
{
    struct byte_buf buf =
        make_file("{\"__metadata__\":{\"format\":\"pt\"},"
                  "\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[8,32]},"
                  "\"a\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]},"
                  "\"c\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[32,34]},"
                  "\"empty\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[34,34]}}   ",
                  34);
    struct safetensors *file = NULL;
    struct error err = {0};
    const struct tensor *tensor;
    char text[32];
    size_t n = 0;

    (void)state;
    assert_ok(safetensors_open_bytes(byte_buf_view(&buf), &file, &err));
    assert_string_equal(safetensors_view(file, &n)[0].name, "a");
    assert_int_equal(n, 4);
    tensor = safetensors_peek(file, "b");
    assert_non_null(tensor);
    assert_int_equal(tensor->dtype, TENSOR_F32);
    assert_int_equal(tensor_count(tensor), 6);
    assert_int_equal(tensor->data.data[0], 8);
    assert_string_equal(tensor_shape_text(tensor->shape, tensor->rank, text, sizeof text),
                        "[2, 3]");
    assert_int_equal(tensor_count(safetensors_peek(file, "c")), 1);
    assert_int_equal(safetensors_peek(file, "empty")->data.len, 0);
    assert_null(safetensors_peek(file, "d"));
    safetensors_close(&file);
    assert_null(file);
    byte_buf_release(&buf);
}

/* CLIP 10 */
static void damaged_headers_are_refused_with_the_reason(void **state)
{
    static const struct {
        const char *name, *header, *reason;
        size_t data_bytes;
    } cases[] = {
        {"overlap",
         "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}",
         "overlaps", 6},
        {"the same bytes twice",
         "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
         "overlaps", 4},
        {"a hole",
         "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[4,6]}}",
         "hole", 6},
        {"bytes of no tensor", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
         "no tensor", 3},
        {"past the end", "{\"a\":{\"dtype\":\"U8\",\"shape\":[9],\"data_offsets\":[0,9]}}",
         "do not lie", 8},
        {"backwards", "{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,2]}}",
         "do not lie", 4},
        {"negative", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[-1,0]}}",
         "do not lie", 1},
        {"64 bits of offset",
         "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,18446744073709551616]}}",
         "whole number", 1},
        {"length against shape", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}",
         "needs 8", 4},
        {"shape overflows",
         "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,4],\"data_offsets\":[0,0]}}",
         "overflows", 0},
        {"negative dimension", "{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}",
         "whole number", 1},
        {"fractional dimension",
         "{\"a\":{\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]}}", "whole number", 1},
        {"rank", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}",
         "rank is 9", 1},
        {"dtype", "{\"a\":{\"dtype\":\"F99\",\"shape\":[1],\"data_offsets\":[0,1]}}", "F99", 1},
        {"no dtype", "{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", "dtype", 1},
        {"no shape", "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", "shape", 1},
        {"no offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", "data_offsets", 1},
        {"three offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,1]}}",
         "data_offsets", 1},
        {"entry", "{\"a\":7}", "not an object", 0},
        {"a name twice",
         "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
         "duplicate", 2},
        {"not an object", "[]", "not a JSON object", 0},
        {"not JSON", "{\"a\"", "JSON", 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct byte_buf buf = make_file(cases[i].header, cases[i].data_bytes);
        struct safetensors *file = NULL;
        struct error err = {0};
        enum status st = safetensors_open_bytes(byte_buf_view(&buf), &file, &err);

        if (st != ST_CORRUPT && st != ST_INVALID)
            fail_msg("%s: %s", cases[i].name, status_name(st));
        if (strstr(err.message, cases[i].reason) == NULL)
            fail_msg("%s: \"%s\"", cases[i].name, err.message);
        assert_null(file);
        byte_buf_release(&buf);
    }
}

/* CLIP 10 */
static void a_header_longer_than_the_file_is_refused(void **state)
{
    static const struct {
        uint8_t bytes[10];
        size_t len;
    } cases[] = {
        {{0}, 0},
        {{2, 0, 0, 0, 0, 0, 0}, 7},
        {{3, 0, 0, 0, 0, 0, 0, 0, '{', '}'}, 10},
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, '{', '}'}, 10},
        {{0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, '{', '}'}, 10},
        {{0, 0xe1, 0xf5, 6, 0, 0, 0, 0, '{', '}'}, 10}, /* over 100 MB */
    };
    struct safetensors *file = NULL;
    struct error err = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_status(
            safetensors_open_bytes(bytes_view_of(cases[i].bytes, cases[i].len), &file, &err),
            ST_CORRUPT);
        assert_null(file);
    }
}

/* Reads every byte that a tensor claims, so that a sanitizer sees a wrong bound. */
static unsigned sum_everything(const struct safetensors *file)
{
    size_t n = 0;
    const struct tensor *tensors = safetensors_view(file, &n);
    unsigned sum = 0;

    for (size_t i = 0; i < n; i++) {
        assert_int_equal(tensor_count(&tensors[i]) * tensor_dtype_size(tensors[i].dtype),
                         tensors[i].data.len);
        for (size_t b = 0; b < tensors[i].data.len; b++)
            sum += tensors[i].data.data[b];
    }
    return sum;
}

static void a_thousand_mutated_headers_do_not_crash(void **state)
{
    struct byte_buf buf;
    struct error err = {0};
    struct philox rng;
    size_t header_bytes, survivors = 0;
    uint8_t *copy;

    (void)state;
    byte_buf_init(&buf, 4 << 20);
    assert_ok(file_read("tests/golden/models/clip_gelu/golden.safetensors", &buf, &err));
    header_bytes = 8 + buf.data[0] + ((size_t)buf.data[1] << 8);
    philox_init(&rng, 9, bytes_of_string("mutate"), PHILOX_STAGE_SELECT, 0);
    for (int round = 0; round < 1000; round++) {
        struct safetensors *file = NULL;
        size_t len = buf.len;
        enum status st;

        /* an exact heap copy, so that a read behind the end is caught */
        if (philox_below(&rng, 8) == 0)
            len = philox_below(&rng, (uint32_t)buf.len);
        copy = malloc(len + 1);
        assert_non_null(copy);
        memcpy(copy, buf.data, len);
        for (uint32_t n = 1 + philox_below(&rng, 4); n > 0 && len > 0; n--) {
            size_t at = philox_below(&rng, (uint32_t)MIN(len, header_bytes));

            copy[at] = philox_below(&rng, 2) == 0
                           ? (uint8_t)philox_u32(&rng)
                           : (uint8_t)("0123456789[]{}\":,"[philox_below(&rng, 17)]);
        }
        st = safetensors_open_bytes(bytes_view_of(copy, len), &file, &err);
        if (st == ST_OK) {
            survivors++;
            (void)sum_everything(file);
        } else {
            assert_true(err.message[0] != '\0');
            assert_true(st == ST_CORRUPT || st == ST_INVALID);
        }
        safetensors_close(&file);
        free(copy);
    }
    assert_true(survivors < 500); /* the mutations must hurt */
    byte_buf_release(&buf);
}

static void write_file(const char *dir, const char *name, struct bytes_view bytes)
{
    char path[256];
    struct error err = {0};

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_ok(file_write_atomic(path, bytes, &err));
}

static void shards_are_read_through_their_index(void **state)
{
    static const struct {
        const char *name, *index, *reason;
    } cases[] = {
        {"a tensor that no shard holds",
         "{\"weight_map\":{\"a\":\"1.st\",\"b\":\"2.st\",\"x\":\"1.st\"}}", "\"x\""},
        {"a tensor that the index does not list", "{\"weight_map\":{\"a\":\"1.st\"},\"more\":0}",
         NULL},
        {"a file elsewhere", "{\"weight_map\":{\"a\":\"../1.st\"}}", "not a file name"},
        {"a file that is not there", "{\"weight_map\":{\"a\":\"3.st\"}}", "could not open"},
        {"no map", "{}", "weight_map"},
        {"a map that is none", "{\"weight_map\":[1]}", "weight_map"},
    };
    char dir[] = "/tmp/reinforce-safetensors-XXXXXX", path[256];
    struct byte_buf one =
        make_file("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2);
    struct byte_buf two =
        make_file("{\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3);
    struct safetensors *file = NULL;
    struct error err = {0};

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    write_file(dir, "1.st", byte_buf_view(&one));
    write_file(dir, "2.st", byte_buf_view(&two));
    write_file(dir, "model.safetensors.index.json",
               bytes_of_string("{\"metadata\":{},\"weight_map\":{\"a\":\"1.st\",\"b\":\"2.st\"}}"));
    assert_ok(safetensors_open(path, &file, &err));
    assert_int_equal(safetensors_n_files(file), 2);
    assert_int_equal(safetensors_peek(file, "a")->data.len, 2);
    assert_int_equal(safetensors_peek(file, "b")->data.len, 3);
    safetensors_close(&file);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        enum status st;

        write_file(dir, "model.safetensors.index.json", bytes_of_string(cases[i].index));
        st = safetensors_open(path, &file, &err);
        if (cases[i].reason == NULL) {
            assert_int_equal(st, ST_OK); /* shard 2 is not mapped at all */
            assert_int_equal(safetensors_n_files(file), 1);
            safetensors_close(&file);
            continue;
        }
        if (st == ST_OK || strstr(err.message, cases[i].reason) == NULL)
            fail_msg("%s: %s \"%s\"", cases[i].name, status_name(st), err.message);
    }
    /* the same tensor in both */
    write_file(dir, "2.st", byte_buf_view(&one));
    write_file(dir, "model.safetensors.index.json",
               bytes_of_string("{\"weight_map\":{\"a\":\"1.st\",\"b\":\"2.st\"}}"));
    assert_status(safetensors_open(path, &file, &err), ST_CORRUPT);
    assert_non_null(strstr(err.message, "two shards"));
    (void)snprintf(path, sizeof path, "rm -r %s", dir);
    assert_int_equal(system(path), 0);
    byte_buf_release(&one);
    byte_buf_release(&two);
}

static struct weights *weights_of(const struct byte_buf *buf, struct safetensors **file)
{
    struct weights *weights = NULL;
    struct error err = {0};
    const struct tensor *tensors;
    size_t n = 0;

    assert_ok(safetensors_open_bytes(byte_buf_view(buf), file, &err));
    tensors = safetensors_view(*file, &n);
    assert_ok(weights_create(tensors, n, &weights, &err));
    return weights;
}

/* CLIP 5 */
static void missing_misshaped_and_extra_tensors_are_named(void **state)
{
    struct byte_buf buf = make_file(
        "{\"a.w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
        "\"n\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[24,28]},"
        "\"x.position_ids\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[28,36]},"
        "\"y.num_batches_tracked\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[36,44]},"
        "\"attn_mask\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[44,48]}}",
        48);
    struct safetensors *file = NULL;
    struct weights *weights = weights_of(&buf, &file);
    struct error err = {0};
    const float *out;

    (void)state;
    assert_status(weights_get(weights, "a.", "v", WEIGHTS_SHAPE(4), &out, &err), ST_NOT_FOUND);
    assert_non_null(strstr(err.message, "\"a.v\" is missing, expected shape [4]"));
    assert_status(weights_get(weights, "a.", "w", WEIGHTS_SHAPE(3, 2), &out, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "\"a.w\" has shape [2, 3], expected [3, 2]"));
    assert_status(weights_get(weights, "a.", "w", WEIGHTS_SHAPE(2, 3, 1), &out, &err), ST_INVALID);
    assert_null(out);
    assert_status(weights_get(weights, "", "n", WEIGHTS_SHAPE(1), &out, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "I32"));
    assert_status(weights_check_all_used(weights, &err), ST_INVALID);
    assert_non_null(strstr(err.message, "\"a.w\""));
    assert_ok(weights_get(weights, "a.", "w", WEIGHTS_SHAPE(2, 3), &out, &err));
    assert_status(weights_check_all_used(weights, &err), ST_INVALID);
    weights_ignore_prefix(weights, "n");
    assert_ok(weights_check_all_used(weights, &err));
    assert_int_equal(weights_n_parameters(weights), 6);
    assert_int_equal(weights_stored_bytes(weights, TENSOR_I64), 16);
    weights_destroy(&weights);
    safetensors_close(&file);
    byte_buf_release(&buf);
}

static void matrices_are_transposed_and_stacked(void **state)
{
    static const float stored[6] = {1, 2, 3, 4, 5, 6}, turned[6] = {1, 4, 2, 5, 3, 6};
    static const float stacked[12] = {1, 2, 3, 4, 5, 6, 6, 5, 4, 3, 2, 1};
    static const float other[6] = {6, 5, 4, 3, 2, 1};
    static const char *const names[] = {"a", "b"};
    const struct tensor tensors[] = {
        {"module.b", TENSOR_F32, 2, {2, 3}, bytes_view_of(other, sizeof other)},
        {"module.a", TENSOR_F32, 2, {2, 3}, bytes_view_of(stored, sizeof stored)},
        {"module.s", TENSOR_F32, 1, {1}, bytes_view_of(stored + 4, sizeof *stored)},
    };
    struct weights *weights = NULL;
    struct error err = {0};
    const float *out;

    (void)state; /* CLIP 7: a common "module." is stripped */
    assert_ok(weights_create(tensors, ARRAY_LEN(tensors), &weights, &err));
    assert_ok(weights_get(weights, "", "a", WEIGHTS_SHAPE(2, 3), &out, &err));
    assert_ptr_equal(out, stored); /* used where it is */
    assert_ok(weights_get_transposed(weights, "", "a", 2, 3, &out, &err));
    assert_memory_equal(out, turned, sizeof turned);
    assert_ok(weights_get_stacked(weights, "", names, 2, WEIGHTS_SHAPE(2, 3), &out, &err));
    assert_memory_equal(out, stacked, sizeof stacked);
    assert_ok(weights_get(weights, "", "s", WEIGHTS_SCALAR, &out, &err)); /* () may be (1) */
    assert_float_equal(*out, 5, 0);
    weights_destroy(&weights);
    assert_ok(weights_create(tensors, ARRAY_LEN(tensors) - 1, &weights, &err));
    assert_status(weights_get_transposed(weights, "", "a", 3, 2, &out, &err), ST_INVALID);
    weights_destroy(&weights);
}

/* CLIP 6: values that all three dtypes hold give the same float32. */
static void stored_width_does_not_change_values(void **state)
{
    static const float values[] = {0, -0.0f, 1, -1.5f, 0.0078125f, -120, 0x1p-14f};
    static const uint16_t bf16[] = {0, 0x8000, 0x3f80, 0xbfc0, 0x3c00, 0xc2f0, 0x3880};
    static const uint16_t f16[] = {0, 0x8000, 0x3c00, 0xbe00, 0x2000, 0xd780, 0x0400};
    uint8_t unaligned[4 * ARRAY_LEN(values) + 1];
    const struct tensor tensors[] = {
        {"f32", TENSOR_F32, 1, {ARRAY_LEN(values)}, bytes_view_of(values, sizeof values)},
        {"f16", TENSOR_F16, 1, {ARRAY_LEN(values)}, bytes_view_of(f16, sizeof f16)},
        {"bf16", TENSOR_BF16, 1, {ARRAY_LEN(values)}, bytes_view_of(bf16, sizeof bf16)},
        {"odd", TENSOR_F32, 1, {ARRAY_LEN(values)}, bytes_view_of(unaligned + 1, sizeof values)},
    };
    struct weights *weights = NULL;
    struct error err = {0};
    const float *out;

    (void)state;
    memcpy(unaligned + 1, values, sizeof values);
    assert_ok(weights_create(tensors, ARRAY_LEN(tensors), &weights, &err));
    for (size_t i = 0; i < ARRAY_LEN(tensors); i++) {
        assert_ok(weights_get(weights, "", tensors[i].name, WEIGHTS_SHAPE(ARRAY_LEN(values)), &out,
                              &err));
        assert_memory_equal(out, values, sizeof values);
    }
    weights_destroy(&weights);
}

/* Every half there is, against arithmetic on its parts. */
static void all_halves_convert_exactly(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        uint8_t bytes[2] = {(uint8_t)h, (uint8_t)(h >> 8)};
        uint32_t exponent = h >> 10 & 31, fraction = h & 1023;
        double want = exponent == 0 ? (double)fraction * 0x1p-24 : 1 + (double)fraction / 1024;
        float got;

        convert_f16(bytes, 1, &got);
        for (uint32_t e = 15; exponent != 0 && e < exponent; e++)
            want *= 2;
        for (uint32_t e = exponent; exponent != 0 && e < 15; e++)
            want /= 2;
        if (exponent == 31) {
            assert_int_equal(fraction == 0, got == 1.0f / 0.0f || got == -1.0f / 0.0f);
            continue;
        }
        assert_true((double)got == (h >> 15 ? -want : want));
    }
}

static void floats_become_the_nearest_half(void **state)
{
    const float nan = NAN;
    uint16_t got;

    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        uint8_t bytes[4] = {(uint8_t)h, (uint8_t)(h >> 8), (uint8_t)(h + 1),
                            (uint8_t)((h + 1) >> 8)};
        float two[2], cases[4];
        uint32_t want[4] = {h, h, h + (h & 1), h + 1};

        convert_f16(bytes, 2, two);
        if (h == 0x7bff)
            two[1] = 65536;
        cases[0] = two[0];
        cases[2] = two[0] + (two[1] - two[0]) / 2; /* a tie; exact */
        cases[1] = nextafterf(cases[2], 0);
        cases[3] = nextafterf(cases[2], INFINITY);
        for (size_t c = 0; c < 4; c++) {
            float negative = -cases[c];

            convert_to_f16(&cases[c], 1, &got);
            assert_int_equal(got, want[c]);
            convert_to_f16(&negative, 1, &got);
            assert_int_equal(got, want[c] | 0x8000);
        }
    }
    convert_to_f16(&nan, 1, &got);
    assert_true((got & 0x7c00) == 0x7c00 && (got & 0x3ff) != 0);
}

/* Pieces, small and larger than what is taken at once, are apart, aligned and kept. */
static void memory_of_weights_is_kept_in_pieces(void **state)
{
    static const size_t sizes[] = {1, 64, 1000, 20 << 20, 11 << 20, 40 << 20, 5};
    static const float one = 1;
    const struct tensor tensor = {"w", TENSOR_F32, 2, {1, 1}, bytes_view_of(&one, sizeof one)};
    struct weights *weights = NULL;
    struct error err = {0};
    unsigned char *pieces[ARRAY_LEN(sizes)];

    (void)state;
    assert_ok(weights_create(&tensor, 1, &weights, &err));
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        assert_ok(weights_alloc(weights, sizes[i], &pieces[i], &err));
        assert_int_equal((uintptr_t)pieces[i] % 64, 0);
        memset(pieces[i], (int)i, sizes[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        for (size_t j = 0; j < sizes[i]; j++)
            if (pieces[i][j] != i)
                fail_msg("piece %zu is overwritten", i);
    assert_int_equal(weights_alloc(weights, SIZE_MAX - 10, &pieces[0], &err), ST_NO_MEMORY);
    weights_destroy(&weights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_found_by_name_with_shape_and_bytes),
        cmocka_unit_test(damaged_headers_are_refused_with_the_reason),
        cmocka_unit_test(a_header_longer_than_the_file_is_refused),
        cmocka_unit_test(a_thousand_mutated_headers_do_not_crash),
        cmocka_unit_test(shards_are_read_through_their_index),
        cmocka_unit_test(missing_misshaped_and_extra_tensors_are_named),
        cmocka_unit_test(matrices_are_transposed_and_stacked),
        cmocka_unit_test(stored_width_does_not_change_values),
        cmocka_unit_test(all_halves_convert_exactly),
        cmocka_unit_test(floats_become_the_nearest_half),
        cmocka_unit_test(memory_of_weights_is_kept_in_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
