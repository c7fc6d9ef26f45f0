#include "storage/format/array_floats.h"

#include "reinforce/base/utf8.h"
#include "reinforce/nn/convert.h"

bool array_float_parse(const char *descr, size_t len, enum array_float *type, bool *big_endian)
{
    if (len == 2) { /* numpy.dtype('f4'): the order is in its state */
        *big_endian = false;
    } else if (len == 3 && (descr[0] == '<' || descr[0] == '>' || descr[0] == '=')) {
        *big_endian = descr[0] == '>';
        descr++;
    } else {
        return false;
    }
    if (descr[0] != 'f' || (descr[1] != '2' && descr[1] != '4' && descr[1] != '8'))
        return false;
    *type = (enum array_float)(descr[1] - '0');
    return true;
}

static float read_element(const uint8_t *at, enum array_float type, bool big_endian)
{
    uint8_t bytes[8];
    double wide;
    float value;

    for (int i = 0; i < (int)type; i++)
        bytes[i] = big_endian ? at[(int)type - 1 - i] : at[i];
    if (type == ARRAY_F2) {
        convert_f16(bytes, 1, &value);
    } else if (type == ARRAY_F4) {
        memcpy(&value, bytes, sizeof value);
    } else {
        memcpy(&wide, bytes, sizeof wide);
        value = (float)wide;
    }
    return value;
}

enum status array_floats_read(struct bytes_view raw, enum array_float type, bool big_endian,
                              bool fortran, uint64_t rows, uint64_t dim,
                              const struct array_limits *limits, struct arena *arena,
                              struct record_embedding *array, struct error *err)
{
    uint64_t n, bytes;
    float *data;
    enum status st;

    if (__builtin_mul_overflow(rows, dim, &n) ||
        __builtin_mul_overflow(n, (uint64_t)type, &bytes) || bytes != raw.len)
        return error_set(err, ST_CORRUPT, "array of %llu x %llu elements has %zu bytes",
                         (unsigned long long)rows, (unsigned long long)dim, raw.len);
    /* an empty array may not smuggle in a side that nothing holds up */
    if (n > limits->max_bytes / sizeof *data || rows > limits->max_bytes || dim > limits->max_bytes)
        return error_set(err, ST_CORRUPT, "array of %llu x %llu elements is larger than %zu bytes",
                         (unsigned long long)rows, (unsigned long long)dim, limits->max_bytes);
    st = arena_alloc(arena, (size_t)n * sizeof *data, &data, err);
    if (st != ST_OK)
        return st;
    if (type == ARRAY_F4 && !big_endian && !fortran) {
        if (n > 0)
            memcpy(data, raw.data, (size_t)bytes);
    } else {
        for (uint64_t i = 0; i < n; i++) {
            uint64_t from = fortran ? i % dim * rows + i / dim : i;

            data[i] = read_element(raw.data + from * (uint64_t)type, type, big_endian);
        }
    }
    array->dtype = RECORD_F32;
    array->rows = (size_t)rows;
    array->dim = (size_t)dim;
    array->data = data;
    return ST_OK;
}

enum status array_floats_write(const struct record_embedding *array, struct byte_buf *out,
                               struct error *err)
{
    size_t n = array->rows * array->dim;
    const uint16_t *bits = array->data;
    uint8_t *to;
    enum status st;

    if (array->dtype == RECORD_F32)
        return byte_buf_append(out, array->data, n * sizeof(float), err);
    st = byte_buf_extend(out, n * sizeof(float), &to, err);
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        float value;

        record_f32_from_bf16(&bits[i], 1, &value);
        memcpy(to + i * sizeof value, &value, sizeof value);
    }
    return st;
}

enum status array_floats_count(const struct record_embedding *array, struct array_limits *left,
                               struct error *err)
{
    size_t bytes = array->rows * array->dim * sizeof(float);

    if (bytes > left->max_bytes)
        return error_set(err, ST_CORRUPT, "arrays together are larger than accepted");
    left->max_bytes -= bytes;
    return ST_OK;
}

enum status array_list_check(const struct record_embedding *arrays, size_t n, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        const char *name = arrays[i].name;
        size_t len = strlen(name), elements;

        if (len == 0 || len > ARRAY_MAX_NAME || !utf8_is_valid(bytes_of_string(name)))
            return error_set(err, ST_INVALID,
                             "array name \"%.40s\" is empty, too long or not UTF-8", name);
        if (__builtin_mul_overflow(arrays[i].rows, arrays[i].dim, &elements) ||
            MAX(MAX(arrays[i].rows, arrays[i].dim), elements) > INT32_MAX / sizeof(float))
            return error_set(err, ST_INVALID, "array \"%.40s\" of %zu x %zu elements is too large",
                             name, arrays[i].rows, arrays[i].dim);
        for (size_t k = 0; k < len; k++)
            if ((unsigned char)name[k] < 0x20 || name[k] == '/' || name[k] == '\\')
                return error_set(err, ST_INVALID,
                                 "array name \"%.40s\" holds a slash or control character", name);
        for (size_t k = 0; k < i; k++)
            if (strcmp(arrays[k].name, name) == 0)
                return error_set(err, ST_INVALID, "array \"%s\" is there twice", name);
    }
    return ST_OK;
}
