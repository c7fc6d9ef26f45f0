#include "storage/format/torch_pth.h"

#include "reinforce/base/deflate.h"
#include "reinforce/base/zip.h"
#include "reinforce/nn/torch_archive.h"
#include "storage/format/array_floats.h"

#include <stdio.h>

/* data.pkl, protocol 2: {name: _rebuild_tensor_v2(storage, 0, (rows, dim), (dim, 1), False,
 * OrderedDict()), ...} */
static enum status put(struct byte_buf *out, const char *bytes, size_t n, struct error *err)
{
    return byte_buf_append(out, bytes, n, err);
}

static enum status put_text(struct byte_buf *out, const char *text, struct error *err)
{
    size_t len = strlen(text);
    uint8_t head[5] = {'X', (uint8_t)len, (uint8_t)(len >> 8), (uint8_t)(len >> 16),
                       (uint8_t)(len >> 24)};
    enum status st = byte_buf_append(out, head, sizeof head, err);

    return st == ST_OK ? byte_buf_append(out, text, len, err) : st;
}

static enum status put_int(struct byte_buf *out, size_t value, struct error *err)
{
    uint8_t bytes[5] = {'J', (uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
                        (uint8_t)(value >> 24)};

    if (value > INT32_MAX)
        return error_set(err, ST_INVALID, "array of %zu elements is too large", value);
    return byte_buf_append(out, bytes, sizeof bytes, err);
}

static enum status put_tensor(struct byte_buf *out, const struct record_embedding *a, size_t i,
                              struct error *err)
{
    char key[24];
    enum status st = put_text(out, a->name, err);

    (void)snprintf(key, sizeof key, "%zu", i);
    if (st == ST_OK)
        st = put(out, "ctorch._utils\n_rebuild_tensor_v2\n((", 35, err);
    if (st == ST_OK)
        st = put_text(out, "storage", err);
    if (st == ST_OK)
        st = a->dtype == RECORD_BF16 ? put(out, "ctorch\nBFloat16Storage\n", 23, err)
                                     : put(out, "ctorch\nFloatStorage\n", 20, err);
    if (st == ST_OK)
        st = put_text(out, key, err);
    if (st == ST_OK)
        st = put_text(out, "cpu", err);
    if (st == ST_OK)
        st = put_int(out, a->rows * a->dim, err);
    if (st == ST_OK)
        st = put(out, "tQK\0", 4, err); /* the storage, by persistent id; offset 0 */
    if (st == ST_OK)
        st = put_int(out, a->rows, err);
    if (st == ST_OK)
        st = put_int(out, a->dim, err);
    if (st == ST_OK)
        st = put(out, "\x86", 1, err);
    if (st == ST_OK)
        st = put_int(out, a->dim, err);
    if (st == ST_OK)
        st = put(out, "K\1\x86\x89", 4, err);
    return st == ST_OK ? put(out, "ccollections\nOrderedDict\n)RtR", 29, err) : st;
}

static enum status write_pickle(const struct record_embedding *arrays, size_t n,
                                struct byte_buf *out, struct error *err)
{
    enum status st = put(out, "\x80\2}(", 4, err);

    for (size_t i = 0; i < n && st == ST_OK; i++)
        st = put_tensor(out, &arrays[i], i, err);
    return st == ST_OK ? put(out, "u.", 2, err) : st;
}

static enum status write_zip(const struct record_embedding *arrays, size_t n, struct byte_buf *out,
                             struct error *err)
{
    struct zip_writer zip;
    struct byte_buf pickle;
    enum status st;

    byte_buf_init(&pickle, 16u << 20);
    zip_writer_init(&zip, out);
    st = write_pickle(arrays, n, &pickle, err);
    if (st == ST_OK)
        st = zip_writer_add(&zip, "archive/data.pkl", byte_buf_view(&pickle), false, err);
    if (st == ST_OK)
        st = zip_writer_add(&zip, "archive/byteorder", bytes_of_string("little"), false, err);
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        size_t size = arrays[i].dtype == RECORD_BF16 ? 2 : 4;
        char name[40];

