#include "storage/format/torch_pth.h"

#include "reinforce/base/utf8.h"
#include "storage/format/array_floats.h"
#include "storage/format/deflate.h"
#include "storage/format/pickle.h"
#include "storage/format/zip.h"

#include <stdio.h>

enum { MAX_MEMBERS = 4096 };

enum global {
    REBUILD_TENSOR,
    REBUILD_PARAMETER,
    ORDERED_DICT,
    FLOAT32,
    BFLOAT16,
    FLOAT16,
    FLOAT64
};

static const struct pickle_global globals[] = {
    [REBUILD_TENSOR] = {"torch._utils", "_rebuild_tensor_v2"},
    [REBUILD_PARAMETER] = {"torch._utils", "_rebuild_parameter"},
    [ORDERED_DICT] = {"collections", "OrderedDict"},
    [FLOAT32] = {"torch", "FloatStorage"},
    [BFLOAT16] = {"torch", "BFloat16Storage"},
    [FLOAT16] = {"torch", "HalfStorage"},
    [FLOAT64] = {"torch", "DoubleStorage"},
};

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

/* The archive while tensors are taken from it. */
struct archive {
    const struct zip_member *members;
    size_t n_members;
    struct bytes_view root; /* "archive/" */
    const struct array_limits *limits;
    struct array_limits left; /* of max_bytes, for the next tensor */
    struct arena *arena;
    struct error *err;
};

static const struct zip_member *find_member(const struct archive *a, const char *folder,
                                            struct bytes_view name)
{
    size_t folder_len = strlen(folder);

    for (size_t i = 0; i < a->n_members; i++) {
        struct bytes_view full = a->members[i].name;

        if (full.len == a->root.len + folder_len + name.len &&
            memcmp(full.data, a->root.data, a->root.len) == 0 &&
            memcmp(full.data + a->root.len, folder, folder_len) == 0 &&
            memcmp(full.data + a->root.len + folder_len, name.data, name.len) == 0)
            return &a->members[i];
    }
    return NULL;
}

static enum status not_a_tensor(const struct archive *a, const char *why)
{
    return error_set(a->err, ST_CORRUPT,
                     "checkpoint holds something that is not a 2-D float tensor: %s", why);
}

/* ('storage', type, key, 'cpu', elements): checks the member's length against both. */
static enum status read_storage(const struct archive *a, const struct pickle_value *ref,
                                enum global *type, struct bytes_view *raw, uint64_t *elements)
{
    const struct pickle_value *id = ref->kind == PICKLE_REF ? ref->items[0] : NULL;
    const struct zip_member *member;
    size_t size;
    enum status st;

    if (id == NULL || id->kind != PICKLE_TUPLE || id->n_items != 5 ||
        id->items[1]->kind != PICKLE_GLOBAL || id->items[1]->integer < FLOAT32 ||
        id->items[2]->kind != PICKLE_TEXT || id->items[4]->kind != PICKLE_INT ||
        id->items[4]->integer < 0)
        return not_a_tensor(a, "its storage is of another kind");
    *type = (enum global)id->items[1]->integer;
    *elements = (uint64_t)id->items[4]->integer;
    size = *type == FLOAT64 ? 8 : *type == FLOAT32 ? 4 : 2;
    member = find_member(a, "data/", id->items[2]->bytes);
    if (member == NULL || member->deflated || member->size / size != *elements ||
        member->size % size != 0)
        return not_a_tensor(a, "its storage is missing, compressed or of another length");
    st = zip_unpack(member, a->limits->max_bytes, a->arena, raw, a->err);
    return st;
}

static bool read_pair(const struct pickle_value *value, uint64_t pair[2])
{
    if (value->kind != PICKLE_TUPLE || value->n_items != 2)
        return false;
    for (int i = 0; i < 2; i++) {
        if (value->items[i]->kind != PICKLE_INT || value->items[i]->integer < 0)
            return false;
        pair[i] = (uint64_t)value->items[i]->integer;
    }
    return true;
}

