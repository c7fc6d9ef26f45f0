#include "reinforce/base/philox.h"

#include <string.h>

void philox_4x32_10(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];

    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;

        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void philox_init(struct philox *rng, uint64_t seed, struct bytes_view uid, enum philox_stage stage,
                 uint32_t index)
{
    uint64_t hash = 14695981039346656037u;
    uint32_t block[4];

    for (size_t i = 0; i < uid.len; i++)
        hash = (hash ^ uid.data[i]) * 1099511628211u;
    memset(rng, 0, sizeof *rng);
    rng->key[0] = (uint32_t)seed;
    rng->key[1] = (uint32_t)(seed >> 32);
    philox_4x32_10(
        (const uint32_t[4]){(uint32_t)hash, (uint32_t)(hash >> 32), (uint32_t)stage, index},
        rng->key, block);
    memcpy(&rng->counter[1], block, 3 * sizeof block[0]);
}

uint32_t philox_u32(struct philox *rng)
{
    if (rng->n_left == 0) {
        philox_4x32_10(rng->counter, rng->key, rng->block);
        rng->counter[0]++;
        rng->n_left = 4;
    }
    return rng->block[4 - rng->n_left--];
}

float philox_f32(struct philox *rng)
{
    return (float)(philox_u32(rng) >> 8) * 0x1p-24f;
}

uint32_t philox_below(struct philox *rng, uint32_t n)
{
    uint64_t product = (uint64_t)philox_u32(rng) * n;

    if ((uint32_t)product < n) {
        uint32_t threshold = (0u - n) % n;

        while ((uint32_t)product < threshold)
            product = (uint64_t)philox_u32(rng) * n;
    }
    return (uint32_t)(product >> 32);
}
