/* PaliGemma and PaliGemma 2 as captioners. */
#ifndef REINFORCE_TEACH_CAPTIONER_PALIGEMMA_H
#define REINFORCE_TEACH_CAPTIONER_PALIGEMMA_H

#include "reinforce/teach/captioner.h"

extern const struct captioner_ops captioner_paligemma;

#endif
