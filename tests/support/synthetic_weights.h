/* Full-size models without a download: every value follows from its tensor's name. */
#ifndef REINFORCE_TESTS_SYNTHETIC_WEIGHTS_H
#define REINFORCE_TESTS_SYNTHETIC_WEIGHTS_H

#include "reinforce/models/transformer.h"

enum { SYNTHETIC_MAX_TENSORS = 2048, SYNTHETIC_NAME_SIZE = 96 };

/** Tensors in memory, made one by one; zeroed is empty. Large: keep it on the heap. */
struct synthetic_model {
    struct tensor tensors[SYNTHETIC_MAX_TENSORS];
    char names[SYNTHETIC_MAX_TENSORS][SYNTHETIC_NAME_SIZE];
    size_t n;
};

struct synthetic_model *synthetic_create(void);
void synthetic_destroy(struct synthetic_model **model);

/**
 * The value of each element of `tensor` (named, shaped): an LCG seeded with the name's FNV-1a hash,
 * scaled by the tensor's kind, every step in float32. Source: clip-coca-mobileclip annex B.1.
 */
void synthetic_fill(const struct tensor *tensor, float *out);

/** Adds the tensor `prefix` + `name`, filled. */
void synthetic_add(struct synthetic_model *model, const char *prefix, const char *name, size_t rank,
                   const size_t *shape);
void synthetic_add_vector(struct synthetic_model *model, const char *prefix, const char *name,
                          size_t n);
void synthetic_add_matrix(struct synthetic_model *model, const char *prefix, const char *name,
                          size_t rows, size_t columns);

/** ".weight" and ".bias" of a norm of width n. */
void synthetic_add_norm(struct synthetic_model *model, const char *prefix, const char *name,
                        size_t n);

/** All tensors of `prefix` + "resblocks.{i}." in open_clip's naming. */
void synthetic_add_blocks(struct synthetic_model *model, const char *prefix,
                          const struct transformer_shape *shape);

/** Everything of an open_clip ViT in front of ln_post, under "visual.". */
void synthetic_add_vision(struct synthetic_model *model, size_t image_size, size_t patch_size,
                          const struct transformer_shape *shape);

/** The image (37 x + 101 y + 7 x y + 59 c) mod 256 as float32 [3, S, S], /255, OpenAI's mean and
 * std. The caller's, to free(). */
float *synthetic_pixels(size_t S);

#endif
