/* How values become int8. Private to reinforce/nn. */
#ifndef REINFORCE_NN_INT8_ROUNDING_H
#define REINFORCE_NN_INT8_ROUNDING_H

#include "reinforce/base/macros.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

enum {
    INT8_ZERO = 128, /* of what is stored unsigned */
    INT8_INFINITY_BITS = 0x7f800000,
};

/* Of magnitudes as bits NaN is above infinity and that above all others. */
static ALWAYS_INLINE uint32_t int8_magnitude_bits(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffffu;
}

/* The nearest integer of a small number, ties to even: adding 1.5 * 2^23 leaves it in the low bits,
 * above those of zero. */
#define INT8_NEAREST_ZERO 0x4b400000u
static ALWAYS_INLINE uint32_t int8_nearest_bits(float x)
{
    float shifted = x + 0x1.8p23f;
    uint32_t bits;

    memcpy(&bits, &shifted, sizeof bits);
    return bits;
}

static ALWAYS_INLINE int32_t int8_nearest(float x)
{
    return (int32_t)(int8_nearest_bits(x) - INT8_NEAREST_ZERO);
}

/* Of a row whose largest magnitude has these bits, and what its values are multiplied by: 127 /
 * largest or 0. */
static ALWAYS_INLINE float int8_scale_from(uint32_t bits, float *inverse)
{
    float largest;

    memcpy(&largest, &bits, sizeof largest);
    *inverse = 0;
    if (bits >= INT8_INFINITY_BITS)
        return NAN;
    if (largest < 0x1p-100f) /* 127 / magnitude is far from overflow */
        return 0;
    *inverse = 127.0f / largest;
    return largest / 127.0f;
}

/* Four values as a matrix holds them: 128 is added to each. */
#define INT8_ZERO_QUAD 0x80808080u
static ALWAYS_INLINE uint32_t int8_quad(int32_t a, int32_t b, int32_t c, int32_t d)
{
    return (((uint32_t)a & 255) | ((uint32_t)b & 255) << 8 | ((uint32_t)c & 255) << 16 |
            (uint32_t)d << 24) ^
           INT8_ZERO_QUAD;
}

#endif
