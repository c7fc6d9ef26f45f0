#include "reinforce/nn/torch_archive.h"

#include "reinforce/base/pickle.h"
#include "reinforce/base/utf8.h"
#include "reinforce/base/zip.h"

#include <stdlib.h>

enum { MAX_MEMBERS = 1 << 14, MAX_NAME = 255, MAX_PICKLE_BYTES = 64 << 20 };

/* Storage types follow the functions, so that one comparison tells them apart. */
enum global { REBUILD_TENSOR, REBUILD_PARAMETER, ORDERED_DICT, FIRST_STORAGE };

static const struct pickle_global globals[] = {
    {"torch._utils", "_rebuild_tensor_v2"},
    {"torch._utils", "_rebuild_parameter"},
    {"collections", "OrderedDict"},
    {"torch", "FloatStorage"},
    {"torch", "BFloat16Storage"},
    {"torch", "HalfStorage"},
    {"torch", "DoubleStorage"},
    {"torch", "LongStorage"},
    {"torch", "IntStorage"},
    {"torch", "ShortStorage"},
    {"torch", "CharStorage"},
    {"torch", "ByteStorage"},
    {"torch", "BoolStorage"},
};

static const enum tensor_dtype storage_dtypes[] = {
    TENSOR_F32, TENSOR_BF16, TENSOR_F16, TENSOR_F64, TENSOR_I64,
    TENSOR_I32, TENSOR_I16,  TENSOR_I8,  TENSOR_U8,  TENSOR_BOOL,
};

/* Keys under which training scripts keep a model's tensors. */
static const char *const wrappers[] = {"state_dict", "model_state_dict", "model"};

struct archive {
    const struct zip_member **by_name; /* [n_members], sorted */
    size_t n_members;
    struct bytes_view root; /* "archive/" */
    struct arena *arena;
    struct error *err;
};

