#include "storage/format/numpy_pickle.h"

#include "reinforce/base/deflate.h"
#include "reinforce/base/pickle.h"
#include "storage/format/array_floats.h"
#include "storage/format/base64.h"

enum { GLOBAL_FROMBUFFER = 0, GLOBAL_RECONSTRUCT = 2, GLOBAL_NDARRAY = 4, GLOBAL_DTYPE = 5 };

static const struct pickle_global globals[] = {
    {"numpy.core.numeric", "_frombuffer"},
    {"numpy._core.numeric", "_frombuffer"},
    {"numpy.core.multiarray", "_reconstruct"},
    {"numpy._core.multiarray", "_reconstruct"},
    {"numpy", "ndarray"},
    {"numpy", "dtype"},
};

/* Opcodes in front of and behind the array's bytes; numpy 1's module name loads in numpy 2 as well.
 */
static const char head[] = "\x80\x05\x8c\x12numpy.core.numeric\x8c\x0b_frombuffer\x93(\x96";
static const char dtype[] = "\x8c\x05numpy\x8c\x05"
                            "dtype\x93\x8c\x02"
                            "f4\x89\x88\x87R(K\x03\x8c\x01<NNN"
                            "J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb";

static enum status write_int(uint64_t value, struct byte_buf *out, struct error *err)
{
    uint8_t bytes[5] = {'J', (uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
                        (uint8_t)(value >> 24)};

    if (value > INT32_MAX)
        return error_set(err, ST_INVALID, "array side of %llu is too large",
                         (unsigned long long)value);
    return byte_buf_append(out, bytes, sizeof bytes, err);
}

enum status numpy_pickle_write(const struct record_embedding *array, struct byte_buf *out,
                               struct error *err)
{
    size_t start = out->len, elements;
    uint64_t bytes;
    uint8_t length[8];
    enum status st;

    if (__builtin_mul_overflow(array->rows, array->dim, &elements) ||
        elements > INT32_MAX / sizeof(float))
        return error_set(err, ST_INVALID, "array of %zu x %zu elements is too large", array->rows,
                         array->dim);
    bytes = (uint64_t)elements * sizeof(float);
    st = byte_buf_append(out, head, sizeof head - 1, err);
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)(bytes >> 8 * i);
    if (st == ST_OK)
        st = byte_buf_append(out, length, sizeof length, err);
    if (st == ST_OK)
        st = array_floats_write(array, out, err);
    if (st == ST_OK)
        st = byte_buf_append(out, dtype, sizeof dtype - 1, err);
    if (st == ST_OK)
        st = write_int(array->rows, out, err);
    if (st == ST_OK)
        st = write_int(array->dim, out, err);
    if (st == ST_OK) /* (rows, dim), 'C'; then the tuple of arguments, the call, the end */
        st = byte_buf_append(out,
                             "\x86\x8c\x01"
                             "CtR.",
                             7, err);
    if (st != ST_OK)
        out->len = start;
    return st;
}

static bool is_text(const struct pickle_value *value, const char *text)
{
    return value->kind == PICKLE_TEXT && bytes_equal(value->bytes, bytes_of_string(text));
}

/* numpy.dtype('f4', ...) with its state (3, '<', ...). */
static bool read_dtype(const struct pickle_value *value, enum array_float *type, bool *big_endian)
{
    const struct pickle_value *args, *order;

    if (value->kind != PICKLE_CALL || value->integer != GLOBAL_DTYPE || value->state == NULL ||
        value->state->kind != PICKLE_TUPLE || value->state->n_items < 2)
        return false;
    args = value->items[0];
    order = value->state->items[1];
    if (args->n_items < 1 || args->items[0]->kind != PICKLE_TEXT ||
        !array_float_parse((const char *)args->items[0]->bytes.data, args->items[0]->bytes.len,
                           type, big_endian))
        return false;
    *big_endian = is_text(order, ">");
    return *big_endian || is_text(order, "<") || is_text(order, "=");
}

static bool read_shape(const struct pickle_value *value, uint64_t shape[2])
{
    if (value->kind != PICKLE_TUPLE || value->n_items != 2)
        return false;
    for (int i = 0; i < 2; i++) {
        if (value->items[i]->kind != PICKLE_INT || value->items[i]->integer < 0)
            return false;
        shape[i] = (uint64_t)value->items[i]->integer;
    }
    return true;
}

