#include "storage/format/npz.h"

#include "reinforce/base/zip.h"
#include "storage/format/array_floats.h"

#include <inttypes.h>
#include <stdio.h>

/*
 *     offset 0   93 'N' 'U' 'M' 'P' 'Y', version 1 0, u16 header length
 *     offset 10  {'descr': '<f4', 'fortran_order': False, 'shape': (2, 1536), }, spaces, newline:
 * to a multiple of 64 then       the elements
 */
enum { PREFIX_BYTES = 10, HEADER_ALIGN = 64, MAX_HEADER = 65536 };

static enum status write_npy(const struct record_embedding *array, struct byte_buf *out,
                             struct error *err)
{
    static const uint8_t magic[8] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
    char text[160];
    int len = snprintf(text, sizeof text,
                       "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }",
                       array->rows, array->dim);
    size_t total =
        (PREFIX_BYTES + (size_t)len + 1 + HEADER_ALIGN - 1) / HEADER_ALIGN * HEADER_ALIGN;
    uint8_t *to;
    enum status st;

    total = MAX(total, (size_t)128); /* numpy leaves room for a shape that grows */
    st = byte_buf_extend(out, total, &to, err);
    if (st != ST_OK)
        return st;
    memset(to, ' ', total);
    memcpy(to, magic, sizeof magic);
    to[8] = (uint8_t)(total - PREFIX_BYTES);
    to[9] = (uint8_t)((total - PREFIX_BYTES) >> 8);
    memcpy(to + PREFIX_BYTES, text, (size_t)len);
    to[total - 1] = '\n';
    return array_floats_write(array, out, err);
}

enum status npz_write(const struct record_embedding *arrays, size_t n, struct byte_buf *out,
                      struct error *err)
{
    struct zip_writer zip;
    struct byte_buf npy;
    enum status st = array_list_check(arrays, n, err);

    if (st != ST_OK)
        return st;
    byte_buf_init(&npy, SIZE_MAX / 2);
    zip_writer_init(&zip, out);
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        char name[ARRAY_MAX_NAME + 8];

        (void)snprintf(name, sizeof name, "%s.npy", arrays[i].name);
        byte_buf_reset(&npy);
        st = write_npy(&arrays[i], &npy, err);
        if (st == ST_OK)
            st = zip_writer_add(&zip, name, byte_buf_view(&npy), true, err);
    }
    byte_buf_release(&npy);
    return zip_writer_finish(&zip, st, err);
}

/* Finds 'key': in a header, which is a Python literal; returns where its value begins. */
static const char *find_value(const char *header, const char *key)
{
    const char *at = strstr(header, key);

    if (at == NULL)
        return NULL;
    at += strlen(key);
    while (*at == ' ')
        at++;
    if (*at++ != ':')
        return NULL;
    while (*at == ' ')
        at++;
    return at;
}

static bool read_number(const char **at, uint64_t *out)
{
    *out = 0;
    while (**at == ' ')
        (*at)++;
    if (**at < '0' || **at > '9')
        return false;
    for (; **at >= '0' && **at <= '9'; (*at)++)
        if (__builtin_mul_overflow(*out, (uint64_t)10, out) ||
            __builtin_add_overflow(*out, (uint64_t)(**at - '0'), out))
            return false;
    while (**at == ' ')
        (*at)++;
    return true;
}

