/* Tensors by name, as float32 and with the shape the model expects; what nobody asked for is an
 * error. */
#ifndef REINFORCE_NN_WEIGHTS_H
#define REINFORCE_NN_WEIGHTS_H

#include "reinforce/nn/safetensors.h"

/**
 * Owned by the thread that loads a model. Pointers it hands out live until weights_destroy, which
 * the model calls last; after loading they may be read by any number of threads.
 */
struct weights;

/** A shape argument: dimensions, none of them 0, behind them a 0. WEIGHTS_SCALAR is the shape ().
 */
#define WEIGHTS_SHAPE(...) ((const size_t[]){__VA_ARGS__, 0})
#define WEIGHTS_SCALAR     ((const size_t[]){0})

/** Maps the file or index at `path`: safetensors (see safetensors_open), or, when its name ends in
 * .bin, .pt, .pth or .ckpt, a torch checkpoint (see torch_archive_read). */
NODISCARD enum status weights_open(const char *path, struct weights **out, struct error *err);

/**
 * Takes `tensors` from memory (tests, converters): the array is copied, names and data are borrowed
 * until destroy. If every name begins with "module." (a training checkpoint), the prefix is
 * stripped, here and in weights_open.
 */
NODISCARD enum status weights_create(const struct tensor *tensors, size_t n, struct weights **out,
                                     struct error *err);

/** The stored tensor, or NULL; does not count as a use. */
const struct tensor *weights_peek(const struct weights *weights, const char *name);

/** All stored tensors, sorted by name, until destroy. */
const struct tensor *weights_view(const struct weights *weights, size_t *n);

/**
 * Tensor `prefix` + `name` as float32 of exactly `shape`. F32 that is aligned is used where it is
 * mapped; F16, BF16 and unaligned F32 are converted into memory of `weights` (every F16 and BF16
 * value is exact in float32). A matrix may be stored as a 1 x 1 convolution. ST_NOT_FOUND: missing;
 * ST_INVALID: mis-shaped or not floating point. The message names tensor, expected and found.
 */
NODISCARD enum status weights_get(struct weights *weights, const char *prefix, const char *name,
                                  const size_t *shape, const float **out, struct error *err);

/** The same as it is stored, checked and counted as used: data as mapped, any alignment. */
NODISCARD enum status weights_get_stored(struct weights *weights, const char *prefix,
                                         const char *name, const size_t *shape,
                                         const struct tensor **out, struct error *err);

/** Row `i` of a stored matrix, F32, F16 or BF16 of any alignment, as float32. Exact. */
void tensor_row(const struct tensor *tensor, size_t i, float *row);

enum { WEIGHTS_MAX_STACK = 3 }; /* q, k and v */

/** Rows of matrices of one shape, one below the other, to be read one by one. */
struct weights_stack {
    const struct tensor *tensors[WEIGHTS_MAX_STACK]; /* each [tensor_rows, in] */
    const float *w;                                  /* or, if there are none, float32 [out, in] */
    size_t tensor_rows, out, in;
    const float *row_scale; /* [out], what rows are multiplied by; or NULL */
};

/** Of `n` tensors [tensor_rows, in] as stored. Errors as weights_get_stored(). */
NODISCARD enum status weights_get_stack(struct weights *weights, const char *prefix,
                                        const char *const *names, size_t n, size_t tensor_rows,
                                        size_t in, const float *row_scale,
                                        struct weights_stack *out, struct error *err);

/** Row i as float32 [in]. */
void weights_stack_row(const struct weights_stack *stack, size_t i, float *row);

/** `size` bytes, aligned to 64, until weights_destroy(): for what is made of tensors. */
NODISCARD enum status weights_alloc(struct weights *weights, size_t size, void *out_ptr,
                                    struct error *err);

/** The mapped files are not wanted in memory for now: what is read of them again is mapped again.
 * Nothing happens to tensors from memory. */
void weights_drop_pages(struct weights *weights);

/** The same for a matrix stored [in, out]: *out is [out, in], as every Linear of ours. */
NODISCARD enum status weights_get_transposed(struct weights *weights, const char *prefix,
                                             const char *name, size_t in, size_t out_dim,
                                             const float **out, struct error *err);

/** `n` tensors of one `shape` behind one another: separate q, k and v as one fused matrix or bias.
 */
NODISCARD enum status weights_get_stacked(struct weights *weights, const char *prefix,
                                          const char *const *names, size_t n, const size_t *shape,
                                          const float **out, struct error *err);

/** Counts every tensor whose name begins with `prefix` as used: a tower that this model does not
 * run. */
void weights_ignore_prefix(struct weights *weights, const char *prefix);

/**
 * ST_INVALID names a tensor that nobody has used. Buffers that carry no weights are passed over:
 * `*position_ids`, `*num_batches_tracked`, `*attn_mask`, and OpenAI's `input_resolution`,
 * `context_length`, `vocab_size`.
 */
NODISCARD enum status weights_check_all_used(const struct weights *weights, struct error *err);

/** ST_CORRUPT names a tensor that holds a NaN or an infinity. Reads every byte. */
NODISCARD enum status weights_check_finite(const struct weights *weights, struct error *err);

/** Elements of all floating-point tensors, buffers that carry no weights left out. */
size_t weights_n_parameters(const struct weights *weights);

/** Bytes of stored tensors of `dtype`. */
size_t weights_stored_bytes(const struct weights *weights, enum tensor_dtype dtype);

/** Paths of the files behind the tensors, until destroy; none when they came from memory. */
size_t weights_n_files(const struct weights *weights);
const char *weights_file_path(const struct weights *weights, size_t i);

void weights_destroy(struct weights **weights);

#endif