        (void)snprintf(name, sizeof name, "archive/data/%zu", i);
        st = zip_writer_add(&zip, name,
                            bytes_view_of(arrays[i].data, arrays[i].rows * arrays[i].dim * size),
                            false, err);
    }
    if (st == ST_OK)
        st = zip_writer_add(&zip, "archive/version", bytes_of_string("3\n"), false, err);
    byte_buf_release(&pickle);
    return zip_writer_finish(&zip, st, err);
}

enum status torch_pth_write(const struct record_embedding *arrays, size_t n, struct byte_buf *out,
                            struct error *err)
{
    size_t start = out->len;
    struct byte_buf archive;
    enum status st = array_list_check(arrays, n, err);

    if (st != ST_OK)
        return st;
    byte_buf_init(&archive, SIZE_MAX / 2);
    st = write_zip(arrays, n, &archive, err);
    if (st == ST_OK)
        st = gzip_compress(byte_buf_view(&archive), out, err);
    byte_buf_release(&archive);
    if (st != ST_OK)
        out->len = start;
    return st;
}

/* A checkpoint's tensor as an embedding, with its own copy of the elements. */
static enum status take_tensor(const struct tensor *tensor, struct array_limits *left,
                               struct arena *arena, struct record_embedding *out, struct error *err)
{
    bool is_float = tensor->dtype == TENSOR_F32 || tensor->dtype == TENSOR_F16 ||
                    tensor->dtype == TENSOR_BF16 || tensor->dtype == TENSOR_F64;
    size_t size = tensor_dtype_size(tensor->dtype);
    uint16_t *bits;
    enum status st;

    if (tensor->rank != 2 || !is_float || strlen(tensor->name) > ARRAY_MAX_NAME)
        return error_set(err, ST_CORRUPT,
                         "checkpoint holds a tensor of rank %zu and type %s where "
                         "a 2-D float tensor is expected",
                         tensor->rank, tensor_dtype_name(tensor->dtype));
    if (tensor->dtype != TENSOR_BF16) {
        st = array_floats_read(tensor->data, (enum array_float)size, false, false, tensor->shape[0],
                               tensor->shape[1], left, arena, out, err);
    } else if (tensor->data.len > left->max_bytes / 2) {
        st = error_set(err, ST_CORRUPT, "array of %zu bytes is too large", tensor->data.len);
    } else {
        st = arena_alloc(arena, tensor->data.len, &bits, err);
        if (st == ST_OK && tensor->data.len > 0)
            memcpy(bits, tensor->data.data, tensor->data.len);
        *out = (struct record_embedding){
            .dtype = RECORD_BF16, .rows = tensor->shape[0], .dim = tensor->shape[1], .data = bits};
    }
    out->name = tensor->name;
    return st == ST_OK ? array_floats_count(out, left, err) : st;
}

static enum status take_tensors(const struct tensor *tensors, size_t n,
                                const struct array_limits *limits, struct arena *arena,
                                struct record_embedding **arrays, struct error *err)
{
    struct array_limits left = *limits;
    enum status st = arena_calloc(arena, n + 1, sizeof **arrays, arrays, err);

    for (size_t i = 0; i < n && st == ST_OK; i++) {
        st = take_tensor(&tensors[i], &left, arena, &(*arrays)[i], err);
        if (st != ST_OK)
            error_add_context(err, "tensor \"%s\"", tensors[i].name);
    }
    return st;
}

enum status torch_pth_read(struct bytes_view bytes, const struct array_limits *limits,
                           struct arena *arena, struct record_embedding **arrays, size_t *n,
                           struct error *err)
{
    struct byte_buf unpacked;
    struct tensor *tensors;
    size_t count = 0;
    enum status st = ST_OK;

    *n = 0;
    *arrays = NULL;
    byte_buf_init(&unpacked, limits->max_bytes);
    if (gzip_matches(bytes)) {
        st = gzip_decompress(bytes, limits->max_bytes, &unpacked, err);
        bytes = byte_buf_view(&unpacked);
    }
    if (st == ST_OK)
        st = torch_archive_read(bytes, limits->max_arrays, arena, &tensors, &count, err);
    if (st == ST_OK)
        st = take_tensors(tensors, count, limits, arena, arrays, err);
    if (st == ST_OK)
        *n = count;
    byte_buf_release(&unpacked);
    return st;
}
