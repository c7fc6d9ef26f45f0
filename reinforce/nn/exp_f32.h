/* The exponential function that loops vectorise over. Private to reinforce/nn. */
#ifndef REINFORCE_NN_EXP_F32_H
#define REINFORCE_NN_EXP_F32_H

#include "reinforce/base/macros.h"

#include <stdint.h>
#include <string.h>

/* e^x for x <= 88: two-step range reduction and a degree-6 polynomial (coefficients of Cephes'
 * expf), within 1 ulp or two; plain arithmetic, so that loops over it vectorise and every machine
 * gets the same bits. */
static inline float exp_f32(float x)
{
    float n, r, p;
    int32_t bits;
    float scale;

    x = x < -87.0f ? -87.0f : x;
    n = x * 1.44269504088896341f;
    n = n + 12582912.0f - 12582912.0f; /* to the nearest integer: the sum's ulp is 1 */
    r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    bits = ((int32_t)n + 127) << 23;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

typedef float float32x16 FLOAT_VECTOR(16);
typedef uint32_t uint32x16 WORD_VECTOR(16, uint32_t);
typedef int32_t int32x16 WORD_VECTOR(16, int32_t);

/* The same, lane by lane and in place. */
static ALWAYS_INLINE void exp_lanes(float32x16 *to)
{
    const float32x16 least = {0};
    const int32x16 below = *to < least - 87.0f;
    float32x16 x = (float32x16)(((int32x16)(least - 87.0f) & below) | ((int32x16)*to & ~below));
    float32x16 n, p;

    n = x * 1.44269504088896341f;
    n = n + 12582912.0f - 12582912.0f;
    x = x - n * 0.693359375f;
    x = x - n * -2.12194440e-4f;
    p = x * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * x + 8.3334519073e-3f;
    p = p * x + 4.1665795894e-2f;
    p = p * x + 1.6666665459e-1f;
    p = p * x + 5.0000001201e-1f;
    p = p * x * x + x + 1.0f;
    *to = p * (float32x16)((CONVERT_VECTOR(n, int32x16) + 127) << 23);
}

#endif