static enum status parse_header(const char *header, enum array_float *type, bool *big_endian,
                                bool *fortran, uint64_t shape[2], struct error *err)
{
    const char *descr = find_value(header, "'descr'"),
               *order = find_value(header, "'fortran_order'");
    const char *dims = find_value(header, "'shape'"), *quote;

    if (descr == NULL || order == NULL || dims == NULL)
        return error_set(err, ST_CORRUPT, "npy header lacks descr, fortran_order or shape");
    quote = descr[0] == '\'' ? strchr(descr + 1, '\'') : NULL;
    if (quote == NULL ||
        !array_float_parse(descr + 1, (size_t)(quote - descr - 1), type, big_endian))
        return error_set(err, ST_CORRUPT, "npy array is of type %.*s, floats are expected",
                         quote != NULL ? (int)MIN(quote + 1 - descr, (ptrdiff_t)12) : 12, descr);
    if (strncmp(order, "False", 5) != 0 && strncmp(order, "True", 4) != 0)
        return error_set(err, ST_CORRUPT, "npy header has no fortran_order");
    *fortran = order[0] == 'T';
    if (*dims++ != '(' || !read_number(&dims, &shape[0]) || *dims++ != ',' ||
        !read_number(&dims, &shape[1]) || (*dims != ')' && strncmp(dims, ",)", 2) != 0))
        return error_set(err, ST_CORRUPT, "npy array is not 2-D");
    return ST_OK;
}

static enum status read_npy(struct bytes_view npy, const struct array_limits *limits,
                            struct arena *arena, struct record_embedding *array, struct error *err)
{
    size_t prefix, header_len;
    enum array_float type;
    bool big_endian = false, fortran = false;
    uint64_t shape[2];
    char *header;
    enum status st;

    if (npy.len < PREFIX_BYTES + 2 || memcmp(npy.data, "\x93NUMPY", 6) != 0 || npy.data[6] < 1 ||
        npy.data[6] > 3 || npy.data[7] != 0)
        return error_set(err, ST_CORRUPT, "is not an npy array");
    prefix = npy.data[6] == 1 ? 10 : 12;
    header_len = (size_t)npy.data[8] | (size_t)npy.data[9] << 8;
    if (npy.data[6] > 1)
        header_len |= (size_t)npy.data[10] << 16 | (size_t)npy.data[11] << 24;
    if (header_len > MAX_HEADER || header_len > npy.len - prefix)
        return error_set(err, ST_CORRUPT, "npy header of %zu bytes is cut or too long", header_len);
    st = arena_strndup(arena, (const char *)npy.data + prefix, header_len, &header, err);
    if (st == ST_OK)
        st = parse_header(header, &type, &big_endian, &fortran, shape, err);
    if (st != ST_OK)
        return st;
    return array_floats_read(
        bytes_view_of(npy.data + prefix + header_len, npy.len - prefix - header_len), type,
        big_endian, fortran, shape[0], shape[1], limits, arena, array, err);
}

enum status npz_read(struct bytes_view bytes, const struct array_limits *limits,
                     struct arena *arena, struct record_embedding **arrays, size_t *n,
                     struct error *err)
{
    struct zip_member *members;
    struct array_limits left = *limits; /* for float32 elements: float16 doubles */
    size_t packed_left = limits->max_bytes, count;
    enum status st = zip_read(bytes, limits->max_arrays, arena, &members, &count, err);

    *n = 0;
    *arrays = NULL;
    if (st == ST_OK)
        st = arena_calloc(arena, count + 1, sizeof **arrays, arrays, err);
    for (size_t i = 0; i < count && st == ST_OK; i++) {
        struct bytes_view name = members[i].name, npy;
        char *copy;

        if (name.len <= 4 || memcmp(name.data + name.len - 4, ".npy", 4) != 0 ||
            name.len > ARRAY_MAX_NAME + 4)
            return error_set(err, ST_CORRUPT, "npz member \"%.*s\" is not an .npy array",
                             (int)name.len, (const char *)name.data);
        st = zip_unpack(&members[i], packed_left, arena, &npy, err);
        if (st != ST_OK)
            break;
        packed_left -= npy.len;
        st = arena_strndup(arena, (const char *)name.data, name.len - 4, &copy, err);
        if (st == ST_OK)
            st = read_npy(npy, &left, arena, &(*arrays)[i], err);
        if (st == ST_OK)
            st = array_floats_count(&(*arrays)[i], &left, err);
        if (st != ST_OK)
            error_add_context(err, "npz member \"%.*s\"", (int)name.len, (const char *)name.data);
        else
            (*arrays)[i].name = copy;
    }
    if (st == ST_OK)
        *n = count;
    return st;
}
