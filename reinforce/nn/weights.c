#include "reinforce/nn/weights.h"

#include "reinforce/base/arena.h"
#include "reinforce/base/file.h"
#include "reinforce/base/memory.h"
#include "reinforce/nn/convert.h"
#include "reinforce/nn/torch_archive.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TENSORS = 1 << 17, PICKLE_BYTES = 256 << 20 };
enum { ALIGN = 64, SLAB_BYTES = 32 << 20, MAX_NAME = 256, MAX_SHAPE_TEXT = 96 };

/* Memory of what is made of tensors, one behind the other, so that huge pages hold all of it; data
 * begins ALIGN behind it. */
struct slab {
    struct slab *next;
    size_t size, used; /* bytes of data */
};

struct weights {
    struct safetensors *file; /* or a torch checkpoint, or neither: tensors from memory */
    struct file_map checkpoint;
    char *checkpoint_path;
    struct arena arena;     /* what the checkpoint's pickle said, and views made contiguous */
    struct tensor *tensors; /* sorted by name */
    bool *used;
    size_t n;
    struct slab *slabs; /* the first may have room */
};

static const char *const buffers[] = {"position_ids",     "num_batches_tracked", "attn_mask",
                                      "input_resolution", "context_length",      "vocab_size"};

static bool carries_no_weights(const char *name)
{
    const char *dot = strrchr(name, '.');
    const char *last = dot == NULL ? name : dot + 1;

    for (size_t i = 0; i < ARRAY_LEN(buffers); i++)
        if (strcmp(last, buffers[i]) == 0)
            return true;
    return false;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

static void strip_module(struct weights *weights)
{
    static const char prefix[] = "module.";

    for (size_t i = 0; i < weights->n; i++)
        if (strncmp(weights->tensors[i].name, prefix, sizeof prefix - 1) != 0)
            return;
    for (size_t i = 0; i < weights->n; i++)
        weights->tensors[i].name += sizeof prefix - 1; /* a common prefix: the order stays */
}

enum status weights_create(const struct tensor *tensors, size_t n, struct weights **out,
                           struct error *err)
{
    struct weights *weights = calloc(1, sizeof *weights);

    *out = weights;
    if (weights != NULL) {
        weights->tensors = calloc(n + 1, sizeof *weights->tensors);
        weights->used = calloc(n + 1, sizeof *weights->used);
    }
    if (weights == NULL || weights->tensors == NULL || weights->used == NULL) {
        weights_destroy(out);
        return error_set(err, ST_NO_MEMORY, "could not allocate a table of %zu tensors", n);
    }
    weights->n = n;
    if (n > 0)
        memcpy(weights->tensors, tensors, n * sizeof *tensors);
    qsort(weights->tensors, n, sizeof *weights->tensors, compare_names);
    strip_module(weights);
    return ST_OK;
}

static enum status open_safetensors(const char *path, struct weights **out, struct error *err)
{
    struct safetensors *file = NULL;
    const struct tensor *tensors;
    size_t n = 0;
    enum status st = safetensors_open(path, &file, err);

    if (st != ST_OK)
        return st;
    tensors = safetensors_view(file, &n);
    st = weights_create(tensors, n, out, err);
    if (st != ST_OK)
        safetensors_close(&file);
    else
        (*out)->file = file;
    return st;
}

static enum status open_checkpoint(const char *path, struct weights **out, struct error *err)
{
    struct file_map map;
    struct arena arena;
    struct tensor *tensors;
    size_t n = 0;
    enum status st = file_map_open(path, &map, err);

    if (st != ST_OK)
        return st;
    arena_init(&arena, map.bytes.len + PICKLE_BYTES);
    st = torch_archive_read(map.bytes, MAX_TENSORS, &arena, &tensors, &n, err);
    if (st == ST_OK)
        st = weights_create(tensors, n, out, err);
    if (st != ST_OK) {
        error_add_context(err, "%s", path);
        arena_release(&arena);
        file_map_close(&map);
        return st;
    }
    (*out)->arena = arena;
    (*out)->checkpoint = map;
    (*out)->checkpoint_path = strdup(path);
    if ((*out)->checkpoint_path != NULL)
        return ST_OK;
    weights_destroy(out);
    return error_set(err, ST_NO_MEMORY, "could not allocate a path");
}

enum status weights_open(const char *path, struct weights **out, struct error *err)
{
    static const char *const endings[] = {".bin", ".pt", ".pth", ".ckpt"};
    const char *ending = strrchr(path, '.');

    *out = NULL;
    for (size_t i = 0; i < ARRAY_LEN(endings) && ending != NULL; i++)
        if (strcmp(ending, endings[i]) == 0)
            return open_checkpoint(path, out, err);
    return open_safetensors(path, out, err);
}

const struct tensor *weights_peek(const struct weights *weights, const char *name)
{
    return tensor_find(weights->tensors, weights->n, name);
}

const struct tensor *weights_view(const struct weights *weights, size_t *n)
{
    *n = weights->n;
    return weights->tensors;
}

static enum status check_tensor(const struct tensor *tensor, const size_t *shape, struct error *err)
{
    char expected[MAX_SHAPE_TEXT], found[MAX_SHAPE_TEXT];
    size_t rank = 0;
    bool same;

    while (shape[rank] != 0)
        rank++;
    same = tensor->rank == rank;
    for (size_t i = 0; i < rank && same; i++)
        same = tensor->shape[i] == shape[i];
    /* a scalar is stored as () or (1), depending on the writer */
    same = same || (rank == 0 && tensor->rank == 1 && tensor->shape[0] == 1);
    /* a matrix may be a 1 x 1 convolution */
    same = same || (rank == 2 && tensor->rank == 4 && tensor->shape[0] == shape[0] &&
                    tensor->shape[1] == shape[1] && tensor->shape[2] * tensor->shape[3] == 1);
    if (!same)
        return error_set(err, ST_INVALID, "tensor \"%s\" has shape %s, expected %s", tensor->name,
                         tensor_shape_text(tensor->shape, tensor->rank, found, sizeof found),
                         tensor_shape_text(shape, rank, expected, sizeof expected));
    if (tensor->dtype != TENSOR_F32 && tensor->dtype != TENSOR_F16 && tensor->dtype != TENSOR_BF16)
        return error_set(err, ST_INVALID, "tensor \"%s\" has dtype %s, expected F32, F16 or BF16",
                         tensor->name, tensor_dtype_name(tensor->dtype));
    return ST_OK;
}

enum status weights_get_stored(struct weights *weights, const char *prefix, const char *name,
                               const size_t *shape, const struct tensor **out, struct error *err)
{
    char full[MAX_NAME], text[MAX_SHAPE_TEXT];
    size_t rank = 0;
    enum status st;

    if (snprintf(full, sizeof full, "%s%s", prefix, name) >= (int)sizeof full)
        return error_set(err, ST_INVALID, "tensor name \"%s%s\" is too long", prefix, name);
    *out = weights_peek(weights, full);
    if (*out == NULL) {
        while (shape[rank] != 0)
            rank++;
        return error_set(err, ST_NOT_FOUND, "tensor \"%s\" is missing, expected shape %s", full,
                         tensor_shape_text(shape, rank, text, sizeof text));
    }
    st = check_tensor(*out, shape, err);
    if (st == ST_OK)
        weights->used[*out - weights->tensors] = true;
    return st;
}

static struct slab *add_slab(struct weights *weights, size_t size)
{
    size_t bytes = ALIGN + size;
    struct slab *slab = bytes < size ? NULL : memory_alloc(bytes);

    if (slab == NULL)
        return NULL;
    memory_spread(slab, bytes);
    *slab = (struct slab){.next = weights->slabs, .size = size};
    weights->slabs = slab;
    return slab;
}

enum status weights_alloc(struct weights *weights, size_t size, void *out_ptr, struct error *err)
{
    struct slab *slab = weights->slabs;
    size_t bytes = size > SIZE_MAX - ALIGN ? SIZE_MAX : (size + ALIGN - 1) / ALIGN * ALIGN;
    void *memory;

    if (slab == NULL || slab->size - slab->used < bytes)
        slab = add_slab(weights, MAX(bytes, (size_t)SLAB_BYTES));
    if (slab == NULL)
        return error_set(err, ST_NO_MEMORY, "could not allocate %zu bytes of weights", size);
    memory = (char *)slab + ALIGN + slab->used;
    slab->used += bytes;
    memcpy(out_ptr, &memory, sizeof memory);
    return ST_OK;
}

static enum status new_block(struct weights *weights, size_t n_floats, float **out,
                             struct error *err)
{
    size_t bytes = 0;

    if (__builtin_mul_overflow(n_floats, sizeof(float), &bytes))
        return error_set(err, ST_NO_MEMORY, "could not allocate %zu float32 weights", n_floats);
    return weights_alloc(weights, bytes, out, err);
}

static void to_f32(const struct tensor *tensor, size_t first, size_t n, float *out)
{
    const uint8_t *data = tensor->data.data + first * tensor_dtype_size(tensor->dtype);

    if (tensor->dtype == TENSOR_BF16)
        convert_bf16(data, n, out);
    else if (tensor->dtype == TENSOR_F16)
        convert_f16(data, n, out);
    else
        memcpy(out, data, n * sizeof *out);
}

void tensor_row(const struct tensor *tensor, size_t i, float *row)
{
    to_f32(tensor, i * tensor->shape[1], tensor->shape[1], row);
}

enum status weights_get_stack(struct weights *weights, const char *prefix, const char *const *names,
                              size_t n, size_t tensor_rows, size_t in, const float *row_scale,
                              struct weights_stack *out, struct error *err)
{
    enum status st = ST_OK;

    assert(n <= WEIGHTS_MAX_STACK);
    *out = (struct weights_stack){
        .tensor_rows = tensor_rows, .out = n * tensor_rows, .in = in, .row_scale = row_scale};
    for (size_t i = 0; i < n && st == ST_OK; i++)
        st = weights_get_stored(weights, prefix, names[i], WEIGHTS_SHAPE(tensor_rows, in),
                                &out->tensors[i], err);
    return st;
}

void weights_stack_row(const struct weights_stack *stack, size_t i, float *row)
{
    if (stack->tensors[0] != NULL)
        tensor_row(stack->tensors[i / stack->tensor_rows], i % stack->tensor_rows, row);
    else
        memcpy(row, stack->w + i * stack->in, stack->in * sizeof *row);
    for (size_t k = 0; k < stack->in && stack->row_scale != NULL; k++)
        row[k] *= stack->row_scale[i];
}

void weights_drop_pages(struct weights *weights)
{
    for (size_t i = 0; weights->file != NULL && i < safetensors_n_files(weights->file); i++)
        file_drop_pages(safetensors_file_bytes(weights->file, i));
    if (weights->checkpoint.bytes.data != NULL)
        file_drop_pages(weights->checkpoint.bytes);
}

enum status weights_get(struct weights *weights, const char *prefix, const char *name,
                        const size_t *shape, const float **out, struct error *err)
{
    const struct tensor *tensor;
    float *copy = NULL;
    enum status st = weights_get_stored(weights, prefix, name, shape, &tensor, err);

    *out = NULL;
    if (st != ST_OK)
        return st;
    if (tensor->dtype == TENSOR_F32 && (uintptr_t)tensor->data.data % sizeof(float) == 0) {
        *out = (const float *)(const void *)tensor->data.data;
        return ST_OK;
    }
    st = new_block(weights, tensor_count(tensor), &copy, err);
    if (st == ST_OK) {
        to_f32(tensor, 0, tensor_count(tensor), copy);
        *out = copy;
    }
    return st;
}

enum status weights_get_transposed(struct weights *weights, const char *prefix, const char *name,
                                   size_t in, size_t out_dim, const float **out, struct error *err)
{
    const float *stored;
    float *turned = NULL;
    enum status st = weights_get(weights, prefix, name, WEIGHTS_SHAPE(in, out_dim), &stored, err);

    *out = NULL;
    if (st == ST_OK)
        st = new_block(weights, in * out_dim, &turned, err);
    if (st != ST_OK)
        return st;
    /* by tiles: a plain double loop misses the cache at every step of a 768 x 49408 matrix */
    for (size_t i0 = 0; i0 < in; i0 += 16)
        for (size_t j0 = 0; j0 < out_dim; j0 += 16)
            for (size_t j = j0; j < MIN(j0 + 16, out_dim); j++)
                for (size_t i = i0; i < MIN(i0 + 16, in); i++)
                    turned[j * in + i] = stored[i * out_dim + j];
    *out = turned;
    return ST_OK;
}

enum status weights_get_stacked(struct weights *weights, const char *prefix,
                                const char *const *names, size_t n, const size_t *shape,
                                const float **out, struct error *err)
{
    const struct tensor *tensor;
    size_t count = 1;
    float *stack = NULL;
    enum status st = ST_OK;

    *out = NULL;
    for (size_t i = 0; i < n && st == ST_OK; i++) {
        st = weights_get_stored(weights, prefix, names[i], shape, &tensor, err);
        if (st == ST_OK && stack == NULL) {
            count = tensor_count(tensor);
            st = new_block(weights, n * count, &stack, err);
        }
        if (st == ST_OK)
            to_f32(tensor, 0, count, stack + i * count);
    }
    if (st == ST_OK)
        *out = stack;
    return st;
}

void weights_ignore_prefix(struct weights *weights, const char *prefix)
{
    for (size_t i = 0; i < weights->n; i++)
        if (strncmp(weights->tensors[i].name, prefix, strlen(prefix)) == 0)
            weights->used[i] = true;
}

enum status weights_check_all_used(const struct weights *weights, struct error *err)
{
    char shape[MAX_SHAPE_TEXT];

    for (size_t i = 0; i < weights->n; i++) {
        const struct tensor *tensor = &weights->tensors[i];

        if (!weights->used[i] && !carries_no_weights(tensor->name))
            return error_set(err, ST_INVALID,
                             "tensor \"%s\" of shape %s is not part of the model that the config "
                             "describes",
                             tensor->name,
                             tensor_shape_text(tensor->shape, tensor->rank, shape, sizeof shape));
    }
    return ST_OK;
}

/* All ones in the exponent, of `n` words. */
KERNEL_CLONES static bool any_not_finite_16(const uint8_t *data, size_t n, uint16_t exponent)
{
    unsigned bad = 0;

    for (size_t i = 0; i < n; i++) {
        uint16_t word;

        memcpy(&word, data + i * sizeof word, sizeof word);
        bad |= (word & exponent) == exponent;
    }
    return bad != 0;
}

KERNEL_CLONES static bool any_not_finite_32(const uint8_t *data, size_t n)
{
    unsigned bad = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t word;

        memcpy(&word, data + i * sizeof word, sizeof word);
        bad |= (word & 0x7f800000u) == 0x7f800000u;
    }
    return bad != 0;
}

