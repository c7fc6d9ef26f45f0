#include "reinforce/image/torch_rng.h"

enum { N = 624, M = 397 };

/* Source: Matsumoto and Nishimura 1998, "Mersenne Twister", with the 2002 initialisation. */
void torch_rng_init(struct torch_rng *rng, uint64_t seed)
{
    rng->state[0] = (uint32_t)seed;
    for (uint32_t i = 1; i < N; i++)
        rng->state[i] = 1812433253u * (rng->state[i - 1] ^ rng->state[i - 1] >> 30) + i;
    rng->next = N;
}

static void refill(struct torch_rng *rng)
{
    uint32_t *state = rng->state;

    for (int i = 0; i < N; i++) {
        uint32_t y = (state[i] & 0x80000000u) | (state[(i + 1) % N] & 0x7fffffffu);

        state[i] = state[(i + M) % N] ^ y >> 1 ^ ((y & 1) != 0 ? 0x9908b0dfu : 0u);
    }
    rng->next = 0;
}

uint32_t torch_rng_u32(struct torch_rng *rng)
{
    uint32_t y;

    if (rng->next == N)
        refill(rng);
    y = rng->state[rng->next++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9d2c5680u;
    y ^= y << 15 & 0xefc60000u;
    return y ^ y >> 18;
}

float torch_rng_uniform(struct torch_rng *rng, float low, float high)
{
    return (float)(torch_rng_u32(rng) & 0xFFFFFFu) * 0x1p-24f * (high - low) + low;
}

uint32_t torch_rng_below(struct torch_rng *rng, uint32_t n)
{
    return torch_rng_u32(rng) % n;
}
