#include "reinforce/nn/convert.h"

#include <string.h>

static inline float from_bits(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

KERNEL_CLONES void convert_bf16(const uint8_t *src, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half;

        memcpy(&half, src + 2 * i, sizeof half); /* one vector load for many */
        out[i] = from_bits((uint32_t)half << 16);
    }
}

KERNEL_CLONES void convert_to_bf16(const float *src, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits, rounded;

        memcpy(&bits, src + i, sizeof bits);
        rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
        if ((bits & 0x7fffffffu) > 0x7f800000u)
            rounded = bits >> 16 | 0x40u; /* rounding could make it infinite */
        out[i] = (uint16_t)rounded;
    }
}

static float half_to_float(uint32_t half)
{
    uint32_t sign = (half & 0x8000u) << 16, exponent = half >> 10 & 31u, fraction = half & 0x3ffu;

    if (exponent == 0) /* zero and subnormals: fraction * 2^-24, exact */
        return sign != 0 ? -((float)fraction * 0x1p-24f) : (float)fraction * 0x1p-24f;
    if (exponent == 31)
        return from_bits(sign | 0x7f800000u | fraction << 13);
    return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

void convert_f16(const uint8_t *src, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = half_to_float((uint32_t)src[2 * i] | (uint32_t)src[2 * i + 1] << 8);
}

static uint32_t half_from_float(float value)
{
    uint32_t bits, sign, magnitude;
    float sum;

    memcpy(&bits, &value, sizeof bits);
    sign = bits >> 16 & 0x8000u;
    magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return sign | 0x7e00u;
    if (magnitude >= 0x477ff000u)
        return sign | 0x7c00u;
    if (magnitude < 0x38800000u) { /* subnormal: steps of 2^-24, those of floats around 0.5 */
        sum = from_bits(magnitude) + 0.5f;
        memcpy(&bits, &sum, sizeof bits);
        return sign | (bits - 0x3f000000u);
    }
    return sign | (magnitude + 0xfffu + (magnitude >> 13 & 1u) - (112u << 23)) >> 13;
}

void convert_to_f16(const float *src, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (uint16_t)half_from_float(src[i]);
}
