/* The convolutional stem in front of MobileCLIP-B's vision transformer: three convolutions that do
 * not overlap, 4 x 4 and twice 2 x 2; the last one is the transformer's own patch embedding.
 * Apple's code puts a row and a column of zeros in front of the image, timm's does not, and each
 * model is run as the code it was published for runs it. Source: Vasu et al. 2024; timm's
 * vit_base_mci_224; apple/ml-mobileclip's vit_b16. */
#ifndef REINFORCE_MODELS_MCI_STEM_H
#define REINFORCE_MODELS_MCI_STEM_H

#include "reinforce/models/transformer.h"

enum { MCI_STEM_PATCH = 16 };

/** Immutable after loading; all in the arena given. w NULL: there is no stem. */
struct mci_stem {
    struct linear first, second; /* [width, 4 * 4 * 3], [width, 2 * 2 * width] */
    struct linear embed;         /* [D, 2 * 2 * width] */
    size_t padding;              /* zeros in front of the image */
};

/** Loads "visual.trunk.patch_embed." (timm) or "image_encoder.model.patch_emb." (Apple); width is
 * D / 4. */
NODISCARD enum status mci_stem_load(struct weights *weights, enum naming naming, size_t D,
                                    struct arena *arena, struct mci_stem *out, struct error *err);

/** pixels float32 [3, S, S]; patches float32 [(S / 16)^2, embed.in] out, for `embed`. Scratch is
 * given back. */
NODISCARD enum status mci_stem_run(const struct mci_stem *stem, const float *pixels, size_t S,
                                   struct arena *scratch, float *patches, struct error *err);

#endif
