/* The small PaliGemma snapshots and what tests/golden/make_paligemma.py says of them. */
#ifndef REINFORCE_TESTS_PALIGEMMA_GOLDEN_H
#define REINFORCE_TESTS_PALIGEMMA_GOLDEN_H

#include "reinforce/base/json.h"
#include "reinforce/models/paligemma.h"

enum { PALIGEMMA_N_IMAGES = 20, PALIGEMMA_N_TOKENS = 40, PALIGEMMA_N_PROMPTS = 3 };

extern const char *const paligemma_golden_dirs[3]; /* Gemma, Gemma 2, Gemma 2 of odd proportions */

struct paligemma_golden {
    struct snapshot snapshot;
    struct weights *weights;
    struct paligemma model; /* with what the config says: caps, window */
    struct safetensors *tensors;
    json_t *words;
    struct arena arena, scratch;
};

void paligemma_golden_open(struct paligemma_golden *g, const char *dir);
void paligemma_golden_close(struct paligemma_golden *g);

/** A golden tensor, aligned, until close; NULL if there is none. */
const void *paligemma_golden_get(struct paligemma_golden *g, const char *name, size_t *count);

/** A prompt's ids: <bos> prompt \n. */
size_t paligemma_golden_prompt(const struct paligemma_golden *g, size_t prompt, int32_t ids[64]);

/** Pattern k of the goldens, and picture k: the pattern in a size of its own. */
void paligemma_golden_pattern(int k, int height, int width, struct arena *arena, struct image *out);
void paligemma_golden_picture(int k, struct arena *arena, struct image *out);

/** The tokens that stand for picture k, float32 [n, D], until close. */
const float *paligemma_golden_tokens(struct paligemma_golden *g, const struct paligemma *model,
                                     int k);

#endif