enum status weights_check_finite(const struct weights *weights, struct error *err)
{
    for (size_t i = 0; i < weights->n; i++) {
        const struct tensor *tensor = &weights->tensors[i];
        size_t n = tensor_count(tensor);

        if ((tensor->dtype == TENSOR_F32 && any_not_finite_32(tensor->data.data, n)) ||
            (tensor->dtype == TENSOR_BF16 && any_not_finite_16(tensor->data.data, n, 0x7f80)) ||
            (tensor->dtype == TENSOR_F16 && any_not_finite_16(tensor->data.data, n, 0x7c00)))
            return error_set(err, ST_CORRUPT, "tensor \"%s\" holds a NaN or an infinity",
                             tensor->name);
    }
    return ST_OK;
}

size_t weights_n_parameters(const struct weights *weights)
{
    size_t n = 0;

    for (size_t i = 0; i < weights->n; i++) {
        const struct tensor *tensor = &weights->tensors[i];

        if (!carries_no_weights(tensor->name) &&
            (tensor->dtype == TENSOR_F32 || tensor->dtype == TENSOR_F16 ||
             tensor->dtype == TENSOR_BF16 || tensor->dtype == TENSOR_F64))
            n += tensor_count(tensor);
    }
    return n;
}

size_t weights_stored_bytes(const struct weights *weights, enum tensor_dtype dtype)
{
    size_t bytes = 0;

    for (size_t i = 0; i < weights->n; i++)
        if (weights->tensors[i].dtype == dtype)
            bytes += weights->tensors[i].data.len;
    return bytes;
}

size_t weights_n_files(const struct weights *weights)
{
    if (weights->checkpoint_path != NULL)
        return 1;
    return weights->file != NULL ? safetensors_n_files(weights->file) : 0;
}

const char *weights_file_path(const struct weights *weights, size_t i)
{
    return weights->checkpoint_path != NULL ? weights->checkpoint_path
                                            : safetensors_file_path(weights->file, i);
}

void weights_destroy(struct weights **weights)
{
    if (*weights == NULL)
        return;
    for (struct slab *slab = (*weights)->slabs, *next; slab != NULL; slab = next) {
        next = slab->next;
        free(slab);
    }
    safetensors_close(&(*weights)->file);
    if ((*weights)->checkpoint.bytes.data != NULL)
        file_map_close(&(*weights)->checkpoint);
    arena_release(&(*weights)->arena);
    free((*weights)->checkpoint_path);
    free((*weights)->tensors);
    free((*weights)->used);
    free(*weights);
    *weights = NULL;
}