/* offset + (rows - 1) * stride[0] + (dim - 1) * stride[1] < elements, without overflow. */
static bool fits(uint64_t offset, const uint64_t shape[2], const uint64_t stride[2],
                 uint64_t elements)
{
    uint64_t last = offset, step;

    for (int i = 0; i < 2; i++) {
        if (shape[i] == 0)
            return true;
        if (__builtin_mul_overflow(shape[i] - 1, stride[i], &step) ||
            __builtin_add_overflow(last, step, &last))
            return false;
    }
    return last < elements;
}

static enum status read_tensor(const struct archive *a, const struct pickle_value *value,
                               struct record_embedding *out)
{
    const struct pickle_value *args;
    uint64_t shape[2], stride[2], elements = 0, n;
    struct bytes_view raw;
    enum global type = FLOAT32;
    size_t size;
    uint8_t *packed;
    enum status st;

    if (value->kind == PICKLE_CALL && value->integer == REBUILD_PARAMETER && value->n_items == 1 &&
        value->items[0]->n_items >= 1)
        value = value->items[0]->items[0];
    if (value->kind != PICKLE_CALL || value->integer != REBUILD_TENSOR || value->n_items != 1 ||
        value->state != NULL || value->items[0]->n_items < 4)
        return not_a_tensor(a, "it is another object");
    args = value->items[0];
    st = read_storage(a, args->items[0], &type, &raw, &elements);
    if (st != ST_OK)
        return st;
    if (args->items[1]->kind != PICKLE_INT || args->items[1]->integer < 0 ||
        !read_pair(args->items[2], shape) || !read_pair(args->items[3], stride))
        return not_a_tensor(a, "it is not 2-D");
    if (!fits((uint64_t)args->items[1]->integer, shape, stride, elements))
        return not_a_tensor(a, "its strides reach behind its storage");
    size = type == FLOAT64 ? 8 : type == FLOAT32 ? 4 : 2;
    if (__builtin_mul_overflow(shape[0], shape[1], &n) || n > a->left.max_bytes / sizeof(float))
        return not_a_tensor(a, "it is too large");
    st = arena_alloc(a->arena, (size_t)n * size, &packed, a->err);
    if (st != ST_OK)
        return st;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t from =
            (uint64_t)args->items[1]->integer + i / shape[1] * stride[0] + i % shape[1] * stride[1];

        memcpy(packed + i * size, raw.data + from * size, size);
    }
    if (type == BFLOAT16) {
        *out = (struct record_embedding){.dtype = RECORD_BF16,
                                         .rows = (size_t)shape[0],
                                         .dim = (size_t)shape[1],
                                         .data = packed};
        return ST_OK;
    }
    return array_floats_read(bytes_view_of(packed, (size_t)n * size), (enum array_float)size, false,
                             false, shape[0], shape[1], &a->left, a->arena, out, a->err);
}

/* A name becomes a C string and must be the only one of its kind. */
static enum status read_name(const struct archive *a, const struct pickle_value *key,
                             const struct record_embedding *others, size_t n_others, char **out)
{
    enum status st;

    if (key->kind != PICKLE_TEXT || key->bytes.len > ARRAY_MAX_NAME || !utf8_is_valid(key->bytes) ||
        memchr(key->bytes.data, '\0', key->bytes.len) != NULL)
        return error_set(a->err, ST_CORRUPT, "checkpoint has a key that is not a name");
    st = arena_strndup(a->arena, (const char *)key->bytes.data, key->bytes.len, out, a->err);
    for (size_t i = 0; i < n_others && st == ST_OK; i++)
        if (strcmp(others[i].name, *out) == 0)
            st = error_set(a->err, ST_CORRUPT, "checkpoint has two tensors \"%s\"", *out);
    return st;
}

static enum status read_dict(struct archive *a, const struct pickle_value *root,
                             struct record_embedding **arrays, size_t *n)
{
    bool ordered = root->kind == PICKLE_CALL && root->integer == ORDERED_DICT;
    size_t first = ordered ? 1 : 0, count; /* a call's first item is its arguments */
    enum status st;

