/* Exponential functions that loops vectorise over. Private to reinforce/nn. */
#ifndef REINFORCE_NN_EXP_F32_H
#define REINFORCE_NN_EXP_F32_H

#include "reinforce/base/macros.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* e^x for x <= 88: two-step range reduction and a degree-6 polynomial (coefficients of Cephes'
 * expf), within 1 ulp or two; plain arithmetic, so that loops over it vectorise and every machine
 * gets the same bits. */
static inline float exp_f32(float x)
{
    float n, r, p;
    uint32_t bits;
    float scale;

    x = x < -87.0f ? -87.0f : x;
    n = fmaf(x, 1.44269504088896341f, 12582912.0f); /* the nearest integer, in the low bits */
    memcpy(&bits, &n, sizeof bits);
    n = n - 12582912.0f;
    r = fmaf(n, -0.693359375f, x);
    r = fmaf(n, 2.12194440e-4f, r);
    p = 1.9875691500e-4f;
    p = fmaf(p, r, 1.3981999507e-3f);
    p = fmaf(p, r, 8.3334519073e-3f);
    p = fmaf(p, r, 4.1665795894e-2f);
    p = fmaf(p, r, 1.6666665459e-1f);
    p = fmaf(p, r, 5.0000001201e-1f);
    p = fmaf(p * r, r, r) + 1.0f;
    bits = (bits + 127) << 23; /* of a NaN, too, something that a float can be multiplied by */
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

/* 2^x for -100 <= x <= 127, of less 2^-100, within 3e-6 of itself: for what becomes a few bits
 * next. The same bits everywhere, never by denormal numbers, with which processors are slow. */
static inline float exp2_coarse(float x)
{
    float n, f, p;
    uint32_t bits;

    x = x < -100.0f ? -100.0f : x;
    n = x + 12583039.0f; /* the nearest integer and the bias of an exponent, in the low bits */
    f = x - (n - 12583039.0f);
    p = fmaf(0.0095701020f, f, 0.0559178610f);
    p = fmaf(p, f, 0.2402474500f);
    p = fmaf(p, f, 0.6931218150f);
    p = fmaf(p, f, 0.9999992600f);
    memcpy(&bits, &n, sizeof bits);
    bits <<= 23;
    memcpy(&n, &bits, sizeof n);
    return p * n;
}

#endif
