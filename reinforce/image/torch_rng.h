/* torch's CPU generator, for drawing what a seeded torch program draws. */
#ifndef REINFORCE_IMAGE_TORCH_RNG_H
#define REINFORCE_IMAGE_TORCH_RNG_H

#include "reinforce/base/macros.h"

#include <stdint.h>

/** Mersenne Twister MT19937; copyable plain data. */
struct torch_rng {
    uint32_t state[624];
    int next;
};

/** As torch.manual_seed(seed): only the low 32 bits count. */
void torch_rng_init(struct torch_rng *rng, uint64_t seed);

uint32_t torch_rng_u32(struct torch_rng *rng);

/** As torch.empty(1).uniform_(low, high).item(): 24 random bits in float32 arithmetic. */
float torch_rng_uniform(struct torch_rng *rng, float low, float high);

/** As torch.randint(n, (1,)).item(), 1 <= n. */
uint32_t torch_rng_below(struct torch_rng *rng, uint32_t n);

#endif
