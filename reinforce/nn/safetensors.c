#include "reinforce/nn/safetensors.h"

#include "reinforce/base/file.h"
#include "reinforce/base/json.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LENGTH_BYTES = 8,
    MAX_HEADER_BYTES = 100 * 1000 * 1000, /* the reference library's own limit */
    MAX_INDEX_BYTES = 64 * 1024 * 1024,
    MAX_SHARDS = 1024,
};

static const struct {
    const char *name;
    enum tensor_dtype dtype;
    size_t size;
} dtypes[] = {
    {"F32", TENSOR_F32, 4},   {"F16", TENSOR_F16, 2},         {"BF16", TENSOR_BF16, 2},
    {"F64", TENSOR_F64, 8},   {"I64", TENSOR_I64, 8},         {"I32", TENSOR_I32, 4},
    {"I16", TENSOR_I16, 2},   {"I8", TENSOR_I8, 1},           {"U64", TENSOR_U64, 8},
    {"U32", TENSOR_U32, 4},   {"U16", TENSOR_U16, 2},         {"U8", TENSOR_U8, 1},
    {"BOOL", TENSOR_BOOL, 1}, {"F8_E4M3", TENSOR_F8_E4M3, 1}, {"F8_E5M2", TENSOR_F8_E5M2, 1},
};

struct shard {
    char *path; /* NULL for borrowed bytes */
    struct file_map map;
    struct bytes_view bytes;
    json_t *header; /* owns the names */
};

struct safetensors {
    struct shard *shards;
    size_t n_shards;
    struct tensor *tensors; /* sorted by name */
    size_t n_tensors;
};

size_t tensor_dtype_size(enum tensor_dtype dtype)
{
    for (size_t i = 0; i < ARRAY_LEN(dtypes); i++)
        if (dtypes[i].dtype == dtype)
            return dtypes[i].size;
    return 0;
}

const char *tensor_dtype_name(enum tensor_dtype dtype)
{
    for (size_t i = 0; i < ARRAY_LEN(dtypes); i++)
        if (dtypes[i].dtype == dtype)
            return dtypes[i].name;
    return "?";
}

size_t tensor_count(const struct tensor *tensor)
{
    size_t count = 1;

    for (size_t i = 0; i < tensor->rank; i++)
        count *= tensor->shape[i];
    return count;
}