static int compare_names(struct bytes_view a, struct bytes_view b)
{
    int order = memcmp(a.data, b.data, MIN(a.len, b.len));

    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare_members(const void *a, const void *b)
{
    return compare_names((*(const struct zip_member *const *)a)->name,
                         (*(const struct zip_member *const *)b)->name);
}

static bool ends_with(struct bytes_view name, const char *end)
{
    size_t n = strlen(end);

    return name.len > n && memcmp(name.data + name.len - n, end, n) == 0;
}

/* The member root + folder + name, or NULL. */
static const struct zip_member *find_member(const struct archive *a, const char *folder,
                                            struct bytes_view name)
{
    char full[2 * MAX_NAME];
    int len = snprintf(full, sizeof full, "%.*s%s%.*s", (int)MIN(a->root.len, (size_t)MAX_NAME),
                       (const char *)a->root.data, folder, (int)MIN(name.len, (size_t)MAX_NAME),
                       (const char *)name.data);
    struct zip_member wanted;
    const struct zip_member *key = &wanted, **found;

    if (len < 0 || (size_t)len >= sizeof full)
        return NULL;
    wanted.name = bytes_view_of(full, (size_t)len);
    found =
        bsearch(&key, a->by_name, a->n_members, sizeof(const struct zip_member *), compare_members);
    return found != NULL ? *found : NULL;
}

static enum status not_a_tensor(const struct archive *a, const char *why)
{
    return error_set(a->err, ST_CORRUPT, "checkpoint holds something that is not a tensor: %s",
                     why);
}

/* ('storage', type, key, device, elements): checks the member's length against both. */
static enum status read_storage(const struct archive *a, const struct pickle_value *ref,
                                enum tensor_dtype *dtype, struct bytes_view *raw,
                                uint64_t *elements)
{
    const struct pickle_value *id = ref->kind == PICKLE_REF ? ref->items[0] : NULL;
    const struct zip_member *member;
    size_t size;

    if (id == NULL || id->kind != PICKLE_TUPLE || id->n_items != 5 ||
        id->items[1]->kind != PICKLE_GLOBAL || id->items[1]->integer < FIRST_STORAGE ||
        id->items[2]->kind != PICKLE_TEXT || id->items[4]->kind != PICKLE_INT ||
        id->items[4]->integer < 0)
        return not_a_tensor(a, "its storage is of another kind");
    *dtype = storage_dtypes[id->items[1]->integer - FIRST_STORAGE];
    *elements = (uint64_t)id->items[4]->integer;
    size = tensor_dtype_size(*dtype);
    member = find_member(a, "data/", id->items[2]->bytes);
    if (member == NULL || member->deflated || member->size / size != *elements ||
        member->size % size != 0)
        return not_a_tensor(a, "its storage is missing, compressed or of another length");
    return zip_unpack(member, SIZE_MAX, a->arena, raw, a->err);
}

static bool read_sizes(const struct pickle_value *value, size_t *rank, uint64_t *sizes)
{
    if (value->kind != PICKLE_TUPLE || value->n_items > TENSOR_MAX_RANK)
        return false;
    *rank = value->n_items;
    for (size_t i = 0; i < *rank; i++) {
        if (value->items[i]->kind != PICKLE_INT || value->items[i]->integer < 0)
            return false;
        sizes[i] = (uint64_t)value->items[i]->integer;
    }
    return true;
}

/* Where a tensor's elements lie in its storage. */
struct layout {
    size_t rank;
    uint64_t offset, shape[TENSOR_MAX_RANK], stride[TENSOR_MAX_RANK];
    uint64_t count; /* product of the shape */
    bool row_major;
};

/* False when an element would lie outside the storage, or a product overflows. */
static bool layout_check(struct layout *l, uint64_t elements)
{
    uint64_t last = l->offset, step;

    l->count = 1;
    l->row_major = true;
    for (size_t i = l->rank; i-- > 0;) {
        l->row_major = l->row_major && (l->stride[i] == l->count || l->shape[i] == 1);
        if (__builtin_mul_overflow(l->count, l->shape[i], &l->count))
            return false;
    }
    if (l->count == 0)
        return true;
    for (size_t i = 0; i < l->rank; i++)
        if (__builtin_mul_overflow(l->shape[i] - 1, l->stride[i], &step) ||
            __builtin_add_overflow(last, step, &last))
            return false;
    return last < elements;
}

/* Copies a view of another order, last axis innermost. */
static void gather(const struct layout *l, const uint8_t *from, size_t size, uint8_t *to)
{
    uint64_t index[TENSOR_MAX_RANK] = {0};

    for (uint64_t n = 0; n < l->count; n++) {
        uint64_t at = l->offset;

        for (size_t i = 0; i < l->rank; i++)
            at += index[i] * l->stride[i];
        memcpy(to + n * size, from + at * size, size);
        for (size_t i = l->rank; i-- > 0 && ++index[i] == l->shape[i];)
            index[i] = 0;
    }
}

static enum status read_tensor(const struct archive *a, const struct pickle_value *value,
                               struct tensor *out)
{
    const struct pickle_value *args;
    struct layout layout = {0};
    struct bytes_view raw;
    uint64_t elements = 0, bytes;
    size_t size, n_strides;
    uint8_t *copy;
    enum status st;

    if (value->kind == PICKLE_CALL && value->integer == REBUILD_PARAMETER && value->n_items == 1 &&
        value->items[0]->n_items >= 1)
        value = value->items[0]->items[0];
    if (value->kind != PICKLE_CALL || value->integer != REBUILD_TENSOR || value->n_items != 1 ||
        value->state != NULL || value->items[0]->n_items < 4)
        return not_a_tensor(a, "it is another object");
    args = value->items[0];
    st = read_storage(a, args->items[0], &out->dtype, &raw, &elements);
    if (st != ST_OK)
        return st;
    if (args->items[1]->kind != PICKLE_INT || args->items[1]->integer < 0 ||
        !read_sizes(args->items[2], &layout.rank, layout.shape) ||
        !read_sizes(args->items[3], &n_strides, layout.stride) || n_strides != layout.rank)
        return not_a_tensor(a, "its shape and strides are no lists of up to 8 sizes");
    layout.offset = (uint64_t)args->items[1]->integer;
    size = tensor_dtype_size(out->dtype);
    if (!layout_check(&layout, elements) || __builtin_mul_overflow(layout.count, size, &bytes))
        return not_a_tensor(a, "its strides reach behind its storage");
    out->rank = layout.rank;
    for (size_t i = 0; i < layout.rank; i++)
        out->shape[i] = (size_t)layout.shape[i];
    if (layout.count == 0 || layout.row_major) {
        out->data =
            bytes_view_of(raw.data + (layout.count > 0 ? layout.offset * size : 0), (size_t)bytes);
        return ST_OK;
    }
    st = arena_alloc(a->arena, (size_t)bytes, &copy, a->err);
    if (st == ST_OK) {
        gather(&layout, raw.data, size, copy);
        out->data = bytes_view_of(copy, (size_t)bytes);
    }
    return st;
}

/* Keys and values of a dict or OrderedDict; NULL: it is neither. */
static struct pickle_value *const *dict_items(const struct pickle_value *value, size_t *n)
{
    bool ordered = value->kind == PICKLE_CALL && value->integer == ORDERED_DICT &&
                   value->items[0]->n_items == 0; /* a call's first item is its arguments */

    if (value->kind != PICKLE_DICT && !ordered)
        return NULL;
    *n = (value->n_items - ordered) / 2;
    return value->items + ordered;
}

/* The dict of tensors: the root, or what a training script put under one of its usual keys. */
static struct pickle_value *const *unwrap(const struct pickle_value *root, size_t *n)
{
    struct pickle_value *const *items = dict_items(root, n), *const * inner;

    for (size_t w = 0; w < ARRAY_LEN(wrappers) && items != NULL; w++)
        for (size_t i = 0; i < *n; i++) {
            const struct pickle_value *key = items[2 * i];
            size_t n_inner;

            if (key->kind != PICKLE_TEXT || !bytes_equal(key->bytes, bytes_of_string(wrappers[w])))
                continue;
            inner = dict_items(items[2 * i + 1], &n_inner);
            if (inner != NULL) {
                *n = n_inner;
                return inner;
            }
        }
    return items;
}

static int compare_tensors(const void *a, const void *b)
{
    return strcmp((*(const struct tensor *const *)a)->name,
                  (*(const struct tensor *const *)b)->name);
}

static enum status check_unique(const struct archive *a, const struct tensor *tensors, size_t n)
{
    const struct tensor **sorted;
    enum status st = arena_calloc(a->arena, n + 1, sizeof(const struct tensor *), &sorted, a->err);

    if (st != ST_OK)
        return st;
    for (size_t i = 0; i < n; i++)
        sorted[i] = &tensors[i];
    qsort(sorted, n, sizeof(const struct tensor *), compare_tensors);
    for (size_t i = 1; i < n; i++)
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
            return error_set(a->err, ST_CORRUPT, "checkpoint has two tensors \"%s\"",
                             sorted[i]->name);
    return ST_OK;
}

static enum status read_dict(const struct archive *a, const struct pickle_value *root,
                             size_t max_tensors, struct tensor **tensors, size_t *n)
{
    size_t count = 0;
    struct pickle_value *const *items = unwrap(root, &count);
    enum status st;

    if (items == NULL)
        return error_set(a->err, ST_CORRUPT, "checkpoint is not a dict of tensors");
    if (count > max_tensors)
        return error_set(a->err, ST_CORRUPT, "checkpoint has %zu tensors, at most %zu are accepted",
                         count, max_tensors);
    st = arena_calloc(a->arena, count + 1, sizeof **tensors, tensors, a->err);
    for (size_t i = 0; i < count && st == ST_OK; i++) {
        struct bytes_view name = items[2 * i]->bytes;
        char *copy;

        if (items[2 * i]->kind != PICKLE_TEXT || name.len > MAX_NAME || !utf8_is_valid(name) ||
            memchr(name.data, '\0', name.len) != NULL)
            return error_set(a->err, ST_CORRUPT, "checkpoint has a key that is not a name");
        st = arena_strndup(a->arena, (const char *)name.data, name.len, &copy, a->err);
        if (st != ST_OK)
            return st;
        (*tensors)[i].name = copy;
        st = read_tensor(a, items[2 * i + 1], &(*tensors)[i]);
        if (st != ST_OK)
            error_add_context(a->err, "tensor \"%s\"", copy);
    }
    if (st == ST_OK)
        st = check_unique(a, *tensors, count);
    if (st == ST_OK)
        *n = count;
    return st;
}

/* Finds <root>/data.pkl and refuses what is not a plain checkpoint. */
static enum status open_archive(struct bytes_view bytes, struct archive *a,
                                struct bytes_view *pickle)
{
    struct zip_member *members;
    const struct zip_member *byteorder;
    struct bytes_view order;
    enum status st = zip_read(bytes, MAX_MEMBERS, a->arena, &members, &a->n_members, a->err);

    if (st == ST_OK)
        st = arena_calloc(a->arena, a->n_members + 1, sizeof(const struct zip_member *),
                          &a->by_name, a->err);
    for (size_t i = 0; i < a->n_members && st == ST_OK; i++) {
        a->by_name[i] = &members[i];
        if (ends_with(members[i].name, "/data.pkl") && pickle->data == NULL) {
            a->root = bytes_view_of(members[i].name.data, members[i].name.len - 8);
            st = zip_unpack(&members[i], MAX_PICKLE_BYTES, a->arena, pickle, a->err);
        }
        if (ends_with(members[i].name, "/constants.pkl"))
            st = error_set(a->err, ST_CORRUPT,
                           "checkpoint is a TorchScript program; only tensors are read");
    }
    if (st == ST_OK && pickle->data == NULL)
        st = error_set(a->err, ST_CORRUPT, "not a torch checkpoint: it has no data.pkl");
    if (st != ST_OK)
        return st;
    qsort(a->by_name, a->n_members, sizeof(const struct zip_member *), compare_members);
    byteorder = find_member(a, "byteorder", bytes_view_of("", 0));
    if (byteorder != NULL) {
        st = zip_unpack(byteorder, 64, a->arena, &order, a->err);
        if (st == ST_OK && !bytes_equal(order, bytes_of_string("little")))
            st = error_set(a->err, ST_CORRUPT, "checkpoint is not little endian");
    }
    return st;
}

bool torch_archive_matches(struct bytes_view bytes)
{
    return bytes.len > 2 && memcmp(bytes.data, "PK", 2) == 0;
}

enum status torch_archive_read(struct bytes_view bytes, size_t max_tensors, struct arena *arena,
                               struct tensor **tensors, size_t *n, struct error *err)
{
    struct archive archive = {.arena = arena, .err = err};
    struct bytes_view pickle = {0};
    struct pickle_value *root;
    enum status st;

    *n = 0;
    *tensors = NULL;
    if (!torch_archive_matches(bytes))
        return error_set(err, ST_CORRUPT,
                         "not a zip checkpoint; one of torch before 1.6 must be saved again");
    st = open_archive(bytes, &archive, &pickle);
    if (st == ST_OK)
        st = pickle_read(pickle, globals, ARRAY_LEN(globals), arena, &root, err);
    return st == ST_OK ? read_dict(&archive, root, max_tensors, tensors, n) : st;
}