/* The four things that both forms say, wherever they keep them. */
static bool read_parts(const struct pickle_value *root, struct bytes_view *raw,
                       const struct pickle_value **type, const struct pickle_value **shape,
                       bool *fortran)
{
    const struct pickle_value *args, *data;

    if (root->kind != PICKLE_CALL)
        return false;
    args = root->items[0];
    if (root->integer < GLOBAL_RECONSTRUCT) { /* _frombuffer(data, dtype, shape, order) */
        if (args->n_items != 4 || root->state != NULL ||
            !(is_text(args->items[3], "C") || is_text(args->items[3], "F")))
            return false;
        data = args->items[0];
        *type = args->items[1];
        *shape = args->items[2];
        *fortran = is_text(args->items[3], "F");
    } else if (root->integer <
               GLOBAL_NDARRAY) { /* _reconstruct(ndarray, (0,), b'b') and its state */
        if (root->state == NULL || root->state->kind != PICKLE_TUPLE || root->state->n_items != 5 ||
            root->state->items[3]->kind != PICKLE_BOOL)
            return false;
        *shape = root->state->items[1];
        *type = root->state->items[2];
        *fortran = root->state->items[3]->integer != 0;
        data = root->state->items[4];
    } else {
        return false;
    }
    *raw = data->bytes;
    return data->kind == PICKLE_BYTES;
}

enum status numpy_pickle_read(struct bytes_view bytes, const struct array_limits *limits,
                              struct arena *arena, struct record_embedding *array,
                              struct error *err)
{
    const struct pickle_value *type_value, *shape_value;
    struct pickle_value *root;
    struct bytes_view raw;
    enum array_float type;
    bool big_endian, fortran;
    uint64_t shape[2];
    enum status st = pickle_read(bytes, globals, ARRAY_LEN(globals), arena, &root, err);

    memset(array, 0, sizeof *array);
    if (st != ST_OK)
        return st;
    if (!read_parts(root, &raw, &type_value, &shape_value, &fortran))
        return error_set(err, ST_CORRUPT, "pickle is not a numpy array");
    if (!read_dtype(type_value, &type, &big_endian))
        return error_set(err, ST_CORRUPT, "pickled array is not of a float type");
    if (!read_shape(shape_value, shape))
        return error_set(err, ST_CORRUPT, "pickled array is not 2-D");
    return array_floats_read(raw, type, big_endian, fortran, shape[0], shape[1], limits, arena,
                             array, err);
}

enum status numpy_pickle_write_text(const struct record_embedding *array, struct byte_buf *out,
                                    struct error *err)
{
    struct byte_buf pickle, packed;
    enum status st;

    byte_buf_init(&pickle, SIZE_MAX / 2);
    byte_buf_init(&packed, SIZE_MAX / 2);
    st = numpy_pickle_write(array, &pickle, err);
    if (st == ST_OK)
        st = gzip_compress(byte_buf_view(&pickle), &packed, err);
    if (st == ST_OK)
        st = base64_encode(byte_buf_view(&packed), out, err);
    byte_buf_release(&packed);
    byte_buf_release(&pickle);
    return st;
}

enum status numpy_pickle_read_text(struct bytes_view text, const struct array_limits *limits,
                                   struct arena *arena, struct record_embedding *array,
                                   struct error *err)
{
    struct byte_buf packed, pickle;
    enum status st;

    memset(array, 0, sizeof *array);
    byte_buf_init(&packed, text.len);
    byte_buf_init(&pickle, limits->max_bytes);
    st = base64_decode(text, &packed, err);
    if (st == ST_OK)
        st = gzip_decompress(byte_buf_view(&packed), limits->max_bytes, &pickle, err);
    if (st == ST_OK)
        st = numpy_pickle_read(byte_buf_view(&pickle), limits, arena, array, err);
    byte_buf_release(&pickle);
    byte_buf_release(&packed);
    return st;
}

bool numpy_pickle_text_matches(struct bytes_view text)
{
    return text.len >= 4 && memcmp(text.data, "H4sI", 4) == 0;
}