const char *tensor_shape_text(const size_t *shape, size_t rank, char *text, size_t size)
{
    size_t len = (size_t)snprintf(text, size, "[");

    for (size_t i = 0; i < rank && len < size; i++)
        len += (size_t)snprintf(text + len, size - len, "%s%zu", i > 0 ? ", " : "", shape[i]);
    if (len < size)
        (void)snprintf(text + len, size - len, "]");
    return text;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

static int compare_places(const void *a, const void *b)
{
    const struct tensor *left = a, *right = b;

    if (left->data.data != right->data.data)
        return left->data.data < right->data.data ? -1 : 1;
    return left->data.len < right->data.len ? -1 : left->data.len > right->data.len;
}

const struct tensor *tensor_find(const struct tensor *tensors, size_t n, const char *name)
{
    struct tensor key = {.name = name};

    return n == 0 ? NULL : bsearch(&key, tensors, n, sizeof *tensors, compare_names);
}

static enum status parse_dtype(const json_t *text, enum tensor_dtype *dtype, struct error *err)
{
    if (!json_is_string(text))
        return error_set(err, ST_CORRUPT, "\"dtype\" is missing or not a string");
    for (size_t i = 0; i < ARRAY_LEN(dtypes); i++)
        if (strcmp(json_string_value(text), dtypes[i].name) == 0) {
            *dtype = dtypes[i].dtype;
            return ST_OK;
        }
    return error_set(err, ST_INVALID, "dtype \"%.20s\" is unknown", json_string_value(text));
}

static enum status parse_shape(const json_t *list, struct tensor *tensor, size_t *bytes,
                               struct error *err)
{
    if (!json_is_array(list))
        return error_set(err, ST_CORRUPT, "\"shape\" is missing or not an array");
    if (json_array_size(list) > TENSOR_MAX_RANK)
        return error_set(err, ST_INVALID, "rank is %zu, at most %d is supported",
                         json_array_size(list), TENSOR_MAX_RANK);
    tensor->rank = json_array_size(list);
    *bytes = tensor_dtype_size(tensor->dtype);
    for (size_t i = 0; i < tensor->rank; i++) {
        const json_t *item = json_array_get(list, i);

        if (!json_is_integer(item) || json_integer_value(item) < 0)
            return error_set(err, ST_CORRUPT, "dimension %zu is not a whole number", i);
        tensor->shape[i] = (size_t)json_integer_value(item);
        if (__builtin_mul_overflow(*bytes, tensor->shape[i], bytes))
            return error_set(err, ST_CORRUPT, "the shape's element count overflows");
    }
    return ST_OK;
}

static enum status parse_tensor(const json_t *entry, struct bytes_view data, struct tensor *tensor,
                                struct error *err)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    size_t bytes = 0;
    json_int_t begin, end;
    enum status st;

    if (!json_is_object(entry))
        return error_set(err, ST_CORRUPT, "its entry is not an object");
    st = parse_dtype(json_object_get(entry, "dtype"), &tensor->dtype, err);
    if (st == ST_OK)
        st = parse_shape(json_object_get(entry, "shape"), tensor, &bytes, err);
    if (st != ST_OK)
        return st;
    if (json_array_size(offsets) != 2 || !json_is_integer(json_array_get(offsets, 0)) ||
        !json_is_integer(json_array_get(offsets, 1)))
        return error_set(err, ST_CORRUPT, "\"data_offsets\" is not a pair of whole numbers");
    begin = json_integer_value(json_array_get(offsets, 0));
    end = json_integer_value(json_array_get(offsets, 1));
    if (begin < 0 || end < begin || (uint64_t)end > data.len)
        return error_set(err, ST_CORRUPT,
                         "data_offsets [%lld, %lld] do not lie within the file's %zu data bytes",
                         (long long)begin, (long long)end, data.len);
    if ((uint64_t)(end - begin) != bytes)
        return error_set(err, ST_CORRUPT, "data_offsets span %lld bytes, its shape needs %zu",
                         (long long)(end - begin), bytes);
    tensor->data = bytes_view_of(data.data + begin, bytes);
    return ST_OK;
}

/** Tensors must tile the data: a hole could smuggle bytes past a digest of tensors, an overlap is a
 * forgery or damage. */
static enum status check_tiling(struct tensor *tensors, size_t n, struct bytes_view data,
                                struct error *err)
{
    const uint8_t *expected = data.data;

    qsort(tensors, n, sizeof *tensors, compare_places);
    for (size_t i = 0; i < n; i++) {
        if (tensors[i].data.data != expected)
            return error_set(err, ST_CORRUPT, "tensor \"%.100s\" %s", tensors[i].name,
                             tensors[i].data.data < expected ? "overlaps another one"
                                                             : "follows a hole in the data");
        expected += tensors[i].data.len;
    }
    if (expected != data.data + data.len)
        return error_set(err, ST_CORRUPT, "%zu bytes of data belong to no tensor",
                         (size_t)(data.data + data.len - expected));
    return ST_OK;
}

/** Splits shard->bytes into header and data, and appends the shard's tensors to file->tensors. */
static enum status parse_shard(struct safetensors *file, struct shard *shard, struct error *err)
{
    uint64_t header_bytes = 0;
    struct bytes_view data;
    struct tensor *grown;
    size_t n = 0;
    const char *name;
    json_t *entry;
    enum status st;