    if (root->kind != PICKLE_DICT && !ordered)
        return error_set(a->err, ST_CORRUPT, "checkpoint is not a dict of tensors");
    if (ordered && root->items[0]->n_items != 0)
        return error_set(a->err, ST_CORRUPT, "checkpoint's OrderedDict is made of a list");
    count = (root->n_items - first) / 2;
    if (count > a->limits->max_arrays)
        return error_set(a->err, ST_CORRUPT, "checkpoint has %zu tensors, at most %zu are accepted",
                         count, a->limits->max_arrays);
    st = arena_calloc(a->arena, count + 1, sizeof **arrays, arrays, a->err);
    for (size_t i = 0; i < count && st == ST_OK; i++) {
        const struct pickle_value *name = root->items[first + 2 * i];
        char *copy;

        st = read_name(a, name, *arrays, i, &copy);
        if (st != ST_OK)
            return st;
        st = read_tensor(a, root->items[first + 2 * i + 1], &(*arrays)[i]);
        if (st == ST_OK)
            st = array_floats_count(&(*arrays)[i], &a->left, a->err);
        if (st == ST_OK)
            (*arrays)[i].name = copy;
        else
            error_add_context(a->err, "tensor \"%s\"", copy);
    }
    if (st == ST_OK)
        *n = count;
    return st;
}

/* Finds <root>/data.pkl, refuses what is not a plain checkpoint, and interprets it. */
static enum status read_archive(struct bytes_view bytes, struct archive *a,
                                struct record_embedding **arrays, size_t *n)
{
    struct zip_member *members;
    struct bytes_view pickle = {0}, order;
    struct pickle_value *root;
    const struct zip_member *byteorder;
    enum status st = zip_read(bytes, MAX_MEMBERS, a->arena, &members, &a->n_members, a->err);

    a->members = members;
    for (size_t i = 0; i < a->n_members && st == ST_OK; i++) {
        struct bytes_view name = members[i].name;

        if (name.len > 9 && memcmp(name.data + name.len - 9, "/data.pkl", 9) == 0 &&
            pickle.data == NULL) {
            a->root = bytes_view_of(name.data, name.len - 8);
            st = zip_unpack(&members[i], a->limits->max_bytes, a->arena, &pickle, a->err);
        }
        if (name.len > 14 && memcmp(name.data + name.len - 14, "/constants.pkl", 14) == 0)
            st = error_set(a->err, ST_CORRUPT,
                           "checkpoint is a TorchScript program; only tensors are read");
    }
    if (st == ST_OK && pickle.data == NULL)
        st = error_set(a->err, ST_CORRUPT, "not a torch checkpoint: it has no data.pkl");
    byteorder = st == ST_OK ? find_member(a, "byteorder", bytes_view_of("", 0)) : NULL;
    if (byteorder != NULL) {
        st = zip_unpack(byteorder, 64, a->arena, &order, a->err);
        if (st == ST_OK && !bytes_equal(order, bytes_of_string("little")))
            st = error_set(a->err, ST_CORRUPT, "checkpoint is not little endian");
    }
    if (st == ST_OK)
        st = pickle_read(pickle, globals, ARRAY_LEN(globals), a->arena, &root, a->err);
    return st == ST_OK ? read_dict(a, root, arrays, n) : st;
}

enum status torch_pth_read(struct bytes_view bytes, const struct array_limits *limits,
                           struct arena *arena, struct record_embedding **arrays, size_t *n,
                           struct error *err)
{
    struct archive archive = {.limits = limits, .left = *limits, .arena = arena, .err = err};
    struct byte_buf unpacked;
    enum status st = ST_OK;

    *n = 0;
    *arrays = NULL;
    byte_buf_init(&unpacked, limits->max_bytes);
    if (gzip_matches(bytes)) {
        st = gzip_decompress(bytes, limits->max_bytes, &unpacked, err);
        bytes = byte_buf_view(&unpacked);
    }
    if (st == ST_OK && (bytes.len < 2 || memcmp(bytes.data, "PK", 2) != 0))
        st = error_set(err, ST_CORRUPT,
                       "not a zip checkpoint; one of torch before 1.6 must be saved again");
    if (st == ST_OK)
        st = read_archive(bytes, &archive, arrays, n); /* copies names and elements to the arena */
    byte_buf_release(&unpacked);
    return st;
}
