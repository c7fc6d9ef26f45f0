/*
 * The safetensors format, read in place.
 *
 *   offset 0      u64, little endian: header length H, at most 100 MB and within the file
 *   offset 8      H bytes of JSON, may end in spaces:
 *                 {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...,
 *                  "__metadata__": {"key": "value"}}
 *   offset 8 + H  the data; data_offsets count from here. Tensors fill it without holes or
 *                 overlaps, row-major, little endian.
 *
 * A sharded snapshot has an index file instead, {"weight_map": {"name": "file"}}, its files beside
 * it.
 */
#ifndef REINFORCE_NN_SAFETENSORS_H
#define REINFORCE_NN_SAFETENSORS_H

#include "reinforce/base/bytes.h"

enum { TENSOR_MAX_RANK = 8 };

enum tensor_dtype {
    TENSOR_F32,
    TENSOR_F16,
    TENSOR_BF16,
    TENSOR_F64,
    TENSOR_I64,
    TENSOR_I32,
    TENSOR_I16,
    TENSOR_I8,
    TENSOR_U64,
    TENSOR_U32,
    TENSOR_U16,
    TENSOR_U8,
    TENSOR_BOOL,
    TENSOR_F8_E4M3,
    TENSOR_F8_E5M2,
};

/** A tensor as stored; name and data are borrowed from whoever made it. `data` may be unaligned. */
struct tensor {
    const char *name;
    enum tensor_dtype dtype;
    size_t rank; /* 0: a scalar */
    size_t shape[TENSOR_MAX_RANK];
    struct bytes_view data;
};

struct safetensors;

/** Bytes per element. */
size_t tensor_dtype_size(enum tensor_dtype dtype);

/** The format's own name: "F32". */
const char *tensor_dtype_name(enum tensor_dtype dtype);

/** Product of the shape; 1 for a scalar. */
size_t tensor_count(const struct tensor *tensor);

/** Writes "[512, 768]", cut off when `size` is too small, and returns `text`. */
const char *tensor_shape_text(const size_t *shape, size_t rank, char *text, size_t size);

/**
 * Maps one `.safetensors` file, or every shard of a `.safetensors.index.json`. Every offset is
 * checked against its file and every tensor's length against its shape. ST_CORRUPT says what is
 * wrong with which tensor; ST_NOT_FOUND; ST_INVALID when an index names a file outside its folder.
 */
NODISCARD enum status safetensors_open(const char *path, struct safetensors **out,
                                       struct error *err);

/** The same over bytes at hand, borrowed until close. */
NODISCARD enum status safetensors_open_bytes(struct bytes_view bytes, struct safetensors **out,
                                             struct error *err);

/** All tensors, sorted by name, until close. */
const struct tensor *safetensors_view(const struct safetensors *file, size_t *n_tensors);

/** One by name, until close; NULL if there is none. */
const struct tensor *safetensors_peek(const struct safetensors *file, const char *name);

void safetensors_close(struct safetensors **file);

/** Paths of the mapped files (one, or the shards in name order), until close. For digests. */
size_t safetensors_n_files(const struct safetensors *file);
const char *safetensors_file_path(const struct safetensors *file, size_t i);
struct bytes_view safetensors_file_bytes(const struct safetensors *file, size_t i);

/** Binary search in an array sorted by name. */
const struct tensor *tensor_find(const struct tensor *tensors, size_t n, const char *name);

#endif