    if (shard->bytes.len < LENGTH_BYTES)
        return error_set(err, ST_CORRUPT,
                         "the file has %zu bytes, too few for a safetensors header",
                         shard->bytes.len);
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        header_bytes = header_bytes << 8 | shard->bytes.data[i];
    if (header_bytes > MAX_HEADER_BYTES)
        return error_set(err, ST_CORRUPT, "header length is %llu, at most %d is allowed",
                         (unsigned long long)header_bytes, (int)MAX_HEADER_BYTES);
    if (header_bytes > shard->bytes.len - LENGTH_BYTES)
        return error_set(err, ST_CORRUPT, "header length is %llu, but the file has %zu bytes",
                         (unsigned long long)header_bytes, shard->bytes.len);
    data.data = shard->bytes.data + LENGTH_BYTES + header_bytes;
    data.len = shard->bytes.len - LENGTH_BYTES - header_bytes;
    st = json_parse(bytes_view_of(shard->bytes.data + LENGTH_BYTES, header_bytes), &shard->header,
                    err);
    if (st != ST_OK)
        return st;
    if (!json_is_object(shard->header))
        return error_set(err, ST_CORRUPT, "the header is not a JSON object");
    grown = realloc(file->tensors,
                    (file->n_tensors + json_object_size(shard->header) + 1) * sizeof *grown);
    if (grown == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate the tensor table");
    file->tensors = grown;
    grown += file->n_tensors;
    json_object_foreach(shard->header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        memset(&grown[n], 0, sizeof grown[n]);
        grown[n].name = name;
        st = parse_tensor(entry, data, &grown[n], err);
        if (st != ST_OK) {
            error_add_context(err, "tensor \"%.100s\"", name);
            return st;
        }
        n++;
    }
    file->n_tensors += n;
    return check_tiling(grown, n, data, err);
}

static enum status finish(struct safetensors *file, struct error *err)
{
    qsort(file->tensors, file->n_tensors, sizeof *file->tensors, compare_names);
    for (size_t i = 1; i < file->n_tensors; i++)
        if (compare_names(&file->tensors[i - 1], &file->tensors[i]) == 0)
            return error_set(err, ST_CORRUPT, "tensor \"%.100s\" is in two shards",
                             file->tensors[i].name);
    return ST_OK;
}

static enum status create_empty(size_t n_shards, struct safetensors **out, struct error *err)
{
    *out = calloc(1, sizeof **out);
    if (*out != NULL)
        (*out)->shards = calloc(n_shards, sizeof *(*out)->shards);
    if (*out == NULL || (*out)->shards == NULL) {
        safetensors_close(out);
        return error_set(err, ST_NO_MEMORY, "could not allocate the tensor table");
    }
    return ST_OK;
}

static enum status open_shard(struct safetensors *file, const char *path, struct error *err)
{
    struct shard *shard = &file->shards[file->n_shards++];
    enum status st;

    shard->path = strdup(path);
    if (shard->path == NULL)
        return error_set(err, ST_NO_MEMORY, "could not copy the path of a weights file");
    st = file_map_open(path, &shard->map, err);
    if (st == ST_OK) {
        shard->bytes = shard->map.bytes;
        st = parse_shard(file, shard, err);
        if (st != ST_OK)
            error_add_context(err, "\"%s\"", path);
    }
    return st;
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/** Collects the distinct values of `map`, sorted. Plain file names only: an index must not reach
 * outside its folder. */
static enum status list_shards(const json_t *map, const char **names, size_t *n, struct error *err)
{
    union {
        const json_t *in;
        json_t *object;
    } cast = {.in = map};
    const char *key;
    json_t *value;

    *n = 0;
    json_object_foreach(cast.object, key, value)
    {
        const char *name = json_string_value(value);
        size_t i = 0;

        if (name == NULL || name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL)
            return error_set(err, ST_INVALID, "weight_map of \"%.80s\" is not a file name", key);
        while (i < *n && strcmp(names[i], name) != 0)
            i++;
        if (i == MAX_SHARDS)
            return error_set(err, ST_INVALID, "weight_map names more than %d files",
                             (int)MAX_SHARDS);
        if (i == *n)
            names[(*n)++] = name;
    }
    if (*n == 0)
        return error_set(err, ST_CORRUPT, "\"weight_map\" is missing or empty");
    qsort(names, *n, sizeof *names, compare_strings);
    return ST_OK;
}

/** Index and shards must name the same tensors. */
static enum status check_index(const struct safetensors *file, const json_t *map, struct error *err)
{
    union {
        const json_t *in;
        json_t *object;
    } cast = {.in = map};
    const char *key;
    json_t *value;

