/* The convolutional stem in front of MobileCLIP-B's vision transformer: three convolutions that do
 * not overlap, 4 x 4 and twice 2 x 2; the last one is the transformer's own patch embedding.
 * Source: Vasu et al. 2024; timm's vit_base_mci_224. */
#ifndef REINFORCE_MODELS_MCI_STEM_H
#define REINFORCE_MODELS_MCI_STEM_H

#include "reinforce/models/transformer.h"

enum { MCI_STEM_PATCH = 16 };

/** Immutable after loading; all in the arena given. w NULL: there is no stem. */
struct mci_stem {
    struct linear first, second; /* [width, 4 * 4 * 3], [width, 2 * 2 * width] */
    struct linear embed;         /* [D, 2 * 2 * width] */
};

/** Loads `prefix` + "backbone.{0,1,2}."; width is D / 4. */
NODISCARD enum status mci_stem_load(struct weights *weights, const char *prefix, size_t D,
                                    struct arena *arena, struct mci_stem *out, struct error *err);

/** pixels float32 [3, S, S]; patches float32 [(S / 16)^2, embed.in] out, for `embed`. Scratch is
 * given back. */
NODISCARD enum status mci_stem_run(const struct mci_stem *stem, const float *pixels, size_t S,
                                   struct arena *scratch, float *patches, struct error *err);

#endif