    json_object_foreach(cast.object, key, value)
    {
        if (safetensors_peek(file, key) == NULL)
            return error_set(err, ST_CORRUPT,
                             "the index lists tensor \"%.100s\", but \"%.60s\" "
                             "does not hold it",
                             key, json_string_value(value));
    }
    for (size_t i = 0; i < file->n_tensors; i++)
        if (json_object_get(map, file->tensors[i].name) == NULL)
            return error_set(err, ST_CORRUPT, "tensor \"%.100s\" is not listed in the index",
                             file->tensors[i].name);
    return ST_OK;
}

static enum status open_index(const char *path, struct safetensors **out, struct error *err)
{
    const char *names[MAX_SHARDS], *slash = strrchr(path, '/');
    int folder = slash == NULL ? 0 : (int)(slash - path + 1);
    char shard_path[PATH_MAX];
    struct byte_buf text;
    json_t *index = NULL, *map;
    size_t n = 0;
    enum status st;

    byte_buf_init(&text, MAX_INDEX_BYTES);
    st = file_read(path, &text, err);
    if (st == ST_OK)
        st = json_parse(byte_buf_view(&text), &index, err);
    map = json_object_get(index, "weight_map");
    if (st == ST_OK)
        st = list_shards(map, names, &n, err);
    if (st == ST_OK)
        st = create_empty(n, out, err);
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        if (snprintf(shard_path, sizeof shard_path, "%.*s%s", folder, path, names[i]) >=
            (int)sizeof shard_path)
            st = error_set(err, ST_INVALID, "path of shard \"%.80s\" is too long", names[i]);
        else
            st = open_shard(*out, shard_path, err);
    }
    if (st == ST_OK)
        st = finish(*out, err);
    if (st == ST_OK)
        st = check_index(*out, map, err);
    if (st != ST_OK)
        error_add_context(err, "\"%s\"", path);
    json_decref(index);
    byte_buf_release(&text);
    return st;
}

enum status safetensors_open(const char *path, struct safetensors **out, struct error *err)
{
    size_t len = strlen(path);
    enum status st;

    *out = NULL;
    if (len > 5 && strcmp(path + len - 5, ".json") == 0) {
        st = open_index(path, out, err);
    } else {
        st = create_empty(1, out, err);
        if (st == ST_OK)
            st = open_shard(*out, path, err);
        if (st == ST_OK)
            st = finish(*out, err);
    }
    if (st != ST_OK)
        safetensors_close(out);
    return st;
}

enum status safetensors_open_bytes(struct bytes_view bytes, struct safetensors **out,
                                   struct error *err)
{
    enum status st;

    *out = NULL;
    st = create_empty(1, out, err);
    if (st == ST_OK) {
        (*out)->n_shards = 1;
        (*out)->shards[0].bytes = bytes;
        st = parse_shard(*out, &(*out)->shards[0], err);
    }
    if (st == ST_OK)
        st = finish(*out, err);
    if (st != ST_OK)
        safetensors_close(out);
    return st;
}

const struct tensor *safetensors_view(const struct safetensors *file, size_t *n_tensors)
{
    *n_tensors = file->n_tensors;
    return file->tensors;
}

const struct tensor *safetensors_peek(const struct safetensors *file, const char *name)
{
    return tensor_find(file->tensors, file->n_tensors, name);
}

void safetensors_close(struct safetensors **file)
{
    if (*file == NULL)
        return;
    for (size_t i = 0; i < (*file)->n_shards; i++) {
        json_decref((*file)->shards[i].header);
        file_map_close(&(*file)->shards[i].map);
        free((*file)->shards[i].path);
    }
    free((*file)->shards);
    free((*file)->tensors);
    free(*file);
    *file = NULL;
}

size_t safetensors_n_files(const struct safetensors *file)
{
    return file->n_shards;
}

const char *safetensors_file_path(const struct safetensors *file, size_t i)
{
    return file->shards[i].path;
}

struct bytes_view safetensors_file_bytes(const struct safetensors *file, size_t i)
{
    return file->shards[i].bytes;
}
